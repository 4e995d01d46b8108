"""One call from Start to a running trainer: it resolves, validates, writes, and launches where this machine trains."""

from __future__ import annotations

import os

import pytest

from nanogpt import memory, paths
from nanogpt.config import NanoGPTError
from nanogpt.launch import local, place, prepare, zero
from nanogpt.launch.visitors import visitor_of
from nanogpt.runs import Run, all_runs, queue
from nanogpt.ui import api, form, train_tab, watching

TINY = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, max_iters=20)


@pytest.fixture
def started(monkeypatch) -> list[str]:
    """Replace `local.start`, and return the list of run names it was called with."""
    names: list[str] = []
    monkeypatch.setattr(local, "start", lambda run: names.append(run.name))
    return names


@pytest.fixture
def lent(monkeypatch) -> list[str]:
    """Simulate ZeroGPU without a GPU, and return the list of run names trained within a request."""
    names: list[str] = []

    def train(name: str) -> None:
        names.append(name)
        Run(name).event("started", step=0, device="ZeroGPU")
        Run(name).event("finished", step=20, message="Finished.")

    monkeypatch.setattr(zero, "HERE", True)
    monkeypatch.setattr(zero, "_train", train)
    return names


def fields(preset_name: str, **changes) -> list:
    """Return the form's values as the page sends them."""
    settings = {**form.settings_of(preset_name), **changes}
    return [settings["layout"], "1m", settings["max_iters"], *(settings[k.name] for k in form.ADVANCED)]


def test_start_is_one_call_and_comes_to_a_run_that_is_started(text, started):
    run = visitor_of(None).start(text.id, "", "quick", **TINY)
    assert (run.name, run.settings()["corpus"]["id"], run.settings()["preset"]) == ("a-play", text.id, "quick")
    assert run.settings()["train"]["max_iters"] == 20
    assert started == ["a-play"]


def test_the_tab_and_the_api_start_the_same_run(text, started):
    one = train_tab.start(text.id, "one", "quick", *fields("quick", **TINY))
    two = api.start_training(text.id, "two", "quick", TINY)
    assert one.settings()["train"] == Run(two["name"]).settings()["train"]
    assert started == ["one", "two"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (dict(preset_name="huge"), "no preset 'huge'"),
        (dict(n_layr=3), "no setting 'n_layr'"),
        (dict(n_layer=0), "n_layer was 0"),
        (dict(name="A B"), "'A B' can't be used as a name"),
        (dict(text="0" * 16), "There is no text"),
    ],
    ids=str,
)
def test_what_cannot_be_writes_no_folder_and_starts_nothing(text, started, wanted, said):
    with pytest.raises(NanoGPTError, match=said):
        visitor_of(None).start(**{"text": text.id, **wanted})
    assert (started, all_runs()) == ([], [])


def test_everything_is_checked_before_a_folder_is_written(text, started, monkeypatch):
    monkeypatch.setattr(memory, "free_now", lambda device: 1000)
    with pytest.raises(NanoGPTError, match="GB of memory"):
        visitor_of(None).start(text.id, "one", **TINY)
    assert (started, all_runs()) == ([], [])


def test_on_zero_gpu_the_request_trains_and_no_process_is_started(text, started, lent):
    shown = train_tab.attempt(train_tab.start, text.id, "one", "quick", *fields("quick", **TINY))
    first = next(shown)
    assert (first["run"].value, first["status"]["state"], lent) == ("one", "queued", [])
    assert list(shown) == []  # the timer shows the end: by then, you may look at another run
    assert Run("one").status().state == "finished"
    assert api.start_training(text.id, "two", "quick", TINY)["state"] == "finished"
    assert (started, lent, queue.waiting()) == ([], ["one", "two"], [])


def test_elsewhere_the_request_only_starts(text, started):
    assert not place.takes_the_request()
    [shown] = train_tab.attempt(train_tab.start, text.id, "one", "quick", *fields("quick", **TINY))
    assert shown["run"].value == "one"
    place.attend(Run("one"))
    assert started == ["one"]
    assert Run("one").history().events == []


def test_what_cannot_start_is_said_in_the_tab(text, started):
    [shown] = train_tab.attempt(train_tab.go_on, None, "1m")
    assert list(shown) == ["said"]
    assert shown["said"].value == dict(text="There is no run to resume yet. Press Start.", state="failed", share=None)


def test_a_trainer_is_kept_warm_only_where_it_is_a_process(monkeypatch, home):
    warmed = []
    monkeypatch.setattr(local, "warm", lambda: warmed.append(1))
    place.warm()
    monkeypatch.setenv("NANOGPT_TRAINING", "off")
    place.warm()
    monkeypatch.delenv("NANOGPT_TRAINING")
    monkeypatch.setattr(zero, "HERE", True)
    place.warm()
    assert warmed == [1]


def test_a_finished_run_is_trained_for_so_many_more_steps(text, started):
    """A number in a hidden field is ignored."""
    me = visitor_of(None)
    run = me.start(text.id, "one", **TINY)
    run.event("started", step=0)
    run.log(step=20, seconds=1.0)
    run.event("finished", step=20)
    for wrong in ("", "0", "2m", "-3", "many"):
        with pytest.raises(NanoGPTError, match="Enter how many more to train"):
            me.go_on("one", wrong)
    assert started == ["one"]
    assert me.go_on("one", "1,000 steps").settings()["train"]["max_iters"] == 1020
    assert started == ["one", "one"]


def test_a_finished_timed_run_is_trained_for_so_much_longer(text, started, known_speed):
    me = visitor_of(None)
    run = me.start(text.id, "one", "timed", budget=60, device="cpu")
    run.event("started", step=0)
    run.log(step=20, seconds=60.0)
    run.event("finished", step=20)
    for wrong, said in (("", "Enter how much longer"), ("soon", "Couldn't read 'soon' as a time")):
        with pytest.raises(NanoGPTError, match=said):
            me.go_on("one", wrong)
    assert me.go_on("one", "90s").settings()["train"]["budget"] == 150
    queue.drop("one")  # the trainer, which doesn't start here, would have taken its turn
    run.change(promise=1.5)
    prepare.to_continue(run, max_iters=50)  # from here on it goes by steps
    assert run.settings()["promise"] is None
    run.log(step=50, seconds=70.0)
    run.event("finished", step=50)
    assert watching.look("one")["more"] == "50 steps"
    assert me.go_on("one", "30 steps").settings()["train"]["max_iters"] == 80


@pytest.mark.parametrize("facts", [dict(overfitting=True), dict(message="Stopped early at step 20: ...")], ids=str)
def test_a_timed_run_that_patience_has_ended_is_not_offered_more_time(text, started, known_speed, facts):
    """The second one is of an earlier version, whose events say so only in words."""
    me = visitor_of(None)
    run = me.start(text.id, "one", "timed", budget=60, device="cpu")
    run.event("started", step=0)
    run.log(step=20, seconds=30.0)
    run.event("finished", **{"step": 20, "message": "Finished.", "overfitting": False})
    assert (watching.look("one")["can_continue"], watching.look("one")["more"]) == (True, "1m")
    run.event("finished", step=20, **facts)
    assert (watching.look("one")["can_continue"], watching.look("one")["more"]) == (False, "")
    with pytest.raises(NanoGPTError, match="one was overfitting when it ended, so training longer won't help"):
        me.go_on("one", "90s")
    assert run.settings()["train"]["budget"] == 60


def test_what_can_t_be_resumed_is_not_offered(text, started, monkeypatch):
    """The bundled model has no checkpoint, and a run that stopped early was overfitting."""
    monkeypatch.setenv("NANOGPT_SHIPPED", "on")
    me, elsewhere = visitor_of(None), os.environ["NANOGPT_HOME"]
    for where in (str(paths.SHIPPED.parent), elsewhere):
        monkeypatch.setenv("NANOGPT_HOME", where)
        shipped = Run("shakespeare")
        assert not me.may_resume(shipped, shipped.status())
        assert not watching.look("shakespeare")["can_continue"]
    run = me.start(text.id, "one", **TINY)
    run.event("started", step=0)
    run.log(step=10, seconds=1.0)
    run.event("stopped", step=10)
    assert watching.look("one")["can_continue"]
    assert watching.look("one")["more"] == ""  # a stopped run resumes to its original length
    run.event("finished", step=10)
    assert not watching.look("one")["can_continue"]
