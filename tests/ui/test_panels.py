"""Managing runs and texts on the page: the handlers alone, then everything in a real Chromium."""

from __future__ import annotations

import ast
import csv
import errno
import json
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from conftest import SMALL, ended_run, last_of

from nanogpt import corpus
from nanogpt.cli.progress import share_of
from nanogpt.cli.runs import facts
from nanogpt.config import NanoGPTError, TrainConfig
from nanogpt.errors import explain
from nanogpt.formats import read_config
from nanogpt.launch import prepare, sizes
from nanogpt.model import count_parameters
from nanogpt.presets import preset
from nanogpt.runs import History, Run, Status, judged_percent, logs, queue
from nanogpt.runs.settings import command as command_of, settings_of
from nanogpt.ui import (
    api,
    changing,
    choosing,
    chosen_text,
    corpus_tab,
    drawn,
    export_panel,
    form,
    gif_panel,
    pull_panel,
    run_panel,
    runs_tab,
    sample_tab,
    text_panel,
    theme,
    train_tab,
    watching,
)
from nanogpt.ui.page import build_app
from nanogpt.ui.web import guard, scratch
from nanogpt.ui.words import details, of_the_set, page_line, run_line, steps, tiles

CANNOT_BE_READ = "The run.json of broken cannot be read. Restore it from a copy, or delete the run."


@pytest.fixture
def text(home, tiny_text):
    return corpus.add(tiny_text, "A <b>play</b>")


@pytest.fixture
def run(text) -> Run:
    """Return a finished run that was never trained."""
    return ended_run(text, **SMALL)


# --- runs ----------------------------------------------------------------------------------------------------------


def table() -> dict[str, dict]:
    """Return the cells of each run in the Runs tab, as they are shown, by name."""
    rows = runs_tab.rows()["rows"]
    return {row["name"]: {key: cell[0] for key, cell in row["cells"].items()} for row in rows}


def test_a_visitor_gets_no_log_of_a_public_run_and_nothing_about_its_owner(text, run, monkeypatch, tmp_path):
    ours = corpus.add(text.text(), "A play", owner="0" * 32)
    run.change(public=True, owner="0" * 32, corpus={**run.settings()["corpus"], "id": ours.id})
    run.event("note", message="/private/a.txt")
    (run.folder / "log.txt").write_text("step 0\n", encoding="utf-8")
    with zipfile.ZipFile(run_panel.save("one", "archive")) as packed:
        assert json.loads(packed.read("run.json"))["owner"] == "0" * 32
        assert packed.read("log.txt") == b"step 0\n"
    run.change(corpus={**run.settings()["corpus"], "id": 16 * "0", "name": "A play"})
    with pytest.raises(NanoGPTError, match="The text 'A play' isn't stored here"):
        export_panel.take("one", "text")
    run.change(corpus={**run.settings()["corpus"], "id": ours.id})
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")  # no one is signed in by a cookie
    with pytest.raises(NanoGPTError, match="Only the owner of the run can read its log"):
        run_panel.save("one", "log")
    with pytest.raises(NanoGPTError, match="Only the owner of the run can read its text"):
        export_panel.take("one", "text")
    shutil.copy(run_panel.save("one", "archive"), tmp_path / "one.zip")
    with zipfile.ZipFile(tmp_path / "one.zip") as packed:
        assert "log.txt" not in packed.namelist()
        everything = b"".join(packed.read(name) for name in packed.namelist())
        assert json.loads(packed.read("run.json"))["corpus"]["id"] == text.id
    for secret in ("0" * 32, ours.id, "/private"):
        assert secret.encode() not in everything
        assert secret not in "".join(run_panel.facts("one"))
    monkeypatch.setenv("NANOGPT_PUBLIC", "")
    assert run_panel.load(tmp_path / "one.zip") == "one-2"


def test_the_table_names_every_run(run, text):
    broken = prepare.new_run("broken", text, **SMALL)
    (broken.folder / "run.json").write_text("{", encoding="utf-8")
    prepare.new_run("two", text, **SMALL)
    queue.draw("two")
    lines = table()
    assert set(lines) == {"one", "two", "broken"}
    assert [lines["one"][key] for key in ("state", "loss", "steps")] == ["Finished", "3.0000", "50"]
    assert lines["one"]["text"] == "A <b>play</b>"
    assert [lines["two"][key] for key in ("state", "loss", "steps")] == ["Queued", "–", "–"]
    assert lines["broken"]["state"] == "Damaged"
    columns = {column["key"] for column in runs_tab.rows()["columns"]}
    assert all(isinstance(cell, str) for line in lines.values() for cell in line.values())
    assert all(line.keys() == columns for line in lines.values())


def test_the_line_about_a_run_and_its_command(run):
    line, command = run_panel.facts("one")
    assert "finished" in line
    assert "3.0000" in line
    assert command == command_of(run)
    text = corpus.listed()[0]
    for wanted in (300, preset("timed").settings["max_iters"]):  # a preset with a time, by steps
        words = command_of(prepare.new_run(f"steps-{wanted}", text, "timed", max_iters=wanted)).split()
        assert words[words.index("--preset") + 1] == "quick"  # whose number of steps is the timed one's, too
        assert ("--max-iters" in words) == (wanted != preset("quick").settings["max_iters"])
        assert "--budget" not in words
    assert run_panel.facts(None) == [run_panel.NO_RUN, ""]
    assert "no run named gone" in run_panel.facts("gone")[0]


def test_the_figures_of_a_running_run(text, monkeypatch):
    monkeypatch.setattr(History, "age", 0.0)
    run = prepare.new_run("one", text, "quick", **SMALL)
    figures = lambda: [(one["label"], one["value"], one["note"]) for one in tiles(run, run.status())]
    assert {value for _, value, _ in figures()} == {"–"}  # nothing is known yet
    run.event("started", step=0, device="CPU, 2 threads, float32")
    tokens = int(2.5 * 0.9 * text.characters)
    run.log(step=20, seconds=30.0, tokens=tokens, train_loss=2.0, val_loss=1.9, tokens_per_second=4265)
    with queue.turn("one", "cpu"), run.held():
        assert figures() == [
            ("Validation loss", "1.900", "nats/char · 2.741 bits"),  # 1.9 / ln 2
            ("Time left", "0:45", "of about 1:15"),  # 30 steps to go, at 1.5 s per step
            ("Epochs", "2.50", "of about 6.25"),
            ("Speed", "4,265", "characters per second"),
        ]
        shown = run_line("one")
        assert (shown["text"], shown["state"], shown["share"]) == ("Training: step 20 of 50", "running", 0.4)
        assert shown["spoken"] == "Training. Step 20: validation loss 1.900."
        assert (page_line()["text"], page_line()["spoken"]) == (
            "Training one: step 20 of 50, 0:45 left.", "Training one.",
        )  # fmt: skip
        monkeypatch.setattr(History, "age", 14.5)  # seconds since that row was logged
        assert figures()[1] == ("Time left", "0:31", "of about 1:15")
        assert tiles(run, run.status())[1]["left"] == 30.5  # the browser counts down from there
        assert page_line()["text"] == "Training one: step 20 of 50, 0:31 left."
        monkeypatch.setattr(History, "age", 60.0)
        assert (figures()[1][1], tiles(run, run.status())[1]["left"]) == ("0:00", 0.0)
        monkeypatch.setattr(History, "age", 0.0)
        run.log(step=21, seconds=31.5, tokens=tokens, train_loss=1.9)
        assert run_line("one")["text"] == "Training: step 21 of 50"
        assert run_line("one")["spoken"] == shown["spoken"]  # announced at evaluations only
        run.change(train={**run.settings()["train"], "budget": 3700.0})  # a budget sets the time left
        assert figures()[1] == ("Time left", "1:01:09", "of 1:01:40")
    run.event("stopped", step=21, message="Stopped at step 21 and saved.")
    assert not any("left" in one for one in tiles(run, run.status()))
    assert figures()[1:3] == [("Time left", "–", "0:31 trained"), ("Epochs", "2.50", "times through the text")]
    assert run_line("one")["text"] == "Stopped at step 21 and saved."


def test_the_speed_is_the_newest_while_a_run_trains_and_then_the_mean(text):
    run = prepare.new_run("one", text, "quick", **SMALL)
    shown = lambda: tuple(tiles(run, run.status())[3][key] for key in ("label", "value"))
    run.event("started", step=0, device="CPU")
    run.log(step=0, seconds=0.0, tokens=0, characters=0, val_loss=4.0)
    run.log(step=20, seconds=20.0, tokens=500, characters=1000, train_loss=3.0, characters_per_second=100)  # 10 s
    run.log(step=20, seconds=25.0, tokens=500, characters=1000, val_loss=3.0)
    run.log(step=50, seconds=35.0, tokens=1000, characters=2000, train_loss=2.0, characters_per_second=20)  # 50 s
    with queue.turn("one", "cpu"), run.held():
        assert shown() == ("Speed", "20")
    run.event("stopped", step=50, message="Stopped at step 50 and saved.")
    assert shown() == ("Mean speed", "33")  # 2,000 characters in 60 s
    assert dict(details(run, run.status()))["Mean speed"].startswith("33 characters per second, without")
    old = prepare.new_run("old", text, "quick", **SMALL)
    old.log(step=10, tokens=100, tokens_per_second=50)
    assert old.history().mean_speed == 50
    fast = prepare.new_run("fast", text, "quick", **SMALL)
    fast.log(step=10, tokens=2_317_552, tokens_per_second=2_317_552)
    assert tiles(fast, fast.status())[3]["value"] == "2.32 M"  # the whole number would be cut off on a phone
    bare = prepare.new_run("bare", text, "quick", **SMALL)
    bare.log(step=10, tokens=100)
    assert bare.history().mean_speed is None
    assert tiles(bare, bare.status())[3] == dict(label="Speed", value="–", note="")


def test_the_details_of_a_run(run, text):
    found = dict(details(run, run.status()))
    assert (found["Text"], found["Device"], found["Steps"], found["Elapsed"]) == (text.name, "CPU", "50 of 50", "0:01")
    assert found["Model"] == "1 layer, 2 heads, width 16, context 16, classic"
    assert found["Parameters"] == f"{count_parameters(read_config(run.folder)):,}"
    assert found["Newest training loss"] == "3.0000 nats per character (4.328 bits)"  # 3 / ln 2
    assert found["Newest validation loss"] == "3.1000 nats per character (4.472 bits)"
    assert found["Best validation loss"] == "3.1000 at step 50"
    run.event("finished", step=50, val_loss=3.0)
    assert "Final validation loss" not in dict(details(run, run.status()))  # a version that didn't log what it is of
    run.event("finished", step=50, val_loss=3.0, val_characters=text.characters)
    assert dict(details(run, run.status()))["Final validation loss"] == "3.0000, measured on all of the validation set"
    for unusual in (dict(val_loss=3.0, val_characters="all"), dict(val_loss=None, val_characters=50)):  # imported
        run.event("finished", step=50, **unusual)
        assert "Final validation loss" not in dict(details(run, run.status()))
    (run.folder / "config.json").write_text("{", encoding="utf-8")
    assert "Parameters" not in dict(details(run, run.status()))
    assert details(None, None) == []


def test_the_figures_of_a_finished_run_are_those_of_the_weights_that_were_kept(run):
    loss, time, *_ = tiles(run, run.status())
    assert loss == dict(label="Final validation loss", value="3.000", note="nats/char · 4.328 bits")
    assert time == dict(label="Training time", value="0:01", note="in all")
    characters = run.settings()["corpus"]["characters"]
    whole = characters - int(0.9 * characters) - 1  # nothing predicts the first one
    for scored, part in ((whole - 1, "99% of"), (whole, "all of"), ("all", None)):
        run.event("finished", step=50, val_loss=3.0, val_characters=scored)
        title = part and f"Measured on {part} the validation set."
        assert tiles(run, run.status())[0].get("title") == title


def test_the_part_of_the_validation_set_is_rounded_down_but_never_to_nothing(run):
    characters = run.settings()["corpus"]["characters"]
    whole = characters - int(0.9 * characters) - 1
    for scored, percent in ((1, 1), (whole // 2, 49 if whole % 2 else 50), (whole - 1, 99), (2 * whole, 100)):
        run.event("finished", step=50, val_loss=3.0, val_characters=scored)
        assert judged_percent(run.history(), run.settings()) == percent
    assert of_the_set(99) == "99% of the validation set"


def test_warnings_that_a_run_logged_are_shown_once_each(run):
    for message in ("No more snapshots are kept: disk full", "CUDA graphs don't work here") * 2:
        run.event("note", step=1, message=message)
    notes = [value for label, value in details(run, run.status()) if label == "Note"]
    assert notes == ["No more snapshots are kept: disk full", "CUDA graphs don't work here"]
    assert facts(run)["notes"] == notes * 2
    for number in range(100):  # in an imported run
        run.event("note", step=1, message=f"note {number}")
    notes = [value for label, value in details(run, run.status()) if label == "Note"]
    assert notes == [f"note {number}" for number in range(80, 100)]


def test_over_the_api_a_run_has_the_losses_that_the_command_line_lists(run):
    losses = lambda told: (told["val_loss"], told["best_val_loss"])
    run.event("started", step=50)
    run.log(step=80, seconds=1.0, tokens=5120, val_loss=1.5)
    run.log(step=90, seconds=2.0, tokens=5760, val_loss=1.7)
    assert losses(api.run_status("one")) == losses(facts(run)) == (1.7, 1.5)
    run.event("finished", step=90, val_loss=1.6)
    assert losses(api.run_status("one")) == losses(facts(run)) == (1.6, 1.6)


@pytest.mark.parametrize("what", run_panel.SAVED)
def test_what_is_saved_is_a_file_with_the_run_s_name(run, what):
    (run.folder / "log.txt").write_text("step 0\n", encoding="utf-8")
    path = Path(run_panel.save("one", what))
    assert path.name == f"one{run_panel.SAVED[what][0]}"
    content = path.read_text(encoding="utf-8")
    if what == "settings":
        assert json.loads(content)["n_embd"] == 16
    elif what == "curves":
        assert len(list(csv.DictReader(content.splitlines()))) == 3
    else:
        assert content == {"log": "step 0\n", "samples": logs.samples_text(run)}[what]


def test_an_archive_is_saved_and_comes_back_as_another_run(run):
    path = run_panel.save("one", "archive")
    assert "last.safetensors" not in zipfile.ZipFile(path).namelist()
    assert run_panel.load(path) == "one-2"
    assert set(table()) == {"one-2", "one"}


def test_nothing_is_saved_of_what_is_not_there(run):
    for name, what, said in (("one", "log", "has no log yet"), (None, "curves", "no run yet"), ("x", "log", "no run")):
        with pytest.raises(NanoGPTError, match=said):
            run_panel.save(name, what)
    assert run_panel.log("one") == run_panel.log(None) == "The trainer hasn't printed anything yet."


def test_a_run_is_renamed(run, text):
    prepare.new_run("two", text, **SMALL)
    for new, said in (("two", "already"), ("A B", "lower-case"), ("../x", "lower-case"), ("  ", "empty")):
        with pytest.raises(NanoGPTError, match=said):
            run_panel.rename("one", new)
    assert run_panel.rename("one", " three ") == "three"
    assert Run("three").settings()["name"] == "three"
    assert len(Run("three").history().samples) == 3
    assert not Run("one").exists()


def test_a_run_is_deleted_after_a_question_and_never_while_it_is_busy(run):
    assert "one" in run_panel.question("one")
    queue.draw("one")
    for action in (run_panel.question, run_panel.delete, lambda name: run_panel.rename(name, "two")):
        with pytest.raises(NanoGPTError, match="is training. Stop it before you"):
            action("one")
    queue.drop("one")
    run_panel.delete("one")
    assert not run.folder.exists()
    with pytest.raises(NanoGPTError, match="no run named one"):
        run_panel.delete("one")


def test_a_new_run_under_a_deleted_one_s_name_has_no_past(run, text):
    assert table()["one"]["loss"] == "3.0000"
    run_panel.delete("one")
    again = prepare.new_run("one", text, **SMALL)
    again.event("started", step=0, device="CPU")
    assert (table()["one"]["loss"], table()["one"]["steps"]) == ("–", "–")


def test_what_comes_with_the_project_stays(home, tmp_path, monkeypatch, run):
    project = tmp_path / "project"
    (project / "checkpoints").mkdir(parents=True)
    run.change(public=True)
    run.folder.rename(project / "checkpoints" / "one")
    monkeypatch.setattr("nanogpt.paths.SHIPPED", project / "checkpoints")
    monkeypatch.setenv("NANOGPT_SHIPPED", "on")
    monkeypatch.chdir(project)
    for where in (home, project, "."):  # in a checkout, your own runs are in the same folder
        monkeypatch.setenv("NANOGPT_HOME", str(where))
        assert Run("one").is_bundled()
        for action in (run_panel.delete, run_panel.question, lambda name: run_panel.rename(name, "two")):
            with pytest.raises(NanoGPTError, match="ships with the project, so you can't"):
                action("one")
        assert Run("one").exists()
        with pytest.raises(NanoGPTError, match="no checkpoint, so it can't be resumed"):
            prepare.to_continue(Run("one"))


def test_your_own_run_can_be_changed_under_any_name_and_in_any_home(home, tmp_path, monkeypatch, run):
    shipped = tmp_path / "project" / "checkpoints"
    shutil.copytree(run.folder, shipped / "one")
    Run("one").change(public=True)
    monkeypatch.setattr("nanogpt.paths.SHIPPED", shipped)
    monkeypatch.setenv("NANOGPT_SHIPPED", "on")
    for where in (home, shipped.parent):  # your own, public one in front of a shipped one; then one beside the code
        monkeypatch.setenv("NANOGPT_HOME", str(where))
        offered = run_panel.offered("one")
        assert (offered["rename"], offered["delete"]) == (True, True)
        run_panel.rename("one", "two")
        run_panel.delete("two")
        assert not (where / "checkpoints" / "two").exists()


def test_what_was_trained_beside_the_code_is_not_seen_from_another_home(home, tmp_path, monkeypatch, run):
    project = tmp_path / "project"
    (project / "checkpoints").mkdir(parents=True)
    run.folder.rename(project / "checkpoints" / "one")
    monkeypatch.setattr("nanogpt.paths.SHIPPED", project / "checkpoints")
    monkeypatch.setenv("NANOGPT_SHIPPED", "on")
    for written in (None, "{", "[]", '{"public": false}', '{"public": 1}'):
        if written:
            (project / "checkpoints" / "one" / "run.json").write_text(written, encoding="utf-8")
        assert watching.names() == []
        assert not Run("one").exists()
    monkeypatch.setenv("NANOGPT_HOME", str(project))
    assert watching.names() == ["one"]


def test_settings_fill_the_fields_from_the_preset_on(run):
    filled = form.field_values(settings_of(run))
    advanced = dict(zip([k.name for k in form.ADVANCED], filled[-len(form.ADVANCED) :]))
    assert filled[0] == "quick"
    assert (advanced["n_embd"].value, advanced["batch_size"].value) == (16, 4)
    assert 50 in [getattr(one, "value", one) for one in filled]  # max_iters


def test_a_time_that_can_t_be_used_is_refused_as_it_was_typed():
    values = [value.value if hasattr(value, "value") else value for value in form.first_values()]
    rest = [values[0], values[2], *values[3:]]  # without the description
    change = lambda said: form.changes(rest[0], rest[1], said, *rest[3:])
    assert change("90s")["budget"] == 90
    too_long = "Training time was 31d; it must be a time up to 30d"
    for said, sentence in (("31d", too_long), ("0", form.NO_TIME), ("", form.NO_TIME)):
        with pytest.raises(NanoGPTError, match=f"^{re.escape(sentence)}"):
            change(said)


def test_a_number_that_can_t_be_used_is_refused_by_its_label(text, run):
    settings = form.settings_of("quick")
    change = lambda steps: form.changes(
        "quick", settings["layout"], "1m", steps, *(settings[k.name] for k in form.ADVANCED)
    )
    with pytest.raises(NanoGPTError, match="^Steps was 0; it must be a whole number from 1 to "):
        change(0)
    *_, (_, said, _) = sample_tab.on_page("one", "", 0.8, 99_999, 1, 0, 1.0, 1337, False, "")
    assert said["text"].startswith("Length was 99999; it must be a whole number from 1 to ")
    train = TrainConfig.of(run.settings()["train"])
    for more, what in (("10000000", "The number of steps in all was 10000050"), ("0", "Couldn't read '0' as a number")):
        with pytest.raises(NanoGPTError, match=f"^{re.escape(what)}"):
            prepare.extension(run.status(), train, more)
    timed = replace(train, budget=60.0)
    assert prepare.extension(run.status(), replace(train, budget=24 * 3600.0), "8h") == dict(budget=32 * 3600.0)
    for more, what in (("30d", "The training time in all was 43201m; it must be a time up to 30d"), ("0", "Enter how")):
        with pytest.raises(NanoGPTError, match=f"^{re.escape(what)}"):
            prepare.extension(run.status(), timed, more)


# --- samples, and going back to earlier ones -----------------------------------------------------------------------


def test_the_reader_goes_back_to_an_earlier_sample(run):
    sample = lambda step: dict(name="one", step=step, text=f"text {step}", fresh=False)
    assert watching.written("one") == (sample(50), 3, [0, 25, 50])
    assert watching.written("one", 1) == (sample(0), 1, [0, 25, 50])
    assert watching.written("one", 99)[1] == 3
    assert watching.written(None) == watching.written("gone") == (watching.NO_SAMPLE, 0, [])
    assert train_tab.look_back("one", dict(steps=[], at=2)) == [sample(25), 2]
    assert train_tab.look_back("one", dict(at=3)) == [sample(50), None]  # the latest, so the page follows new ones
    for nonsense in (None, "2", {}, dict(at="x"), dict(at=None)):
        assert train_tab.look_back("one", nonsense) == [sample(50), None]


def sent(version) -> list:
    """Return a Version as a browser sends it back."""
    return json.loads(json.dumps(version))


def test_a_sample_is_sent_once_and_not_to_a_reader_who_went_back(run):
    first = watching.shown("one")
    seen = sent(first["caught"])
    assert first["caught"] == first["seen"] == watching.look("one")["version"] == watching.Version.of(seen)
    assert (first["sample"]["text"], first["sample"]["fresh"]) == ("text 50", False)
    assert first["when"] == dict(steps=[0, 25, 50], at=3)
    assert watching.catch_up("one", seen, None).keys() == {"caught"}
    run.sample(75, "text 75")
    run.log(step=75, seconds=1.0, tokens=1, val_loss=2.0)
    new = watching.catch_up("one", seen, None)["sample"]
    assert (new["text"], new["fresh"]) == ("text 75", True)  # it types itself
    assert not watching.shown("one")["sample"]["fresh"]
    back = watching.catch_up("one", seen, 2)
    assert "sample" not in back
    assert back["when"] == dict(steps=[0, 25, 50, 75], at=2)


def test_each_second_only_what_a_row_changes_is_sent(run):
    quick = set(watching.EACH_SECOND)
    seen = sent(watching.look("one")["version"])
    ended = watching.ticked("one", seen, seen)
    assert ended.keys() == {"page_status", "quiet"}  # the timer must stop, if the page shows this
    assert ended["quiet"]["shown"] == [watching.look("one")["line"], ended["page_status"]]
    for nonsense in (None, "", [], [1], {}, [None] * 8):
        assert watching.ticked("one", nonsense, nonsense).keys() == quick - {"quiet"}
    with Run("one").held():
        run.event("started", step=50)
        now = sent(watching.look("one")["version"])
        assert watching.ticked("one", now, now).keys() == {"page_status"}
        run.log(step=60, seconds=1.0, tokens=1, train_loss=2.0)
        assert watching.ticked("one", now, now).keys() == quick - {"alert", "quiet"}
        assert watching.ticked("one", now, seen).keys() == quick - {"quiet"}  # it has started
        assert watching.catch_up("one", seen, None).keys() == {"stop", "go_on", "doctor", "more", "caught"}
        run.sample(70, "text 70")
        alerts = [watching.ticked("one", now, now)["alert"] for _ in range(2)]
        assert alerts[0] != alerts[1]  # until the page has caught up, each second is a change
        assert watching.catch_up("one", now, None).keys() == {"doctor", "when", "sample", "caught"}


def test_a_long_run_is_drawn_from_some_of_its_rows(run, monkeypatch):
    looked = []

    class Row(dict):
        def get(self, *of):
            looked.append(self)
            return super().get(*of)

    history = run.history()
    monkeypatch.setattr(history, "rows", [Row(step=step, train_loss=3.0) for step in range(100_000)])
    monkeypatch.setattr(history, "evaluations", [Row(step=step, val_loss=2.0) for step in range(0, 99_999, 11)])
    plot = drawn.plot_data(history, 100_000)
    assert len(looked) < 20_000
    assert 400 < len(plot["train"]) < 600
    assert (plot["train"][-1], plot["val"][-1]) == ([99_999, 3.0, 99_999], [99_990, 2.0, 99_990])


def test_the_dialogs_answer_at_once():
    with gr.Blocks() as demo:
        changing.build("run", gr.Dropdown(), str, str, str, [])
    assert len(demo.fns) >= 4
    assert not any(one.queue for one in demo.fns.values())  # they would wait for others' samples


def test_what_is_pulled_is_told_and_then_chosen(monkeypatch):
    steps = [(drawn.line("Loading.", "running"), None), (drawn.line("Loaded.", "finished"), "pulled")]
    monkeypatch.setattr(pull_panel, "pull", lambda repo, token: iter(steps))
    with gr.Blocks() as demo:
        pull_panel.build(gr.Dropdown(), lambda name: f"with {name}")
    [fetch] = [one.fn for one in demo.fns.values() if one.fn.__name__ == "fetch"]
    told = list(fetch("anna/model", None))
    assert [line for line, _ in told] == [line for line, _ in steps]
    assert told[-1][1] == "with pulled"


@pytest.mark.parametrize(
    "color",
    [
        "body_text_color_subdued", "block_label_text_color", "input_placeholder_color",
        "button_cancel_background_fill", "button_primary_background_fill",
    ],
)  # fmt: skip
def test_a_color_of_the_theme_can_be_read_on_white_and_white_on_it(color):
    made = theme.theme()
    value = getattr(made, color)
    while value.startswith("*"):
        value = getattr(made, value[1:])
    assert contrast(value, "#ffffff") >= 4.5


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colors as WCAG defines it."""

    def luminance(color: str) -> float:
        parts = [part / 255 for part in bytes.fromhex(color[1:])]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear))

    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


# --- one damaged run -----------------------------------------------------------------------------------------------


def test_a_damaged_run_stops_no_listing(run, text):
    broken = prepare.new_run("broken", text, **SMALL)
    (broken.folder / "run.json").write_text("{", encoding="utf-8")
    (broken.folder / "model.safetensors").write_bytes(b"")
    assert set(watching.names()) == {"one", "broken"}
    assert watching.newest("one") == "one"
    assert run_line("broken") == dict(text=CANNOT_BE_READ, state="damaged", share=None)
    assert {one["value"] for one in tiles(broken, broken.glance())} == {"–"}
    assert details(broken, broken.glance()) == [["Message", CANNOT_BE_READ]]
    shown = watching.view("broken")
    assert not shown["go_on"].interactive
    assert not shown["stop"].interactive
    prepare.new_run("canceled", text, **SMALL)  # without weights
    assert sample_tab.choices("broken").choices == [("one", "one")]
    assert page_line()["text"].startswith("Idle. 1 trained model ready")
    Run("canceled").delete()
    states = {row["name"]: (row["state"], row["message"]) for row in api.list_runs()}
    assert states["broken"] == ("damaged", CANNOT_BE_READ)
    assert states["one"][0] == "finished"
    assert text_panel.question(text.id)
    with queue.turn("broken", "cpu"):
        assert "broken" in page_line()["text"]
    assert "broken" in run_panel.question("broken")
    run_panel.delete("broken")
    assert watching.names() == ["one"]


def test_a_word_that_a_later_version_logged(run):
    run.event("paused", step=50)
    assert run_line("one")["text"] == "Paused: step 50 of 50"
    assert table()["one"]["state"] == "Paused"
    assert "paused" in run_panel.facts("one")[0]
    assert "step 50" in sample_tab.whose(run)


def test_the_run_to_show_first(run, text):
    prepare.new_run("two", text, **SMALL)
    prepare.new_run("three", text, **SMALL)
    assert watching.newest("one") == "one"
    assert watching.newest("gone") in ("two", "three")
    queue.draw("two")
    assert watching.newest("one") == "two"
    assert watching.in_view("one") == "one"
    assert watching.in_view("gone") == "two"
    queue.drop("two")
    assert watching.in_view(None, "one") == "one"


def test_an_estimate_waits_only_for_a_run_on_this_machine(run, monkeypatch):
    monkeypatch.setattr("nanogpt.ui.words.elsewhere", lambda: ["far"])
    assert (page_line()["state"], page_line()["here"]) == ("running", False)
    with queue.turn("one", "cpu"), run.held():
        assert page_line()["here"]


def test_a_run_trained_elsewhere_sets_the_page_watching(run, text):
    prepare.new_run("two", text, **SMALL)
    caught = sent(watching.view("one")["caught"])
    stops_asking = lambda: "quiet" in watching.ticked("one", caught, caught)
    assert watching.view("one")["timer"].active  # for one more tick, after which the browser turns it off
    assert stops_asking()
    with queue.turn("two", "cpu"), Run("two").held():
        assert watching.newest("one") == "two"
        assert not stops_asking()


# --- the queue -----------------------------------------------------------------------------------------------------


def test_a_waiting_run_says_its_place_and_is_withdrawn(run, text, monkeypatch):
    prepare.new_run("two", text, **SMALL)
    for name in ("one", "two"):
        queue.draw(name)
    assert "number 2" in run_line("two")["text"]
    assert run_line("one")["text"] == "Starting …"  # the device is free
    with monkeypatch.context() as patch:
        patch.setattr(queue, "running", lambda: ["another"])
        assert run_line("one")["text"] == "Queued: next"
    assert watching.shown("two")["stop"].value == "Cancel"
    train_tab.stop("two")
    assert queue.waiting() == ["one"]
    line = run_line("two")
    assert (line["state"], line["share"]) == ("stopped", None)
    assert line["text"] == "Canceled before training started."
    Run("two").log(step=1, seconds=0.1, tokens=64, train_loss=3.0)
    assert run_line("two")["text"] == "Canceled before training resumed."
    with pytest.raises(queue.Withdrawn), queue.turn("two", "cpu"):  # its trainer joins the queue only now
        pytest.fail("it began")
    queue.draw("two")
    assert Run("two").status().state == "queued"


WRITTEN = ["curves", "archive", "page", "text", "gif", "pasted", "folder"]


def writing(kind: str, text: corpus.Corpus) -> Callable[[], object]:
    """Return what writes a temporary file of this kind."""
    return {
        "curves": lambda: run_panel.save("one", "curves"),
        "archive": lambda: run_panel.save("one", "archive"),
        "page": lambda: export_panel.take("one", "page"),
        "text": lambda: export_panel.take("one", "text"),
        "gif": lambda: gif_panel.take("one"),
        "pasted": lambda: choosing.set_aside("a line"),
        "folder": lambda: choosing.gathered(choosing.Folder((str(text.folder / "text.txt"),))),
    }[kind]


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("kind", WRITTEN)
def test_a_full_disk_for_temporary_files_is_named(text, monkeypatch, kind):
    act = writing(kind, text)

    def full(size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(text.folder / "text.txt"))  # as shutil.copyfile does

    monkeypatch.setenv("GRADIO_TEMP_DIR", "/elsewhere")
    monkeypatch.setattr(gif_panel.gif, "animation", lambda run: (b"GIF", ""))
    monkeypatch.setitem(export_panel.FILES, "page", (lambda run: "one.html", lambda run, int8: "<p>"))
    monkeypatch.setattr(scratch, "new_folder", full)
    with pytest.raises(OSError, match="No space") as error:
        act()
    sentence = "There is no space left in /elsewhere. Free some, or set GRADIO_TEMP_DIR to a folder on another disk."
    assert explain(error.value) == sentence


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("kind", WRITTEN)
def test_an_export_that_fails_leaves_nothing(text, monkeypatch, tmp_path, kind):
    act = writing(kind, text)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "page"))
    monkeypatch.setattr(gif_panel.gif, "animation", lambda run: (b"GIF", ""))
    monkeypatch.setitem(export_panel.FILES, "page", (lambda run: "one.html", lambda run, int8: "<p>"))
    before = scratch.space.used
    for module, name in ((shutil, "copyfile"), (shutil, "copyfileobj"), (Path, "write_bytes"), (Path, "write_text")):
        monkeypatch.setattr(module, name, full)
    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space"):
        act()
    assert list((tmp_path / "page").iterdir()) == []
    assert scratch.space.used == before


# --- texts ---------------------------------------------------------------------------------------------------------


def test_the_table_of_texts_has_those_that_were_given(text):
    corpus.find("python-reference")
    [line] = text_panel.table()
    assert line[:2] == ["A <b>play</b>", f"{text.characters:,}"]
    assert line[3] == text_panel.day(text.created)
    assert [id for _, id in text_panel.choices()] == [text.id]


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="Windows can't change the time zone of a process")
@pytest.mark.parametrize(("zone", "day"), [("UTC0", "2026-11-28"), ("JST-9", "2026-11-29")])
def test_the_day_on_which_a_text_was_added_is_that_of_the_clock_here(monkeypatch, zone, day):
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        assert text_panel.day("2026-11-28T22:20:00.123456+00:00") == day
    time.tzset()


def test_a_text_is_renamed(text):
    assert "is now called Hamlet" in text_panel.rename(text.id, "  Hamlet ")
    for id, name, said in (
        (text.id, " ", "empty"),
        (None, "x", "No text is selected"),
        ("../..", "x", "is not the id of a text"),
    ):
        with pytest.raises(NanoGPTError, match=said):
            text_panel.rename(id, name)
    assert corpus.load(text.id).name == "Hamlet"


def test_a_text_is_deleted_but_not_while_a_run_needs_it(run, text):
    asked = "one was trained on it and can still be sampled, but can't be resumed until you add the same text again."
    assert text_panel.question(text.id).endswith(asked)
    prepare.new_run("two", text, **SMALL)
    assert "were trained on it" in text_panel.question(text.id)
    queue.draw("two")
    for action in (text_panel.question, text_panel.delete):
        with pytest.raises(NanoGPTError, match="in use: two is training on it"):
            action(text.id)
    queue.drop("two")
    assert text_panel.delete(text.id).endswith("is deleted.")
    assert text_panel.table() == []


def test_when_the_text_in_use_is_deleted_the_default_is_chosen(text):
    other = corpus.add("Another text, long enough to be one. " * 40, "Other")
    corpus.delete(text.id)
    assert chosen_text.after_change(other.id, text.id).keys() == {"stored"}
    assert chosen_text.after_change(text.id, text.id)["corpus_id"] == corpus.find(chosen_text.DEFAULT).id
    assert chosen_text.after_change(other.id, other.id)["corpus_id"] == other.id


def test_no_text_is_said_to_be_selected_that_is_not_here(text, monkeypatch):
    def refuse(key):
        raise NanoGPTError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(chosen_text, "choose_builtin", refuse)
        still = chosen_text.take_builtin(text.id, "python-reference")
        first = chosen_text.choose_first(None)
        corpus.delete(text.id)
        deleted = chosen_text.after_change(text.id, text.id)
    assert still["report"]["title"] == "Couldn't use this text. Your previous text is still selected."
    assert not {"corpus_id", "kept", "train", "next"} & still.keys()
    refused = last_of(chosen_text.take_new(text.id, "too short"))  # it was deleted in another browser tab
    for updates in (first, deleted, refused):
        assert updates["report"]["title"] == "Couldn't use this text. No text is selected."
        assert (updates["corpus_id"], updates["kept"], updates["builtin"]) == (None, None, None)
        assert (updates["train"].value, updates["train"].interactive) == ("Train", False)
        assert (updates["next"].value, updates["next"].interactive) == ("Next: choose settings", False)
    assert (deleted["reading"].visible, deleted["given"]) == (False, None)
    assert "encoding" not in refused
    assert chosen_text.stopped(text.id)["report"]["title"] == "No text is selected."
    default = chosen_text.attempt(choosing.choose_builtin, "python-reference")["corpus_id"]
    assert chosen_text.stopped(default)["report"]["title"] == "Your previous text is still selected."


def test_a_row_of_the_table_picks_its_own_text(text):
    row = text_panel.table()[0]
    other = corpus.add("Another text, long enough to be one. " * 40, "Other")  # it comes first now
    (text.folder / "counts.json").write_text("{}" * 5000)  # which makes it larger

    def pick(*values: str) -> list:
        return text_panel.by_row(gr.SelectData(None, dict(index=[0, 0], value="", row_value=list(values))), other.id)

    assert pick(*row) == [gr.skip(), text.id]
    corpus.delete(text.id)
    for gone in (pick(*row), pick()):
        assert gone[0] == text_panel.table()
        assert gone[1].value == other.id


def test_the_text_chosen_before_is_chosen_again(text):
    again = chosen_text.choose_first(text.id)
    assert (again["corpus_id"], again["builtin"]) == (text.id, None)
    assert chosen_text.choose_first("0" * 16, text.id)["corpus_id"] == text.id
    default = corpus.find(chosen_text.DEFAULT).id
    for unknown in (None, "", "0" * 16, "../../x", 5, ["x"], {}):
        first = chosen_text.choose_first(unknown)
        assert (first["corpus_id"], first["builtin"]) == (default, chosen_text.DEFAULT)


def test_reading_a_text_three_times_leaves_one(home, tmp_path):
    path = tmp_path / "menu.txt"
    path.write_bytes("Das süße Brötchen kostet viel.\r\n".encode("cp1252") * 80)
    given, ids = last_of(chosen_text.take_new(None, [str(path)]))["given"], []
    for codec in ("cp1251", "latin-1", "cp1252"):
        given = last_of(chosen_text.take_again(None, given, codec))["given"]
        ids.append(given.added)
    tried = last_of(chosen_text.take_again(None, given, "cp1252", []))
    assert [one.id for one in corpus.listed()] == [tried["corpus_id"]]
    assert "\r" in corpus.load(tried["corpus_id"]).text()
    assert len(set(ids)) > 1


def test_a_text_that_was_here_before_or_has_a_run_is_kept(home, tmp_path):
    path = tmp_path / "menu.txt"
    path.write_bytes("Das süße Brötchen kostet viel.\n".encode("cp1252") * 80)
    here = corpus.add([path], encoding="cp1252")
    given = last_of(chosen_text.take_new(None, [str(path)]))["given"]
    assert given.added is None
    given = last_of(chosen_text.take_again(None, given, "cp1251"))["given"]
    prepare.new_run("one", corpus.load(given.added), **SMALL)
    last = last_of(chosen_text.take_again(None, given, "cp1250"))["given"]
    assert {one.id for one in corpus.listed()} == {here.id, given.added, last.added or here.id}


def test_a_text_read_again_keeps_its_new_name_and_what_was_ticked(home, tmp_path):
    path = tmp_path / "menu.txt"
    path.write_bytes("Das süße Brötchen\u00ad kostet viel.\r\n".encode("cp1252") * 80)
    shown = last_of(chosen_text.take_new(None, [str(path)]))
    given = last_of(chosen_text.take_again(None, shown["given"], "", []))["given"]
    text_panel.rename(given.added, "Oma")
    assert not {"given", "reading", "repairs"} & chosen_text.after_change(given.added, given.added).keys()
    for _ in range(2):  # as a browser may
        again = last_of(chosen_text.take_again(None, given, "cp1251"))
        [stored] = corpus.listed()
        assert (stored.name, stored.id, again["report"]["title"]) == ("Oma", again["given"].added, "Oma")
    assert stored.id != given.added
    assert "\r" in stored.text()  # the clean-up of line endings is still off


def test_a_text_that_was_stored_before_keeps_its_new_name_when_it_is_read_again(home, tmp_path):
    path = tmp_path / "menu.txt"
    path.write_bytes("Das süße Brötchen kostet viel.\n".encode("cp1252") * 80)
    here = corpus.add([path])
    given = last_of(chosen_text.take_new(None, [str(path)]))["given"]
    text_panel.rename(here.id, "Oma")
    again = last_of(chosen_text.take_again(None, given, "cp1251"))["given"]
    assert corpus.load(again.added).name == "Oma"
    last_of(chosen_text.take_again(None, again, ""))
    assert {one.name for one in corpus.listed()} == {"Oma"}


def test_a_refused_encoding_is_not_the_chosen_one(home, tmp_path):
    path = tmp_path / "menu.txt"
    path.write_bytes("Das süße Brötchen kostet viel.\n".encode("cp1252") * 80)
    given = last_of(chosen_text.take_new(None, [str(path)]))["given"]
    given = last_of(chosen_text.take_again(None, given, "latin-1"))["given"]
    refused = last_of(chosen_text.take_again(None, given, "utf-8"))
    assert (refused["encoding"], refused["field"]) == ("latin-1", "")
    assert "can't be read" in refused["report"]["notes"][0]["text"]


def test_what_a_restarted_server_has_forgotten_is_said():
    [updates] = chosen_text.take_again(None, None, "cp1252")
    assert updates["report"]["notes"][0]["text"] == chosen_text.NOT_KEPT
    assert updates["reading"].visible is False
    with gr.Blocks() as demo:
        changing.build("text", gr.Dropdown(), str, str, str, [gr.HTML()], beside=[gr.HTML()])
    [confirm] = [one.fn for one in demo.fns.values() if one.fn and one.fn.__name__ == "confirm"]
    [told] = confirm("chosen", None).values()
    said = "Nothing was deleted, because the server no longer knows this question. Click Delete text again."
    assert told.value["text"] == said


def test_texts_of_the_same_name_and_length_are_told_apart(home):
    data = "Das süße Brötchen kostet viel.\n".encode("cp1252") * 80
    one, two = (corpus.add(data, "Oma", encoding=codec) for codec in ("cp1252", "cp1251"))
    corpus.add(data + b"!", "Oma", encoding="cp1252")
    western, cyrillic = "Oma, Western European (Windows-1252)", "Oma, Cyrillic (Windows-1251)"
    assert {label for label, _ in text_panel.choices()} == {
        f"{western} (2,480)", f"{cyrillic} (2,480)", "Oma (2,481)"
    }  # fmt: skip
    assert {row[0] for row in text_panel.table()} == {"Oma", western, cyrillic}
    times = [replace(one, created=f"2026-01-02T03:04:0{second}+00:00") for second in (5, 6)]
    first, second = text_panel.labels(times)
    assert first.startswith(f"{western}, 2026-01-0")  # in the local time zone
    assert (first[-3:], second[-3:]) == (":05", ":06")
    assert text_panel.labels([two]) == ["Oma"]


def test_a_text_over_the_api_is_repaired_as_on_the_page(home, tiny_text):
    added = api.add_corpus("\ufeff" + tiny_text.replace("\n", "\r\n"), "A play")
    assert added["id"] == corpus.add(tiny_text).id
    assert added["notes"]
    assert all(note[:1].isupper() or note[:1].isdigit() for note in added["notes"])
    with pytest.raises(NanoGPTError, match="one string"):
        api.add_corpus(["/etc/passwd"])


# --- access --------------------------------------------------------------------------------------------------------


def test_the_host_names_we_answer_to(monkeypatch):
    hosts = lambda: guard.middleware("127.0.0.1")[0].kwargs["allowed_hosts"]
    monkeypatch.delenv("NANOGPT_HOSTS", raising=False)
    assert hosts() == ["127.0.0.1", "[::1]", "localhost"]
    monkeypatch.setenv("NANOGPT_HOSTS", "testserver, my.school")
    assert {"testserver", "my.school"} <= set(hosts())


# --- in a browser --------------------------------------------------------------------------------------------------


def said(page, where: str, words: str) -> None:
    page.wait_for_function(
        "([where, words]) => document.querySelector(where)?.innerText.includes(words)", arg=[where, words]
    )


def state(page, *states: str) -> None:
    page.wait_for_function(
        "states => states.includes(document.querySelector('#train-status .status-line')?.dataset.state)",
        arg=list(states),
    )


def start(page, name: str, max_iters: int) -> None:
    page.locator("#train-name input, #train-name textarea").first.fill(name)
    page.locator("#train-max-iters input").fill(str(max_iters))
    page.locator("#train-start").click()


@pytest.mark.slow
def test_runs_and_texts_are_managed(page, home: Path, tmp_path: Path, tiny_text: str):
    mine = tmp_path / "millers-play.txt"
    mine.write_text(tiny_text, encoding="utf-8")
    page.set_input_files("#corpus-upload input[type=file]", str(mine))
    said(page, "#corpus-report h3", "millers-play")
    page.get_by_role("tab", name="Train", exact=True).click()
    page.get_by_label("Quick").check()
    page.get_by_role("button", name="Advanced").first.click()
    for name in ("n_layer", "n_head", "n_embd", "block_size", "batch_size"):
        page.locator(f"#train-{name.replace('_', '-')} input").fill(str(SMALL[name]))
    start(page, "short", 40)
    state(page, "finished")
    it_goes_back_to_earlier_samples(page)
    it_saves_imports_renames_and_deletes(page, home)
    one_waits_and_is_withdrawn(page)
    the_text_is_kept_until_nobody_needs_it(page)


def it_goes_back_to_earlier_samples(page) -> None:
    said(page, "#train-sample", "step 40")
    page.locator("#train-sample-at input[type=range]").focus()
    page.keyboard.press("Home")
    said(page, "#train-sample", "step 0")
    page.keyboard.press("End")
    said(page, "#train-sample", "step 40")


def it_saves_imports_renames_and_deletes(page, home: Path) -> None:
    page.locator("#run-panel > button").click()
    page.locator("#run-more > button").click()
    page.wait_for_function("document.querySelector('#run-command textarea')?.value.includes('--max-iters 40')")
    with page.expect_download() as curves:
        page.locator("#run-save-curves").click()
    assert curves.value.suggested_filename == "short-curves.csv"
    assert curves.value.path().read_text(encoding="utf-8").startswith("step,seconds,tokens")
    with page.expect_download() as animation:
        page.locator("#run-gif").click()
    assert animation.value.suggested_filename == "short.gif"
    assert animation.value.path().read_bytes()[:6] == b"GIF89a"
    page.get_by_label("Include the checkpoint").check()
    with page.expect_download() as packed:
        page.locator("#run-save-archive").click()
    assert "last.safetensors" in zipfile.ZipFile(packed.value.path()).namelist()
    archive = home / packed.value.suggested_filename
    packed.value.save_as(archive)
    page.get_by_role("tab", name="Runs", exact=True).click()
    give(page, archive)
    said(page, "#run-import-said", "Imported as short-2.")
    archive.write_bytes(b"no archive at all")
    give(page, archive)
    said(page, "#run-import-said", "damaged")
    page.get_by_role("tab", name="Train", exact=True).click()
    page.locator("#run-new-name input, #run-new-name textarea").first.fill("renamed")
    page.locator("#run-rename").click()
    said(page, "#run-changed-said", "short-2 is now called renamed.")
    for answer in ("no", "yes"):
        page.locator("#run-delete").press("Enter")
        it_goes_to_the_question(page, "run", "Delete renamed, ")
        page.locator(f"#run-delete-{answer}").press("Enter")
        page.wait_for_function("document.activeElement.id === 'run-delete'")
    said(page, "#run-changed-said", "renamed is deleted.")
    assert not (home / "checkpoints" / "renamed").exists()


def it_goes_to_the_question(page, what: str, words: str) -> None:
    page.wait_for_function("what => document.activeElement.id === `${what}-delete-no`", arg=what)
    assert page.get_by_role("alertdialog", name=words).locator(f"#{what}-delete-no").is_visible()


def give(page, archive: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator("#run-import").click()
    chooser.value.set_files(str(archive))


def one_waits_and_is_withdrawn(page) -> None:
    start(page, "long", 1_000_000)
    state(page, "running")
    start(page, "second", 40)
    state(page, "queued")
    said(page, "#train-stop", "Cancel")
    page.locator("#train-stop").click()
    state(page, "stopped")
    said(page, "#train-status", "Canceled before training started")
    said(page, "#train-stop", "Stop")


def the_text_is_kept_until_nobody_needs_it(page) -> None:
    page.get_by_role("tab", name="Text", exact=True).click()
    page.locator("#text-panel > button").click()
    said(page, "#text-table", "millers-play")
    page.locator("#text-delete").click()
    said(page, "#text-said", "long is training on it")
    page.get_by_role("tab", name="Train", exact=True).click()
    page.locator("#train-run input").click()
    page.get_by_role("option", name="long").click()
    state(page, "running")
    page.locator("#train-stop").click()
    state(page, "stopped")
    page.get_by_role("tab", name="Text", exact=True).click()
    page.locator("#text-delete").click()
    it_goes_to_the_question(page, "text", "Delete millers-play, ")
    page.locator("#text-delete-yes").press("Enter")
    said(page, "#text-said", "millers-play is deleted.")
    page.wait_for_function("document.activeElement.id === 'text-delete'")
    said(page, "#corpus-report h3", "Python reference")


def test_while_a_run_goes_by_the_clock_its_steps_are_about_so_many(run):
    status = Status("running", step=93, max_iters=1696)
    assert steps(run, status) == "step 93 of 1,696"
    run.change(train={**run.settings()["train"], "budget": 60.0})
    assert steps(run, status) == "step 93 of about 1,700"
    assert steps(run, replace(status, state="finished")) == "step 93 of 1,696"


def test_the_loss_to_expect_follows_the_speed_of_a_timed_run(text):
    size = sizes.SIZES[0]
    run = prepare.new_run("promised", text, "quick", **size.settings, layout="modern")
    run.event("started", step=0, device="CPU")
    run.log(step=100, seconds=10.0, tokens=1, val_loss=2.4)
    note = lambda steps, state="running": tiles(run, Status(state, step=100, max_iters=steps))[0]["note"]
    assert note(500) == "nats/char · 3.462 bits"  # nothing was promised
    run.change(promise=1.9)
    fast, slow = (f"nats/char · end ~{size.loss(steps):.2f}" for steps in (2000, 500))
    assert fast < slow
    assert (note(2000), note(500)) == (fast, slow)
    assert note(500, "stopped") == "nats/char · 3.462 bits"
    run.change(promise=2.5, train={**run.settings()["train"], "batch_size": 99})
    assert note(500) == "nats/char · 3.462 bits"  # it is lower already, so the text is an easier one
    run.change(promise=1.9, train={**run.settings()["train"], "batch_size": size.batch_size})
    run.change(train={**run.settings()["train"], "budget": 20.0})  # half of it is over
    assert (
        share_of(run, run.history())[1] == f"step 100 · val 2.400 · about {size.loss(200):.2f} at the end · 0:10 left"
    )
    run.change(promise="soon")  # in an imported run
    assert note(500) == "nats/char · 3.462 bits"
    run.change(promise=1.9, train={**run.settings()["train"], "batch_size": 99})
    assert note(500) == "nats/char · end ~1.90"  # no curve is known for these settings


def test_an_empty_paste_is_answered_and_no_file_is_not(home):
    [note] = last_of(chosen_text.take_new(None, ""))["report"]["notes"]
    assert note == {"kind": "error", "text": "The text is empty. Paste some text, or choose a file with text in it."}
    assert list(chosen_text.take_stored(None, None)) == ["given"]  # clearing the selection
    assert list(last_of(chosen_text.take_new(None, None))) == list(last_of(chosen_text.take_new(None, []))) == ["given"]


def test_a_refused_text_leaves_the_current_one_selected(text, tmp_path):
    """The button still names the current text."""
    first = chosen_text.attempt(choosing.choose_stored, text.id)
    assert first["next"].value == 'Next: choose settings for "A <b>play</b>"'
    assert first["train"].value == 'Train on "A <b>play</b>" for 1 minute'
    refused = last_of(chosen_text.take_new(text.id, "too short"))
    assert refused["stored"].value == text.id
    assert refused["builtin"] is None
    assert not {"corpus_id", "kept", "next", "train", "encoding"} & refused.keys()  # with it, `text` is read again
    assert last_of(chosen_text.take_new(text.id, "long enough " * 200))["encoding"] == ""
    builtin = chosen_text.attempt(choosing.choose_builtin, "python-reference")
    refused = last_of(chosen_text.take_new(builtin["corpus_id"], "too short"))
    assert refused["builtin"] == "python-reference"


def test_an_answer_does_not_take_back_a_radio_that_was_clicked_again(home):
    """The browser sends the last of quick clicks when the answer to the first is there, and reads the radio then."""
    updates = chosen_text.take_builtin(None, "python-reference")
    assert updates["builtin"] == gr.skip()
    assert updates["corpus_id"] == corpus.find("python-reference").id
    refused = chosen_text.take_builtin(updates["corpus_id"], "no-such-example")
    assert refused["builtin"] == "python-reference"
    with gr.Blocks() as demo:
        chosen = form.build()
        form.build_advanced(chosen, gr.State())
    for radio, answer in ((chosen.presets, ("laptop",)), (chosen.layout, ("quick", "modern"))):
        [wired] = [
            one for one in demo.fns.values() if one.fn and (radio._id, "input") in one.targets and one.outputs[1:]
        ]
        assert wired.trigger_mode == "always_last"
        assert wired.fn(*answer)[chosen.fields.index(radio)] == gr.skip()


def test_of_quick_changes_the_last_one_is_answered():
    """By default, Gradio drops an event if an earlier one hasn't been answered, and the page would show the first."""
    page = build_app()
    wired = [
        (page.blocks[id].elem_id, event, one.trigger_mode)
        for one in page.fns.values() if one.fn
        for id, event in one.targets if event in ("input", "change")
    ]  # fmt: skip
    assert {"train-run", "compare-axis", "corpus-report"} <= {name for name, *_ in wired}
    assert [one for one in wired if one[-1] == "once"] == []


def test_a_hidden_progress_display_is_on_nothing():
    """Gradio updates the display of each output at every answer on the page, whether it is hidden or not."""
    page = build_app()
    hidden = [
        one for one in page.fns.values() if one.fn and one.api_visibility == "private" and one.show_progress != "full"
    ]
    assert len(hidden) > 100
    assert [one.name for one in hidden if one.show_progress_on != []] == []
    full = [one for one in page.fns.values() if one.fn and one.show_progress == "full"]
    shown = {part.elem_id for one in full for part in one.show_progress_on or one.outputs}
    assert shown == {"corpus-report", "run-import"}


def test_an_update_is_not_drawn_as_a_part_of_the_page():
    """Outside a handler, what `told` returns is a component, and Gradio draws it."""
    drawings = [part for part in build_app().blocks.values() if isinstance(part, gr.HTML)]
    assert len(drawings) > 50
    assert {part.html_template for part in drawings} == {"", "<div></div>"}


def test_nothing_moves_at_every_frame():
    """A page stays open for hours, beside a run that wants the same cores."""
    lasting = re.findall(r"[{;] *(animation: [^;}]*infinite[^;}]*)", theme.CSS)
    assert lasting
    assert [one for one in lasting if "step" not in one] == []
    assert re.findall(r"transition:[^;}]*\b(?:width|height|left|top|all)\b", theme.CSS) == []  # each frame is a layout
    scripts = [path for path in Path(theme.__file__).parent.rglob("*.js") if path.name != "before_gradio.js"]
    assert len(scripts) > 20
    assert [path.name for path in scripts if "requestAnimationFrame" in path.read_text(encoding="utf-8")] == []


def test_an_ellipsis_is_one_character():
    sources = Path(theme.__file__).parent.rglob("*.py")
    texts = [node.value for path in sources for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.Constant) and isinstance(node.value, str)]  # fmt: skip
    assert "Waiting for its turn …" in texts
    assert [one for one in texts if one.endswith(" ...")] == []


def test_choosing_another_text_ends_a_reading(home):
    with gr.Blocks() as demo:
        corpus_tab.build(gr.HTML(), gr.BrowserState())
    parts = {part.elem_id: part for part in demo.blocks.values()}
    readings = {number for number, one in demo.fns.items() if one.fn and one.fn.__name__ == "steps"}
    assert len(readings) == 7
    for name in ("corpus-builtin", "corpus-stored"):
        canceled = [one.cancels for one in demo.fns.values() if (parts[name]._id, "input") in one.targets]
        assert readings in map(set, canceled)
    uploads = [(name, "upload") for name in ("corpus-upload", "corpus-folder")]
    for name, event in (*uploads, ("corpus-no-files", "click"), ("corpus-use", "click")):
        wired = [one for one in demo.fns.values() if (parts[name]._id, event) in one.targets]
        [canceled] = [one.cancels for one in wired if one.cancels]
        assert len(readings - set(canceled)) == 1  # its own
    assert all(demo.fns[number].trigger_mode == "always_last" for number in readings)


def test_a_built_in_text_is_selected_even_if_it_was_uploaded_before(home, text, monkeypatch):
    monkeypatch.setattr(chosen_text, "choose_builtin", lambda key: choosing.choose_stored(text.id))
    assert chosen_text.attempt(chosen_text.choose_builtin, "shakespeare")["builtin"] == "shakespeare"


def test_a_browser_that_asks_twice_for_the_same_reading_leaves_one_text(home, tmp_path):
    """Both requests carry the state from before the first one was answered."""
    path = tmp_path / "old.txt"
    path.write_bytes("Мельник спит у реки.\n".encode("koi8-r") * 60)
    given = last_of(chosen_text.take_new(None, [str(path)]))["given"]
    for codec in ("cp1251", "koi8-r", "cp1251"):
        answers = [last_of(chosen_text.take_again(None, given, codec))["given"] for _ in range(2)]
        given = answers[-1]
        assert [one.id for one in corpus.listed()] == [given.added]
