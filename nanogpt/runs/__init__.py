"""The run folder, the single source of truth about a run: what is in it, what happened, whose turn it is.

The names below import no torch, so listing runs is instant. `archive` and `checkpoint` do: import them as modules.
`queue` gives each device to one run at a time; `settings` and `logs` turn a run into files for other programs.
"""

from .history import History, kept_loss, read_jsonl
from .run import Busy, Run, Status, all_runs, free_name, users_of

__all__ = [
    "Busy", "History", "Run", "Status", "all_runs", "archive", "checkpoint", "free_name", "kept_loss", "logs", "queue",
    "read_jsonl", "settings", "users_of",
]  # fmt: skip
