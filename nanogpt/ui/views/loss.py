"""The view "What does this loss mean?": a run's validation loss on a ruler with what simpler models reach.

Counting models are fit to the training set, as the run is. Compressors keep learning as they read the validation
set, and a button gives the run the same right, on a copy of its model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from ... import limits
from ...errors import PROBLEMS, explain
from ...explain import loss
from ...explain.adaptive import MISSING, compressors
from ...explain.baselines import BASELINES
from ...explain.opened import Opened
from ...launch import counting
from ..drawn import drawn, said, told
from ..measuring import WAITING, in_turn
from ..parts import QUIET
from ..view import WAITS, View, identity, opened
from ..words import of_the_set
from .guessing import mean_score

PATIENCE = 120.0  # seconds to wait for the counts; after that, opening the view again shows them
PUBLIC_SECONDS = 20.0  # on a public server, of learning while reading
TURN = "Waiting for its turn …"
# For when learning ends, in whatever way: enable the button again, and empty a line that still says it is running.
ENDED = """(said) => [
  said?.state === "running" ? { text: "", state: "idle" } : said,
  { __type__: "update", interactive: true },
]"""
CLOSE = 0.02  # nats: a loss as near as this is as good
NOTHING_LEFT = "Nothing is left to learn: the model predicts nearly every character of text it hasn't seen."
NO_BETTER = "No better than guessing"
HARDLY = "This run has hardly trained yet."
WRONG = "something went wrong in training. The advice in the Train tab may say what."
WORSE = f"Worse than guessing: {WRONG}"
COUNTING = "Counting the text's characters. It takes a few seconds, and waits while a run is training."


# ---- handlers: plain functions of a run ----------------------------------------------------------------------------


def ruler(
    one: Opened, waiting: bool = False, learned: dict[str, Any] | None = None, player: float | None = None
) -> dict[str, Any]:
    """Return the data for loss_ruler.js: the marks, highest loss first, and what they say in words.

    `player` is what you reached in "Beat your model", in bits per character.
    """
    found = loss.ruler(one, learned)
    marks = [mark(key, found["losses"]) for key in found["losses"]]
    if found["loss"] is not None:
        marks.append(dict(label=one.run.name, loss=found["loss"], kind="model",
                          knows=f"sees up to the previous {one.model.config.block_size} characters"))  # fmt: skip
    if player is not None:
        knows = "guessed in “Beat your model”"
        marks.append(dict(label="You", loss=player * math.log(2), kind="model", knows=knows))
    if learning := found["dynamic"]:
        part = "" if learning["of"] == learning["all"] else f", on {learning['of']:,} of {learning['all']:,} windows"
        marks.append(dict(label=f"{one.run.name}, learning", loss=learning["dynamic"], kind="model adaptive",
                          knows=f"learns from each {one.model.config.block_size} characters after it has predicted "
                                f"them{part}"))  # fmt: skip
    marks.sort(key=lambda each: -each["loss"])
    return dict(
        marks=[each | dict(bits=each["loss"] / math.log(2)) for each in marks],
        words=words(found, waiting, one.corpus_id is not None),
    )


def mark(key: str, losses: dict[str, float]) -> dict[str, Any]:
    """Return the mark of a baseline, one of these losses."""
    one, kind = BASELINES[key], "adaptive" if BASELINES[key].adaptive else "counted"
    return dict(label=one.label, loss=losses[key], kind=kind, knows=one.knows_of(losses))


def words(found: dict[str, Any], waiting: bool, here: bool) -> list[str]:
    """Return what the ruler says, in sentences. `here` is False if the model's text isn't on this machine."""
    losses, own = found["losses"], found["loss"]
    if waiting:
        return [COUNTING]
    if not losses and here:
        return ["The characters of this text haven't been counted, so there is nothing to compare the loss with."]
    if not losses:
        return ["The text of this model isn't here, so there is nothing to compare its loss with."]
    if own is None:
        return ["This run has no validation loss yet."]
    learning = [learned(found["dynamic"])] if found["dynamic"] else []
    means = [HARDLY, unsure(own, losses)] if found["untrained"] else compared(own, losses)
    return [*means, *learning, *measured(found), *partly(found["characters"], found["of"]), *lacking(losses)]


def compared(own: float, losses: dict[str, float]) -> list[str]:
    """Return sentences that compare a run's loss with those of the counting models and of the compressors."""
    fixed = {key: value for key, value in losses.items() if not BASELINES[key].adaptive}
    if own < CLOSE:
        return [NOTHING_LEFT, unsure(own, losses)]
    if abs(own - fixed["uniform"]) < CLOSE:
        return [no_better(fixed), unsure(own, losses)]
    passed = loss.better_than(own, fixed)
    if not passed:
        return [WORSE, unsure(own, losses)]
    named = following(own, fixed)
    learning = [BASELINES[key].short for key in losses if key not in fixed and losses[key] < own]
    return [passed, *named, unsure(own, losses), *still_learning(learning, ", too," if named else ",")]


def no_better(fixed: dict[str, float]) -> str:
    """Return a sentence about a loss that is that of guessing, and whether counting characters reaches a lower one."""
    if min(fixed.values()) > fixed["uniform"] - CLOSE:
        return f"{NO_BETTER}, and neither is counting: this text has hardly any patterns."
    return f"{NO_BETTER}: {WRONG}"


def following(own: float, fixed: dict[str, float]) -> list[str]:
    """Return a sentence about the weakest counting model that is ahead of a loss, if any is."""
    ahead = [key for key in fixed if fixed[key] < own]
    weakest = max(ahead, key=lambda key: fixed[key], default="")
    return [f"Next: {BASELINES[weakest].passed}, which reaches {fixed[weakest]:.2f}."] if weakest else []


def still_learning(ahead: list[str], too: str) -> list[str]:
    """Return a sentence about the compressors that are ahead, if any is."""
    if not ahead:
        return []
    verb = f"is ahead{too} but keeps learning as it reads" if len(ahead) == 1 else (
        f"are ahead{too} but keep learning as they read"
    )  # fmt: skip
    return [f"{' and '.join(ahead)} {verb}."]


def unsure(own: float, losses: dict[str, float]) -> str:
    """Return a loss as the number of characters to choose from."""
    return (
        f"On average, the model is as unsure as if it had to choose among {math.exp(own):.1f} equally likely "
        f"characters; without any training, it would be {math.exp(losses['uniform']):.0f}."
    )


def measured(found: dict[str, Any]) -> list[str]:
    """Return a sentence about the part of the validation set that gave the model's loss, if it was only a part."""
    percent = found["percent"]
    if percent == 100 or (found["finished"] and percent is None):  # which an older version didn't log
        return []
    part = f"on {of_the_set(percent)}" if percent else "during training, on a part of the validation set"
    return [f"The model's loss was measured {part}."]


def learned(found: dict[str, Any]) -> str:
    """Return what the model gained by learning while it reads."""
    gain = found["static"] - found["dynamic"]
    side = "lower" if gain >= 0 else "higher"
    return (
        f"If it may also keep learning as it reads, the model reaches {found['dynamic']:.3f}, {abs(gain):.3f} {side} "
        "than without."
    )


def partly(counted: int, characters: int) -> list[str]:
    """Return a sentence about the part of a large text that was counted, if it was only a part."""
    if counted >= characters:
        return []
    around = "around the end of the training set"
    return [f"Only {counted:,} of the text's {characters:,} characters were counted, {around}."]


def lacking(losses: dict[str, float]) -> list[str]:
    """Return a sentence about the compressor that isn't installed, if it is missing."""
    return [MISSING] if "ppmd" not in losses and not compressors()["ppmd"] else []


def show(name: str | None, scores: Any = None) -> Iterator[dict[str, Any] | None]:
    """Yield the ruler, and again when the counts that it waits for are there. Yield None while it waits."""
    one, deadline = opened(name), time.monotonic() + PATIENCE
    waits = one.corpus_id is not None and counting.ask(one.corpus_id)
    player = score_of(one, scores)
    yield ruler(one, waits and not loss.ruler(one)["losses"], player=player)
    seen = counting.finished()
    while waits and time.monotonic() < deadline:
        yield None
        time.sleep(0.5)
        waits = one.corpus_id is not None and counting.is_wanted(one.corpus_id)
        if not waits or counting.finished() != seen:
            seen = counting.finished()
            yield ruler(one, waits and not loss.ruler(one)["losses"], player=player)


def score_of(one: Opened, scores: Any) -> float | None:
    """Return your mean bits per character for a run, or None if you haven't played. The browser keeps the scores."""
    mean = mean_score(scores, identity(one.run))
    return mean[0] if mean else None


def learn(one: Opened) -> Iterator[dict[str, Any] | None]:
    """Let a copy of the model learn while it reads the validation set. Yield the losses so far, and None as `in_turn`.

    Raise NanoGPTError as `in_turn` does.
    """
    return in_turn(loss.learn(one, PUBLIC_SECONDS if limits.is_public() else loss.SECONDS))


def how_far(found: dict[str, Any]) -> str:
    """Return how far the model has read, and the loss so far."""
    return f"Reading: {found['windows']:,} of {found['of']:,} windows, loss {found['dynamic']:.3f} so far."


# ---- the view ------------------------------------------------------------------------------------------------------


def build(run: gr.Dropdown, scores: gr.HTML) -> View:
    """Draw the view and wire it."""
    gr.Markdown(
        "The loss is how surprised the model is by text it hasn't seen, per character. What counts as low? Compare it "
        "with models that only count how often characters follow one another in your training text.",
        container=False,
    )  # fmt: skip
    view, wrong = drawn("loss_ruler", elem_id="loss-ruler"), said("loss-said")
    with gr.Row():
        button = gr.Button(
            "Let the model learn while it reads", size="sm", scale=0, min_width=260, elem_id="loss-learn"
        )

    def begin(name, known):
        try:
            for number, data in enumerate(show(name, known)):  # later it may say that learning waits for its turn
                yield {view: data or gr.skip(), wrong: gr.skip() if number else told("")}
        except PROBLEMS as error:
            yield {wrong: told(explain(error), "failed")}

    def start(name, known):
        try:
            one, found = opened(name), None
            for now in learn(one):
                found = now or found
                if now is None:
                    yield {wrong: told(WAITING, "running")}
                elif now["windows"] % 5 == 1:
                    yield {wrong: told(how_far(now), "running", spoken="Reading.")}
            yield {view: ruler(one, learned=found, player=score_of(one, known)), wrong: told("")}
        except PROBLEMS as error:
            yield {wrong: told(explain(error), "failed")}

    # the first event doesn't wait, unlike the second
    waits = lambda: {wrong: told(TURN, "running"), button: gr.Button(interactive=False)}
    begun = button.click(waits, None, [wrong, button], **QUIET)
    learning = begun.then(start, [run, scores], [view, wrong], **WAITS)
    for ended in (learning.then, learning.failure):
        ended(None, wrong, [wrong, button], js=ENDED)
    # opened again each time, because your score and the counts may have changed
    return View(begin, [run, scores], [view, wrong], [learning], depends=lambda run: time.monotonic(), waits=True)
