"""The view "Characters": a text colored by how much each character surprised the model.

Choosing a character shows what the model expected there and what the training text says. Choosing one of the expected
characters instead writes on from there, so you and the model can write together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from ... import errors, explain
from ...config import NanoGPTError, SampleConfig, knobs
from ..drawn import drawn, line, said
from ..view import LATEST as SINGLE, View, a_passage, a_sample, first_text, opened, tell

if TYPE_CHECKING:
    from ...explain.characters import Read
    from ...explain.opened import Opened

LONGEST = 2000  # characters
QUOTED = 40  # characters of a place in the training text


# ---- handlers: plain functions of a run's name, a text and a place -------------------------------------------------


def colored(one: Opened, text: str, at: int | None = None) -> dict[str, Any]:
    """Return the data for characters.js: a text's tokens with the bits and the rank of each. `at` is selected."""
    fitted = one.tokenizer.fit(text[:LONGEST])
    if not fitted.text:
        raise NanoGPTError("There is no text to color. Enter some first.")
    read = explain.characters.read(one.model, one.tokenizer, fitted.text)
    cut = f"Only the first {LONGEST:,} characters are shown. " if len(text) > LONGEST else ""
    return dict(
        tokens=read.tokens,
        bits=[round(float(bits), 2) for bits in read.bits],
        ranks=[int(rank) for rank in read.ranks],
        at=len(read.tokens) if at is None else at,
        words=cut + in_words(read),
        note=str(fitted),
    )


def in_words(read: Read) -> str:
    """Return what the colors show, for reading: the mean, and the three characters that cost most."""
    count, bits = len(read.tokens), f"{read.bits.mean():.2f} bits"
    mean = f"{count:,} characters, {bits} each on average." if count > 1 else f"1 character, {bits}."
    worst = sorted(range(len(read.tokens)), key=lambda i: -read.bits[i])[:3]
    named = [f"{shown(read.tokens[i])} after {shown(''.join(read.tokens[max(0, i - 12) : i]))}" for i in worst if i]
    return f"{mean} Least expected: {'; '.join(named)}." if named else mean


def expected(one: Opened, text: str, at: int, config: SampleConfig) -> dict[str, Any]:
    """Return the data for expected.js: what the model and the training text expected at token `at` of a text."""
    tokens = tokens_of(one, text)
    at = max(0, min(at, len(tokens)))
    before = "".join(tokens[:at])
    logits = explain.characters.logits_at(one.model, one.tokenizer, before, at)
    bars = explain.characters.likeliest(logits, one.tokenizer, config)
    own = tokens[at] if at < len(tokens) else ""
    training = one.training_text()
    return dict(
        before=before[-24:],
        own=own,
        found=own_words(own, *explain.characters.judged(logits, one.tokenizer.stoi[own])) if own else "",
        bars=bars,
        seen=seen_words(training, before, one.looked_at()) if training is not None else NO_TEXT,
        at=at,
    )


def own_words(own: str, bits: float, rank: int) -> str:
    """Return what the model thought of the character that the text has, in a sentence. A shared rank (0) isn't said."""
    share = f"{2**-bits:.1%}" if bits < 9.97 else "less than 0.1%"
    choice = ", the model's first choice" if rank == 1 else f", number {rank} on the model's list" if rank else ""
    return f"The text has {shown(own)}: {share}, {bits:.1f} bits{choice}."


def tokens_of(one: Opened, text: str) -> list[str]:
    """Return the tokens of a text in the model's alphabet."""
    return [one.tokenizer.itos[i] for i in one.tokenizer.encode(text)]


NO_TEXT = "The text this model was trained on isn't here, so it can't be searched."


def seen_words(training: str, before: str, part: str = "") -> str:
    """Return what the training text says about a place, in sentences. `part` says how much of it was searched."""
    found = explain.seen.seen(training, before)
    if not found.context:
        return "Not even the last character occurs in the training text." if before else ""
    followed = ", ".join(f"{shown(token)} {count:,}×" for token, count in found.followed[:4])
    times = "once" if found.times == 1 else f"{found.times:,} times"
    then = f" Next came {followed}." if followed else ""
    searched = f" {part}" if part else ""
    longest = ("…" if len(found.context) > QUOTED else "") + found.context[-QUOTED:]
    return f"In your training text, {shown(longest)} occurs {times}.{then}{searched}"


def shown(token: str) -> str:
    """Return a token in quotes, with whitespace visible."""
    return "“" + token.replace("\n", "↵").replace("\t", "⇥").replace(" ", "␣" if token.isspace() else " ") + "”"


# ---- the view ------------------------------------------------------------------------------------------------------


@dataclass
class Characters:
    """The parts of the view. `place` holds the text and the selected token, `before` the places to undo to.

    `wrong` is the line for messages, `below` that of your own text.
    """

    text: gr.HTML
    details: gr.HTML
    note: gr.HTML
    wrong: gr.HTML
    below: gr.HTML
    undo: gr.Button
    place: gr.State
    before: gr.State

    @property
    def all(self) -> list:
        return [self.text, self.details, self.note, *self.lines, self.undo, self.place, self.before]

    @property
    def lines(self) -> list[gr.HTML]:
        return [self.wrong, self.below]

    def show(
        self, name: str | None, make: Callable[[Opened], tuple[str, int | None]], settings, before: list,
        at: gr.HTML | None = None,
    ) -> dict:  # fmt: skip
        """Color what `make` returns: a text, and the token to select, None for the place after the last one.

        An error is shown in the line `at`, by default `wrong`.
        """
        at = self.wrong if at is None else at
        try:
            one = opened(name)
            data = colored(one, *make(one))
            place = ("".join(data["tokens"]), data["at"])
            details = expected(one, *place, config_of(settings))
        except errors.PROBLEMS as error:
            return tell(at, self.lines, errors.explain(error), "failed")
        return {
            self.text: data, self.details: details, self.note: line(data["note"]), **tell(at, self.lines),
            self.undo: gr.Button(interactive=bool(before)), self.place: place, self.before: before,
        }  # fmt: skip

    def look(self, name: str | None, place: tuple[str, int], settings) -> dict:
        """Show what was expected at a place."""
        text, at = place or ("", 0)
        try:
            details = expected(opened(name), text, at, config_of(settings))
        except errors.PROBLEMS as error:
            return tell(self.wrong, self.lines, errors.explain(error), "failed")
        return {self.details: details, **tell(self.wrong, self.lines), self.place: place}

    def wire(self, run: gr.Dropdown, settings: list) -> list:
        """Wire choosing a character, writing on with another one, going back, and the settings. Return the events."""
        looked = [self.details, *self.lines, self.place]

        def select(data, name, *values):
            tokens, at = ((data or {}).get(key) for key in ("tokens", "at"))
            text = "".join(map(str, tokens))[:LONGEST] if isinstance(tokens, list) else ""
            return self.look(name, (text, at if isinstance(at, int) else 0), values)

        def write_on(event: gr.EventData, name, place, before, *values):
            (text, at), token = place or ("", 0), str(getattr(event, "token", ""))
            longer = lambda one: ("".join(tokens_of(one, text)[:at]) + token, None)
            return self.show(name, longer, values, [*(before or []), place][-100:])

        def back(name, before, *values):
            last = before[-1] if before else ("", 0)
            return self.show(name, lambda one: last, values, (before or [])[:-1])

        reshaped = lambda name, place, *values: self.look(name, place, values)
        return [
            self.text.input(select, [self.text, run, *settings], looked, **SINGLE),
            # while an answer is on its way, another click would be answered with this one's character
            self.details.select(
                write_on, [run, self.place, self.before, *settings], self.all, **SINGLE | dict(trigger_mode="once")
            ),
            self.undo.click(back, [run, self.before, *settings], self.all, **SINGLE),
            gr.on([one.change for one in settings], reshaped, [run, self.place, *settings], looked, **SINGLE),
        ]


def build(run: gr.Dropdown) -> View:
    """Draw the view and wire it."""
    gr.Markdown(
        "Each character is colored by how much it surprised the model: the stronger the color, the less it was "
        "expected. Click one, or move with the arrow keys, to see what the model expected there.",
        container=False,
    )  # fmt: skip
    with gr.Row(elem_id="characters-from"):
        sample = gr.Button("Color a sample", size="sm", min_width=130, scale=0, elem_id="characters-sample")
        passage = gr.Button("Color held-out text", size="sm", min_width=150, scale=0, elem_id="characters-passage")
        undo = gr.Button("Undo", size="sm", min_width=80, scale=0, interactive=False, elem_id="characters-undo")
    wrong = said("characters-said")
    with gr.Row(equal_height=False, elem_id="characters-parts"):
        with gr.Column(scale=3, min_width=320):
            text = drawn("characters", uses=("tokens", "text_cells"), elem_id="characters-text")
            note = said("characters-note")
        with gr.Column(scale=2, min_width=280):
            details = drawn("expected", uses=("aloud", "tokens"), elem_id="characters-expected")
            settings = build_settings()
    with gr.Accordion("Color your own text", open=False):
        own = gr.Textbox(
            label="Text", info=f"Up to {LONGEST:,} characters.", lines=4, max_lines=10, elem_id="characters-own"
        )
        color = gr.Button("Color this text", size="sm", min_width=140, scale=0, elem_id="characters-color")
        below = said("characters-own-said")
    view = Characters(text, details, note, wrong, below, undo, gr.State(("", 0)), gr.State([]))
    events = view.wire(run, settings)

    def from_(source: Callable[[Opened], str]) -> Callable:
        return lambda name, *values: view.show(name, lambda one: (source(one), 0), values, [])

    use_own = lambda name, text, *values: view.show(name, lambda one: (text or "", 0), values, [], below)

    def again(name, *values):
        settings, (place, before) = values[:-2], values[-2:]
        return view.show(name, lambda one: place if any(place or ()) else (first_text(one), 0), settings, before or [])

    events += [
        sample.click(from_(a_sample), [run, *settings], view.all, **SINGLE),
        passage.click(from_(a_passage), [run, *settings], view.all, **SINGLE),
        color.click(use_own, [run, own, *settings], view.all, **SINGLE),
    ]
    return View(from_(first_text), [run, *settings], view.all, events, again, [view.place, view.before])


def build_settings() -> list:
    """Draw the sampling settings that reshape the bars."""
    k = {knob.name: knob for knob in knobs(SampleConfig)}
    temperature = gr.Slider(
        0, 2, k["temperature"].default, step=0.05, label="Temperature", info="How sampling reshapes the bars.",
        elem_id="characters-temperature",
    )  # fmt: skip
    top_k = gr.Number(  # no minimum: Gradio would refuse all requests that it is part of, also those of other views
        k["top_k"].default, label="top_k", info=k["top_k"].help, precision=0, elem_id="characters-top-k"
    )
    top_p = gr.Slider(
        0, 1, k["top_p"].default, step=0.01, label="top_p", info=k["top_p"].help, elem_id="characters-top-p"
    )
    return [temperature, top_k, top_p]


def config_of(values: tuple) -> SampleConfig:
    """Return the sampling settings. An empty field means its default. Raise NanoGPTError for an impossible value."""
    named = zip(("temperature", "top_k", "top_p"), values)
    return SampleConfig(**{key: value for key, value in named if value is not None})
