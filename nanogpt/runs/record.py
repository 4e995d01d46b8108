"""What a run leaves to read: its settings as a file and as a command, its curves, its samples and its log."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from .. import corpus
from ..config import PLANNED, PRESETS, Config, ModelConfig, NanoGPTError, TrainConfig, knobs, preset
from ..formats import read_config
from .history import read_jsonl
from .run import Run

COLUMNS = (  # of a measurement in metrics.jsonl; losses are in nats per character, whatever a token is
    "step", "seconds", "tokens", "train_loss", "val_loss", "learning_rate", "grad_norm", "tokens_per_second",
    "characters", "characters_per_second",
)  # fmt: skip
LOG_BYTES = 1_000_000  # of a log's end


# ---- settings: as a file, and as a command ---------------------------------------------------------------------------


def values(*configs: Config) -> dict[str, Any]:
    """The knobs of some configs with their values, by name."""
    return {k.name: getattr(config, k.name) for config in configs for k in knobs(type(config))}


def settings_of(run: Run) -> dict[str, Any]:
    """The preset of a run and all its knobs, flat: what is saved as a file and put into the fields again."""
    settings = run.settings()
    chosen = settings.get("preset") if settings.get("preset") in PRESETS else next(iter(PRESETS))
    return dict(preset=chosen, **values(read_config(run.folder), TrainConfig.of(settings["train"])))


def settings_json(run: Run) -> str:
    """`settings_of` as a file's text."""
    return json.dumps(settings_of(run), indent=1) + "\n"


def read_settings(data: bytes) -> dict[str, Any]:
    """Every knob, from a settings file: what it does not name is as in its preset. NanoGPTError says what is wrong."""
    try:
        given = json.loads(data.decode("utf-8-sig")) if len(data) <= 100_000 else None
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise NanoGPTError("This is not a settings file; it should be the JSON file that Settings saves.")
    known = [k.name for config in (ModelConfig, TrainConfig) for k in knobs(config)]
    if unknown := [key[:40] for key in given if key not in known and key != "preset"]:
        more = f" and {len(unknown) - 5:,} more" if len(unknown) > 5 else ""
        raise NanoGPTError(f"The settings file has what is no setting: {', '.join(unknown[:5])}{more}.")
    return whole(given)


def whole(given: Mapping[str, Any]) -> dict[str, Any]:
    """Every knob, where some are given: the others are as in the preset, which is the first where none is named."""
    changes = dict(given)
    chosen = changes.pop("preset", next(iter(PRESETS)))
    if not isinstance(chosen, str) or chosen not in PRESETS:
        raise NanoGPTError(f"There is no preset {str(chosen)[:40]!r}; there are {', '.join(PRESETS)}.")
    return dict(preset=chosen, **values(*preset(chosen).configs(**changes)))


def command(run: Run) -> str:
    """The command line that repeats the run: its text, its preset, and the flags without which it would be another."""
    wanted = settings_of(run)
    chosen = preset(wanted.pop("preset"))
    if wanted["budget"]:
        wanted["max_iters"] = chosen.settings["max_iters"]  # it was a guess; the clock decides
    flags = dict(wanted)
    for name in list(flags):  # whatever one setting says about another: a flag goes only if all stays as it was
        fewer = {key: value for key, value in flags.items() if key != name}
        if wanted["budget"] and name in PLANNED:
            continue  # measured anew, another machine or moment would choose otherwise
        try:
            flags = fewer if values(*chosen.configs(**fewer)) == wanted else flags
        except NanoGPTError:
            continue
    words = ["python", "-m", "nanogpt", "train", *_text(run), "--preset", settings_of(run)["preset"]]
    flag = {k.name: k.flag for config in (ModelConfig, TrainConfig) for k in knobs(config)}
    return shlex.join([*words, *(word for name, value in flags.items() for word in (flag[name], str(value)))])


def _text(run: Run) -> list[str]:
    about = run.settings()["corpus"]
    try:
        return ["--text", corpus.reference(corpus.load(about["id"]))]
    except NanoGPTError:  # deleted, or never here: its file, as it was called
        return [f"./{about['name']}" if about["name"].startswith("-") else about["name"]]


# ---- curves, samples, log --------------------------------------------------------------------------------------------


def curves_csv(run: Run) -> str:
    """What was logged as a table: a line a step, empty where nothing was measured."""
    run.settings()
    steps: dict[int, dict[str, Any]] = {}
    for row in read_jsonl(run.folder / "metrics.jsonl"):
        if "event" not in row and isinstance(row.get("step"), int):
            steps.setdefault(row["step"], {}).update(_numbers(row))
    out = io.StringIO()
    table = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(steps.values())
    return out.getvalue()


def _numbers(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((key, row[key]) for key in COLUMNS if isinstance(row.get(key), int | float))


def samples_text(run: Run) -> str:
    """Every sample the run wrote, the first one first."""
    run.settings()
    rows = read_jsonl(run.folder / "samples.jsonl")
    return "\n".join(f"---- step {row['step']:,} ----\n{row['text'].strip()}\n" for row in rows)


QUOTED_PATH = re.compile(r"""(["'])(?:[A-Za-z]:)?[\\/][^"'\n]*[\\/]([^"'\\/\n]*)\1""")
BARE_PATH = re.compile(r"""(?<![\w.:/\\])(?:[A-Za-z]:)?[\\/](?:[^\s"'\\/]+[\\/])+([^\s"'\\/]*)""")


def log_text(run: Run, lines: int | None = None) -> str:
    """The end of `log.txt`, at most a megabyte of it, with files named but not where on this machine they are."""
    try:
        with (run.folder / "log.txt").open("rb") as file:
            file.seek(-min(LOG_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    if lines is not None:
        text = "\n".join(text.splitlines()[-lines:])
    return BARE_PATH.sub(r"\1", QUOTED_PATH.sub(r"\1\2\1", text))
