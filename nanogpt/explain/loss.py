"""What does this loss mean? A run's validation loss among the baselines of its text, and the sentence for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import corpus, disk
from ..config import NanoGPTError
from ..runs import History, Run, judged_percent, kept_loss, kept_step
from ..tokenizer import token_lengths
from . import cache
from .baselines import BASELINES, VERSION, Counted, from_stored, keep, keep_counted, kept
from .opened import Opened

SECONDS = 60.0  # the longest that `learn` takes, by default


def counted_for(run: Run) -> Counted | None:
    """Return the baselines of a run's text, or None if they aren't known yet.

    They are kept next to the text. For a run that came without its text, they may be in the run's folder.
    """
    about = run.settings()["corpus"]
    try:
        if found := kept(corpus.load(str(about.get("id")))):
            return found
    except NanoGPTError:  # the text isn't here
        pass
    try:
        result = disk.from_json(disk.read(run.folder / "explain" / "loss.json"))["result"]
        if result["sha256"] == about["sha256"]:
            return from_stored(result)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def count_for(run: Run) -> Counted | None:
    """Return the baselines of a run's text; fit the counting models to it and keep the result if none are known yet.

    Return None if the text isn't here.
    """
    if found := counted_for(run):
        return found
    try:
        return keep_counted(corpus.load(str(run.settings()["corpus"].get("id"))))
    except NanoGPTError:
        return None


def passed(loss: float, losses: dict[str, float]) -> str | None:
    """Return the strongest baseline that a loss is better than, or None if there is none."""
    worse = [key for key in losses if losses[key] > loss]
    return min(worse, key=lambda key: losses[key]) if worse else None


def better_than(loss: float, losses: dict[str, float], now: bool = False) -> str:
    """Return a sentence about the strongest baseline that a loss is better than, or "" if there is none."""
    key = passed(loss, losses)
    return f"{'Now better' if now else 'Better'} than {BASELINES[key].passed}." if key else ""


def ruler(opened: Opened, learned: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what is known so far: {"loss"} of the run, {"losses"} of the baselines, and {"dynamic"} of the model.

    Losses are in nats per character. What isn't known is None. {"untrained"}: the weights are those it began with.
    {"finished"}: the run's loss is of {"percent"} of the validation set. `learned` is the last that `learn` yielded,
    because the results of a model that ships with the project are not kept.
    """
    found, learning = counted_for(opened.run), dict(dynamic=learned) if learned else cache.load(opened, "loss")
    history = opened.run.history()
    return dict(
        loss=kept_loss(history),
        untrained=untrained(history),
        finished=history.last_trained.get("event") == "finished",
        percent=judged_percent(history, opened.run.settings()),
        losses=found.losses if found else {},
        characters=found.characters if found else None,  # that the losses were counted on
        of=opened.run.settings()["corpus"]["characters"],
        dynamic=learning.get("dynamic") if learning else None,
    )


def untrained(history: History) -> bool:
    """Return True if a run's weights are still those it began with, and not because training made them worse."""
    first = history.best_saved.get("step") == 0 and not kept_step(history)
    return first and not (history.ended and len(history.evaluations) > 1)


def learn(opened: Opened, seconds: float = SECONDS) -> Iterator[dict[str, Any]]:
    """Evaluate a run dynamically, yielding the losses so far (see `dynamic`), and keep the result.

    Raise NanoGPTError if the run's text isn't here.
    """
    if opened.corpus_id is None:
        raise NanoGPTError("The text of this model isn't on this machine, so the model can't learn from it.")
    text, tokenizer = corpus.load(opened.corpus_id), opened.tokenizer
    import torch  # here, because it takes a second or two

    from ..data import split
    from .dynamic import dynamic

    lengths = token_lengths(tokenizer)
    val = split(text.tokens(), lengths)[1]
    for found in dynamic(opened.model, val, torch.from_numpy(lengths), seconds):
        yield found
    counts = keep(text)
    cache.keep(opened, "loss", dict(version=VERSION, sha256=text.sha256, characters=counts.characters,
                                    losses=counts.losses, dynamic=found))  # fmt: skip
