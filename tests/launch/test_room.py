"""Disk space on a public server, shared by all visitors."""

from __future__ import annotations

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import ended_run

from nanogpt import corpus
from nanogpt.config import NanoGPTError
from nanogpt.formats import read_config
from nanogpt.launch import room
from nanogpt.launch.visitors import Visitor
from nanogpt.model import count_parameters
from nanogpt.runs import archive, queue

FULL = "The server's disk is almost full"


@pytest.fixture(autouse=True)
def server(home, monkeypatch):
    """Set up a server with 100 kB for all visitors together, and yield a clock that the test controls."""
    clock = [1000.0]
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    monkeypatch.setenv("NANOGPT_SERVER_DISK", "100000")
    monkeypatch.setattr(room.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(room, "stored", {})
    room.size.cache_clear()
    yield clock
    room.size.cache_clear()


def visitor(name: str, address: str) -> Visitor:
    return Visitor(name * 32, address)


def text(number: int) -> str:
    return f"{number} is a line\n" * 150  # about 2 kB, and the same again in tokens


def test_an_address_with_many_cookies_does_not_fill_the_disk(server):
    def fill():
        for number in range(100):
            visitor(f"{number % 16:x}", "10.0.0.1").add_text(text(number))
            server[0] += 5  # long enough for the disk usage to be measured again

    with pytest.raises(NanoGPTError, match=FULL):
        fill()
    stored = sum(corpus.size_on_disk(one) for one in corpus.listed())
    assert 10_000 < stored < 100_000 / 4
    assert room.stored_from("10.0.0.1") == pytest.approx(stored, rel=0.01)
    visitor("b", "10.0.0.2").add_text(text(1000))  # another visitor still has room


def test_an_address_with_many_cookies_does_not_fill_the_disk_with_runs(server, tiny_text, monkeypatch):
    monkeypatch.setenv("NANOGPT_SERVER_DISK", "10000000")
    started = []

    def fill():
        for number in range(100):
            one = visitor(f"{number % 16:x}", "10.0.0.1")
            run = one.new_run(f"run-{number}", one.add_text(tiny_text), "quick", n_layer=1, n_embd=32, n_head=2)
            queue.drop(run.name)
            started.append(count_parameters(read_config(run.folder)))
            server[0] += 5

    with pytest.raises(NanoGPTError, match=FULL):
        fill()
    when_saved = 20 * sum(started)
    assert 1_000_000 < when_saved < 10_000_000 / 4
    assert room.stored_from("10.0.0.1") > when_saved
    me = visitor("b", "10.0.0.2")
    assert me.new_run("mine", me.add_text(tiny_text), "quick", n_layer=1, n_embd=32, n_head=2)


def test_an_archive_is_measured_before_it_is_unpacked(tiny_text, tmp_path, monkeypatch):
    monkeypatch.setenv("NANOGPT_SERVER_DISK", "6000000")
    me = visitor("a", "10.0.0.1")
    run = ended_run(me.add_text(tiny_text), "one", n_layer=1, n_embd=16, n_head=2, max_iters=50)
    archive.pack(run, tmp_path / "small.zip")
    run.sample(50, secrets.token_hex(1_000_000))
    archive.pack(run, tmp_path / "large.zip")
    run.delete()
    assert me.unpack(tmp_path / "small.zip").exists()
    monkeypatch.setattr(archive, "adopt", lambda *_: pytest.fail("it is unpacked"))
    with pytest.raises(NanoGPTError, match=FULL):
        me.unpack(tmp_path / "large.zip")


def test_what_is_about_to_be_stored_counts_against_a_visitor_s_space(monkeypatch):
    monkeypatch.setenv("NANOGPT_SERVER_DISK", "1000000000")
    me, other = visitor("a", "10.0.0.1"), visitor("b", "10.0.0.1")
    me.add_text(text(1))
    monkeypatch.setenv("NANOGPT_MAX_DISK", str(me.on_disk() + 5000))
    me.has_room(new=5000)
    with pytest.raises(NanoGPTError, match=r"and this may need 5\.0 kB more; this server allows"):
        me.has_room(new=5001)
    with me.storing() as check_room:
        check_room(3000)
        me.has_room(new=2000)
        with pytest.raises(NanoGPTError, match="this server allows"):
            me.has_room(new=2001)
        other.has_room(new=5001)
    me.has_room(new=5000)


def test_of_imports_at_the_same_moment_only_those_are_taken_that_fit(monkeypatch):
    monkeypatch.setenv("NANOGPT_SERVER_DISK", "1000000000")
    monkeypatch.setenv("NANOGPT_MAX_DISK", "2500000")
    me, all_there = visitor("a", "10.0.0.1"), threading.Barrier(4)

    def store(_) -> bool:
        with me.storing() as check_room:
            try:
                check_room(1_000_000)
                return True
            except NanoGPTError:
                return False
            finally:
                all_there.wait(10)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(store, range(4))) == [False, False, True, True]
    assert room.coming == []


def test_what_is_being_stored_counts_as_if_it_were_there(monkeypatch):
    monkeypatch.setenv("NANOGPT_SERVER_DISK", "10000000")
    same, other = visitor("b", "10.0.0.1"), visitor("b", "10.0.0.2")
    with visitor("a", "10.0.0.1").storing() as check_room:
        check_room(2_000_000)
        other.has_room(new=1_900_000)
        for one, new in ((other, 2_100_000), (same, 100_000)):
            with pytest.raises(NanoGPTError, match=FULL):
                one.has_room(new=new)
    same.has_room(new=2_100_000)


def test_what_is_deleted_is_given_back(server, tiny_text, monkeypatch):
    monkeypatch.setenv("NANOGPT_SERVER_DISK", "10000000")
    me = visitor("a", "10.0.0.1")
    for number in range(20):
        added = me.add_text(text(number))
        assert me.add_text(text(number)).id == added.id  # which counts once
        assert room.stored_from("10.0.0.1") == corpus.size_on_disk(added)
        me.delete_text(added.id)
    run = me.new_run("one", me.add_text(tiny_text), "quick", n_layer=1, n_embd=32, n_head=2)
    queue.drop(run.name)
    before = room.stored_from("10.0.0.1")
    me.rename(run, "two")
    assert room.stored_from("10.0.0.1") == before  # under the other name, too
    me.runs()[0].delete()
    assert room.stored_from("10.0.0.1") == sum(corpus.size_on_disk(one) for one in me.texts())
    assert room.free(10_000_000) <= 10_000_000 - room.stored_from("10.0.0.1")


def test_what_was_stored_since_the_last_look_counts():
    me = visitor("a", "10.0.0.1")
    before = room.free(100_000)
    added = me.add_text(text(1))
    assert before - room.free(100_000) == corpus.size_on_disk(added)  # same clock time, so the disk isn't rescanned


def test_those_with_little_can_go_on_when_little_is_free(home):
    (home / "corpora").mkdir()
    (home / "corpora" / "others").write_bytes(b"x" * 60_000)
    room.check_share(used=2000, address="10.0.0.1", new=7000)
    with pytest.raises(NanoGPTError, match=FULL):
        room.check_share(used=4000, address="10.0.0.1", new=7000)
    with pytest.raises(NanoGPTError, match=FULL):
        room.check_share(used=0, address="10.0.0.1", new=11_000)


def test_a_full_disk_is_full_whatever_the_limit_says(monkeypatch):
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: type("Usage", (), dict(free=10_000)))
    with pytest.raises(NanoGPTError, match=FULL):
        room.check_share(used=0, address="", new=3000)


def test_on_one_s_own_machine_there_is_no_share(monkeypatch):
    monkeypatch.setenv("NANOGPT_PUBLIC", "")
    monkeypatch.delenv("NANOGPT_SERVER_DISK")
    room.check_share(used=10**15, address="", new=10**15)
