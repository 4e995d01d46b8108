"""What a run can be doing, and how long it is. `Run.status` computes it; it is never stored."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import TrainConfig
from .history import History

CRASHED = "The training process was killed (out of memory, a full disk, or a shutdown)."
CONTINUE = "Resume the run to continue from its last checkpoint."
START_OVER = "Nothing was saved yet, so resume the run to start it from step 0."
EXPORTED = "It was exported while it trained, without its checkpoint. You can still sample from it."
CANCELED = "Canceled before training started."
CANCELED_LATER = "Canceled before training resumed."
STOPPED_EARLY = "Stopped early"  # begins the message of a run that ended by patience
WORDS = dict(
    queued="Queued", running="Training", stopping="Stopping", finished="Finished", stopped="Stopped", failed="Failed",
    crashed="Interrupted", damaged="Damaged",
)  # fmt: skip


@dataclass(frozen=True)
class Status:
    """What a run is doing, as computed from its folder."""

    state: str  # a key of WORDS: crashed if the trainer was killed, damaged if a file can't be read
    step: int = 0
    max_iters: int = 0
    seconds: float = 0.0  # of training so far
    message: str = ""  # for the user, often empty
    place: int = 0  # in the queue; 1 is next

    @property
    def word(self) -> str:
        """Return the word for the state that people read, even for an unknown state from a later version."""
        return WORDS.get(self.state, self.state.capitalize())

    @property
    def busy(self) -> bool:
        """Return True if the run is queued or a trainer is working on it."""
        return self.state in ("queued", "running", "stopping")

    @property
    def can_continue(self) -> bool:
        """Return True if the run can be resumed; a finished one also needs a new length."""
        return not self.busy and self.state != "damaged"


def withdrawn_at(history: History) -> str:
    """Return how many events there are, as the note of a withdrawal. Each new one makes the note an old one."""
    return f"{len(history.events)} events"


def length(train: TrainConfig, history: History) -> int:
    """Return the run's total number of steps. With a time budget, it is an estimate until the run has finished."""
    if not train.budget:
        return train.max_iters
    if history.events and history.events[-1]["event"] == "finished":
        return history.step
    gone = history.seconds / train.budget
    return max(history.step + 1, round(history.step / gone) if gone > 0.05 else train.max_iters)
