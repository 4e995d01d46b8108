"""What the Train tab shows of a run, refreshed every second while one trains.

Gradio rebuilds each component that a handler lists among its outputs, even one that stays as it is. So the handler that
runs each second, `ticked`, lists only EACH_SECOND. Of the last two, `alert` changes if there is more to send, after an
evaluation or when the run's state has changed; then the page calls `catch_up`. `quiet` says that nothing will change.

Answers may arrive in another order than they were made: the last tick may overtake the answer to Stop. So the browser,
not the server, keeps the Version that it shows. The timer is turned on by whatever shows a run, and when you come back
to the page, because a run may have been started elsewhere. It is turned off only in the browser, by REST, if the page
shows what `quiet` says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import gradio as gr

from .. import durations, errors, explain, limits
from ..explain import loss
from ..launch import counting
from ..runs import Run, Status, job, kept_loss, overview, overviews, queue
from .drawn import plot_data
from .web.visit import seen, visitor
from .words import details, page_line, run_line, tiles

NO_POINTS = "The losses appear here when a run starts."
EMPTY: dict[str, Any] = dict(axis="step", end=1, train=[], val=[], waiting=NO_POINTS)
NO_SAMPLE: dict[str, Any] = dict(name="", step=None, text="", fresh=False)
EACH_SECOND = ("page_status", "status", "seen", "tiles", "details", "plot", "alert", "quiet")
# Turns the timer off if the last tick found nothing to wait for, and the page shows what that tick has seen.
REST = """(quiet, status, page) => ({ __type__: "update",
  ...(quiet && JSON.stringify(quiet.shown) === JSON.stringify([status, page]) ? { active: false } : {}) })"""


BEGAN = time.time()  # tells this server's count of what it has read from that of one before it


class Version(NamedTuple):
    """What a page shows of a run, as values that JSON can hold. Two that are equal look the same."""

    name: str | None
    losses: str | None
    samples: str | None
    state: str
    line: str
    counted: int  # texts, in the background
    can_stop: bool
    can_continue: bool

    @classmethod
    def of(cls, value: Any) -> Version | None:
        """Return the Version that a browser has sent, or None if it has sent none."""
        return cls(*value) if isinstance(value, list) and len(value) == len(cls._fields) else None


def look(name: str | None) -> dict[str, Any]:
    """Return the state of a run, and what can be done with it. This runs every second, so it has to be cheap."""
    run = seen(name)
    if run is None:
        cannot = dict(busy=False, counting=False, can_stop=False, can_continue=False, more="")
        return dict(line=run_line(None), state="", version=None, **cannot)
    status, own = overview(run).status, visitor().owns(run)
    can_continue, text = visitor().may_resume(run, status), run_line(name)
    can_stop = status.busy and own
    losses, samples = (f"{BEGAN}.{count}" for count in run.history().version)
    return dict(
        line=text,
        state=status.state,
        busy=status.busy or status.message in job.UNFOLLOWED,  # the server will follow its job again
        counting=counting.is_wanted(str(run.settings()["corpus"].get("id"))) if status.state != "damaged" else False,
        can_stop=can_stop,
        can_continue=can_continue,
        more=length(run) if can_continue and status.state == "finished" else "",
        version=Version(
            name, losses, samples, status.state, text["text"], counting.finished(), can_stop, can_continue
        ),  # fmt: skip
    )


def figures(name: str | None) -> dict[str, Any]:
    """Return what changes with each row that the trainer logs: the tiles, the details and the plot."""
    run = seen(name)
    if run is None:
        return dict(tiles=tiles(None, None), details=details(None, None), plot=EMPTY)
    status = overview(run).status
    return dict(tiles=tiles(run, status), details=details(run, status), plot=curves(run, status))


def advice(found: explain.doctor.Finding) -> str:
    """Return what the run doctor advises, and where that is on the page."""
    if found.hidden:
        return f"{found.do} With a time budget, it is hidden; the Quick and Laptop presets show it under Advanced."
    if found.rule == "plateau without baselines":
        return "Open Loss under Understand first: it compares your model with them."
    return found.do


def found(name: str | None) -> list[dict[str, str]]:
    """Return what the run doctor finds, for findings.js. This is done at evaluations, not each second."""
    run = seen(name)
    if run is None:
        return []
    try:
        return [dict(says=one.says, do=advice(one)) for one in explain.doctor.examine(run, overview(run).status)]
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
    waits = {"queued": "Waiting for its turn …", "running": "Waiting for the first step …"}
    waiting = waits.get(status.state, NO_POINTS)
    budget, history = run.settings()["train"].get("budget"), run.history()
    more = dict(name=run.name, waiting=waiting, **compared(run, status))
    if budget:
        return plot_data(history, budget, "seconds", **more)
    return plot_data(history, status.max_iters, **more)


def compared(run: Run, status: Status) -> dict[str, Any]:
    """Return the baselines of a run's text for the plot, and which of them it has passed. Ask for them if need be."""
    counting.ask(str(run.settings()["corpus"].get("id")))
    found, best = loss.counted_for(run), kept_loss(run.history())
    if found is None:
        return {}
    lines = [dict(label=loss.BASELINES[key].short, loss=round(value, 4)) for key, value in found.losses.items()]
    now = status.state in ("running", "stopping")
    said = "" if best is None or not status.step else loss.better_than(best, found.losses, now)
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
    states = {run.name: found.status for run, found in overviews(visitor().runs())}
    training = [name for name, status in states.items() if status.busy and status.state != "queued"]
    busy = training + [name for name, status in states.items() if status.state == "queued"]
    again = [before] if before in states else []
    return next(iter([*(name for name in again if name in busy), *busy, *again, *states]), None)


def in_view(name: str | None, before: str | None = None) -> str | None:
    """Return the selected run, or the one to show first if none is selected or it was deleted."""
    return name if name in names() else newest(before)


# ---- updates of the components, by their names in `train_tab` -----------------------------------------------------


@queue.one_look()
def shown(name: str | None) -> dict[str, Any]:
    """Return updates for all that the tab shows of a run, with its newest sample.

    The timer ticks at least once more, because the answer to an earlier tick may arrive after this one.
    """
    now = look(name)
    version = now["version"]
    known = dict(page_status=page_line(), status=now["line"], seen=version, caught=version, back=None)
    return known | figures(name) | rest(now, None) | dict(timer=gr.Timer(active=True))


@queue.one_look()
def ticked(name: str | None, seen: Any, caught: Any) -> dict[str, Any]:
    """Return what changes with each row, EACH_SECOND, if it has changed since the Version `seen`.

    `caught` is the Version of all other components. If they have to follow, `alert` changes; if not, and nothing trains
    or is counted, `quiet` does.
    """
    now, page = look(name), page_line()
    updates: dict[str, Any] = dict(page_status=page)
    if now["version"] is None or now["version"] != Version.of(seen):
        updates |= dict(status=now["line"], seen=now["version"]) | figures(name)
    if now["version"] and rest(now, Version.of(caught)):
        updates |= dict(alert=time.monotonic())
    elif not is_watching(now, page):
        updates |= dict(quiet=dict(shown=[now["line"], page], at=time.monotonic()))
    return updates


@queue.one_look()
def catch_up(name: str | None, caught: Any, back: int | None) -> dict[str, Any]:
    """Return the updates since the Version `caught` that `ticked` leaves out.

    `back` is the number of the earlier sample that the user selected, or None to follow the newest.
    """
    now = look(name)
    return dict(caught=now["version"]) | rest(now, Version.of(caught), back)


def is_watching(now: dict[str, Any], page: dict[str, Any] | None = None) -> bool:
    """Return False if nothing happens, so that the page can stop asking."""
    return now["busy"] or now["counting"] or (page or page_line())["state"] == "running"


def rest(now: dict[str, Any], before: Version | None, back: int | None = None) -> dict[str, Any]:
    """Return updates for what changes with evaluations and with the state: buttons, the run doctor, the sample."""
    version: Version | None = now["version"]
    name = version.name if version else None
    updates: dict[str, Any] = {}
    if differ(before, version, rare):
        updates |= buttons(now)
    if differ(before, version, lambda one: one.state):
        updates |= dict(more=gr.Textbox(now["more"], visible=bool(now["more"])))
    if differ(before, version, lambda one: (one.state, one.counted)):
        updates |= dict(doctor=found(name))
    if differ(before, version, lambda one: one.samples):
        updates |= dict(doctor=found(name), **newest_sample(name, back, fresh=before is not None))
    return updates


def differ(before: Version | None, now: Version | None, what: Callable[[Version], Any]) -> bool:
    """Return True if two versions differ in `what`, or belong to different runs or to none."""
    return not (before and now) or before.name != now.name or what(before) != what(now)


def rare(version: Version) -> Version:
    """Return a version without what changes with rows and evaluations."""
    return version._replace(losses=None, samples=None, line="")


def buttons(now: dict[str, Any]) -> dict[str, Any]:
    """Return the updates for Stop and Resume, given what `look` returned. Their labels say what they would do."""
    stop = "Cancel" if now["state"] == "queued" else "Stop"
    resume = "Train more for" if now["more"] else "Resume"
    return dict(
        stop=gr.Button(stop, interactive=now["can_stop"]),
        go_on=gr.Button(resume, interactive=now["can_continue"]),
    )


def newest_sample(name: str | None, back: int | None, fresh: bool = False) -> dict[str, Any]:
    """Return updates for the newest sample, which types itself if it is `fresh`.

    If an earlier sample is selected, it stays, and only the slider gets longer.
    """
    sample, number, steps = written(name)
    if back:
        return dict(when=dict(steps=steps, at=back))
    return dict(when=dict(steps=steps, at=number), sample=sample | dict(fresh=fresh))


@queue.one_look()
def view(name: str | None = None) -> dict[str, Any]:
    """Return updates for all of the tab's components, for a run or the one to show first."""
    chosen = name or newest()
    start_button = gr.Button(interactive=not limits.training_is_off())
    return dict(run=gr.Dropdown(names(), value=chosen), start=start_button, **shown(chosen))
