"""The run folder, the single source of truth about a run: what is in it, what happened, whose turn it is.

The names imported below need no torch, so listing runs is instant; some of the modules do, so import what you need.
`queue` gives each device to one run at a time; `settings`, `logs` and `archive` turn a run into files to take along.
"""

from .history import History, kept_loss, read_jsonl
from .listing import all_runs, free_name, users_of
from .run import Busy, Run, Status

__all__ = [
    "Busy", "History", "Run", "Status", "all_runs", "archive", "checkpoint", "checks", "free_name", "kept_loss", "logs",
    "queue", "read_jsonl", "settings", "users_of",
]  # fmt: skip
