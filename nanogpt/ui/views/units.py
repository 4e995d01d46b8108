"""The view "Units": the single unit of a model that best predicts a feature of the text, or a stretch you select."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from ... import errors, explain
from ...config import NanoGPTError
from ..drawn import drawn, said
from ..measuring import WAITING, in_turn
from ..view import WAITS, View, a_passage, a_sample, first_text, fitting, opened, own, own_text, tell, text_buttons

if TYPE_CHECKING:
    from ...explain.opened import Opened

LONGEST = 400  # characters
FEATURES = {name: words for name, (words, _) in explain.features.FEATURES.items()}


# ---- handlers ------------------------------------------------------------------------------------------------------


def ids_of(one: Opened, text: str) -> tuple[list[int], str]:
    """Return the tokens of a text that are shown, and what to say about the rest of it.

    Raise NanoGPTError if there are no tokens.
    """
    ids, note = fitting(one, text, one.model.config.block_size, LONGEST)
    if not ids:
        raise NanoGPTError("There is no text to look at. Enter some first.")
    return ids, note


def shaded(one: Opened, ids: list[int], note: str, found: dict[str, Any], words: str) -> dict[str, Any]:
    """Return the data for units.js: a text shaded by a unit, and the places where it is strongest."""
    import torch  # here, because the page is drawn without it

    unit = explain.units.Unit(found["block"], found["number"])
    values = explain.units.values_of(one.model, torch.tensor([ids], device=one.model.device), unit)[0]  # (N,)
    most = max(float(values.max()), 1e-9)
    return dict(
        tokens=[one.tokenizer.itos[i] for i in ids],
        values=[round(float(value) / most, 3) for value in values.clip(0)],
        name=str(unit).capitalize(),
        words=words,
        note=note,
        strongest=found.get("strongest", []),
    )


def of_feature(one: Opened, name: str, text: str) -> dict[str, Any]:
    """Return the data for units.js about the unit of a feature, with a text shaded by it."""
    ids, note = ids_of(one, text)
    found = explain.units.of_feature(one, name)
    return shaded(one, ids, note, found, f"{FEATURES[name]}: {explain.units.words(found)}")


def of_selection(one: Opened, text: str, start: Any, end: Any) -> dict[str, Any]:
    """Return the data for units.js about the unit that best tells a stretch of a text, in tokens, from the rest."""
    ids, note = ids_of(one, text)
    numbers = [place if isinstance(place, int) else 0 for place in (start, end)]
    found = explain.units.of_selection(one, ids, *numbers)
    words = (
        f"{str(explain.units.Unit(found['block'], found['number'])).capitalize()} best tells your selection from the "
        f"rest of this text: {explain.units.pairs(found['auc'], 'is selected', 'is not')}. It was chosen from all "
        "units on this text alone, so it may be luck: see whether it means the same in another text."
    )
    return shaded(one, ids, note, found, words) | dict(selected=numbers)


# ---- the view ------------------------------------------------------------------------------------------------------


def build(run: gr.Dropdown) -> View:
    """Draw the view and wire it."""
    gr.Markdown(
        "Inside each block are units, single numbers that are large at some places and zero at others. Choose a "
        "feature to find the one that best predicts it, or select a stretch of the text.",
        container=False,
    )  # fmt: skip
    feature = gr.Radio(
        [(words, name) for name, words in FEATURES.items()],
        value="word-start",
        label="Feature",
        elem_id="units-feature",
    )
    sample, passage = text_buttons("units")
    wrong, text = said("units-said"), gr.State("")
    view = drawn("units", uses=("aloud", "tokens", "text_cells"), elem_id="units-view")
    entered, use, below = own_text("units", LONGEST)
    lines = [wrong, below]
    outputs = [view, *lines, text]

    def show(
        name: str | None, source: Callable[[Opened], str], find: Callable[[Opened, str], dict], at: gr.HTML = wrong
    ) -> Iterator[dict]:
        try:
            one = opened(name)
            yield tell(at, lines, "Reading …", "running")
            now = source(one)
            for data in in_turn(find(one, now) for _ in range(1)):
                if data is None:
                    yield tell(at, lines, WAITING, "running")
                else:
                    yield {view: data, **tell(at, lines), text: now}
        except errors.PROBLEMS as error:
            yield tell(at, lines, errors.explain(error), "failed")

    def from_(source: Callable[[Opened], str]) -> Callable:
        def handler(name, wanted):
            yield from show(name, source, lambda one, now: of_feature(one, wanted, now))

        return handler

    def again(name, wanted, now):
        yield from show(name, lambda one: now or first_text(one), lambda one, text: of_feature(one, wanted, text))

    def use_own(name, wanted, entered):
        yield from show(name, lambda one: own(entered, LONGEST), lambda one, text: of_feature(one, wanted, text), below)

    def select(event: gr.EventData, name, now):
        start, end = getattr(event, "start", 0), getattr(event, "end", 0)
        yield from show(name, lambda one: now or "", lambda one, text: of_selection(one, text, start, end))

    events = [
        sample.click(from_(a_sample), [run, feature], outputs, **WAITS),
        passage.click(from_(a_passage), [run, feature], outputs, **WAITS),
        use.click(use_own, [run, feature, entered], outputs, **WAITS),
        feature.input(again, [run, feature, text], outputs, **WAITS),
        # of selections, the first: a later one would be sent with the places of this one
        view.select(select, [run, text], outputs, **WAITS | dict(trigger_mode="once")),
    ]
    return View(from_(first_text), [run, feature], outputs, events, again, [text], waits=True)
