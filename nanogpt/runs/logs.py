"""Export what a run logged: its curves as CSV, its samples and its log as text."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ..disk import opened
from ..paths import without_folders
from .history import is_sample
from .rows import is_number, read_jsonl
from .run import Run

COLUMNS = (  # of a row in metrics.jsonl; losses are in nats per character, for any tokenizer
    "step", "seconds", "tokens", "train_loss", "val_loss", "learning_rate", "grad_norm", "tokens_per_second",
    "characters", "characters_per_second",
)  # fmt: skip
LOG_BYTES = 1_000_000  # read at most this much, from the end of log.txt


def curves_csv(run: Run) -> str:
    """Return the logged values as CSV: one row per step, with empty cells where a value was not measured."""
    run.settings()  # raises if there is no such run
    steps: dict[int, dict[str, Any]] = {}
    for row in read_jsonl(run.folder / "metrics.jsonl"):
        if "event" not in row and isinstance(row.get("step"), int) and is_number(row["step"]):
            steps.setdefault(row["step"], {}).update(_numbers(row))
    out = io.StringIO()
    table = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(steps.values())
    return out.getvalue()


def _numbers(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((key, row[key]) for key in COLUMNS if is_number(row.get(key)))


def samples_text(run: Run) -> str:
    """Return all samples of the run, oldest first."""
    run.settings()  # raises if there is no such run
    rows = read_jsonl(run.folder / "samples.jsonl", is_sample)
    return "\n".join(f"---- step {row['step']:,} ----\n{row['text'].strip()}\n" for row in rows)


def log_text(run: Run, lines: int | None = None) -> str:
    """Return the end of `log.txt`: the last `lines`, or up to a megabyte. Folders are removed from file paths."""
    try:
        with opened(run.folder / "log.txt") as file:
            file.seek(-min(LOG_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    if lines is not None:
        text = "\n".join(text.splitlines()[-lines:])
    return without_folders(text)
