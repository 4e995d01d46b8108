"""The lines that carry a run's files from a job to this machine."""

from __future__ import annotations

import errno
import json
import os
import threading

import pytest
from huggingface_hub import HfApi

from nanogpt import corpus
from nanogpt.jobs.feed import MARK, MOST, Feed, Mirror
from nanogpt.jobs.output import Output
from nanogpt.jobs.progress import Progress
from nanogpt.launch import prepare
from nanogpt.runs import Job, Run, job_of

SHAPE = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, max_iters=10)


@pytest.fixture
def both(home, tiny_text) -> tuple[Run, Run]:
    """Return the same run twice: the one in a job, and the one here, with the job's description."""
    text = corpus.add(tiny_text, "diary")
    there, here = (prepare.new_run(name, text, **SHAPE) for name in ("there", "here"))
    Job("t4-small", 600, "label").having(here.folder)
    return there, here


def mirror(run: Run) -> Mirror:
    return Mirror(Progress(run, job_of(run.folder)))


def take_all(far: Mirror, lines: list[str], each: int = 1) -> None:
    """Take all lines, and count them after `each` so many."""
    for number, line in enumerate(lines, start=1):
        far.take(line)
        if number % each == 0:
            far.count()
    far.count()


def files(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.folder.glob("*") if path.suffix in (".jsonl", ".txt")}


def grow(run: Run, first: int, last: int) -> None:
    for step in range(first, last):
        run.log(step=step, seconds=1.0, train_loss=2.0)
    run.sample(last, "été\u2028 \x85 line\n")  # characters that some programs take for line ends
    with (run.folder / "log.txt").open("a", encoding="utf-8") as log:
        log.write(f"step {last}: été\n")


def test_files_arrive_as_they_are(both):
    there, here = both
    lines: list[str] = []
    feed, far = Feed(there.folder, lines.append), mirror(here)
    for first in (0, 5, 300):
        grow(there, first, first + 5 if first < 300 else 700)
        feed.look()
    assert all("\n" not in line for line in lines)
    assert max(map(len, lines)) < 2 * MOST
    take_all(far, lines)
    assert files(here) == files(there)


def test_a_run_that_was_cut_back_is_cut_back_here_too(both):
    there, here = both
    lines: list[str] = []
    feed, far = Feed(there.folder, lines.append), mirror(here)
    grow(there, 0, 9)
    feed.look()
    there.cut_back(3, step=3)
    feed.look()
    there.log(step=4, seconds=1.0)
    feed.look()
    take_all(far, lines)
    assert files(here) == files(there)


def test_an_unfinished_line_waits_for_its_end(both):
    there, _ = both
    lines: list[str] = []
    feed = Feed(there.folder, lines.append)
    with (there.folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step":')
        file.flush()
        feed.look()
        assert lines == []
        file.write(b"1}\n")
    feed.look()
    assert json.loads(lines[0][len(MARK) :])["text"] == '{"step":1}\n'


@pytest.mark.parametrize("each", [1, 3])
@pytest.mark.parametrize("killed", range(1, 10))
def test_lines_that_come_again_after_a_kill_are_written_once(both, killed, each, monkeypatch):
    """Kill the follower after any of its writes: to a file, or of the count in job.json."""
    there, here = both
    lines: list[str] = ["Installing PyTorch ..."]
    feed = Feed(there.folder, lines.append)
    for step in (0, 5):
        grow(there, step, step + 5)
        feed.look()
    lines.insert(3, "a warning")
    writes = [0]

    def count(real):
        def write(*arguments, **more):
            done = real(*arguments, **more)
            writes[0] += 1
            if writes[0] == killed:
                raise KeyboardInterrupt
            return done

        return write

    first = mirror(here)
    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "_add", count(Mirror._add))
        patch.setattr(Job, "having", count(Job.having))
        with pytest.raises(KeyboardInterrupt):
            take_all(first, lines, each)
    second = mirror(here)
    second.begin()
    take_all(second, lines)
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert files(here)[name] == files(there)[name]


def test_what_a_full_disk_left_uncounted_is_written_again(both, monkeypatch):
    there, here = both
    lines: list[str] = []
    feed = Feed(there.folder, lines.append)
    grow(there, 0, 5)
    feed.look()
    real, written = Mirror._add, []

    def add(far: Mirror, name: str, text: str) -> None:
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(name)
        real(far, name, text)

    first = mirror(here)
    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "_add", add)
        with pytest.raises(OSError, match="No space"):
            take_all(first, lines, each=9)
    first.progress.leave("There is no space left.")
    take_all(mirror(here), lines)
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert files(here)[name] == files(there)[name]


def test_many_lines_that_come_at_once_are_counted_once(both, monkeypatch):
    there, here = both
    lines: list[str] = ["Installing PyTorch ..."]
    feed = Feed(there.folder, lines.append)
    for step in range(20):
        grow(there, step, step + 1)
        feed.look()
    output, written = Output(Progress(here, job_of(here.folder)), HfApi()), []
    for line in lines:
        output.lines.put(line)
    output.lines.put(None)
    having = Job.having
    monkeypatch.setattr(Job, "having", lambda *given, **changes: written.append(changes) or having(*given, **changes))
    assert output.take()
    assert len(written) == 1
    assert job_of(here.folder).pieces == len(lines) - 1
    assert [row["step"] for row in here.history().rows] == list(range(20))


def test_without_a_thread_to_spare_the_output_is_asked_for_again_later(both, monkeypatch):
    output = Output(Progress(both[1], job_of(both[1].folder)), HfApi())

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    output.connect()
    assert output.take()  # as when a connection breaks: the follower connects again
