"""Open a run for a view of the tab Understand: check whose it is, and whether its text may be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import explain
from ..config import NanoGPTError
from .visit import visitor
from .words import existing

if TYPE_CHECKING:
    from ..explain.opened import Opened

NO_RUN = "There is no trained model yet. Train one first."


@dataclass
class View:
    """How the tab opens a view: a handler, what it reads (the run's name first), and what it updates."""

    open: Callable
    inputs: list
    outputs: list


def opened(name: str | None) -> Opened:
    """Open a run that the visitor can see. Everyone may sample from a public run, but only its owner may read its text.

    Raise NanoGPTError if there is no such run, or if it has no weights yet.
    """
    run = existing(name, NO_RUN)
    try:
        visitor().text(str(run.settings()["corpus"]["id"]))
    except NanoGPTError:
        return explain.opened.open_run(run, may_read_text=False)
    return explain.opened.open_run(run)
