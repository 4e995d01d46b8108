"""Locks between real processes: on file systems with flock, without it, and without any locks; and across users."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from children import process, said, tell

from nanogpt import locks
from nanogpt.cli.main import main
from nanogpt.errors import explain
from nanogpt.runs import Run, queue

ROOT = Path(__file__).resolve().parents[2]
posix = pytest.mark.skipif(sys.platform == "win32", reason="flock and users with numbers are POSIX")

# Holds a lock until told to release it. Given an errno, it simulates a system without flock.
HOLDER = """
import sys
from pathlib import Path
from nanogpt import locks
if sys.argv[2:]:
    def flock(*_):
        raise OSError(int(sys.argv[2]), "no flock")
    locks.fcntl.flock = flock
path = Path(sys.argv[1])
with locks.held(path):
    assert locks.is_held(path)
    print("held", flush=True)
    sys.stdin.readline()
print("free", flush=True)
sys.stdin.readline()
"""
SHIM = """
#include <errno.h>
#include <stdlib.h>
int flock(int fd, int op) { errno = atoi(getenv("FLOCK_ERRNO")); return -1; }
"""
NO_FLOCK = [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK]
name_of = lambda number: errno.errorcode[number]


def without(monkeypatch, number: int, *names: str) -> None:
    """Make these functions of fcntl fail as on a file system without locks."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    for name in names:
        monkeypatch.setattr(locks.fcntl, name, refuse)


def test_only_one_module_locks_files():
    imports = re.compile(r"^\s*(?:import|from) (?:fcntl|msvcrt|filelock|portalocker)\b", re.M)
    programs = [ROOT / "app.py", *(ROOT / "nanogpt").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    found = [path.relative_to(ROOT).as_posix() for path in programs if imports.search(path.read_text(encoding="utf-8"))]
    assert found == ["nanogpt/locks.py"]


# --- one lock --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_lock_is_held_as_long_as_its_process_lives(tmp_path):
    lock = tmp_path / ".lock"
    assert not locks.is_held(lock)
    assert not lock.exists()  # checking creates no file
    with process(HOLDER, lock) as child:
        assert said(child) == "held"
        assert locks.is_held(lock)
        assert not locks.is_mine(lock)
        with pytest.raises(locks.Held), locks.held(lock):
            pytest.fail("it was held twice")
        tell(child)
        assert said(child) == "free"
        with locks.held(lock):
            assert locks.is_held(lock)
            assert locks.is_mine(lock)
    with process(HOLDER, lock) as child:
        assert said(child) == "held"
        child.kill()
        child.wait()
        assert not locks.is_held(lock)


def test_a_file_that_exists_is_no_lock(tmp_path):
    lock = tmp_path / ".lock"
    lock.write_text("4711\nsome.host\n", encoding="utf-8")  # as left by libraries that lock by creating a file
    assert not locks.is_held(lock)
    with locks.held(lock):
        pass
    assert lock.read_text(encoding="utf-8") == "4711\nsome.host\n"


def test_a_lock_in_passing_leaves_no_file(tmp_path):
    lock = tmp_path / ".lock"
    with locks.held(lock, passing=True):
        assert locks.is_held(lock)
    assert not lock.exists()
    assert not locks.is_mine(lock)


@posix
def test_a_lock_whose_file_was_deleted_meanwhile_is_tried_again(tmp_path, monkeypatch):
    """Without a retry, two processes could hold the same lock, each on its own file."""
    lock, take, taken = tmp_path / ".lock", locks._take, []

    def late(handle, shared):
        if not taken:
            lock.unlink()  # by the previous holder, between opening and locking
        taken.append(handle)
        return take(handle, shared)

    monkeypatch.setattr(locks, "_take", late)
    with locks.held(lock, patience=10):
        assert lock.exists()
        assert locks.is_mine(lock)
    assert len(taken) == 2


def test_a_lock_file_that_comes_and_goes_is_opened_in_the_end(tmp_path, monkeypatch):
    lock, opened, times = tmp_path / ".lock", os.open, iter(range(100))

    def late(path, flags, *mode):
        if path == lock and flags & os.O_EXCL and next(times) < 3:
            raise FileExistsError  # by a holder that deletes it before it can be opened
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", late)
    with locks.held(lock, passing=True):
        assert locks.is_mine(lock)


@posix
def test_a_lock_that_is_a_link_to_nothing_is_not_waited_for(tmp_path):
    lock = tmp_path / ".lock"
    lock.symlink_to(tmp_path / "gone")
    with pytest.raises(FileNotFoundError), locks.held(lock, patience=10):
        pytest.fail("it was held")


@posix
def test_a_released_lock_is_free_even_while_a_child_process_has_its_file_open(tmp_path):
    lock = tmp_path / ".lock"
    with locks.held(lock):
        handle = locks._mine[locks._identity(lock.stat())]
        inherited = os.dup(handle)  # as between fork and exec in another thread's subprocess
        assert locks.is_held(lock)
    assert not locks.is_held(lock)
    os.close(inherited)


def test_one_process_s_threads_exclude_each_other(tmp_path):
    lock = tmp_path / ".lock"
    with locks.held(lock), pytest.raises(locks.Held), locks.held(lock, patience=0.05):
        pytest.fail("it was held twice")


@posix
def test_looks_do_not_disturb_each_other(tmp_path):
    lock = tmp_path / ".lock"
    lock.touch()
    look = os.open(lock, os.O_RDONLY)
    assert locks._take(look, shared=True)
    assert not locks.is_held(lock)
    os.close(look)


@posix
def test_a_look_never_waits_and_never_fails(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "folder", "loop", "nothing", "nothing/in/it", "pipe/in/it"):
        assert not locks.is_held(tmp_path / name)
    for name in ("folder", "nothing/in/it"):
        with pytest.raises(OSError, match=name.partition("/")[0]), locks.held(tmp_path / name):
            pytest.fail("it was held")


@pytest.mark.slow
@posix
@pytest.mark.parametrize("number", [0, *NO_FLOCK], ids=lambda number: name_of(number) if number else "flock")
def test_a_forked_process_does_not_hold_its_parent_s_locks(tmp_path, number, monkeypatch):
    if number:
        without(monkeypatch, number, "flock")
    lock = tmp_path / ".lock"
    wait, go = os.pipe()
    with locks.held(lock):
        child = os.fork()
        if not child:
            os.read(wait, 1)
            os._exit(locks.is_mine(lock) + 2 * locks.is_held(lock))
        assert locks.is_mine(lock)
    with process(HOLDER, lock, *([number] if number else [])) as other:  # free, although the forked process is alive
        assert said(other) == "held"
        os.write(go, b".")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    for handle in (wait, go):
        os.close(handle)


# --- file systems without flock ---------------------------------------------------------------------------------------


@pytest.mark.slow
@posix
@pytest.mark.parametrize("number", NO_FLOCK, ids=name_of)
def test_without_flock_record_locks_do_the_same(tmp_path, number, monkeypatch):
    without(monkeypatch, number, "flock")
    lock = tmp_path / ".lock"
    lock.touch()
    assert not locks.is_held(lock)
    with process(HOLDER, lock, number) as child:
        assert said(child) == "held"  # it has also checked the lock itself, which must not release it
        assert locks.is_held(lock)
        with pytest.raises(locks.Held), locks.held(lock):
            pytest.fail("it was held twice")
        tell(child)
        assert said(child) == "free"
        assert not locks.is_held(lock)
    with process(HOLDER, lock, number) as child:
        assert said(child) == "held"
        child.kill()
        child.wait()
        with locks.held(lock):
            pass


@posix
@pytest.mark.parametrize("number", [*NO_FLOCK, errno.EIO], ids=name_of)
def test_without_any_locks_nothing_can_be_held(tmp_path, number, monkeypatch):
    without(monkeypatch, number, "flock", "lockf")
    lock = tmp_path / ".lock"
    with pytest.raises(OSError) as refused, locks.held(lock):  # noqa: PT011, the errno is checked
        pytest.fail("it was held")
    assert (refused.value.errno, refused.value.filename) == (number, str(lock))
    assert not locks.is_held(lock)
    assert not locks.is_mine(lock)


@posix
def test_a_record_lock_on_another_user_s_file_is_a_sentence(tmp_path, monkeypatch):
    without(monkeypatch, errno.ENOSYS, "flock")
    lock = tmp_path / ".lock"
    lock.touch()
    monkeypatch.setattr(locks, "_open", lambda path: os.open(path, os.O_RDONLY))  # as for a user who may only read it
    with pytest.raises(OSError, match="not permitted") as refused, locks.held(lock):
        pytest.fail("it was held")
    assert explain(refused.value).startswith(f"You don't have permission to use {lock}.")
    assert not locks.is_held(lock)


@posix
@pytest.mark.parametrize("number", NO_FLOCK, ids=name_of)
def test_without_any_locks_nothing_trains_and_everything_is_listed(home, tiny_text, number, monkeypatch, capsys):
    (home / "play.txt").write_text(tiny_text, encoding="utf-8")
    without(monkeypatch, number, "flock", "lockf")
    assert main(["train", str(home / "play.txt"), "--name", "one", "--max-iters", "5", "--n-layer", "1"]) == 2
    err = capsys.readouterr().err
    assert err == (
        f"nanogpt: {home} is on a disk that can't lock files, so training doesn't work there. "
        "Set NANOGPT_HOME to a folder of your own on a local disk.\n"
    )
    assert queue.waiting() == queue.running() == []
    assert main(["runs"]) == 0
    out, err = capsys.readouterr()
    assert (out[:13], err) == ("one          ", "")
    assert Run("one").status().state == "failed"


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> Path:
    """Build a library that replaces flock by one that fails with the errno in FLOCK_ERRNO."""
    if sys.platform != "linux" or not shutil.which("gcc"):
        pytest.skip("needs gcc on Linux")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "noflock.c").write_text(SHIM, encoding="utf-8")
    command = ["gcc", "-shared", "-fPIC", "-o", folder / "noflock.so", folder / "noflock.c"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "noflock.so"


@pytest.mark.slow
def test_two_runs_take_turns_without_flock(home, tiny_text, shim):
    (home / "play.txt").write_text(tiny_text, encoding="utf-8")
    environment = {**os.environ, "LD_PRELOAD": str(shim), "FLOCK_ERRNO": str(errno.ENOLCK)}
    tiny = ["--n-layer=1", "--n-head=2", "--n-embd=16", "--block-size=16", "--batch-size=4", "--max-iters=20"]
    command = lambda name: [sys.executable, "-m", "nanogpt", "train", str(home / "play.txt"), "--name", name, *tiny]
    start = lambda name: subprocess.Popen(
        command(name), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    both = [start(name) for name in ("one", "two")]
    try:
        for child in both:
            out, _ = child.communicate(timeout=300)
            assert child.returncode == 0, out
    finally:
        for child in both:
            child.kill()
    files = sorted(path.name for path in queue.folder().iterdir())
    assert files == ["cpu.lock"]
    listing = [sys.executable, "-m", "nanogpt", "runs"]
    listed = subprocess.run(listing, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (listed.stdout.count(" Finished "), listed.stderr) == (2, "")
    events = [Run(name).history().events for name in ("one", "two")]
    assert [[event["event"] for event in one] for one in events] == [["started", "finished"]] * 2
    first, second = sorted([one[0]["time"], one[1]["time"]] for one in events)
    assert first[1] <= second[0]  # one after the other


# --- other users ------------------------------------------------------------------------------------------------------

# As a user who owns nothing here: check the run's lock, try to hold it, list the runs, and take a turn.
STRANGER = """
import os
from nanogpt.cli.main import main
from nanogpt.errors import explain
from nanogpt import locks
from nanogpt.runs import Run, queue
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
lock = Run("one").folder / ".lock"
print(locks.is_held(lock))
try:
    with locks.held(lock):
        print("held")
except locks.Held:
    print("not held")
except OSError as error:
    print(explain(error))
main(["runs"])
try:
    with queue.turn("theirs", "cpu"):
        print(queue.running())
except OSError as error:
    print(explain(error))
"""


def stranger(home: Path) -> list[str]:
    for folder in [home, *home.parents]:  # pytest makes its folders private to their owner
        if folder.is_relative_to(tempfile.gettempdir()) and folder.stat().st_mode & 0o5 != 0o5:
            folder.chmod(0o755)
    command = [sys.executable, "-c", STRANGER]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.fixture
def runs(home) -> list[Run]:
    settings = dict(train={}, corpus=dict(id="0" * 16, name="a text", characters=5000))
    made = [Run.create(name, settings, {}) for name in ("one", "two")]
    for run in made:
        run.event("started", step=0)
    return made


@pytest.mark.slow
@posix
def test_another_user_s_lock_can_be_looked_at_and_held(home, runs):
    """Read permission on a lock is enough, and locks are created readable, like all files of a run."""
    before = os.umask(0o077)
    try:
        with locks.held(runs[0].folder / ".lock"):
            said = stranger(home)
    finally:
        os.umask(before)
    assert said[:2] == ["True", "not held"]
    assert sorted(line.split()[:2] for line in said[2:4]) == [["one", "Training"], ["two", "Interrupted"]]
    said = stranger(home)
    assert said[:2] == ["False", "held"]
    assert sorted(line.split()[:2] for line in said[2:4]) == [["one", "Interrupted"], ["two", "Interrupted"]]


@pytest.mark.slow
@posix
def test_a_user_who_may_add_runs_may_queue_them(home, runs):
    """Locks also work if the lock file belongs to another user."""
    (home / "checkpoints").chmod(0o777)
    with queue.turn("ours", "cpu"):
        pass
    assert stranger(home)[-1] == "['theirs']"
    assert [path.name for path in queue.folder().iterdir()] == ["cpu.lock"]
    if os.getuid() == 0:
        queue.folder().chmod(0o755)
        assert re.fullmatch("You don't have permission to use .* Set NANOGPT_HOME to .*", stranger(home)[-1])


@pytest.mark.slow
@posix
def test_a_lock_that_cannot_be_read_hides_no_run(home, runs):
    lock = runs[0].folder / ".lock"
    lock.touch()
    lock.chmod(0)
    said = stranger(home)
    assert said[0] == "False"
    assert said[1].startswith(f"You don't have permission to use {lock}. Set NANOGPT_HOME to a folder of your own")
    assert sorted(line.split()[:2] for line in said[2:4]) == [["one", "Interrupted"], ["two", "Interrupted"]]
