"""The view "Beat your model": guess the next characters of held-out text, and compare your bits with the model's."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any
from zlib import crc32

import gradio as gr

from ... import errors, explain
from ...config import SampleConfig
from ..drawn import drawn, said, told
from ..view import SINGLE, View, identity, opened

if TYPE_CHECKING:
    from ...explain.guessing import Game
    from ...explain.opened import Opened

PLAIN = SampleConfig(temperature=1.0)
ENOUGH = 10  # guessed characters before a score counts
# Take the next guess, even if the answer to the last one was an error and drew nothing.
NEXT = "() => { for (const field of document.querySelectorAll('.guessing-field')) field.readOnly = false; }"


# ---- handlers ------------------------------------------------------------------------------------------------------


def shown(one: Opened, game: Game) -> dict[str, Any]:
    """Return the data for guessing.js. It never holds a character that is still to be guessed."""
    begin = len(game.text) - game.hidden
    done = len(game.ranks)
    last = {}
    if done:
        place = game.place - 1
        logits = explain.characters.logits_at(one.model, one.tokenizer, game.text[:place], place)
        last = dict(
            right=game.text[place], rank=game.ranks[-1], bars=explain.characters.likeliest(logits, one.tokenizer, PLAIN)
        )
    return dict(
        before=game.text[:begin],
        guessed=[[game.text[begin + i], rank] for i, rank in enumerate(game.ranks)],
        left=game.hidden - done,
        wrong=list(game.wrong),
        tries=explain.guessing.TRIES,
        last=last,
        words=explain.guessing.result(game, one.tokenizer.vocab_size),
        over=game.over,
    )


# ---- the view ------------------------------------------------------------------------------------------------------


def scored(run: str, game: Game, vocab_size: int) -> dict[str, float]:
    """Return your bits per character in a game, by the `identity` of the run and the passage.

    Return nothing if the game hasn't gone far enough.
    """
    enough, key = len(game.ranks) >= ENOUGH, f"{run} {crc32(game.text.encode())}"
    return {key: round(explain.guessing.player_bits(game.ranks, vocab_size), 3)} if enough else {}


def mean_score(scores: Any, run: str) -> tuple[float, int] | None:
    """Return your mean bits per character for a run and in how many passages, or None if you haven't played.

    `scores` are those that the browser keeps. A version before stored one per run, without its passage.
    """
    kept = scores.items() if isinstance(scores, dict) else ()
    of_run = [score for key, score in kept if key == run or key.startswith(f"{run} ")]
    bits = [float(score) for score in of_run if isinstance(score, int | float) and 0 <= score < 100]
    return (sum(bits) / len(bits), len(bits)) if bits else None


def over_passages(scores: Any, run: str) -> str:
    """Return your mean over several passages, in a sentence, or nothing if it was one."""
    bits, passages = mean_score(scores, run) or (0.0, 0)
    return f" Over {passages} passages, you have {bits:.2f} on average." if passages > 1 else ""


def build(run: gr.Dropdown, scores: gr.HTML) -> View:
    """Draw the view and wire it. `scores` adds your bits per character to those that the browser keeps."""
    gr.Markdown(
        "Can you predict your text better than your model does? Guess the next 30 characters of a passage that the "
        "model hasn't seen: three guesses for each, and “t” isn't “T”. Your score is in bits per character; lower is "
        "better.",
        container=False,
    )  # fmt: skip
    new, wrong = gr.Button("New passage", size="sm", min_width=130, scale=0), said("guessing-said")
    game = gr.State()  # the identity of a run, and its game
    view = drawn("guessing", uses=("aloud", "tokens", "token_bars"), elem_id="guessing-view")
    outputs = [view, wrong, game]

    def begin(name, now=None):
        try:
            one = opened(name)
            if now is None or now[0] != identity(one.run):
                now = identity(one.run), explain.guessing.new_game(one, secrets.randbelow(2**31))
            return {view: shown(one, now[1]), wrong: told(""), game: now}
        except errors.PROBLEMS as error:
            return {view: None, wrong: told(errors.explain(error), "failed"), game: None}

    def guess(event: gr.EventData, name, now, known=None):
        try:
            one = opened(name)
            if now is None or now[0] != identity(one.run):  # the server was restarted, or this is another model
                return begin(name)
            later = explain.guessing.guess(now[1], str(getattr(event, "letter", "")), one)
            score = scored(now[0], later, one.tokenizer.vocab_size)
            data = shown(one, later)
            data["words"] += over_passages((known if isinstance(known, dict) else {}) | score, now[0])
            return {view: data, wrong: told(""), game: (now[0], later), scores: score}
        except errors.PROBLEMS as error:
            return {wrong: told(errors.explain(error), "failed")}

    guessed = view.select(guess, [run, game, scores], [*outputs, scores], **SINGLE)
    for answered in (guessed.then, guessed.failure):
        answered(None, None, None, js=NEXT)
    return View(begin, [run], outputs, [new.click(begin, run, outputs, **SINGLE), guessed], begin, [game])
