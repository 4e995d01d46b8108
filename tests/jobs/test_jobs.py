"""Train on Hugging Face Jobs with the real client, against the fake Hub, which runs each job's command for real."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, ended_run, until
from fake_hub import MAYA, OLGA, READER, Hub, Refusal
from fake_jobs import FakeJob
from huggingface_hub import CommitOperationAdd, HfApi, JobInfo
from huggingface_hub.errors import OfflineModeIsEnabled

from nanogpt import corpus, memory
from nanogpt.cli.main import main
from nanogpt.config import NanoGPTError
from nanogpt.jobs import follow, offer, output, parcel, progress, remote, start, stopping
from nanogpt.jobs.back import Damaged, bring_back, last_event
from nanogpt.jobs.refusals import Unreachable
from nanogpt.launch import local, prepare
from nanogpt.publish import account as ours
from nanogpt.runs import Run, queue, snapshots
from nanogpt.runs.job import WAIT, Job, job_of, open_job

SHAPE = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, eval_interval=10)
TINY = [part for name, value in SHAPE.items() for part in (f"--{name.replace('_', '-')}", str(value))]
ENDLESS = dict(SHAPE, max_iters=1_000_000, patience=0)  # it would memorize its text within half a minute


@pytest.fixture
def signed_in(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Hub:
    """Sign Maya in on this machine, and make the follower look more often. Slow tests run jobs, so skip on Windows."""
    if sys.platform == "win32" and request.node.get_closest_marker("slow"):
        pytest.skip("a job is a shell script, whose processes are killed as a group")
    monkeypatch.setenv("HF_TOKEN", MAYA)
    monkeypatch.setattr(follow, "INSPECT_EACH", 0.5)
    monkeypatch.setattr(output, "MOST", 0.5)
    monkeypatch.setattr(progress, "PATIENCE", 0.1)
    return hub


@pytest.fixture
def diary(tmp_path: Path, tiny_text: str) -> str:
    path = tmp_path / "given" / "diary.txt"
    path.parent.mkdir()
    path.write_text(tiny_text, encoding="utf-8")
    return str(path)


def made(tiny_text: str, preset: str = "quick", timeout: float | None = None, **settings) -> Run:
    """Create a run for a job, on terms that were confirmed."""
    text = corpus.add(tiny_text, "diary")
    api, owner = ours.signed_in(MAYA)
    agreed = start.terms(api, owner, "t4-small", text, float(settings.get("budget", 0)), timeout)
    return start.new_run("diary", text, preset, settings, agreed)


@contextmanager
def followed(run: Run) -> Iterator[None]:
    """Follow a run's job in a thread until it ends, which the end of the block waits for. If a test fails, stop it."""
    follower = threading.Thread(target=follow.main, args=[run.name], daemon=True)
    follower.start()
    try:
        yield
        follower.join(120)
        assert not follower.is_alive()
    finally:
        if follower.is_alive():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(stopping, "GRACE", 1.0)
                run.request_stop()
                follower.join(60)


def steps(run: Run) -> list[int]:
    return [row["step"] for row in run.history().rows]


# --- the whole way ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("real_process")
def test_a_run_goes_there_comes_back_and_is_resumed_here(signed_in, diary, capsys):
    seen = []
    thread = threading.Thread(target=lambda: seen.extend(watch_until_back(Run("diary"))), daemon=True)
    thread.start()
    assert main(["train", diary, "--on", "t4-small", "--max-iters", "300", *TINY, "--yes"]) == 0
    thread.join(10)
    said = capsys.readouterr().out
    assert "at most $0.20" in said  # 30 minutes
    assert "Your text leaves this machine" in said
    run = Run("diary")
    assert (run.status().state, run.status().step) == ("finished", 300)
    assert max(step for state, step in seen if state == "running") > 0  # it was seen to train
    assert steps(run) == sorted(set(steps(run)))
    assert "step    300: train loss" in (run.folder / "log.txt").read_text(encoding="utf-8")
    assert signed_in.repos == {}  # what was uploaded is deleted
    assert main(["train", "--resume", "diary", "--max-iters", "320"]) == 0
    assert Run("diary").status().step == 320


def watch_until_back(run: Run) -> list[tuple[str, int]]:
    """Return what the run's status was over time, until it has finished."""
    seen: list[tuple[str, int]] = []
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        if run.exists():
            status = run.status()
            seen.append((status.state, status.step))
            if status.state == "finished" and not open_job(run.folder):
                break
        time.sleep(0.05)
    return seen


@pytest.mark.slow
def test_a_job_gives_the_weights_that_this_machine_would(signed_in, tiny_text):
    signed_in.large = True
    run = made(tiny_text, max_iters=20, **SHAPE)
    assert follow.main(run.name) == 0
    from nanogpt.launch import trainer

    here = prepare.new_run("here", corpus.listed()[0], max_iters=20, **SHAPE)
    assert trainer.main("here") == 0
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (run.folder / name).read_bytes() == (here.folder / name).read_bytes()


@pytest.mark.slow
def test_a_time_budget_chooses_the_model_on_the_jobs_hardware(signed_in, tiny_text):
    run = made(tiny_text, "timed", budget=4.0)
    assert run.settings()["plan"] is None  # nothing was measured here
    assert follow.main(run.name) == 0
    assert run.status().state == "finished"
    assert "parameters" in run.settings()["plan"]
    assert run.settings()["name"] == "diary"
    assert run.history().seconds <= 4.5


@pytest.mark.slow
def test_a_run_of_this_machine_is_resumed_there(signed_in, diary, capsys):
    assert main(["train", diary, "--max-iters", "20", *TINY]) == 0
    assert main(["train", "--resume", "diary", "--max-iters", "40", "--on", "t4-small"]) == 2  # not confirmed
    run = Run("diary")
    assert (run.status().step, run.status().max_iters, open_job(run.folder)) == (20, 20, None)
    assert main(["train", "--resume", "diary", "--max-iters", "40", "--on", "t4-small", "--yes"]) == 0
    assert "the settings, the checkpoint and nanogpt's code" in capsys.readouterr().out
    assert (run.status().state, run.status().step) == ("finished", 40)
    assert steps(run) == sorted(set(steps(run)))
    assert [event["event"] for event in run.history().events] == ["started", "finished", "started", "finished"]
    assert snapshots.steps_in(run.folder) == [0, 1, 2, 3, 4, 7, 10, 17, 27]  # the first ones are from here


# --- what is uploaded -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_only_what_training_needs_is_uploaded_and_the_token_only_as_a_secret(signed_in, tiny_text):
    run = made(tiny_text, max_iters=10, **SHAPE)
    (run.folder / "notes.txt").write_text("private", encoding="utf-8")
    signed_in.jobs.waits = 1e6
    with followed(run):
        until(lambda: job_of(run.folder).sizes)  # written last; else a file could vanish while it is read
        [(name, repo)] = signed_in.repos.items()
        [job] = signed_in.jobs.made.values()
        assert repo.private
        files = {path for path in repo.files if path != ".gitattributes"}
        there = {f"home/checkpoints/diary/{name}" for name in parcel.RUN} | {"wish.json", "code.zip"}
        text = f"home/corpora/{corpus.listed()[0].id}/"
        assert files <= there | {text + name for name in parcel.TEXT}
        assert repo.files[text + "text.txt"].decode() == tiny_text
        with zipfile.ZipFile(io.BytesIO(repo.files["code.zip"])) as code:
            assert not [one for one in code.namelist() if not re.fullmatch(r"nanogpt/[\w/]+\.py", one)]
        assert job.spec["secrets"] == {"HF_TOKEN": MAYA}
        rest = json.dumps({key: value for key, value in job.spec.items() if key != "secrets"})
        here = [path.read_bytes() for path in files_under(run.folder.parent)]
        everything = [rest.encode(), *repo.files.values(), *here]
        assert not [one for one in everything if MAYA.encode() in one]
        run.request_stop()


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.usefixtures("real_process")
def test_the_trainer_in_a_job_does_not_get_the_token(signed_in, tiny_text):
    run = made(tiny_text, **ENDLESS)
    with followed(run):
        until(lambda: run.history().rows)
        [job] = signed_in.jobs.made.values()
        found = processes_of(job.process.pid)
        assert any("nanogpt.launch.trainer" in command for command, _ in found)
        assert not [command for command, environment in found if "launch.trainer" in command and MAYA in environment]
        run.request_stop()
    assert run.status().state == "stopped"


def processes_of(group: int) -> list[tuple[str, str]]:
    """Return command and environment of each process in a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(path.name)) == group:
                found.append(((path / "cmdline").read_text().replace("\0", " "), (path / "environ").read_text()))
        except (OSError, UnicodeDecodeError):
            continue
    return found


@pytest.mark.slow
def test_the_follower_of_a_failed_test_ends_with_it(signed_in, tiny_text):
    signed_in.jobs.waits = 1e6
    run = made(tiny_text, **ENDLESS)

    def fail() -> None:
        with followed(run):
            until(lambda: signed_in.jobs.made)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert run.status().state == "stopped"


# --- Stop -------------------------------------------------------------------------------------------------------------


def test_a_stop_at_the_moment_at_which_the_follower_begins_is_heard(signed_in, tiny_text, monkeypatch):
    run = made(tiny_text, **ENDLESS)
    drop, seen = queue.drop, []

    def stopped(name: str) -> bool:
        monkeypatch.setattr(queue, "drop", drop)
        dropped = drop(name)
        seen.append(run.stop_file.exists())
        run.request_stop()
        return dropped

    monkeypatch.setattr(queue, "drop", stopped)
    monkeypatch.setattr(follow.Follower, "go", lambda self: seen.append(self.run.stop_file.exists()))
    assert follow.main(run.name) == 0
    assert seen == [False, True]


def test_a_run_that_is_stopped_while_its_upload_fails_is_never_started(signed_in, tiny_text, monkeypatch):
    run = made(tiny_text, **ENDLESS)

    def create_commit(*_, **__):
        run.request_stop()
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(HfApi, "create_commit", create_commit)
        assert follow.main(run.name) == 1
    assert (run.status().state, run.status().message) == ("stopped", follow.STOPPED)
    assert start.find_again() == []
    assert (signed_in.jobs.made, signed_in.repos) == ({}, {})


@pytest.mark.parametrize("token", [MAYA, None])
def test_a_stop_is_not_forgotten_when_the_follower_is_killed_before_the_job(signed_in, tiny_text, monkeypatch, token):
    run = made(tiny_text, **ENDLESS)
    run.stop_file.touch()
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    assert follow.main(run.name) == 1  # as the server does
    assert (run.status().state, run.status().message) == ("stopped", follow.STOPPED)
    assert (signed_in.jobs.made, signed_in.repos) == ({}, {})


def test_a_run_that_is_resumed_is_no_longer_to_stop_unless_its_job_may_run(signed_in, tiny_text, monkeypatch):
    monkeypatch.setattr(local, "start", lambda run, module: None)
    run = made(tiny_text, **ENDLESS)
    from nanogpt.ui import jobs_panel

    resume = lambda: (run.stop_file.touch(), jobs_panel.followed("diary"), run.stop_file.exists())[-1]
    assert not resume()
    job_of(run.folder).having(run.folder, commit="0" * 40)
    assert resume()
    job_of(run.folder).having(run.folder, ended=True)
    start.resumed(run, start.terms_to_resume(*ours.signed_in(MAYA), "t4-small", run, {}, None), {})
    assert not run.stop_file.exists()


@pytest.mark.slow
def test_stop_saves_and_ends_the_job(signed_in, tiny_text):
    run = made(tiny_text, **ENDLESS)
    with followed(run):
        until(lambda: run.status().step > 5)
        run.request_stop()
        assert run.status().state == "stopping"
    status = run.status()
    assert status.state == "stopped"
    assert re.fullmatch(r"Stopped at step [\d,]+ and saved\.", status.message)
    [job] = signed_in.jobs.made.values()
    assert job.stage == "COMPLETED"
    assert signed_in.repos == {}
    assert main(["train", "--resume", "diary", "--max-iters", str(status.step + 5)]) == 0


@pytest.mark.slow
def test_a_job_that_waits_for_hardware_is_canceled_at_once(signed_in, tiny_text):
    signed_in.jobs.waits = 1e6
    run = made(tiny_text, **ENDLESS)
    with followed(run):
        until(lambda: signed_in.jobs.made and job_of(run.folder).stage == "Waiting for t4-small")
        assert run.status().message == "Waiting for t4-small"
        run.request_stop()
    [job] = signed_in.jobs.made.values()
    assert (job.stage, job.seconds) == ("CANCELED", 0)
    assert (run.status().state, run.status().message) == ("stopped", "Stopped before anything was saved.")
    assert signed_in.repos == {}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT for another process")
def test_ctrl_c_saves_and_ends_the_job(signed_in, diary):
    command = [
        sys.executable,
        "-m",
        "nanogpt",
        "train",
        diary,
        "--on",
        "t4-small",
        "--max-iters",
        "1000000",
        "--patience",
        "0",  # or it would memorize its text and end before the signal arrives
        *TINY,
        "--yes",
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as train:
        until(lambda: Run("diary").exists() and Run("diary").status().step > 5)
        train.send_signal(signal.SIGINT)
        out, err = train.communicate(timeout=60)
    assert train.returncode == 130
    assert "Ctrl-C again to quit without waiting for the job" in err
    assert re.search(r"Stopped at step [\d,]+ and saved\. Resume with: .* train --resume diary", err)
    assert MAYA not in out + err
    assert [job.stage for job in signed_in.jobs.made.values()] == ["COMPLETED"]
    assert signed_in.repos == {}


@pytest.mark.slow
def test_a_job_that_does_not_stop_is_canceled(signed_in, tiny_text, monkeypatch):
    monkeypatch.setattr(stopping, "GRACE", 1.0)
    run = made(tiny_text, **ENDLESS)
    with followed(run):
        until(lambda: run.status().step > 5)
        signed_in.refuse = lambda request: Refusal(503) if request.endswith("/stop") else None  # the job can't see it
        run.request_stop()
    [job] = signed_in.jobs.made.values()
    assert job.stage == "CANCELED"
    assert (run.status().state, run.status().message) == ("stopped", "Stopped before anything was saved.")


# --- the follower is killed at every stage ----------------------------------------------------------------------------


@pytest.fixture
def follower_of(signed_in: Hub) -> Iterator[Callable[[Run], subprocess.Popen]]:
    """Start followers as processes. Those that still run when the test ends are killed."""
    begun = []

    def begin(run: Run) -> subprocess.Popen:
        with (run.folder / "log.txt").open("ab") as log:
            command = [sys.executable, "-m", "nanogpt.jobs.follow", run.name]
            begun.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log))
        return begun[-1]

    yield begin
    for follower in [*begun, *filter(None, [local._children.get("diary")])]:  # the latter is from `start.follow`
        follower.kill()
        follower.wait()


def ended(follower: subprocess.Popen, run: Run) -> int:
    """Wait for a follower and return its exit status. If the test fails, pytest shows the run's log."""
    try:
        return follower.wait(60)
    finally:
        print((run.folder / "log.txt").read_text(encoding="utf-8", errors="replace"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "request_seen",
    [
        "POST /api/repos/create", "POST .*/commit/main", "POST /api/jobs/maya",
        "GET .*/logs", "HEAD .*/back/", "DELETE /api/repos/delete",
    ],
)  # fmt: skip
def test_a_killed_follower_loses_nothing_and_starts_no_second_job(signed_in, tiny_text, request_seen, follower_of):
    """Kill the follower when the Hub has a request, so that the answer is lost, then let another one go on."""
    run = made(tiny_text, max_iters=60, **SHAPE)
    killed = threading.Event()

    def kill_there(request: str) -> Refusal | None:
        if not killed.is_set() and re.fullmatch(request_seen + ".*", request):
            killed.set()
            follower.kill()
            follower.wait()
        return None

    signed_in.refuse = kill_there
    follower = follower_of(run)
    assert ended(follower, run) < 0  # ended by a signal
    assert killed.is_set()
    status = run.status()
    if "DELETE" in request_seen:  # the run is back, but not its text
        assert (status.state, job_of(run.folder).left) == ("finished", [job_of(run.folder).repo])
    else:
        assert status.state == "crashed"
        assert "Hugging Face Jobs" in status.message
    assert ended(follower_of(run), run) == 0
    assert (run.status().state, run.status().step) == ("finished", 60)
    assert steps(run) == sorted(set(steps(run)))
    assert len(signed_in.jobs.made) == 1
    assert signed_in.repos == {}
    assert not open_job(run.folder)


@pytest.mark.slow
def test_a_run_keeps_its_rows_when_its_follower_is_killed_while_it_trains(signed_in, tiny_text, follower_of):
    run = made(tiny_text, **ENDLESS)
    for _ in range(3):
        before = len(steps(run))
        follower = follower_of(run)
        until(lambda before=before: len(steps(run)) > before)
        follower.kill()
        follower.wait()
    follower = follower_of(run)
    until(lambda: run.status().state == "running")
    run.request_stop()
    assert ended(follower, run) == 0
    assert run.status().state == "stopped"
    assert steps(run) == sorted(set(steps(run)))


@pytest.mark.slow
def test_open_jobs_are_found_again_after_a_restart(signed_in, tiny_text, follower_of):
    run = made(tiny_text, **ENDLESS)
    follower = follower_of(run)
    until(lambda: run.history().rows)
    follower.kill()
    follower.wait()
    assert start.find_again() == ["diary"]  # what `nanogpt serve` calls
    until(lambda: run.status().state == "running")
    assert start.find_again() == []
    run.request_stop()
    assert ended(local._children["diary"], run) == 0
    assert run.status().state == "stopped"


def test_a_run_with_an_open_job_is_neither_deleted_nor_trained_here(signed_in, tiny_text, capsys):
    run = made(tiny_text, **ENDLESS)
    job_of(run.folder).having(run.folder, commit="0" * 40)
    with pytest.raises(NanoGPTError, match="is training on Hugging Face Jobs"):
        run.delete()
    job_of(run.folder).having(run.folder, commit="")
    assert main(["train", "--resume", "diary", "--max-iters", "5"]) == 2
    assert "Follow it with --resume alone" in capsys.readouterr().err
    queue.draw("diary")
    queue.withdraw("diary", "0 events")
    assert follow.main("diary") == 0  # withdrawn before it began
    assert run.status().state == "stopped"
    assert signed_in.repos == {}
    run.delete()


# --- what goes wrong in the job ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_machine_that_is_gone_leaves_what_was_uploaded_last(signed_in, tiny_text):
    run = made(tiny_text, **ENDLESS)
    with followed(run):
        until(lambda: run.status().step > 5)
        next(iter(signed_in.jobs.made.values())).end("ERROR", "Node lost")
    status = run.status()
    assert status.state == "failed"
    assert status.message == "The job's machine ended it (Node lost). Nothing had been saved."
    assert signed_in.repos == {}


@pytest.mark.slow
def test_training_ends_before_the_jobs_limit_and_is_saved(signed_in, tiny_text, monkeypatch):
    monkeypatch.setattr(offer, "LEAST", 60)
    in_the_job(monkeypatch, "r.RESERVE = 50.0")
    run = made(tiny_text, timeout=60, **ENDLESS)
    assert follow.main(run.name) == 0
    status = run.status()
    assert status.state == "stopped"
    assert "saved" in status.message
    assert (run.folder / "last.safetensors").exists()
    assert main(["train", "--resume", "diary", "--max-iters", str(status.step + 5)]) == 0


@pytest.mark.slow
def test_a_run_that_fails_in_the_job_says_why(signed_in, tiny_text):
    run = made(tiny_text, max_iters=50, device="cuda", **SHAPE)
    assert follow.main(run.name) == 0
    assert run.status().state == "failed"
    assert "no usable NVIDIA GPU" in run.status().message


def in_the_job(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Have jobs run with a constant of remote.py changed, so that a test needn't wait for minutes."""
    go = "sys.exit(r.Errand(sys.argv[1], sys.argv[2], float(sys.argv[3])).go())"
    program = f"exec $python -c 'import sys; from nanogpt.jobs import remote as r; {change}; {go}'"
    assert "exec $python -m nanogpt.jobs.remote" in parcel.SCRIPT
    monkeypatch.setattr(parcel, "SCRIPT", parcel.SCRIPT.replace("exec $python -m nanogpt.jobs.remote", program))


@pytest.mark.slow
def test_what_was_uploaded_before_a_machine_is_gone_comes_back_and_is_resumed(signed_in, tiny_text, monkeypatch):
    in_the_job(monkeypatch, "r.UPLOAD_EACH = 1.0")
    run = made(tiny_text, **ENDLESS)
    with followed(run):
        until(lambda: any("back.json" in repo.files for repo in signed_in.repos.values()))
        next(iter(signed_in.jobs.made.values())).end("ERROR", "Node lost")
    said = "The job's machine ended it (Node lost). The run is back as it was saved last; resume it to continue."
    assert (run.status().state, run.status().message) == ("failed", said)
    step = run.status().step
    assert step > 0
    assert (run.folder / "last.safetensors").exists()
    assert main(["train", "--resume", "diary", "--max-iters", str(step + 50)]) == 0
    assert steps(run) == sorted(set(steps(run)))


@pytest.mark.slow
def test_an_upload_that_fails_is_tried_again(signed_in, tiny_text):
    run = made(tiny_text, max_iters=20, **SHAPE)
    failed = []

    def fail_twice(request: str) -> Refusal | None:
        if "/commit/main" in request and signed_in.jobs.made and len(failed) < 2:
            failed.append(request)
            return Refusal(503, "", "down")
        return None

    signed_in.refuse = fail_twice
    assert follow.main(run.name) == 0
    assert len(failed) == 2
    assert run.status().state == "finished"
    assert "The run could not be uploaded: The Hub is having problems" in (run.folder / "log.txt").read_text()


@pytest.mark.slow
def test_a_network_that_comes_and_goes_loses_nothing(signed_in, tiny_text):
    run = made(tiny_text, **ENDLESS)
    with followed(run):
        until(lambda: run.status().step > 5)
        [job] = signed_in.jobs.made.values()
        signed_in.refuse, job.cut = lambda request: Refusal(503, "", "down"), True
        until(lambda: job_of(run.folder).stage == "Waiting for the Hub to answer")
        assert run.status().state == "running"
        signed_in.refuse, job.cut = lambda request: None, False
        there = run.status().step
        until(lambda: run.status().step > there + 5)
        run.request_stop()
    assert run.status().state == "stopped"
    assert steps(run) == sorted(set(steps(run)))


@pytest.mark.parametrize(
    ("stage", "ran", "message", "said"),
    [
        ("COMPLETED", 5, None, ""), ("CANCELED", 5, None, "The job was canceled."),
        ("ERROR", 600, "Job timeout", "The job reached its time limit of 10 minutes."),
        ("ERROR", 5, "OOMKilled", "The job's machine ended it (OOMKilled)."),
        ("DELETED", 5, None, "The job's machine ended it."),
    ],
)  # fmt: skip
def test_the_end_of_a_job_is_a_sentence(stage, ran, message, said):
    facts = dict(id="1", owner=dict(id="1", name="maya", type="user"), durations=dict(runningSecs=ran))
    found = JobInfo(**facts, status=dict(stage=stage, message=message))
    assert follow.why_ended(found, 600) == said


# --- what comes back --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harm", "said"), [("hash", "did not arrive"), ("name", "isn't part of a run"), ("weights", "model.safetensors")]
)
def test_a_damaged_return_changes_nothing_and_keeps_the_upload(signed_in, tiny_text, harm, said):
    run = made(tiny_text, max_iters=20, **SHAPE)
    done = []

    def spoil(request: str) -> None:
        [repo] = signed_in.repos.values() or [None]
        if repo is None or "back.json" not in repo.files or done:
            return
        done.append(True)
        about = json.loads(repo.files["back.json"])
        if harm == "name":
            about["files"]["../../evil.py"] = "0" * 64
        if harm == "hash":
            repo.files["back/last.safetensors"] = repo.files["back/last.safetensors"][:-1] + b"x"
        if harm == "weights":
            repo.files["back/model.safetensors"] = b"nonsense"
            about["files"]["model.safetensors"] = hashlib.sha256(b"nonsense").hexdigest()
        repo.files["back.json"] = json.dumps(about).encode()

    signed_in.refuse = spoil
    assert follow.main(run.name) == 0
    assert run.status().state == "failed"
    assert said in run.status().message
    assert "is kept in maya/nanogpt-job-" in run.status().message
    assert not (run.folder / "model.safetensors").exists()
    assert len(signed_in.repos) == 1  # the only copy
    assert not open_job(run.folder)


def returned(run: Run, changes: dict[str, bytes] | None = None) -> None:
    """Have a job return a run's files, some of them changed."""
    api, _ = ours.signed_in(MAYA)
    api.create_repo("maya/back", private=True)
    files = {path.name: path.read_bytes() for path in files_under(run.folder) if path.suffix in (".json", ".jsonl")}
    files.pop("job.json")
    files |= changes or {}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    about = json.dumps(dict(ended=True, files=hashes)).encode()
    packed = {**{f"back/{name}": content for name, content in files.items()}, "back.json": about}
    api.create_commit(
        "maya/back", [CommitOperationAdd(*one) for one in packed.items()], commit_message="the run so far"
    )


def test_snapshots_from_before_a_job_stay_up_to_where_it_started(signed_in, tiny_text):
    run = made(tiny_text, **ENDLESS)
    run.event("started", step=0, device="CPU")
    (run.folder / "snapshots").mkdir()
    for step in (0, 4, 7):
        snapshots.path_of(run.folder, step).write_bytes(b"here")
    job_of(run.folder).having(run.folder, before=run.history().events[-1])
    metrics = b'{"event":"started","step":0,"device":"CPU"}\n{"event":"started","step":5,"device":"CPU"}\n'
    there = {f"snapshots/{step}.safetensors": b"there" for step in (4, 10)}
    returned(run, {"metrics.jsonl": metrics, **there})
    api, _ = ours.signed_in(MAYA)
    for _ in range(2):  # the follower may be killed before it has said that the run is back
        assert bring_back(api, "maya/back", run)
        found = {step: snapshots.path_of(run.folder, step).read_bytes() for step in snapshots.steps_in(run.folder)}
        assert found == {0: b"here", 4: b"there", 10: b"there"}


def test_what_returns_is_on_the_disk_before_the_other_copy_is_deleted(signed_in, tiny_text, monkeypatch):
    run = made(tiny_text, **ENDLESS)
    run.event("started", step=0, device="CPU")
    names = ["run.json", "config.json", "tokenizer.json", "metrics.jsonl", "snapshots/4.safetensors"]
    returned(run, {"snapshots/4.safetensors": b"there"})
    sync, done = os.fsync, []

    def note(handle):
        done.append(os.fstat(handle).st_ino)
        sync(handle)

    def delete(api, repo, **options):
        done.append("deleted")

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(HfApi, "delete_repo", delete)
    monkeypatch.setattr(Job, "repo", "maya/back")
    follower = follow.Follower(run, job_of(run.folder).having(run.folder, namespace="maya", commit="0" * 40), print)
    follower.api, follower.owner = ours.signed_in(MAYA)
    follower.come_back("")
    follower.close()
    before = done[: done.index("deleted")]
    assert [name for name in names if (run.folder / name).stat().st_ino not in before] == []
    assert sys.platform == "win32" or run.folder.stat().st_ino in before  # Windows opens no folders


def test_a_job_that_did_not_come_to_train_takes_no_snapshot_away(signed_in, tiny_text):
    run = made(tiny_text, **ENDLESS)
    run.event("started", step=0, device="CPU")
    (run.folder / "snapshots").mkdir()
    snapshots.path_of(run.folder, 7).write_bytes(b"here")
    job_of(run.folder).having(run.folder, before=run.history().events[-1])
    returned(run)
    assert bring_back(ours.signed_in(MAYA)[0], "maya/back", run)
    assert snapshots.steps_in(run.folder) == [7]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ({"last.safetensors": b"x"}, "no model.safetensors"),
        ({"metrics.jsonl": b'{"event":"<b>"}\n'}, "metrics.jsonl has no final event"),
        ({"samples.jsonl": b'{"step":1}\n'}, "samples.jsonl contains invalid lines"),
        ({"config.json": b"[]"}, "config.json cannot be read"),
    ],
)
def test_what_returns_without_weights_is_checked_too(signed_in, tiny_text, harm, said):
    run = made(tiny_text, **ENDLESS)
    returned(run, harm)
    before = {path.name: path.read_bytes() for path in files_under(run.folder)}
    with pytest.raises(Damaged, match=said):
        bring_back(ours.signed_in(MAYA)[0], "maya/back", run)
    assert before == {path.name: path.read_bytes() for path in files_under(run.folder)}


def test_a_hub_that_is_down_for_a_moment_is_not_a_job_that_uploaded_nothing(signed_in, tiny_text):
    run = made(tiny_text, **ENDLESS)
    returned(run)
    # the client would try again for 20 seconds after a 503
    signed_in.refuse = lambda request: Refusal(403, "", "not now") if "back.json" in request else None
    with pytest.raises(Unreachable):
        bring_back(ours.signed_in(MAYA)[0], "maya/back", run)
    signed_in.refuse = lambda request: None
    assert bring_back(ours.signed_in(MAYA)[0], "maya/back", run)


def test_how_a_job_ended_is_told_from_what_was_logged_before_it(signed_in, tiny_text):
    run = made(tiny_text, **ENDLESS)
    run.event("started", step=0, device="CPU")
    run.event("failed", step=0, message="Out of memory.")
    job = replace(job_of(run.folder), before=run.history().events[-1])
    assert last_event(run, job) == ""
    run.cut_back(-1, step=0, device="A100")  # nothing was saved, so the job starts over
    assert last_event(run, job) == "started"
    run.event("finished", step=9, val_loss=2.0)
    assert last_event(run, job) == "finished"


def test_the_last_upload_is_tried_as_long_as_the_job_may_run(monkeypatch):
    now, waited, tries = [100.0], [], []
    sleep = lambda pause: (waited.append(pause), now.append(now.pop() + pause))
    monkeypatch.setattr(remote, "time", SimpleNamespace(time=lambda: now[0], sleep=sleep))
    assert not remote.again(lambda: bool(tries.append(1)), until=400.0)
    assert 250 < sum(waited) <= 300
    assert max(waited) == remote.PAUSE
    assert len(tries) == len(waited) + 1
    assert remote.again(lambda: True, until=0.0)


def test_no_upload_begins_that_could_last_beyond_the_time_for_the_last_one(home, monkeypatch):
    now, uploaded = [1000.0], []
    clock = lambda: now[0]
    monkeypatch.setattr(
        remote, "time", SimpleNamespace(time=clock, monotonic=clock, sleep=lambda _: now.append(now.pop() + 10.0))
    )
    child = SimpleNamespace(poll=lambda: None if now[0] < 5000.0 else 0)
    monkeypatch.setattr(remote.subprocess, "Popen", lambda *_, **__: child)
    monkeypatch.setattr(remote.signal, "signal", lambda *_: None)
    errand = remote.Errand("maya/one", "diary", 4000.0 + remote.RESERVE)
    errand.run.folder.mkdir(parents=True)
    monkeypatch.setattr(errand, "is_asked_to_stop", lambda: False)
    monkeypatch.setattr(errand, "upload", lambda: uploaded.append(now[0]))
    errand.train()
    assert len(uploaded) == 5  # every ten minutes
    assert 4000.0 < uploaded[-1] < errand.deadline - remote.LONGEST


def test_a_job_file_of_another_version_is_read(signed_in, tiny_text):
    run = made(tiny_text, **ENDLESS)
    about = json.loads((run.folder / "job.json").read_text())
    (run.folder / "job.json").write_text(json.dumps({**about, "of_a_later_version": 1}))
    assert job_of(run.folder) is not None


def test_weights_that_are_here_must_come_back(signed_in, tiny_text):
    run = made(tiny_text, **ENDLESS)
    (run.folder / "model.safetensors").write_bytes(b"the weights of this run")
    returned(run)
    with pytest.raises(Damaged, match=r"no model\.safetensors"):
        bring_back(ours.signed_in(MAYA)[0], "maya/back", run)


# --- what the Hub refuses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (402, "no credit for Hugging Face Jobs"), (403, "may not start jobs"), (429, "no more jobs or requests"),
        (400, "The Hub refused the job (no). `"),
    ],
)  # fmt: skip
def test_a_job_that_the_hub_refuses_costs_nothing_and_says_why(signed_in, tiny_text, status, said):
    run = made(tiny_text, **ENDLESS)
    signed_in.refuse = lambda request: Refusal(status, "", "no") if request == "POST /api/jobs/maya" else None
    assert follow.main(run.name) == 1
    assert run.status().state == "failed"
    assert said in run.status().message
    assert "hf_" not in run.status().message
    assert signed_in.jobs.made == {}
    assert signed_in.repos == {}
    run.delete()


@pytest.mark.slow
def test_a_run_whose_job_was_refused_is_started_by_another_job(signed_in, diary, capsys):
    signed_in.refuse = lambda request: Refusal(402, "", "no") if request == "POST /api/jobs/maya" else None
    assert main(["train", diary, "--on", "t4-small", "--budget", "4s", "--yes"]) == 2
    assert "no credit" in capsys.readouterr().err
    signed_in.refuse = lambda request: None
    assert main(["train", "--resume", "diary", "--budget", "6s", "--on", "cpu-upgrade", "--yes"]) == 0
    assert Run("diary").status().state == "finished"
    assert Run("diary").settings()["train"]["budget"] == 6.0
    assert Run("diary").history().seconds > 4.5
    assert "parameters" in Run("diary").settings()["plan"]  # chosen on the job's hardware


@pytest.mark.parametrize(
    ("changes", "wished"),
    [({}, 4.0), (dict(budget=20.0), 20.0), (dict(max_iters=50), None)],  # None: steps, for which nothing is chosen
)
def test_another_job_chooses_the_model_for_the_new_length(signed_in, tiny_text, changes, wished):
    run = made(tiny_text, "timed", budget=4.0, dropout=0.1)
    before = job_of(run.folder).having(run.folder, ended=True)  # it was refused before it began
    api, owner = ours.signed_in(MAYA)
    start.resumed(run, start.terms_to_resume(api, owner, "t4-small", run, changes, None), changes)
    wish = open_job(run.folder).wish
    assert before.wish["changes"] == dict(budget=4.0, dropout=0.1)
    expected = dict(preset="timed", changes=dict(budget=wished, dropout=0.1)) if wished else {}
    assert {key: wish[key] for key in expected} == expected
    assert bool(wish) == bool(wished)


def test_without_a_network_nothing_is_lost(home, tiny_text, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", MAYA)
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    run = made(tiny_text, **ENDLESS)
    hub.refuse = lambda request: Refusal(503, "", "down") if "whoami" in request else None
    assert follow.main(run.name) == 1
    assert run.status().state == "crashed"
    assert "having problems" in run.status().message
    assert "resume the run" in run.status().message
    assert open_job(run.folder)


def started(hub: Hub, run: Run, state: str, **facts) -> FakeJob:
    """Note that a run has a job, and have the Hub know it and its repository. The job does nothing."""
    hub.jobs.waits = 1e6
    described = job_of(run.folder)
    there = dict(command=[], environment={}, flavor="t4-small", labels={follow.LABEL: described.label})
    job = hub.jobs.new(there, "maya")
    job.stage = state
    described = described.having(run.folder, namespace="maya", commit="0" * 40, **{"id": job.id, **facts})
    ours.signed_in(MAYA)[0].create_repo(described.repo, private=True)
    return job


def follower_here(run: Run) -> follow.Follower:
    follower = follow.Follower(run, job_of(run.folder), print)
    follower.api, follower.owner = ours.signed_in(MAYA)
    return follower


def stopping_of(run: Run, tell: Callable[[str], object] = print) -> stopping.Stopping:
    return stopping.Stopping(progress.Progress(run, job_of(run.folder)), ours.signed_in(MAYA)[0], tell)


def cut_off(monkeypatch: pytest.MonkeyPatch, name: str, times: float) -> None:
    """Have a request of the Hub client fail so many times, as without a network."""
    real, left = getattr(HfApi, name), [times]

    def ask(*arguments, **more):
        left[0] -= 1
        if left[0] >= 0:
            raise ConnectionError
        return real(*arguments, **more)

    monkeypatch.setattr(HfApi, name, ask)


def test_a_follower_that_starts_without_a_network_waits_for_it(signed_in, tiny_text, monkeypatch):
    run = made(tiny_text, **ENDLESS)
    job = started(signed_in, run, "SCHEDULING", id="")
    cut_off(monkeypatch, "whoami", 3)
    cut_off(monkeypatch, "list_jobs", 3)
    follower = follow.Follower(run, job_of(run.folder), print)
    follower.sign_in()
    follower.begin()
    assert job_of(run.folder).id == job.id
    assert len(signed_in.jobs.made) == 1


def test_what_was_going_on_is_shown_again_when_the_hub_answers(signed_in, tiny_text, monkeypatch):
    run = made(tiny_text, **ENDLESS)
    started(signed_in, run, "RUNNING", pieces=1, stage="Waiting for the job to save")
    cut_off(monkeypatch, "inspect_job", 2)
    follower, seen = follower_here(run), []
    for _ in range(3):
        assert follower.inspect() is None
        seen.append(job_of(run.folder).stage)
    assert seen == ["Waiting for the Hub to answer"] * 2 + ["Waiting for the job to save"]


@pytest.mark.parametrize(
    ("stage", "pieces", "after", "asked"),
    [("SCHEDULING", 0, "CANCELED", False), ("RUNNING", 0, "RUNNING", True), ("RUNNING", 5, "RUNNING", True)],
)
def test_stop_cancels_only_a_job_that_waits(signed_in, tiny_text, stage, pieces, after, asked):
    run = made(tiny_text, **ENDLESS)
    job = started(signed_in, run, stage, pieces=pieces)
    run.stop_file.touch()
    stopping_of(run).pass_on()
    [repo] = signed_in.repos.values()
    assert (job.stage, "stop" in repo.files) == (after, asked)


def test_a_stop_that_the_hub_refuses_is_tried_again_soon(signed_in, tiny_text, monkeypatch):
    now, said = [1000.0], []
    monkeypatch.setattr(stopping, "time", SimpleNamespace(monotonic=lambda: now[0]))
    run = made(tiny_text, **ENDLESS)
    job = started(signed_in, run, "RUNNING", pieces=5)
    [repo] = signed_in.repos.values()
    run.stop_file.touch()
    passed = stopping_of(run, said.append)
    signed_in.refuse = lambda request: Refusal(403, "", "not now") if "/commit/main" in request else None
    for _ in range(3):  # too soon at the second time
        passed.pass_on()
        now[0] += 0.6 * stopping.STOP_EACH
    assert len(said) == 1
    assert "could not be stopped" in said[0]
    signed_in.refuse = lambda request: None
    now[0] += stopping.STOP_EACH
    passed.pass_on()
    assert "stop" in repo.files
    now[0] += stopping.GRACE - 1.0
    passed.pass_on()
    assert job.stage == "RUNNING"  # it saves
    now[0] += 2.0
    passed.pass_on()
    assert job.stage == "CANCELED"


@pytest.mark.parametrize("pieces", [0, 5])
@pytest.mark.parametrize("gone", [True, False])
def test_a_run_whose_job_is_over_is_closed_although_it_is_to_stop(signed_in, tiny_text, monkeypatch, pieces, gone):
    monkeypatch.setattr(follow, "APPEARS", 0.0)
    run = made(tiny_text, **ENDLESS)
    job = started(signed_in, run, "COMPLETED", pieces=pieces)
    signed_in.repos.clear()
    if gone:
        signed_in.jobs.made.clear()
    signed_in.refuse = lambda request: Refusal(400, "", "it is over") if "/cancel" in request and not gone else None
    run.stop_file.touch()
    assert follow.main(run.name) == 0
    assert run.status().message == "Stopped before anything was saved."
    job.close()
    run.delete()


def test_a_text_whose_deletion_fails_is_deleted_later(signed_in, tiny_text, monkeypatch):
    run = made(tiny_text, **ENDLESS)
    run.event("finished", message="Finished.")
    job = started(signed_in, run, "COMPLETED")
    monkeypatch.setattr(local, "start", lambda run, module: None)
    with monkeypatch.context() as patch:
        cut_off(patch, "delete_repo", 2)
        follower_here(run).close()  # it is tried again
    assert (signed_in.repos, job_of(run.folder).left) == ({}, [])
    repo = job_of(run.folder).having(run.folder, ended=False).repo
    ours.signed_in(MAYA)[0].create_repo(repo, private=True)
    with monkeypatch.context() as patch:
        cut_off(patch, "delete_repo", 1e6)
        follower_here(run).close()
    status = run.status()
    assert status.state == "finished"
    assert status.message.startswith(f"Finished. {repo} could not be deleted, which holds your text.")
    assert start.find_again() == ["diary"]
    monkeypatch.delenv("HF_TOKEN")
    assert follow.main(run.name) == 1
    assert repo in run.status().message  # although the sentence about the token is new
    assert "hf auth login" in run.status().message
    monkeypatch.setenv("HF_TOKEN", MAYA)
    assert follow.main(run.name) == 0
    assert (signed_in.repos, run.status().message, start.find_again()) == ({}, "Finished.", [])
    job.close()


def test_a_text_whose_deletion_the_hub_refuses_is_named_and_tried_again(signed_in, tiny_text):
    run = made(tiny_text, **ENDLESS)
    run.event("finished", message="Finished.")
    started(signed_in, run, "COMPLETED", left=["maya/one", "mills/two"]).close()
    signed_in.refuse = lambda request: Refusal(403, "", "no") if request.startswith("DELETE") else None
    follower_here(run).close()
    repo = job_of(run.folder).repo
    assert (job_of(run.folder).left, job_of(run.folder).tries) == (["maya/one", "mills/two", repo], 1)
    assert "which hold your text" in run.status().message
    signed_in.refuse = lambda request: None
    assert follow.main(run.name) == 1
    assert (job_of(run.folder).left, signed_in.repos) == (["mills/two"], {})
    assert "mills/two belongs to mills, and maya is signed in." in run.status().message


def test_a_refused_deletion_is_not_a_refused_job(signed_in, tiny_text):
    run = made(tiny_text, **ENDLESS)
    run.event("finished", message="Finished.")
    started(signed_in, run, "COMPLETED").close()
    signed_in.refuse = lambda request: Refusal(403, "", "no") if request.startswith("DELETE") else None
    follower_here(run).close()
    assert "You don't have permission to write to maya/nanogpt-job-" in run.status().message


def test_a_text_is_deleted_although_the_follower_was_killed_while_it_uploaded_it(signed_in, tiny_text, monkeypatch):
    from nanogpt.ui import run_panel

    run = made(tiny_text, **ENDLESS)

    def create_commit(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(HfApi, "create_commit", create_commit)
        with pytest.raises(KeyboardInterrupt):
            follow.main(run.name)
    [repo] = job_of(run.folder).left
    assert [*signed_in.repos] == [f"models/{repo}"]
    assert f"First delete {repo} on the Hub" in run_panel.question("diary")
    queue.draw("diary")
    run.request_stop()
    assert follow.main(run.name) == 0
    assert (run.status().message, signed_in.repos) == ("Canceled before training started.", {})


def test_what_is_kept_because_it_is_damaged_is_named_when_the_run_is_deleted(signed_in, tiny_text, monkeypatch):
    from nanogpt.ui import run_panel

    run = made(tiny_text, **ENDLESS)
    started(signed_in, run, "COMPLETED", left=[job_of(run.folder).having(run.folder, namespace="maya").repo]).close()

    def damaged(*_):
        raise Damaged("run.json cannot be read.")

    monkeypatch.setattr(follow, "bring_back", damaged)
    follower = follower_here(run)
    follower.come_back("")
    follower.close()
    [repo] = job_of(run.folder).damaged
    assert (job_of(run.folder).left, [*signed_in.repos]) == ([], [f"models/{repo}"])
    start.resumed(run, start.terms_to_resume(*ours.signed_in(MAYA), "t4-small", run, {}, None), {})
    assert f"First delete {repo} on the Hub" in run_panel.question("diary")


def test_a_run_that_is_back_is_free_although_its_text_is_not_deleted(signed_in, tiny_text):
    run = ended_run(corpus.add(tiny_text, "diary"), max_iters=50, **SHAPE)
    (run.folder / "last.safetensors").write_bytes(b"the checkpoint")
    Job("t4-small", 600, "0" * 12, namespace="maya", ended=True, left=["maya/one"]).having(run.folder)
    api, owner = ours.signed_in(MAYA)
    longer = dict(max_iters=80)
    start.resumed(run, start.terms_to_resume(api, owner, "t4-small", run, longer, None), longer)
    assert job_of(run.folder).left == ["maya/one"]  # the new job deletes it, too
    job_of(run.folder).having(run.folder, ended=True)
    from nanogpt.ui import run_panel

    assert "First delete maya/one on the Hub" in run_panel.question("one")
    renamed = run.rename("two")
    assert "maya/one could not be deleted" in renamed.status().message
    renamed.delete()


def test_what_cannot_be_deleted_or_stopped_is_tried_less_and_less_often(signed_in, tiny_text, monkeypatch):
    monkeypatch.setattr(local, "start", lambda run, module: None)
    run = made(tiny_text, **ENDLESS)
    run.event("finished", message="Finished.")
    there = job_of(run.folder)

    def found(seconds: float, **changes) -> list[str]:
        there.having(run.folder, problem="You are not signed in.", **changes)
        then = time.time() - seconds
        os.utime(run.folder / "job.json", (then, then))
        return start.find_again(given_up=False)

    left = dict(ended=True, left=["maya/one"])
    assert [found(200.0, tries=tries, **left) for tries in (1, 2)] == [["diary"], []]
    assert found(90_000.0, tries=5000, **left) == ["diary"]
    there = there.having(run.folder, commit="0" * 40)  # its job may run
    assert found(90_000.0, tries=1) == []
    run.stop_file.touch()
    assert found(200.0, tries=1) == ["diary"]


def test_a_follower_that_dies_without_a_word_is_started_again_less_and_less_often(signed_in, tiny_text, monkeypatch):
    now, begun = [1000.0], []
    monkeypatch.setattr(start, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(local, "start", lambda run, module: begun.append(now[0]))
    run = made(tiny_text, **ENDLESS)
    for _ in range(20):
        start.find_again(given_up=False)
        now[0] += 60.0
    assert begun == [1000.0, 1180.0, 1480.0, 2020.0]
    with run.held():
        assert start.find_again(given_up=False) == []
    assert start.find_again(given_up=False) == ["diary"]  # it was alive, so the count starts again


@pytest.mark.parametrize("file", ["log.txt", "run.json", "metrics.jsonl"])
def test_a_run_whose_job_cannot_be_followed_holds_up_no_other(signed_in, tiny_text, monkeypatch, capsys, file):
    begun = []
    child = SimpleNamespace(wait=lambda: 0, poll=lambda: 0, kill=lambda: None)
    monkeypatch.setattr(local, "_launch", lambda names, *_: begun.extend(names) or child)
    made(tiny_text, **ENDLESS).rename("good")
    bad = made(tiny_text, **ENDLESS)
    (bad.folder / file).unlink(missing_ok=True)
    (bad.folder / file).mkdir()
    assert start.find_again() == ["good"]
    assert begun == ["good"]
    assert ("the job of diary can't be followed" in capsys.readouterr().err) == (file == "log.txt")


def test_a_run_is_shown_as_ended_while_what_was_uploaded_is_deleted(signed_in, tiny_text):
    run = made(tiny_text, **ENDLESS)
    run.event("finished", message="Finished.")
    with queue.arrived("diary"), run.held():
        queue.drop("diary")
        assert run.status().state == "running"
        job_of(run.folder).having(run.folder, ended=True, left=["maya/one"])
        assert (run.status().state, run.status().message) == ("finished", "Finished.")
        for change in (lambda: run.rename("two"), run.delete, lambda: prepare.to_continue(run, 80)):
            with pytest.raises(NanoGPTError, match="The text of diary is being deleted"):
                change()
        assert start.find_again() == []
    assert "maya/one could not be deleted" in run.status().message
    with queue.turn("diary", "cpu"), run.held():  # trained here since
        assert run.status().state == "running"


def test_a_run_that_is_back_is_not_queued_to_delete_what_was_uploaded(signed_in, tiny_text, monkeypatch):
    child, begun = SimpleNamespace(wait=lambda: 0, poll=lambda: 0, kill=lambda: None), []
    monkeypatch.setattr(local, "_launch", lambda names, *_: begun.append(run.status().state) or child)
    run = made(tiny_text, **ENDLESS)
    start.follow(run)
    run.event("finished", message="Finished.")
    job_of(run.folder).having(run.folder, namespace="maya", ended=True, left=["maya/one"])
    assert start.find_again() == ["diary"]
    assert begun == ["queued", "finished"]


def test_a_stop_that_comes_when_the_run_is_back_changes_nothing(signed_in, tiny_text):
    run = made(tiny_text, **ENDLESS)
    run.event("finished", message="Finished.")
    job_of(run.folder).having(run.folder, namespace="maya", ended=True, left=["maya/one"])
    queue.draw("diary")
    run.request_stop()
    assert follow.main(run.name) == 0
    assert (run.status().state, job_of(run.folder).left) == ("finished", [])


def test_a_job_that_was_never_started_is_not_said_to_run(signed_in, tiny_text):
    run = made(tiny_text, **ENDLESS)
    assert run.status().message == "Its job on Hugging Face Jobs was not started yet. Resume the run to start it."
    job_of(run.folder).having(run.folder, commit="0" * 40)
    assert "nothing on this machine follows it" in run.status().message


def test_a_run_whose_job_was_refused_fails_once_although_its_repository_is_still_there(
    signed_in, tiny_text, monkeypatch
):
    run = made(tiny_text, **ENDLESS)
    run.event("failed", message="The Hub refused the job.")
    job_of(run.folder).having(run.folder, namespace="maya", ended=True, left=["maya/one"])  # nothing was uploaded
    monkeypatch.delenv("HF_TOKEN")
    assert follow.main(run.name) == 1
    assert len(run.history().events) == 1
    assert "hf auth login" in run.status().message


@pytest.mark.parametrize("request_name", ["whoami", "list_jobs"])
def test_stop_ends_the_waiting_for_the_hub(signed_in, tiny_text, monkeypatch, request_name):
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    run = made(tiny_text, **ENDLESS)
    job = started(signed_in, run, "SCHEDULING", id="")
    run.stop_file.touch()
    with monkeypatch.context() as patch:
        cut_off(patch, request_name, 1e6)
        assert follow.main(run.name) == 1
    assert run.status().state == "crashed"
    assert "the job could not be stopped. It ends by itself after" in run.status().message
    assert follow.main(run.name) == 0  # as Resume does
    assert job.stage == "CANCELED"
    assert run.status().state == "stopped"


def test_stop_ends_the_waiting_for_a_run_to_come_back(signed_in, tiny_text, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    run = made(tiny_text, **ENDLESS)
    started(signed_in, run, "COMPLETED", pieces=5).close()
    run.stop_file.touch()
    with monkeypatch.context() as patch:
        cut_off(patch, "model_info", 1e6)
        assert follow.main(run.name) == 1
    assert (run.status().state, run.status().message) == ("crashed", follow.NOT_BACK)
    assert follow.main(run.name) == 0  # as Resume does
    assert (run.status().message, signed_in.repos) == ("Stopped before anything was saved.", {})


def test_offline_mode_is_no_network_to_wait_for(signed_in, tiny_text, monkeypatch):
    run = made(tiny_text, **ENDLESS)
    started(signed_in, run, "RUNNING").close()

    def offline(*_):
        raise OfflineModeIsEnabled

    monkeypatch.setattr(HfApi, "whoami", offline)
    assert follow.main(run.name) == 1
    assert "Unset HF_HUB_OFFLINE" in run.status().message


@pytest.mark.parametrize(
    ("stops", "said"),
    [
        (False, "Node lost. Nothing new was saved; resume it to continue from its last checkpoint."),
        (True, "Stopped before anything new was saved."),
    ],
)
def test_a_resumed_run_still_has_its_checkpoint_when_a_job_saves_nothing(signed_in, tiny_text, stops, said):
    run = made(tiny_text, **ENDLESS)
    (run.folder / "last.safetensors").write_bytes(b"the checkpoint")
    if stops:
        run.stop_file.touch()
    follower_here(run).last_words("Node lost.", there=False)
    assert run.status().state == "crashed"  # the job is still open
    assert run.history().events[-1]["message"] == said


@pytest.mark.slow
def test_an_answer_that_was_lost_does_not_start_a_second_job(signed_in, tiny_text):
    signed_in.jobs.waits = 1e6
    run = made(tiny_text, **ENDLESS)
    tries = []

    def lose(request: str) -> Refusal | None:
        if request == "POST /api/jobs/maya" and not tries:
            tries.append(request)
            signed_in.jobs.new(json.loads(signed_in.bodies[-1]), "maya")  # it starts, but the answer is lost
            return Refusal(502, "", "Bad gateway")
        return None

    signed_in.refuse = lose
    with followed(run):
        until(lambda: job_of(run.folder).id)
        assert len(signed_in.jobs.made) == 1
        run.request_stop()
    assert run.status().state == "stopped"


@pytest.mark.parametrize(
    ("token", "said"), [(None, "not signed in"), (READER, "read-only"), ("hf_" + "x" * 20, "reject")]
)
def test_a_wrong_login_is_refused_before_anything_is_uploaded(hub, home, diary, token, said, monkeypatch, capsys):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    assert main(["train", diary, "--on", "t4-small", "--yes"]) == 2
    assert said in capsys.readouterr().err
    assert hub.repos == {}
    assert not Run("diary").exists()


def test_another_account_does_not_take_over_a_job(signed_in, tiny_text, monkeypatch):
    run = made(tiny_text, **ENDLESS)
    job_of(run.folder).having(run.folder, namespace="maya", commit="0" * 40, id="1")
    monkeypatch.setenv("HF_TOKEN", OLGA)
    assert follow.main(run.name) == 1
    assert "Sign in as its owner" in run.status().message


def test_a_run_whose_account_is_gone_is_freed_once_its_job_must_have_ended(signed_in, tiny_text, monkeypatch, capsys):
    from nanogpt.ui import run_panel

    run = made(tiny_text, **ENDLESS)
    repo = job_of(run.folder).having(run.folder, namespace="olga", commit="0" * 40, id="1", since=time.time()).repo
    longer = ["train", "--resume", "diary", "--on", "t4-small"]
    assert follow.main(run.name) == 1
    assert main(longer) == 2
    assert "Follow it with --resume alone" in capsys.readouterr().err
    with pytest.raises(NanoGPTError, match="is training on Hugging Face Jobs"):
        run.delete()
    job_of(run.folder).having(run.folder, since=time.time() - job_of(run.folder).timeout - WAIT - 1.0)
    assert f"First delete {repo} on the Hub: your text is there, and perhaps what" in run_panel.question("diary")
    with monkeypatch.context() as patch:
        patch.setenv("HF_TOKEN", OLGA)  # it isn't gone
        assert main(longer) == 2
    assert "Resume it without --on to bring it back." in capsys.readouterr().err
    assert main(longer) == 2
    assert "Nothing was uploaded. Add --yes" in capsys.readouterr().err
    start.resumed(run, start.terms_to_resume(*ours.signed_in(MAYA), "t4-small", run, {}, None), {})
    there = job_of(run.folder)
    assert (there.left, there.damaged, there.commit) == ([], [repo], "")
    assert run.history().notes == [start.NOT_BACK.format(repo)]
    # the account is here again, after the new job has ended
    there.having(run.folder, namespace="maya", ended=True)
    ours.signed_in(OLGA)[0].create_repo(repo, private=True)
    monkeypatch.setenv("HF_TOKEN", OLGA)
    assert (follow.main(run.name), [*signed_in.repos]) == (0, [f"models/{repo}"])
    assert f"First delete {repo} on the Hub" in run_panel.question("diary")
    run.delete()


def test_a_job_that_may_still_wait_or_run_is_not_out_of_reach():
    now = time.time()
    left = Job("t4-small", 600, "0" * 12, namespace="maya", commit="0" * 40, problem="You are not signed in.")
    assert not left.is_out_of_reach  # as of a version that didn't note when it was started
    assert not replace(left, since=now - 600 - WAIT + 60).is_out_of_reach  # it may have waited for its hardware
    assert replace(left, since=now - 600 - WAIT - 60).is_out_of_reach
    assert replace(left, commit="").is_out_of_reach  # nothing was started


def test_since_when_a_job_may_run_is_noted_with_its_upload(signed_in, tiny_text, monkeypatch):
    follower, seen = follower_here(made(tiny_text, **ENDLESS)), []
    monkeypatch.setattr(follower, "upload", lambda: "0" * 40)
    monkeypatch.setattr(follower, "start", lambda: "1")
    monkeypatch.setattr(follower, "heed_stop", lambda: seen.append((follower.job.commit, follower.job.since > 0)))
    follower.begin()
    assert seen == [("", False), ("0" * 40, True)]


# --- cost and confirmation --------------------------------------------------------------------------------------------


def test_nothing_starts_without_a_confirmation(signed_in, diary, capsys, monkeypatch):
    assert main(["train", diary, "--on", "a100-large", "--budget", "3m"]) == 2
    out = capsys.readouterr()
    assert "at most $0.54, since the job ends after 13 minutes" in out.out
    assert "Add --yes" in out.err
    monkeypatch.setattr("sys.stdin", Answer("n"))
    assert main(["train", diary, "--on", "a100-large", "--budget", "3m"]) == 2
    assert "Nothing was uploaded." in capsys.readouterr().err
    assert (signed_in.repos, signed_in.jobs.made) == ({}, {})
    assert not Run("diary").exists()


class Answer(io.StringIO):
    def isatty(self) -> bool:
        return True

    def readline(self, *_) -> str:
        if self.getvalue() == "Ctrl-C":
            raise KeyboardInterrupt
        return super().readline(*_)


@pytest.mark.parametrize(("answer", "status"), [("n", 2), ("", 2), ("Ctrl-C", 130)])  # "": Ctrl-D
def test_a_run_keeps_its_length_unless_a_longer_job_is_confirmed(signed_in, tiny_text, monkeypatch, answer, status):
    run = ended_run(corpus.add(tiny_text, "diary"), max_iters=50, **SHAPE)
    run.change(train={**run.settings()["train"], "budget": 5.0}, promise=1.5)
    (run.folder / "last.safetensors").write_bytes(b"the checkpoint")
    before = run.settings()
    monkeypatch.setattr("sys.stdin", Answer(answer))
    assert main(["train", "--resume", "one", "--max-iters", "80", "--on", "t4-small"]) == status
    assert run.settings() == before
    assert open_job(run.folder) is None


def test_a_run_that_this_machine_cannot_train_is_resumed_there(signed_in, tiny_text, monkeypatch):
    run = ended_run(corpus.add(tiny_text, "diary"), max_iters=50, **SHAPE)
    (run.folder / "last.safetensors").write_bytes(b"the checkpoint")
    api, owner = ours.signed_in(MAYA)
    monkeypatch.setattr(memory, "free_now", lambda device: 1000)
    with pytest.raises(NanoGPTError, match="memory"):
        prepare.to_continue(run, 80)
    terms = start.terms_to_resume(api, owner, "t4-small", run, dict(max_iters=80), None)
    start.resumed(run, terms, dict(max_iters=80))
    assert run.status().max_iters == 80
    assert open_job(run.folder).hardware == "t4-small"


def test_a_job_that_is_followed_is_not_followed_twice(signed_in, tiny_text, capsys, monkeypatch):
    run = made(tiny_text, **ENDLESS)
    started = []
    monkeypatch.setattr(local, "start", lambda run, module: started.append(run.name))
    with run.held():  # as its follower does
        assert main(["train", "--resume", "diary"]) == 2
        assert "Another process already follows the job of diary." in capsys.readouterr().err
        start.follow(run)  # as from a page that doesn't show it yet
        assert (queue.waiting(), started) == ([], [])
    start.follow(run)
    assert started == ["diary"]


def test_unknown_hardware_and_limits_are_refused(signed_in, diary, capsys):
    for flags, said in [
        (["--on", "a100-larg"], "did you mean a100-large?"),
        (["--on", "h200x8"], "has no hardware 'h200x8' for a run"),
        (["--on", "t4-small", "--time-limit", "1m"], "must be between 5 minutes and 24 hours"),
        (["--on", "t4-small", "--budget", "10m", "--time-limit", "11m"], "longer than the training time"),
        (["--on", "t4-small", "--processes", "2"], "a job uses one process"),
        (["--on", "t4-small", "--n-embd", "7"], "divisible"),
    ]:
        assert main(["train", diary, *flags, "--yes"]) == 2
        assert said in capsys.readouterr().err
    assert signed_in.repos == {}


def test_the_hardware_is_listed_with_its_price(signed_in, capsys):
    assert main(["hardware"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["cpu-upgrade", "t4-small", "a100-large"]
    assert "$2.50 per hour" in lines[2]


def test_a_started_minute_counts():
    machine = offer.Hardware("x", "", 0.04, 60)
    assert machine.cost(60) == pytest.approx(0.04)
    assert machine.cost(61) == pytest.approx(0.08)
    assert offer.at_most(machine, 780) == "$0.52"


def test_what_a_job_installs_is_what_the_project_requires():
    required = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert set(parcel.NEEDED) <= set(required)


def test_nothing_comes_back_from_a_job_that_uploaded_nothing(signed_in, tiny_text):
    run = made(tiny_text, **ENDLESS)
    api, _ = ours.signed_in(MAYA)
    api.create_repo("maya/empty", private=True)
    before = {path.name: path.read_bytes() for path in files_under(run.folder)}
    assert bring_back(api, "maya/empty", run) is False
    assert before == {path.name: path.read_bytes() for path in files_under(run.folder)}


@pytest.mark.slow
def test_a_repository_deleted_by_hand_ends_the_run_with_a_sentence(signed_in, tiny_text):
    run = made(tiny_text, **ENDLESS)
    with followed(run):
        until(lambda: run.history().rows)
        signed_in.repos.clear()
        next(iter(signed_in.jobs.made.values())).end("CANCELED")
    assert run.status().message == "The job was canceled. Nothing had been saved."
    run.delete()


# --- what a job needs -------------------------------------------------------------------------------------------------

ALONE = """
import importlib.abc, json, sys
foreign = set(json.loads(sys.argv[1]))
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in foreign:
            raise ModuleNotFoundError(f"{name} is not installed in a job")
sys.meta_path.insert(0, Missing())
import nanogpt.jobs.remote, nanogpt.launch.trainer, nanogpt.train, nanogpt.launch.plan
"""


def installed_with(names: list[str]) -> set[str]:
    """Return the distributions that pip would install for these, by normalized name."""
    normal = lambda name: re.sub(r"[-_.]+", "-", name).lower()
    found: set[str] = set()
    queue = [re.match(r"[\w.-]+", name)[0] for name in names]
    while queue:
        name = normal(queue.pop())
        if name not in found:
            found.add(name)
            try:
                needs = metadata.requires(name) or []
            except metadata.PackageNotFoundError:  # for another platform
                continue
            queue += [re.match(r"[\w.-]+", one)[0] for one in needs if "extra ==" not in one]
    return found


@pytest.mark.slow
def test_the_code_that_is_uploaded_runs_with_what_a_job_installs(tmp_path):
    with zipfile.ZipFile(io.BytesIO(parcel.code())) as code:
        code.extractall(tmp_path)
    allowed = installed_with([*parcel.NEEDED])
    normal = lambda name: re.sub(r"[-_.]+", "-", name).lower()
    owners = metadata.packages_distributions()
    foreign = [name for name, dists in owners.items() if not {normal(one) for one in dists} & allowed]
    assert {"gradio", "PIL", "pyppmd"} <= set(foreign)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, json.dumps(foreign)], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "NANOGPT_HOME": str(tmp_path / "home"), "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
