"""The run folder, the single source of truth for a run: its files, its history and its place in the queue.

Nothing imported below needs torch, so listing runs is instant; import the modules that do (such as `checkpoint`) only
when needed. `queue` lets one run at a time use a device; `settings`, `logs` and `archive` export a run as files.
"""

from .history import History, amount_read
from .job import Job, job_of, open_job
from .kept import judged_percent, kept_loss, kept_step, newest_loss
from .listing import all_runs, elsewhere, free_name, overview, overviews, users_of
from .rows import is_number, read_jsonl
from .run import Busy, Run, Taken
from .status import STOPPED_EARLY, Status, length
from .summary import Overview

__all__ = [
    "STOPPED_EARLY", "Busy", "History", "Job", "Overview", "Run", "Status", "Taken", "all_runs", "amount_read",
    "archive", "checkpoint", "checks", "elsewhere", "free_name", "is_number", "job", "job_of", "judged_percent",
    "kept_loss", "kept_step", "length", "logs", "newest_loss", "open_job", "overview", "overviews", "queue",
    "read_jsonl", "saved", "settings", "snapshots", "users_of",
]  # fmt: skip
