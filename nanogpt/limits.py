"""Server limits: how much text, time and disk each visitor of a public server may use.

On your own machine, there is no limit but your disk and memory. Every limit is an environment variable that is read
here and nowhere else; docs/space.md lists them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from .config import ModelConfig, NanoGPTError
from .durations import in_words

PASTED = 20_000_000  # bytes of a text that comes in a request and so is in memory at once
ZERO_SECONDS = 45  # of training in a one-minute ZeroGPU call; the rest goes to startup, evaluation and saving


@dataclass(frozen=True)
class Limit:
    """One limit: its unit, and its default on a public server. On your own machine there is none, unless you set it."""

    unit: str
    public: int


LIMITS = {
    "NANOGPT_MAX_BYTES": Limit("bytes", 5_000_000),  # per text, over all its files
    "NANOGPT_MAX_PARAMETERS": Limit("parameters", 15_000_000),  # per model
    "NANOGPT_MAX_PREDICTIONS": Limit("predictions", 16_000_000),  # for a full context: block_size times vocab_size
    "NANOGPT_MAX_SECONDS": Limit("seconds", 1800),  # of training before a run must make room for others
    "NANOGPT_MAX_RUNS": Limit("runs", 2),  # training or queued, per visitor
    "NANOGPT_MAX_WAITING": Limit("runs", 20),  # in the queue, over all visitors
    "NANOGPT_MAX_DISK": Limit("bytes", 1_000_000_000),  # for runs and texts, per visitor
    "NANOGPT_EXPIRE_HOURS": Limit("hours", 48),  # before unused runs and texts are deleted
    "NANOGPT_MAX_FILES": Limit("files", 100),  # per upload
    "NANOGPT_MAX_REQUESTS": Limit("requests", 16),  # at once, open streams included, per visitor
    "NANOGPT_MAX_EVENTS": Limit("events", 8),  # queued, running, or with results not fetched, per visitor
    "NANOGPT_RESULT_SECONDS": Limit("seconds", 60),  # before an event whose results are not fetched is dropped
    "NANOGPT_UPLOAD_MINUTES": Limit("minutes", 60),  # before uploads and prepared downloads are deleted
    # in all, over all visitors
    "NANOGPT_SERVER_DISK": Limit("bytes", 20_000_000_000),  # for runs and texts
    "NANOGPT_SERVER_UPLOADS": Limit("bytes", 2_000_000_000),  # for uploads and prepared downloads
    "NANOGPT_SERVER_MEMORY": Limit("bytes", 100_000_000),  # of requests being read or worked on
    "NANOGPT_SERVER_REQUESTS": Limit("requests", 1000),  # at once, open streams included
    "NANOGPT_SERVER_EVENTS": Limit("events", 500),
    "NANOGPT_SERVER_SESSIONS": Limit("sessions", 1000),  # open pages and clients that the server remembers
}


def is_public() -> bool:
    """Return True in multi-user mode: on a Space, or with `app.py --public`."""
    return on_space() or os.environ.get("NANOGPT_PUBLIC") == "1"


def on_space() -> bool:
    """Return True on a Hugging Face Space, where every request comes through a proxy."""
    return bool(os.environ.get("SPACE_ID"))


def on_zero_gpu() -> bool:
    """Return True on a ZeroGPU Space, where a GPU is available only inside a call."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def in_a_job() -> bool:
    """Return True in the container of a job on Hugging Face Jobs."""
    return "NANOGPT_JOB_BEGAN" in os.environ


def limit(name: str) -> int | None:
    """Return one of LIMITS as it applies here, None for no limit. Raise NanoGPTError if the variable is invalid.

    No limit is 0, which could mean that nothing is allowed, or everything.
    """
    known = LIMITS[name]
    given = os.environ.get(name)
    if given and not (given.isascii() and given.isdigit() and given.strip("0")):
        raise NanoGPTError(f"{name} was {given[:40]!r}; it must be a whole number of {known.unit}, at least 1.")
    found = int(given) if given else known.public if is_public() else None
    if name == "NANOGPT_MAX_SECONDS" and on_zero_gpu():
        return min(found or ZERO_SECONDS, ZERO_SECONDS)
    return found


def check_limits() -> None:
    """Raise NanoGPTError if the variable of any of LIMITS is invalid."""
    for name in LIMITS:
        limit(name)


def training_is_off() -> bool:
    """Return True if visitors can only sample, not train: NANOGPT_TRAINING=off."""
    return os.environ.get("NANOGPT_TRAINING", "").strip().lower() in ("off", "0", "no", "false")


def counting_is_off() -> bool:
    """Return True if the baselines of texts are not to be computed in the background: NANOGPT_BASELINES=off."""
    return os.environ.get("NANOGPT_BASELINES", "").strip().lower() in ("off", "0", "no", "false")


def archive_bytes(most: int) -> int:
    """Return the size limit for an archive in bytes: `most`, or what the largest model and its checkpoint need."""
    parameters = limit("NANOGPT_MAX_PARAMETERS")
    return most if parameters is None else min(most, 20 * parameters + 10_000_000)


def body_bytes() -> int:
    """Return the size limit in bytes for a request that may carry a text as JSON.

    JSON writes é as \\u00e9, which makes the two bytes six, and a line break as \\n. A longer text must be a file.
    """
    return 3 * min(limit("NANOGPT_MAX_BYTES") or PASTED, PASTED) + 1_000_000


# ---- checks: each raises with a clear message when a limit is exceeded ----------------------------------------------


def check_training() -> None:
    """Raise NanoGPTError if training is turned off."""
    if training_is_off():
        raise NanoGPTError(
            "Training is turned off on this server. You can sample from its models, or train on your own machine."
        )


def check_model(model: ModelConfig, parameters: int) -> None:
    """Raise NanoGPTError if a model with this many parameters is too large, or would predict too much at a time.

    A model of few parameters can need gigabytes: it computes a number for each character at each place of its context.
    """
    most = limit("NANOGPT_MAX_PARAMETERS")
    if most is not None and parameters > most:
        raise NanoGPTError(
            f"The model would have {parameters:,} parameters; this server allows {most:,}. "
            "Lower n_embd or n_layer, or train it on your own machine."
        )
    predictions = limit("NANOGPT_MAX_PREDICTIONS")
    if predictions is not None and model.block_size * model.vocab_size > predictions:
        longest = predictions // model.vocab_size
        raise NanoGPTError(
            f"With {model.vocab_size:,} different characters, block_size may be at most {longest:,} on this server, "
            f"not {model.block_size:,}. Lower it, or train the model on your own machine."
        )


def check_seconds(seconds: float) -> None:
    """Raise NanoGPTError if the time budget is too long."""
    most = limit("NANOGPT_MAX_SECONDS")
    if most is not None and seconds > most:
        raise NanoGPTError(
            f"This server allows {in_words(most)} of training at a time, not {in_words(seconds)}; "
            "ask for less and resume the run afterwards."
        )
