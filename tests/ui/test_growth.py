"""What a look at the page costs as runs, waiting runs, rows and visitors grow: in files opened and locks tried."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import SMALL, ended_run
from gradio.context import LocalContext

from nanogpt import corpus, disk
from nanogpt.cli import runs as command
from nanogpt.launch.visitors import visitor_of
from nanogpt.runs import Run, history, queue, rows
from nanogpt.ui import api, runs_tab, sample_tab, watching
from nanogpt.ui.web import visit

counted: dict[int, list[tuple[str, bool]]] = {}  # by thread: paths opened or listed, and whether by `os.open`


def watch(event: str, arguments: tuple, counted=counted, thread=threading.get_ident) -> None:
    """Count a file or a folder. At the exit, globals are gone, so what this needs is among its defaults."""
    if counted and event in ("open", "os.listdir", "os.scandir"):  # a lock is tried by opening its file
        found, this = counted.get(thread(), []), (str(arguments[0]), event == "open" and arguments[1] is None)
        if not (this[1] and found[-1:] == [(this[0], False)]):  # with an opener, `open` is followed by that of `os`
            found.append(this)


sys.addaudithook(watch)


def used_by(look: Callable[[], object]) -> list[Path]:
    """Return the files that a look opens and the folders that it lists, among those of runs and of the queue."""
    counted[threading.get_ident()] = []
    try:
        look()
    finally:
        found = counted.pop(threading.get_ident())
    return [Path(name) for name, _ in found if "checkpoints" in Path(name).parts]


def cost(look: Callable[[], object]) -> list[Path]:
    """Return what is `used_by` a look that isn't the first."""
    look()
    return used_by(look)


def in_queue(paths: list[Path]) -> int:
    return sum(".queue" in path.parts for path in paths)


def copies(run: Run, names: list[str], owner: str | None = None) -> None:
    """Add runs like this one."""
    for name in names:
        folder = run.folder.parent / name
        shutil.copytree(run.folder, folder)
        settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        (folder / "run.json").write_text(json.dumps({**settings, "name": name, "owner": owner}), encoding="utf-8")


@pytest.fixture
def run(home: Path, tiny_text: str) -> Run:
    return ended_run(corpus.add(tiny_text, "A play"), "one", **SMALL)


@contextmanager
def training(run: Run) -> Iterator[None]:
    with queue.turn(run.name, "cpu"), run.held():
        run.event("started", step=0, device="CPU")
        yield


def test_a_tick_costs_the_same_however_many_runs_there_are_and_little_per_run_that_waits(run):
    with training(run):
        tick = lambda: watching.ticked("one", None, None)
        copies(run, ["wait-0", "wait-1"])
        for name in ("wait-0", "wait-1"):
            queue.draw(name)
        few = cost(tick)
        copies(run, [f"other-{i}" for i in range(30)] + [f"wait-{i}" for i in range(2, 20)])
        assert len(cost(tick)) == len(few)
        for i in range(2, 20):
            queue.draw(f"wait-{i}")
        many = cost(tick)
        assert len(many) - len(few) == in_queue(many) - in_queue(few) <= 3 * 18  # its two locks, and one twice
        assert len(few) < 40
        # the last one in the queue is shown at the same cost
        assert len(cost(lambda: watching.ticked("wait-19", None, None))) <= len(many) + 2


def test_a_tick_reads_only_the_row_that_was_added_to_a_long_history(run, monkeypatch):
    parsed, parse = [], rows._rows
    with training(run):
        line = '{"step":1,"seconds":1.0,"tokens":64,"train_loss":3.0}\n'
        with (run.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(line * 20_000)
        tick = lambda: watching.ticked("one", None, None)
        before = cost(tick)
        assert not any(path.suffix == ".jsonl" for path in before)
        monkeypatch.setattr(rows, "_rows", lambda lines: parsed.extend(lines) or parse(lines))
        run.log(step=2, seconds=2.0, tokens=128, train_loss=2.0)
        assert tick()["tiles"]
        assert len(parsed) == 1


def test_no_more_rows_are_kept_in_memory_than_those_of_so_many_bytes(run, monkeypatch):
    monkeypatch.setattr(history, "MOST_READ", 100_000)
    with (run.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step":1,"seconds":1.0,"tokens":64,"train_loss":3.0}\n' * 800)
    copies(run, [f"other-{i}" for i in range(10)])
    kept = lambda: sum(one.bytes_read for one in history._histories.values())
    assert len(runs_tab.rows()["rows"]) == 11
    assert 50_000 < kept() <= 100_000
    monkeypatch.setattr(history, "MOST_READ", 1000)
    run.log(step=2, seconds=1.0, tokens=128)
    assert len(run.history().rows) > 800
    assert list(history._histories) == [run.folder]  # the newest one, however long it is
    assert not any(path.suffix == ".jsonl" for path in cost(run.history))
    monkeypatch.setattr(history, "MOST_READ", 100_000_000)
    monkeypatch.setattr(history, "MOST", 3)
    for i in range(10):
        Run(f"other-{i}").history()
    assert len(history._histories) == 3


def test_a_look_at_a_prompt_reads_the_alphabet_only_once(run):
    look = lambda: sample_tab.note("one", "ÿ")
    assert look().startswith("Not in this model's alphabet")
    assert not any(path.name == "tokenizer.json" for path in used_by(look))
    path = run.folder / "tokenizer.json"
    disk.write_whole(path, path.read_bytes().replace(b'"z":', '"ÿ":'.encode()))
    assert look() == ""


LISTS = {
    "the run to show first": watching.newest,
    "the page": watching.view,
    "the table": runs_tab.rows,
    "the models to sample from": visit.trained,
    "those of the tab": lambda: sample_tab.choices(None),
    "the API": api.list_runs,
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_runs_looks_once_at_the_queue_and_reads_none_that_stays_as_it_is(run, name):
    few = cost(LISTS[name])
    copies(run, [f"other-{i}" for i in range(20)])
    with ExitStack() as turn:
        turn.enter_context(queue.turn("busy", "cuda"))  # no run's: then only `running` tells
        queue.draw("other-0")
        many = cost(LISTS[name])
    assert in_queue(many) <= in_queue(few) + 10
    elsewhere = len(many) - in_queue(many) - len(few) + in_queue(few)
    # of each run its lock, its folder and run.json are looked for; the API also answers from run.json
    assert elsewhere <= (4 if name == "the API" else 3) * 20
    files = [path.relative_to(run.folder.parent) for path in many if path.suffix in (".jsonl", ".json", ".safetensors")]
    assert len({path.parts[0] for path in files}) <= (21 if name == "the API" else 1)  # the one that the page shows


def test_the_command_reads_each_file_of_a_run_at_most_twice(run, capsys):
    list_runs = lambda: command.runs_command(argparse.Namespace(json=False))
    few = cost(list_runs)
    copies(run, [f"other-{i}" for i in range(20)])
    queue.draw("other-0")
    history._histories.clear()
    found = used_by(list_runs)
    assert in_queue(found) <= in_queue(few) + 6
    for file, most in (("run.json", 2), ("metrics.jsonl", 1), ("samples.jsonl", 1), (".lock", 1)):
        assert sum(path.name == file for path in found) <= most * 21
    assert not any(path.suffix == ".safetensors" for path in found)
    assert capsys.readouterr().out.count(" Finished ") == 2 + 20  # all but the one that waits


def test_what_others_have_costs_a_visitor_nothing(run, monkeypatch):
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    monkeypatch.setenv("NANOGPT_MAX_WAITING", "100")
    anna, otto = (visitor_of(name * 8) for name in ("anna", "otto"))
    copies(run, ["hers"], anna.id)
    request = SimpleNamespace(headers=dict(cookie=f"nanogpt-visitor={'anna' * 8}"), query_params={})
    token = LocalContext.request.set(request)
    looks = [*LISTS.values(), lambda: watching.ticked("hers", None, None), lambda: anna.may_train()]
    try:
        few = [cost(look) for look in looks]
        copies(run, [f"his-{i}" for i in range(20)], otto.id)
        many = [cost(look) for look in looks]
    finally:
        LocalContext.request.reset(token)
    for before, after in zip(few, many):
        opened = [path for path in after if path.is_file()]
        assert not any(path.parent.name.startswith("his") for path in opened)
        assert len(opened) == len([path for path in before if path.is_file()])
