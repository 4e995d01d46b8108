"""A public server: visitors can't see, guess or change each other's work, and each limit comes with a clear message."""

from __future__ import annotations

import os
import re
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from conftest import Server
from gradio.context import LocalContext

from nanogpt import corpus, disk, limits, paths
from nanogpt.config import NanoGPTError
from nanogpt.formats import read_config, weights_bytes
from nanogpt.launch import expiry, place, prepare, room, rules, visitors
from nanogpt.launch.visitors import Visitor, visitor_of
from nanogpt.model import GPT
from nanogpt.runs import Run, all_runs, archive, queue
from nanogpt.ui import (
    choosing,
    chosen_text,
    compare,
    corpus_tab,
    form,
    gif_panel,
    link,
    pull_panel,
    run_panel,
    runs_tab,
    sample_tab,
    share_tab,
    text_panel,
    train_tab,
    view,
    watching,
)
from nanogpt.ui.web import visit
from nanogpt.ui.words import page_line

TINY = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, eval_interval=20)
WORD = {name: name * 8 for name in ("anna", "otto")}  # the contents of their cookies


@pytest.fixture
def public(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    return home


@pytest.fixture
def anna(public) -> Visitor:
    return visitor_of(WORD["anna"])


@pytest.fixture
def otto(public) -> Visitor:
    return visitor_of(WORD["otto"])


def given(visitor: Visitor, text: str, name: str = "A play") -> corpus.Corpus:
    return visitor.add_text(text, name)


def written(visitor: Visitor, text: corpus.Corpus, name: str = "one") -> Run:
    """Return a run that you can sample from, without training it."""
    run = visitor.new_run(name, text, "quick", **TINY, max_iters=50)
    queue.drop(run.name)
    (run.folder / "model.safetensors").write_bytes(weights_bytes(GPT(read_config(run.folder))))
    run.event("started", step=0, device="CPU")
    run.log(step=0, seconds=1.0, tokens=0, train_loss=4.0, val_loss=4.0)
    run.sample(0, "a sample")
    run.event("finished", step=50, val_loss=3.0, message="Finished.")
    return run


# --- identifying visitors ------------------------------------------------------------------------------------------


def test_on_one_s_own_machine_everything_is_one_s_own(home, tiny_text):
    me = visitor_of(None)
    assert me == visitor_of(WORD["anna"]) == Visitor(None)
    text = given(me, tiny_text)
    assert text.id == text.sha256[:16]
    run = me.new_run("one", text, "quick", **TINY)
    assert (run.name, run.settings()["owner"], me.runs()[0].name) == ("one", None, "one")
    assert me.own_run("one").name == "one"
    assert all(limits.limit(name) is None for name in limits.LIMITS if name != "NANOGPT_MAX_BYTES")


def test_a_visitor_is_a_hash_of_a_long_word(public):
    one = visitor_of(WORD["anna"])
    assert len(one.id) == 32
    assert WORD["anna"] not in one.id
    assert one != visitor_of(WORD["otto"])
    for short in (None, "", "x" * 21, "x" * 65, "x" * 30 + ";", "x" * 30 + "é"):
        assert visitor_of(short).id == ""


def test_nobody_without_a_cookie_owns_anything(anna, tiny_text):
    nobody = visitor_of(None)
    text = given(anna, tiny_text)
    unowned = prepare.new_run("unowned", text, "quick", **TINY)
    assert unowned.settings()["owner"] is None
    assert nobody.runs() == anna.runs() == []
    assert nobody.texts() == []
    for action in (lambda: given(nobody, tiny_text), lambda: nobody.new_run("x", text, "quick"), nobody.may_train):
        with pytest.raises(NanoGPTError, match="by a cookie"):
            action()


# --- runs ----------------------------------------------------------------------------------------------------------


def test_a_run_is_its_visitor_s_alone(anna, otto, tiny_text):
    run = written(anna, given(anna, tiny_text))
    assert re.fullmatch(r"one-[0-9a-f]{8}", run.name)
    assert [r.name for r in anna.runs()] == [run.name]
    assert otto.runs() == []
    for action in (otto.run, otto.own_run, lambda name: otto.to_continue(name, "")):
        with pytest.raises(NanoGPTError) as foreign:
            action(run.name)
        with pytest.raises(NanoGPTError) as missing:
            action("one-00000000")
        assert str(foreign.value) == str(missing.value).replace("one-00000000", run.name)
    assert written(otto, given(otto, tiny_text)).name != run.name
    renamed = anna.rename(anna.own_run(run.name), f"two{run.name[3:]}")
    assert re.fullmatch(r"two-[0-9a-f]{8}", renamed.name)


def test_a_public_run_is_for_everybody_to_write_with(anna, otto, tiny_text, monkeypatch):
    run = written(anna, given(anna, tiny_text))
    run.change(public=True)
    assert [r.name for r in otto.runs()] == [run.name]
    assert otto.run(run.name).name == run.name
    with pytest.raises(NanoGPTError, match="Start a run of your own"):
        otto.own_run(run.name)
    run.change(public=False)
    assert otto.runs() == []
    monkeypatch.setenv("NANOGPT_PUBLIC_RUNS", f"other, {run.name}")
    assert [r.name for r in otto.runs()] == [run.name]


def test_the_save_of_a_public_run_is_its_owner_s_alone(anna, tiny_text):
    run = written(anna, given(anna, tiny_text))
    (run.folder / "last.safetensors").write_bytes(b"a save")
    run.change(public=True)
    for who, has_save in [("otto", False), (None, False), ("anna", True)]:
        with asking(who), zipfile.ZipFile(run_panel.save(run.name, "archive", True)) as saved:
            assert "model.safetensors" in saved.namelist()
            assert ("last.safetensors" in saved.namelist()) is has_save
    with asking("anna"), zipfile.ZipFile(run_panel.save(run.name, "archive", False)) as saved:
        assert "last.safetensors" not in saved.namelist()  # not even for the owner unless she asks for it


def test_the_text_of_a_public_run_is_quoted_to_its_owner_alone(anna, tiny_text):
    run = written(anna, given(anna, tiny_text))
    run.change(public=True)
    with asking("anna"):
        assert tiny_text[:40] in share_tab.offer(run.name, "", "", True)[1]
    with asking("otto"):
        assert tiny_text[:40] not in share_tab.offer(run.name, "", "", False)[1]
        with pytest.raises(NanoGPTError, match="Only the owner of the run can read its text"):
            share_tab.offer(run.name, "", "", True)
        with pytest.raises(NanoGPTError, match="Only the owner of the run can read its text"):
            next(share_tab.push(run.name, "", True, "", True, None))


def test_an_imported_run_is_its_importer_s_and_reaches_no_text_of_another(anna, otto, tiny_text, tmp_path, monkeypatch):
    run = written(anna, given(anna, tiny_text))
    stolen = run.settings()["corpus"]["id"]
    run.change(public=True, corpus={**run.settings()["corpus"], "sha256": None})
    archive.pack(run, tmp_path / "run.zip")
    monkeypatch.setattr(room, "stored", {})
    taken = replace(otto, address="10.0.0.1").unpack(tmp_path / "run.zip")
    assert room.stored_from("10.0.0.1") == taken.size()  # counts like a text
    assert taken.settings()["owner"] == otto.id
    assert taken.settings()["public"] is False
    assert taken.settings()["corpus"]["id"] != stolen
    assert [r.name for r in anna.runs()] == [run.name]
    taken.change(corpus={**taken.settings()["corpus"], "id": stolen})  # not even with a forged text id
    with pytest.raises(NanoGPTError, match="isn't stored here"):
        otto.to_continue(taken.name, "")


def test_a_run_loaded_from_the_hub_counts_like_a_text(otto, monkeypatch, tiny_text):
    run = written(otto, given(otto, tiny_text))
    monkeypatch.setattr(pull_panel.from_hub, "pull", lambda *asked: run)
    monkeypatch.setattr(room, "stored", {})
    with asking("otto"):
        assert [name for _, name in pull_panel.pull("someone/play", None)][-1] == run.name
    assert [one.bytes for one in room.stored.values()] == [run.size()]


def test_a_run_from_the_hub_needs_room_like_an_archive(otto, monkeypatch):
    monkeypatch.setenv("NANOGPT_MAX_DISK", "5000000")
    monkeypatch.setattr(pull_panel.from_hub, "pull", lambda *asked: asked[-1](6_000_000))
    with asking("otto"):
        *_, (line, name) = pull_panel.pull("someone/play", None)
    assert (line["state"], name) == ("failed", None)
    assert "this may need 6.0 MB more; this server allows 5.0 MB" in line["text"]
    assert room.coming == []


def test_a_run_goes_home_with_its_text(anna, tiny_text, tmp_path, monkeypatch):
    run = written(anna, given(anna, tiny_text))
    archive.pack(run, tmp_path / "run.zip", to_continue=True)
    monkeypatch.delenv("NANOGPT_PUBLIC")
    me = visitor_of(None)
    text = corpus.add(tiny_text)
    taken = me.unpack(tmp_path / "run.zip")
    assert taken.settings()["corpus"]["id"] == text.id
    assert taken.settings()["owner"] is None


# --- texts ---------------------------------------------------------------------------------------------------------


def test_the_same_text_given_twice_stays_two(anna, otto, tiny_text):
    hers = given(anna, tiny_text, "Secret diary")
    his = given(otto, tiny_text, "A play")
    assert hers.id != his.id != hers.sha256[:16]
    assert (anna.text(hers.id).name, otto.text(his.id).name) == ("Secret diary", "A play")
    assert given(anna, tiny_text, "Secret diary").id == hers.id
    for action in (otto.text, otto.own_text, otto.find_text):
        with pytest.raises(NanoGPTError, match=f"There is no text {hers.id}"):
            action(hers.id)
    corpus.delete(otto.own_text(his.id).id)
    assert anna.text(hers.id).text() == tiny_text
    assert [one.id for one in otto.texts()] == []


def test_a_built_in_text_is_everybody_s_and_nobody_s(anna, otto):
    for visitor in (anna, otto):
        text = visitor.find_text("python-reference")
        assert visitor.text(text.id) == text
        with pytest.raises(NanoGPTError, match="shared by all visitors, so it can't be changed"):
            visitor.own_text(text.id)


def test_a_text_of_the_machine_s_owner_is_not_a_visitor_s(anna, tiny_text):
    theirs = corpus.add(tiny_text, "Of the house")
    assert anna.texts() == []
    with pytest.raises(NanoGPTError, match="There is no text"):
        anna.text(theirs.id)
    corpus.delete(given(anna, tiny_text).id)
    assert corpus.load(theirs.id).name == "Of the house"


# --- limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("NANOGPT_TRAINING", "off", "Training is turned off on this server"),
        ("NANOGPT_MAX_PARAMETERS", "1000", r"would have [\d,]+ parameters; this server allows 1,000"),
        ("NANOGPT_MAX_SECONDS", "30", "This server allows 30 seconds of training at a time, not 1 minute"),
        ("NANOGPT_MAX_DISK", "10", r"take up [\d.]+ kB, and this may need 1\.0 MB more; this server allows 0\.0 kB"),
        ("NANOGPT_MAX_RUNS", "few", "NANOGPT_MAX_RUNS was 'few'; it must be a whole number of runs"),
    ],
)
def test_each_limit_is_a_sentence_before_a_run_is_made(
    anna, tiny_text, monkeypatch, known_speed, name, value, sentence
):
    text = given(anna, tiny_text)
    monkeypatch.setenv(name, value)
    settings = dict(budget=60, device="cpu") if name == "NANOGPT_MAX_SECONDS" else dict(TINY, max_iters=5)
    preset = "timed" if name == "NANOGPT_MAX_SECONDS" else "quick"
    with pytest.raises(NanoGPTError, match=sentence) as error:
        anna.new_run("one", text, preset, **settings)
    assert str(error.value).endswith(".")
    assert all_runs() == []


@pytest.mark.parametrize("name", limits.LIMITS)
def test_no_limit_is_zero(public, monkeypatch, name):
    """It could mean that nothing is allowed, or everything."""
    for zero in ("0", "00"):
        monkeypatch.setenv(name, zero)
        sentence = f"{name} was '{zero}'; it must be a whole number of [a-z]+, at least 1"
        with pytest.raises(NanoGPTError, match=sentence):
            limits.limit(name)
        with pytest.raises(NanoGPTError, match=sentence):
            limits.check_limits()
    monkeypatch.setenv(name, "1")
    assert limits.limit(name) == 1


def test_a_text_too_large_is_refused_by_its_size(anna, tiny_text, monkeypatch):
    monkeypatch.setenv("NANOGPT_MAX_BYTES", "2000")
    with pytest.raises(NanoGPTError, match="at most 0.0 MB"):
        given(anna, tiny_text)


def test_a_visitor_s_waiting_runs_are_counted_and_no_other_s(anna, otto, tiny_text, monkeypatch):
    monkeypatch.setenv("NANOGPT_MAX_RUNS", "1")
    hers = anna.new_run("one", given(anna, tiny_text), "quick", **TINY)
    queue.draw(hers.name)
    with pytest.raises(NanoGPTError, match="You already have 1 run training"):
        anna.may_train()
    otto.may_train()


def test_one_address_does_not_close_the_queue_to_others(public, tiny_text):
    started = 0
    for number in range(11):
        one = Visitor(f"{number:032x}", "10.0.0.1")
        text = given(one, tiny_text)
        for _ in range(2):
            with suppress(NanoGPTError):
                started += bool(one.new_run("", text, "quick", **TINY))
    assert started == 4  # a quarter of the 16 places that are still free
    with pytest.raises(NanoGPTError, match="Your network address has its share of the queue: 4 waiting"):
        Visitor("a" * 32, "10.0.0.1").may_train()
    other = Visitor("b" * 32, "10.0.0.2")
    run = other.new_run("", given(other, tiny_text), "quick", **TINY)
    assert len(queue.waiting()) == 5
    queue.drop(run.name)
    queue.drop(queue.waiting()[0])  # it has begun
    Visitor("a" * 32, "10.0.0.1").may_train()


def test_a_class_behind_one_address_has_a_queue_five_times_as_long(public, tiny_text, monkeypatch):
    monkeypatch.setenv("NANOGPT_MAX_WAITING", "50")
    monkeypatch.setenv("NANOGPT_MAX_RUNS", "1")
    for number in range(10):
        one = Visitor(f"{number:032x}", "10.0.0.1")
        assert one.new_run("", given(one, tiny_text), "quick", **TINY)


def test_a_class_with_an_address_each_fills_the_whole_queue(public, tiny_text, monkeypatch):
    monkeypatch.setenv("NANOGPT_MAX_WAITING", "10")
    monkeypatch.setenv("NANOGPT_MAX_RUNS", "1")
    for number in range(10):
        one = Visitor(f"{number:032x}", f"10.0.0.{number}")
        assert one.new_run("", given(one, tiny_text), "quick", **TINY)
    with pytest.raises(NanoGPTError, match="The queue is full: 10 runs are waiting"):
        Visitor("a" * 32, "10.0.0.99").may_train()


def test_nobody_may_train_where_training_is_turned_off(anna, monkeypatch):
    monkeypatch.setenv("NANOGPT_TRAINING", "off")
    for one in (anna, Visitor(None)):
        with pytest.raises(NanoGPTError, match="Training is turned off"):
            one.may_train()


def test_many_starts_at_once_are_counted(anna, tiny_text):
    text = given(anna, tiny_text)

    def start(number: int) -> bool:
        try:
            return bool(anna.new_run(f"run-{number}", text, "quick", **TINY))
        except NanoGPTError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(start, range(8))) == 2
    assert len(all_runs()) == 2


@pytest.mark.parametrize(("most", "most_waiting"), [("2", "9"), ("9", "2")])
def test_many_resumes_at_once_are_counted(anna, tiny_text, monkeypatch, most, most_waiting):
    monkeypatch.setenv("NANOGPT_MAX_RUNS", most)
    monkeypatch.setenv("NANOGPT_MAX_WAITING", most_waiting)
    monkeypatch.setattr(place, "start", lambda run: None)
    text, names = given(anna, tiny_text), []
    for number in range(5):
        run = written(anna, text, f"run-{number}")
        (run.folder / "last.safetensors").write_bytes(b"a checkpoint")
        run.event("stopped", step=0, message="Stopped.")
        names.append(run.name)

    def resume(name: str) -> bool:
        try:
            return bool(anna.go_on(name))
        except NanoGPTError:
            return False

    with ThreadPoolExecutor(5) as pool:
        assert sum(pool.map(resume, names)) == 2
    assert len(queue.waiting()) == 2


def test_a_run_that_is_not_resumed_does_not_count(anna, tiny_text):
    run = written(anna, given(anna, tiny_text))
    with pytest.raises(NanoGPTError, match="Enter how many more to train"):
        anna.go_on(run.name)
    assert queue.waiting() == []


def test_the_terms_name_what_holds(public, monkeypatch):
    said = rules.terms()
    for words in ("48 hours", "5 MB of text", "15 million parameters", "30 minutes of training at a time", "2 runs"):
        assert words in said
    assert "restarts" not in said
    monkeypatch.setenv("SPACE_ID", "user/space")
    assert "forgets everything when it restarts" in rules.terms()
    monkeypatch.setattr(limits, "on_zero_gpu", lambda: True)
    assert "counts against your daily quota" in rules.terms()
    monkeypatch.setenv("NANOGPT_TRAINING", "off")
    assert "Training is turned off" in rules.terms()
    assert "quota" not in rules.terms()


@pytest.mark.slow
def test_a_run_makes_room_for_others_and_goes_on_later(anna, tiny_text):
    from nanogpt import train

    run = anna.new_run("one", given(anna, tiny_text), "quick", **TINY, max_iters=1_000_000, device="cpu")
    train.train(run, seconds=1)
    status = run.status()
    assert status.state == "stopped"
    assert status.message == (
        f"Stopped at step {status.step:,} and saved: this server trains a run for at most 1 second at a time. "
        "Resume it to continue."
    )
    train.train(run, seconds=0.3)
    assert run.status().step > status.step


# --- expiry --------------------------------------------------------------------------------------------------------


def age(folder: Path, hours: float) -> None:
    then = time.time() - 3600 * hours
    for path in folder.iterdir():
        os.utime(path, (then, then))


def test_what_nobody_touched_for_long_goes(anna, otto, public, tiny_text, monkeypatch):
    monkeypatch.setenv("NANOGPT_EXPIRE_HOURS", "5")
    text = given(anna, tiny_text)
    runs = {name: written(anna, text, name) for name in ("old", "public", "busy")}
    fresh = written(otto, given(otto, tiny_text), "fresh")
    house = prepare.new_run("house", corpus.add(tiny_text), "quick", **TINY)
    runs["public"].change(public=True)
    queue.draw(runs["busy"].name)
    for run in (*runs.values(), house):
        age(run.folder, 6)
    for one in corpus.listed():
        age(one.folder, 6)
    age(fresh.folder, 4)
    assert expiry.expire() == [runs["old"].name]
    assert {run.name for run in all_runs()} == {runs["public"].name, runs["busy"].name, fresh.name, "house"}
    assert len(corpus.listed()) == 3  # each is either still in use or the server's own
    runs["public"].delete()
    queue.drop(runs["busy"].name)
    assert set(expiry.expire()) == {runs["busy"].name, text.id}


def test_a_run_that_is_sampled_from_stays(anna, otto, public, tiny_text, monkeypatch):
    monkeypatch.setenv("NANOGPT_EXPIRE_HOURS", "5")
    text = given(anna, tiny_text)
    sampled, opened, shared, unused = (written(anna, text, name) for name in ("one", "two", "three", "four"))
    shared.change(public=True)
    for run in (sampled, opened, shared, unused):
        age(run.folder, 6)
    with asking("anna"):
        list(sample_tab.write(sampled.name, "", length=2))
        view.opened(opened.name)
    with asking("otto"):
        list(sample_tab.write(shared.name, "", length=2))  # doesn't keep another's run
    assert time.time() - expiry.last_used(shared.folder) > 5 * 3600
    assert expiry.expire() == [unused.name]
    noted = disk.version(sampled.folder / "run.json")
    anna.uses(sampled)
    assert disk.version(sampled.folder / "run.json") == noted  # only now and then


def test_a_text_stays_for_hours_after_its_last_run_was_deleted(anna, public, tiny_text, monkeypatch):
    monkeypatch.setenv("NANOGPT_EXPIRE_HOURS", "5")
    text = given(anna, tiny_text)
    run = written(anna, text, "one")
    age(text.folder, 6)
    with asking("anna"):
        run_panel.delete(run.name)
    assert expiry.expire() == []
    age(text.folder, 6)
    assert expiry.expire() == [text.id]


def test_on_one_s_own_machine_nothing_goes(home, tiny_text):
    run = prepare.new_run("one", corpus.add(tiny_text), "quick", **TINY)
    age(run.folder, 10_000)
    assert expiry.expire() == []
    assert run.exists()


def test_a_space_s_own_storage_is_used_where_there_is_some(tmp_path, monkeypatch):
    monkeypatch.delenv("NANOGPT_HOME", raising=False)
    monkeypatch.setattr(paths, "DURABLE", tmp_path)
    assert paths.home() == paths.CHECKOUT
    assert paths.is_lasting()
    monkeypatch.setenv("SPACE_ID", "user/space")
    assert paths.home() == tmp_path
    assert paths.is_lasting()
    monkeypatch.setattr(paths, "DURABLE", tmp_path / "none")
    assert paths.home() == paths.CHECKOUT
    assert not paths.is_lasting()


# --- the page's handlers, with Otto's request and Anna's names --------------------------------------------------------


@contextmanager
def asking(name: str | None) -> Iterator[None]:
    """Simulate a handler call from a request with this visitor's cookie."""
    token = LocalContext.request.set(SimpleNamespace(headers=cookie(name), query_params={}))
    try:
        yield
    finally:
        LocalContext.request.reset(token)


HANDLERS = {
    "look": lambda run, text: watching.look(run),
    "figures": lambda run, text: watching.figures(run),
    "written": lambda run, text: watching.written(run),
    "names": lambda run, text: watching.names(),
    "newest": lambda run, text: watching.newest(run),
    "in_view": lambda run, text: watching.in_view(run, run),
    "view": lambda run, text: watching.shown(run),
    "ticked": lambda run, text: watching.ticked(run, None, None),
    "catch_up": lambda run, text: watching.catch_up(run, None, None),
    "stop": lambda run, text: train_tab.stop(run),
    "go_on": lambda run, text: train_tab.go_on(run, "1m"),
    "start": lambda run, text: train_tab.start(text, "", "quick", "classic", "1m", 5),
    "estimate": lambda run, text: form.estimate(text, "quick", "classic", "1m", 5),
    "link": lambda run, text: link.read(dict(run=run)),
    "link to it": lambda run, text: choosing.builtin_key(text),
    "table": lambda run, text: runs_tab.rows(),
    "compare": lambda run, text: compare.chosen([run, "one"]),
    "samples": lambda run, text: list(compare.samples([run, "one"], "The ", 1, 5)),
    "offered": lambda run, text: run_panel.offered(run),
    "renamed in the table": lambda run, text: runs_tab.renamed(run, "mine", None),
    "deleted in the table": lambda run, text: runs_tab.deleted(run, None),
    "facts": lambda run, text: run_panel.facts(run),
    "log": lambda run, text: run_panel.log(run),
    "save": lambda run, text: run_panel.save(run, "samples"),
    "archive": lambda run, text: run_panel.save(run, "archive", True),
    "gif": lambda run, text: gif_panel.take(run),
    "rename": lambda run, text: run_panel.rename(run, "mine"),
    "question": lambda run, text: run_panel.question(run),
    "delete": lambda run, text: run_panel.delete(run),
    "whose": lambda run, text: sample_tab.choices(run).choices,
    "write": lambda run, text: list(sample_tab.write(run, "The ", length=5)),
    "note": lambda run, text: sample_tab.note(run, "ß"),
    "texts": lambda run, text: text_panel.table(),
    "text": lambda run, text: text_panel.question(text),
    "rename text": lambda run, text: text_panel.rename(text, "Mine"),
    "delete text": lambda run, text: text_panel.delete(text),
    "stored": lambda run, text: choosing.choose_stored(text),
    "about": lambda run, text: corpus_tab.about(text),
    "first": lambda run, text: chosen_text.choose_first(text)["corpus_id"],
    "forget": lambda run, text: choosing.forget(text),
    "page": lambda run, text: page_line(),
}


@pytest.mark.parametrize("name", HANDLERS)
def test_a_handler_tells_another_visitor_nothing(anna, otto, tiny_text, name):
    run = written(anna, given(anna, tiny_text, "Annas diary"), "annas-run")
    text = run.settings()["corpus"]["id"]
    queue.draw(run.name)
    queue.drop(run.name)
    before = {path.name: path.read_bytes() for path in run.folder.iterdir() if path.name != ".lock"}
    for who in ("otto", None):
        with asking(who):
            try:
                said = str(HANDLERS[name](run.name, text))
            except NanoGPTError as error:
                said = str(error)
        assert "diary" not in said
        assert "a sample" not in said
        assert run.name not in said.replace(f"There is no run named {run.name}", "")
    assert {path.name: path.read_bytes() for path in run.folder.iterdir() if path.name != ".lock"} == before
    assert corpus.load(text).name == "Annas diary"


def test_the_line_above_the_tabs_names_no_other_visitor_s_run(anna, tiny_text):
    run = written(anna, given(anna, tiny_text), "annas-run")
    with queue.turn(run.name, "cpu"), run.held():
        with asking("anna"):
            assert run.name in page_line()["text"]
        with asking("otto"):
            assert page_line()["text"] == "Training another visitor's run."
            assert watching.newest() is None


def test_a_browser_without_cookies_is_told_at_once(public):
    with asking(None):
        assert visit.terms().value == visitors.NO_COOKIE
    with asking("anna"):
        assert visit.terms().value == rules.terms()
    assert rules.terms().startswith("Other visitors can't see your runs and texts, but the owner of this server can;")


def test_on_one_s_own_machine_a_handler_needs_no_request(home, tiny_text):
    run = written(visitor_of(None), corpus.add(tiny_text, "A play"))
    (run.folder / "last.safetensors").touch()  # without a checkpoint it couldn't be resumed
    assert watching.look(run.name)["can_continue"]
    assert runs_tab.rows()["rows"][0]["name"] == "one"


# --- over the running page: two visitors, and every response of the server --------------------------------------------

SECRETS = ("FERRYMAN", "Annas diary", "a sample of hers")  # Anna's data, which Otto must never receive


@pytest.fixture(scope="module")
def served(tmp_path_factory, tiny_text):
    """Start a public server on which Anna has a text and a run."""
    home = tmp_path_factory.mktemp("public")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOGPT_HOME", str(home))
        patch.setenv("NANOGPT_PUBLIC", "1")
        anna = visitor_of(WORD["anna"])
        run = written(anna, given(anna, tiny_text, "Annas diary"), "annas-run")
        run.sample(50, "a sample of hers")
        server = Server(home, "--public")
        yield server, run
        server.stop()


def cookie(name: str | None) -> dict[str, str]:
    return {"cookie": f"{visitors.COOKIE}={WORD[name]}"} if name else {}


def client_of(server: Server, name: str | None):
    from gradio_client import Client

    return Client(server.url, verbose=False, headers=cookie(name))


def refused(client, endpoint: str, *inputs, **named) -> str:
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as error:
        client.predict(*inputs, **named, api_name=endpoint)
    return str(error.value)


@pytest.mark.slow
def test_programs_with_other_cookies_are_other_visitors(served, tiny_text):
    server, run = served
    anna, otto, nobody = (client_of(server, name) for name in ("anna", "otto", None))
    try:
        assert [one["name"] for one in anna.predict(api_name="/list_runs")] == [run.name]
        assert anna.predict(name=run.name, api_name="/run_status")["sample"] == "a sample of hers"
        assert len(anna.predict(name=run.name, length=20, api_name="/sample")) == 20
        for other in (otto, nobody):
            assert other.predict(api_name="/list_runs") == []
            for endpoint in ("/run_status", "/stop_training", "/sample"):
                assert refused(other, endpoint, name=run.name).startswith(f"There is no run named {run.name}")
        text = run.settings()["corpus"]["id"]
        assert refused(otto, "/start_training", corpus_id=text).startswith(f"There is no text {text}")
        assert "by a cookie" in refused(nobody, "/add_corpus", text=tiny_text)
        his = otto.predict(text=tiny_text, name="Ottos play", api_name="/add_corpus")
        assert his["name"] == "Ottos play"
        assert his["id"] != text
    finally:
        for client in (anna, otto, nobody):
            client.close()


@pytest.mark.slow
def test_the_page_gives_a_cookie_that_no_script_reads(served):
    server, _ = served
    fresh = httpx.get(server.url).headers.get_list("set-cookie")
    [made] = [one for one in fresh if one.startswith(visitors.COOKIE)]
    assert "HttpOnly" in made
    assert "SameSite=Lax" in made
    word = re.match(r"[^=]+=([^;]+)", made)[1]
    assert visitors.WORD.fullmatch(word)
    again = httpx.get(server.url, headers={"cookie": f"{visitors.COOKIE}={word}"})
    assert again.headers.get_list("set-cookie") == []
    assert httpx.get(f"{server.url}/gradio_api/info").headers.get_list("set-cookie") == []
    assert word not in again.text


def events(server: Server, run: Run) -> list[tuple[int, list]]:
    """List every event of the page by number, with Anna's run or text filled in wherever an input takes a name."""
    config = httpx.get(f"{server.url}/config").json()
    parts = {one["id"]: one for one in config["components"]}
    text = run.settings()["corpus"]["id"]
    found = []
    for event in config["dependencies"]:
        if not event.get("backend_fn"):
            continue
        data = []
        for id in event["inputs"]:
            part, usual = parts[id], parts[id]["props"].get("value")
            where = str(part["props"].get("elem_id") or "")
            named = part["type"] in ("dropdown", "state", "browserstate", "textbox")
            is_text = "text" in where or "corpus" in where or part["props"].get("storage_key") == "nanogpt-text"
            data.append((text if is_text else run.name) if named and not usual else usual)
        found.append((event["id"], data))
    return found


def opening(server: Server) -> list[int]:
    """List the events of the page that a browser sends when it opens it."""
    events = httpx.get(f"{server.url}/config").json()["dependencies"]
    return [event["id"] for event in events if any(name == "load" for _, name in event["targets"])]


def answer(server: Server, client: httpx.Client, number: int, data: list, run: Run) -> str:
    """Return the server's complete response to an event, which names the run as the table of all runs does."""
    session = f"s{number}{time.monotonic_ns()}"
    event = {"index": [0, 0], "value": 1, "action": "export", "name": run.name, "names": [run.name, "shakespeare"]}
    body = {"data": data, "fn_index": number, "session_hash": session, "event_data": event}
    said = client.post(f"{server.url}/gradio_api/queue/join", json=body).text
    with client.stream("GET", f"{server.url}/gradio_api/queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            said += line
            if "process_completed" in line or "close_stream" in line or "unexpected_error" in line:
                break
    return said


@pytest.mark.slow
def test_no_event_of_the_page_tells_or_does_anything_with_another_s_run(served):
    """Otto sends every event for Anna's data. Anna sends some herself, which shows that there are secrets to leak."""
    server, run = served
    files = lambda: {path.name: path.read_bytes() for path in run.folder.iterdir() if path.name != ".lock"}
    before, told, asked = files(), "", events(server, run)
    assert len(asked) > 40
    with httpx.Client(headers=cookie("otto"), timeout=20) as otto:
        for number, data in asked:
            told += answer(server, otto, number, data, run)
    assert files() == before
    assert corpus.load(run.settings()["corpus"]["id"]).name == "Annas diary"
    assert [secret for secret in SECRETS if secret in told] == []
    with httpx.Client(headers=cookie("anna"), timeout=20) as anna:
        alone = ([run.name], [run.settings()["corpus"]["id"]])
        loading = [(number, data) for number, data in asked if data in alone or number in opening(server)]
        left, told = set(SECRETS), ""
        while left and loading:  # some of them train, so no more than it takes, and those last
            told = answer(server, anna, *loading.pop(), run)
            left = {secret for secret in left if secret not in told}
    assert left == set()
