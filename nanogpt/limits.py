"""What a server allows. On one's own machine nothing is limited; a public one divides time and disk among strangers.

Every limit is an environment variable, read here and nowhere else; docs/space.md has them as a table.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from .config import NanoGPTError
from .durations import in_words

ZERO_SECONDS = 45  # of training in one ZeroGPU call of a minute: the rest goes to beginning, judging and saving


@dataclass(frozen=True)
class Limit:
    """One of them: what it counts, and what holds where nothing is set."""

    unit: str
    public: int
    private: int | None = None  # None: no limit


LIMITS = {
    "NANOGPT_MAX_BYTES": Limit("bytes", 5_000_000, 20_000_000),  # of a text, all its files together
    "NANOGPT_MAX_PARAMETERS": Limit("parameters", 15_000_000),  # of a model
    "NANOGPT_MAX_SECONDS": Limit("seconds", 1800),  # that a run trains before others have their turn
    "NANOGPT_MAX_RUNS": Limit("runs", 2),  # of one visitor, training or waiting
    "NANOGPT_MAX_WAITING": Limit("runs", 20),  # of all visitors, in the queue
    "NANOGPT_MAX_DISK": Limit("bytes", 1_000_000_000),  # of one visitor's runs and texts
    "NANOGPT_EXPIRE_HOURS": Limit("hours", 48),  # until what nobody has touched is deleted
}


def is_public() -> bool:
    """Whether strangers share this server: a Space, or `app.py --public`."""
    return bool(os.environ.get("SPACE_ID")) or os.environ.get("NANOGPT_PUBLIC") == "1"


def on_zero_gpu() -> bool:
    """Whether this is a Space whose card is there only inside a call (ZeroGPU)."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def limit(name: str) -> int | None:
    """One of LIMITS as it holds here, None for no limit. NanoGPTError where the variable is not a whole number."""
    known = LIMITS[name]
    given = os.environ.get(name)
    if given and not (given.isascii() and given.isdigit()):
        raise NanoGPTError(f"{name} was {given[:40]!r}; it must be a whole number of {known.unit}.")
    found = int(given) if given else known.public if is_public() else known.private
    if name == "NANOGPT_MAX_SECONDS" and on_zero_gpu():
        return min(found or ZERO_SECONDS, ZERO_SECONDS)
    return found


def training_is_off() -> bool:
    """Whether the owner lets visitors write with models only: NANOGPT_TRAINING=off."""
    return os.environ.get("NANOGPT_TRAINING", "").strip().lower() in ("off", "0", "no", "false")


def archive_bytes(most: int) -> int:
    """The most bytes that an archive with the largest model allowed here may have: its weights, and a save of them."""
    parameters = limit("NANOGPT_MAX_PARAMETERS")
    return most if parameters is None else min(most, 20 * parameters + 10_000_000)


# ---- checks: each a sentence where a limit bites -------------------------------------------------------------------


def check_training() -> None:
    """NanoGPTError where training is switched off."""
    if training_is_off():
        raise NanoGPTError("Training is switched off on this server; write with the models here, or train on your own.")


def check_model(parameters: int) -> None:
    """NanoGPTError for a larger model than is allowed."""
    most = limit("NANOGPT_MAX_PARAMETERS")
    if most is not None and parameters > most:
        raise NanoGPTError(
            f"The model would have {parameters:,} parameters; at most {most:,} are allowed here. "
            "Lower n_embd or n_layer, or train it on a machine of your own."
        )


def check_seconds(seconds: float) -> None:
    """NanoGPTError for more training at a time than is allowed."""
    most = limit("NANOGPT_MAX_SECONDS")
    if most is not None and seconds > most:
        raise NanoGPTError(
            f"The time was {seconds:,.0f} s; this server trains {in_words(most)} at a time. Give at most that; "
            "Continue goes on afterwards."
        )
