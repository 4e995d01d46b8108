"""Compare two to five runs: their validation losses, results, the settings that differ, and samples side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import durations
from ..config import NanoGPTError, SampleConfig, knobs
from ..errors import PROBLEMS, explain
from ..holdout import epochs
from ..presets import PRESETS
from ..runs import Run, amount_read, judged_percent, overview, settings
from . import form, sample_tab
from .drawn import points
from .web.visit import visitor
from .words import DASH, devices, of_the_set

LEAST, MOST = 2, 5
AXES = {"Steps": "step", "Training time": "seconds", "Epochs": "epochs"}
LABELS = dict(seed="Seed", length="Length")  # of the fields for the samples
FINAL = (
    "When a run finishes, its loss is measured again on more of the validation set, so it isn't the last point of the "
    "plot."
)
OTHER_TEXTS = "These runs were judged on different texts, so their losses can't be compared."
SAME = "These runs have the same settings, text and device."


def chosen(names: Any) -> list[Run]:
    """Return the runs to compare. Raise NanoGPTError unless there are two to five that the visitor can see."""
    wanted = list(dict.fromkeys(name for name in names if isinstance(name, str))) if isinstance(names, list) else []
    if not LEAST <= len(wanted) <= MOST:
        raise NanoGPTError("Select two to five runs to compare them.")
    runs = [visitor().run(name) for name in wanted]
    for run in runs:
        run.settings()  # raises if it was deleted meanwhile
    return runs


def plot(runs: list[Run], axis: str = "step") -> dict[str, Any]:
    """Return the validation losses of the runs for loss_plot.js, over steps, seconds or epochs."""
    curves = {run.name: points(rows_of(run), "val_loss", axis, most=300) for run in runs}
    end = max((curve[-1][0] for curve in curves.values() if curve), default=0) or 1
    lines = [dict(label=name, points=curve) for name, curve in curves.items()]
    waiting = "None of these runs has a loss yet."
    return dict(axis=axis, end=end, lines=lines, name="comparison", waiting=waiting, warning=warning(runs))


def warning(runs: list[Run]) -> str:
    """Return a sentence about losses of different texts, or "" if the runs have the same one, as far as is known."""
    known = {run.settings()["corpus"].get("sha256") for run in runs} - {None}
    return OTHER_TEXTS if len(known) > 1 else ""


def rows_of(run: Run) -> list[dict]:
    """Return the logged rows of a run, each with its number of epochs."""
    characters = run.settings()["corpus"]["characters"]
    read = lambda row: epochs(amount_read(row), characters)
    return [row | dict(epochs=round(read(row), 4)) for row in run.history().rows]


def differences(runs: list[Run]) -> dict[str, Any]:
    """Return a table for plain_table.js with a row per setting in which the runs differ, or a sentence if none does."""
    each = [described(run) for run in runs]
    for one, text in zip(each, told_apart([one["Text"] for one in each], runs)):
        one["Text"] = text
    rows = [[key, *(str(one[key]) for one in each)] for key in each[0] if len({one[key] for one in each}) > 1]
    head = ["Setting", *(run.name for run in runs)]
    return dict(head=head, rows=rows, said="" if rows else SAME)


def told_apart(texts: list[str], runs: list[Run]) -> list[str]:
    """Return what the texts of runs are called, with the start of the hash where others are called the same."""
    hashes = [str(run.settings()["corpus"].get("sha256", ""))[:8] for run in runs]
    same = lambda text: {one for one, other in zip(hashes, texts) if other == text}
    return [f"{text}, SHA-256 {one}…" if len(same(text)) > 1 else text for one, text in zip(hashes, texts)]


def results(runs: list[Run]) -> dict[str, Any]:
    """Return a table for plain_table.js of how far each run has come, its loss, and how that was measured."""
    each = [result(run) for run in runs]
    rows = [[key, *(one[key] for one in each)] for key in each[0]]
    ended = any(judged_percent(run.history(), run.settings()) for run in runs)
    said = " ".join(filter(None, [warning(runs), FINAL if ended else ""]))
    return dict(head=["Result", *(run.name for run in runs)], rows=rows, said=said)


def result(run: Run) -> dict[str, str]:
    """Return what a run has come to, in words."""
    found, percent = overview(run), judged_percent(run.history(), run.settings())
    ended = found.status.state == "finished"  # with a percentage, unless an older version didn't log it
    during = DASH if ended or found.loss is None else "part of the validation set, during training"
    return {
        "Validation loss": DASH if found.loss is None else f"{found.loss:.4f}",
        "Measured on": of_the_set(percent) if percent else during,
        "Steps": f"{found.status.step:,}",
        "Time": durations.clock(found.status.seconds),
        "Epochs": f"{found.epochs or 0:.2f}",
    }


def described(run: Run) -> dict[str, Any]:
    """Return a run's text, device and settings by their labels on the page, as they are shown."""
    about = run.settings()["corpus"]
    device = (devices(run.history()) or ["not trained yet"])[-1]
    values = settings.settings_of(run)
    del values["device"]  # what was asked for, "auto"; the one it was trained on says more
    text = f"{about['name']} ({about['characters']:,} characters)"
    words = {key: shown(key, value) for key, value in values.items()}
    if values["budget"]:
        words["max_iters"] = "set by the time budget"  # the number in the settings is only an estimate
    else:
        words["budget"] = "no limit"
    return {"Text": text, "Device": device, **{form.LABELS.get(key, key): value for key, value in words.items()}}


def shown(key: str, value: Any) -> str:
    """Return a setting's value in the words of the page."""
    if key == "preset":
        return PRESETS[value].label if value in PRESETS else str(value)
    if key == "layout":
        return form.LAYOUT_LABELS.get(value, str(value))
    if key == "budget":
        return durations.short(value)
    if key == "weight_decay" and value < 0:
        return "chosen from the number of epochs"
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) and key != "seed" else str(value)


def blank(runs: list[Run]) -> dict[str, Any]:
    """Return the data of side_by_side.js before anything is sampled."""
    columns = [dict(name=run.name, prompt="", text="", said="", state="") for run in runs]
    return dict(columns=columns, follow=True, stopped=True)


def samples(names: Any, prompt: str | None, seed: Any, length: Any) -> Iterator[dict[str, Any]]:
    """Sample from each run in turn with the same prompt and seed. Yield the data for side_by_side.js as it grows.

    Each model knows the characters of its own text only; what it leaves out of the prompt is said in its column.
    """
    known = {one.name: one for one in knobs(SampleConfig)}
    given = dict(seed=0 if seed is None else seed, length=300 if length is None else length)
    config = SampleConfig(**{key: known[key].parse(value, LABELS[key]) for key, value in given.items()})
    data = blank(chosen(names))
    del data["stopped"]  # the page's buttons decide that from here on
    for column in data["columns"]:
        column["said"] = sample_tab.note(column["name"], prompt or "")
        try:
            for start, [text] in sample_tab.write_many(column["name"], prompt or "", config):
                column |= dict(prompt=start, text=text, state="writing")
                yield data
            column["state"] = "done"
        except PROBLEMS as error:
            column |= dict(said=explain(error), state="failed")
    yield data
