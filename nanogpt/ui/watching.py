"""What the Train tab shows of a run, refreshed every second while one trains."""

from __future__ import annotations

from typing import Any

import gradio as gr

from .. import durations, errors, explain, limits
from ..explain import loss
from ..launch import counting
from ..runs import Run, Status, kept_loss, overview
from .drawn import plot_data
from .visit import seen, visitor
from .words import details, page_line, run_line, tiles

NO_POINTS = "The losses appear here when a run starts."
EMPTY: dict[str, Any] = dict(axis="step", end=1, train=[], val=[], waiting=NO_POINTS)
NO_SAMPLE: dict[str, Any] = dict(name="", step=None, text="", fresh=False)


def look(name: str | None) -> dict[str, Any]:
    """Return the state of a run, and what can be done with it. This runs every second, so it has to be cheap."""
    run = seen(name)
    if run is None:
        cannot = dict(busy=False, counting=False, can_stop=False, can_continue=False, more="")
        return dict(line=run_line(None), state="", version=None, **cannot)
    status, own = overview(run).status, visitor().owns(run)
    can_continue, text = visitor().may_resume(run, status), run_line(name)
    return dict(
        line=text,
        state=status.state,
        busy=status.busy,
        counting=counting.is_wanted(str(run.settings()["corpus"].get("id"))) if status.state != "damaged" else False,
        can_stop=status.busy and own,
        can_continue=can_continue,
        more=length(run) if can_continue and status.state == "finished" else "",
        version=(name, *run.history().version, status.state, text["text"], counting.finished()),
    )


def figures(name: str | None) -> dict[str, Any]:
    """Return what changes with each row that the trainer logs: the tiles, the details and the plot."""
    run = seen(name)
    if run is None:
        return dict(tiles=tiles(None, None), details=details(None, None), plot=EMPTY)
    status = overview(run).status
    return dict(tiles=tiles(run, status), details=details(run, status), plot=curves(run, status))


def found(name: str | None) -> list[dict[str, str]]:
    """Return what the run doctor finds, for findings.js. This is done at evaluations, not each second."""
    run = seen(name)
    if run is None:
        return []
    try:
        return [dict(says=one.says, do=one.do) for one in explain.doctor.examine(run, overview(run).status)]
    except errors.PROBLEMS:  # the run can't be read, which its own line says
        return []


def length(run: Run) -> str:
    """Return the length of a run, "60s" or "1,000 steps", as the first suggestion for how much longer to train it."""
    train = run.settings()["train"]
    return durations.short(train["budget"]) if train.get("budget") else f"{train['max_iters']:,} steps"


def curves(run: Run, status: Status) -> dict[str, Any]:
    """Return the data for the plot: over time if the run has a time budget, whose end is known, else over steps."""
    if status.state == "damaged":
        return EMPTY | dict(waiting="")
    waits = {"queued": "Waiting for its turn ...", "running": "Waiting for the first step ..."}
    waiting = waits.get(status.state, NO_POINTS)
    budget, rows = run.settings()["train"].get("budget"), run.history().rows
    more = dict(name=run.name, waiting=waiting, **compared(run, status))
    if budget:
        return plot_data(rows, budget, "seconds", **more)
    return plot_data(rows, status.max_iters, **more)


def compared(run: Run, status: Status) -> dict[str, Any]:
    """Return the baselines of a run's text for the plot, and which of them it has passed. Ask for them if need be."""
    counting.ask(str(run.settings()["corpus"].get("id")))
    found, best = loss.counted_for(run), kept_loss(run.history())
    if found is None:
        return {}
    lines = [dict(label=loss.BASELINES[key].short, loss=round(value, 4)) for key, value in found.losses.items()]
    now = status.state in ("running", "stopping")
    said = "" if best is None else loss.better_than(best, found.losses, now)
    return dict(baselines=lines, passed=said, live=now)


def written(name: str | None, number: int | None = None) -> tuple[dict[str, Any], int, list[int]]:
    """Return a run's sample by number (default: the newest) for typing.js, its number, and the steps of all samples."""
    run = seen(name)
    samples = run.history().samples if run else []
    if not samples:
        return NO_SAMPLE, 0, []
    number = max(1, min(int(number or len(samples)), len(samples)))
    one = samples[number - 1]
    shown = dict(name=name, step=one["step"], text=one["text"].strip(), fresh=False)
    return shown, number, [sample["step"] for sample in samples]


def names() -> list[str]:
    """Return the names of every run that the visitor can see, newest first."""
    return [run.name for run in visitor().runs()]


def newest(before: str | None = None) -> str | None:
    """Return the run to show first: one that is training, or queued, or the one shown before, or the newest.

    Among those that are training or queued, the one shown before comes first.
    """
    states = {run.name: overview(run).status for run in visitor().runs()}
    training = [name for name, status in states.items() if status.busy and status.state != "queued"]
    busy = training + [name for name, status in states.items() if status.state == "queued"]
    again = [before] if before in states else []
    return next(iter([*(name for name in again if name in busy), *busy, *again, *states]), None)


def in_view(name: str | None, before: str | None = None) -> str | None:
    """Return the selected run, or the one to show first if none is selected or it was deleted."""
    return name if name in names() else newest(before)


# ---- updates of the components, by their names in `train_tab` -----------------------------------------------------


def shown(name: str | None, seen, back: int | None = None, force: bool = False) -> dict[str, Any]:
    """Return updates for the tab's components. All but the line above the tabs are sent only if they have changed.

    `back` is the number of the earlier sample that the user selected, or None to follow the newest.
    """
    now, page = look(name), page_line()
    version, before = now["version"], None if force else seen
    updates: dict[str, Any] = dict(page_status=page)
    watching = now["busy"] or now["counting"] or page["state"] == "running"  # if nothing happens, stop polling
    if before is None or version != before:
        updates |= dict(status=now["line"], seen=version, **buttons(now))
        updates |= figures(name) | dict(timer=gr.Timer(active=watching))
    elif not watching:
        updates |= dict(timer=gr.Timer(active=False))
    if force:
        updates |= dict(back=None)
    return updates | evaluated(name, version, before, back) | ended(name, version, before, now["more"])


def evaluated(name: str | None, version, before, back: int | None) -> dict[str, Any]:
    """Return updates after an evaluation since `before`: what the run doctor says, and the sample."""
    if not _has_new_sample(name, version, before):
        return {}
    return dict(doctor=found(name), **newest_sample(name, back, fresh=before is not None))


def ended(name: str | None, version, before, more: str) -> dict[str, Any]:
    """Return updates if the state has changed since `before`: what the run doctor says, and what Resume offers."""
    if not _has_ended(version, before):
        return {}
    return dict(doctor=found(name), more=gr.Textbox(more, visible=bool(more)))


def buttons(now: dict[str, Any]) -> dict[str, Any]:
    """Return the updates for Stop and Resume, given what `look` returned. Their labels say what they would do."""
    stop = "Cancel" if now["state"] == "queued" else "Stop"
    resume = "Train more" if now["more"] else "Resume"
    return dict(
        stop=gr.Button(stop, interactive=now["can_stop"]),
        go_on=gr.Button(resume, interactive=now["can_continue"]),
    )


def _has_ended(version, before) -> bool:
    """Return True if a run's state has changed since `before`; both are versions from `look`, None for one not seen."""
    return not (before and version) or version[3] != before[3]


def _has_new_sample(name: str | None, version, before) -> bool:
    """Compare versions from `look`: (name, version of losses, of samples, state, line), or None without a run."""
    return not (before and version) or before[0] != name or before[2] != version[2]


def newest_sample(name: str | None, back: int | None, fresh: bool = False) -> dict[str, Any]:
    """Return updates for the newest sample, which types itself if it is `fresh`.

    If an earlier sample is selected, it stays, and only the slider gets longer.
    """
    sample, number, steps = written(name)
    if back:
        return dict(when=dict(steps=steps, at=back))
    return dict(when=dict(steps=steps, at=number), sample=sample | dict(fresh=fresh))


def view(name: str | None = None) -> dict[str, Any]:
    """Return updates for all of the tab's components, for a run or the one to show first."""
    chosen = name or newest()
    start_button = gr.Button(interactive=not limits.training_is_off())
    return dict(run=gr.Dropdown(names(), value=chosen), start=start_button, **shown(chosen, None, force=True))
