"""Six API endpoints: the handlers of the page, with names and types. Call them with gradio_client."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from gradio.state_holder import SessionState

from ..config import NanoGPTError
from ..errors import PROBLEMS, explain
from ..launch import place
from ..presets import check_known
from ..runs import Run, Status, kept_loss, newest_loss, queue
from . import sample_tab
from .parts import READING
from .web.visit import visitor

LONGEST = 64  # characters of the name of a run, or of another thing in a dropdown whose choices change


def add_corpus(text: str, name: str = "pasted text") -> dict[str, Any]:
    """Store a text to train on. Return its id, its name, its size in characters, and notes on what was cleaned up."""
    if not isinstance(text, str):  # a list would be taken for paths of files on the server
        raise NanoGPTError("The text must be one string.")
    added = visitor().add_text(text, name)
    about = dict(id=added.id, name=added.name, characters=added.characters, distinct=len(added.chars))
    return about | dict(notes=list(added.notes))


def start_training(
    corpus_id: str, name: str = "", preset: str | None = None, settings: dict | None = None
) -> dict[str, Any]:
    """Start a run on a stored text (id) or a built-in one (key). Return its status.

    `settings` override those of the preset, which is quick by default or, with a time budget, timed.
    """
    if not isinstance(settings or {}, dict):
        raise NanoGPTError("The settings must be an object of settings by name, such as {'max_iters': 500}.")
    check_known(settings or {})  # before they are passed on by name
    run = visitor().start(corpus_id, name, preset, **(settings or {}))
    place.attend(run)
    return run_status(run.name)


def run_status(name: str) -> dict[str, Any]:
    """Return the status of a run: state, step, seconds, latest losses and latest sample.

    Of a finished run, `val_loss` is the final one. `best_val_loss` is that of the saved weights.
    """
    run = visitor().run(name)
    return _told(run, run.status())


def stop_training(name: str) -> dict[str, Any]:
    """Ask a run to save and stop. Return its status."""
    run = visitor().own_run(name)
    run.settings()
    run.request_stop()
    return run_status(name)


@queue.one_look()
def list_runs() -> list[dict[str, Any]]:
    """Return the status of every run, newest first. A run with an unreadable run.json has the state "damaged"."""
    return [_told(run, run.glance()) for run in visitor().runs()]


def _told(run: Run, status: Status) -> dict[str, Any]:
    history = run.history()
    return dict(
        name=run.name, state=status.state, step=status.step, max_iters=status.max_iters, seconds=status.seconds,
        place=status.place, message=status.message, best_val_loss=kept_loss(history),
        sample=history.samples[-1]["text"] if history.samples else "", train_loss=history.latest("train_loss"),
        val_loss=newest_loss(history),
    )  # fmt: skip


def sample(
    name: str, prompt: str = "", temperature: float = 0.8, length: int = 500, top_k: int = 0, top_p: float = 1.0,
    seed: int = 1337,
) -> Iterator[str]:  # fmt: skip
    """Generate text with a run. Yield the text so far, beginning with the prompt."""
    with spoken():
        yield from sample_tab.write(name, prompt, temperature, length, top_k, top_p, seed)


class Page(gr.Blocks):
    """Gradio's page, but a call may leave out inputs that have a default, and may name what was just deleted."""

    def validate_inputs(self, block_fn: Any, inputs: list[Any]) -> None:
        """Add the defaults of inputs at the end that were left out. Raise gr.Error if one is needed."""
        function = block_fn.fn or (lambda: None)
        expected = list(inspect.signature(function).parameters.values())[: len(block_fn.inputs)]
        for one in expected[len(inputs) :]:
            if one.default is inspect.Parameter.empty:
                raise gr.Error(f"The call has no value for {one.name!r}. Add it to the data.", print_exception=False)
            inputs.append(one.default)
        super().validate_inputs(block_fn, inputs)

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: SessionState | None, explicit_call: bool = False
    ) -> list[Any]:
        """Return the arguments for a handler. A name that is not in its dropdown's list is passed on, not refused.

        A browser may send a name, for example to refresh the plot, just before it learns that the run was deleted. The
        handlers know what to say then. This holds for dropdowns built without choices: these list what there is now.
        Raise gr.Error for what is too long to be any name, because a session may keep it.
        """
        names = {
            place: given
            for place, (block, given) in enumerate(zip(block_fn.inputs, inputs, strict=False))
            if isinstance(block, gr.Dropdown) and not block.choices and isinstance(given, str)
        }
        if any(len(name) > LONGEST for name in names.values()):
            raise gr.Error(f"A name has at most {LONGEST} characters.", print_exception=False)
        inputs = [None if place in names else given for place, given in enumerate(inputs)]
        arguments = await super().preprocess_data(block_fn, inputs, state, explicit_call)
        return [names.get(place, given) for place, given in enumerate(arguments)]


def build() -> None:
    """Add the endpoints to the page being built."""
    gr.api(spoken()(add_corpus), api_name="add_corpus", **READING)
    for function in (start_training, run_status, stop_training, list_runs):
        gr.api(spoken()(function), api_name=function.__name__, concurrency_limit=8)
    gr.api(sample, api_name="sample", concurrency_limit=sample_tab.AT_ONCE, concurrency_id="sample")


@contextmanager
def spoken() -> Iterator[None]:
    """Turn NanoGPTError into gr.Error, so that the message reaches the caller. A context manager or decorator."""
    try:
        yield
    except PROBLEMS as error:
        raise gr.Error(explain(error), print_exception=False) from None
