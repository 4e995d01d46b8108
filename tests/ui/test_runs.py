"""The Runs tab: the table, what it offers for each run, and comparing runs. The handlers alone, then in a browser."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from conftest import SMALL, ended_run, faint

from nanogpt import corpus
from nanogpt.config import NanoGPTError
from nanogpt.launch import prepare
from nanogpt.model import count_parameters
from nanogpt.runs import Run, overview, queue
from nanogpt.ui import compare, run_panel, runs_tab, sample_tab
from nanogpt.ui.drawn import line
from nanogpt.ui.parts import Parts


@pytest.fixture
def runs(text) -> list[Run]:
    """Return two finished runs that were never trained: "one", and "two" with a wider model and another seed."""
    return [ended_run(text, "one", **SMALL), ended_run(text, "two", **{**SMALL, "n_embd": 32}, seed=7)]


def row(name: str) -> dict:
    return next(row for row in runs_tab.rows()["rows"] if row["name"] == name)


# --- the table -----------------------------------------------------------------------------------------------------


def test_a_row_has_what_is_shown_and_what_to_sort_by(runs, text):
    from nanogpt.formats import read_config

    cells = row("one")["cells"]
    parameters = count_parameters(read_config(runs[0].folder))
    assert cells["name"] == ("one", "one")
    assert cells["parameters"] == (f"{parameters / 1e6:.2f} M", parameters)
    assert cells["steps"] == ("50", 50)
    assert cells["loss"] == ("3.0000", 3.0)
    assert cells["time"] == ("0:01", 1.0)
    assert cells["epochs"][1] == pytest.approx(50 * 64 / int(0.9 * text.characters))
    assert cells["when"][1] == runs[0].settings()["created"]
    prepare.new_run("new", text, "quick", **SMALL)
    unknown = row("new")["cells"]
    assert all(unknown[key] == runs_tab.UNKNOWN for key in ("steps", "epochs", "loss", "time"))


def test_listing_reads_only_the_runs_that_changed(runs, monkeypatch):
    read = []
    glance = Run.glance
    monkeypatch.setattr(Run, "glance", lambda run: read.append(run.name) or glance(run))
    runs_tab.rows()
    read.clear()
    runs_tab.rows()
    assert read == []
    runs[0].log(step=75, seconds=2.0, tokens=75 * 64, val_loss=2.0)
    runs_tab.rows()
    assert read == ["one"]
    read.clear()
    queue.draw("two")
    assert overview(runs[1]).status.state == "queued"
    queue.drop("two")
    assert overview(runs[1]).status.state == "finished"
    runs[1].rename("three")
    assert {row["name"] for row in runs_tab.rows()["rows"]} == {"one", "three"}
    assert set(read) == {"two", "three"}  # also `rename`, which checks that nothing trains


def test_only_what_would_be_done_is_offered(runs, text, home, tmp_path, monkeypatch):
    assert row("one")["actions"] == ["open", "export", "rename", "delete", "compare"]
    prepare.new_run("new", text, "quick", **SMALL)  # without weights
    assert row("new")["actions"] == ["open", "rename", "delete", "compare"]
    queue.draw("one")
    assert row("one")["actions"] == ["open", "export", "compare"]
    queue.drop("one")
    (Run("new").folder / "run.json").write_text("{", encoding="utf-8")
    assert row("new")["actions"] == ["open", "delete"]
    assert run_panel.offered("one") == dict(export=True, rename=True, delete=True, checkpoint=False)
    (runs[0].folder / "last.safetensors").touch()
    assert run_panel.offered("one")["checkpoint"]
    assert not any(run_panel.offered("gone").values())


def test_the_menu_of_a_row_asks_before_it_renames_or_deletes_and_says_what_cannot_be_done(runs, monkeypatch):
    with gr.Blocks() as demo:
        run = gr.Dropdown()
        runs_tab.build(runs_tab.Train(run, lambda name: {}, Parts(run=run), gr.Tabs()))
    parts = {part.elem_id: part for part in demo.blocks.values()}
    called = lambda part, event: next(
        one.fn for one in demo.fns.values() if one.fn and (parts[part]._id, event) in one.targets
    )
    choose = lambda action, name: called("runs-table", "select")(SimpleNamespace(action=action, name=name))
    dialogs = ("runs-renaming", "runs-sure")
    for action, shown in (("rename", "runs-renaming"), ("delete", "runs-sure")):
        updates = choose(action, "one")
        assert [updates[parts[one]].visible for one in dialogs] == [one == shown for one in dialogs]
    assert updates[parts["runs-question"]].startswith("Delete one, ")
    updates = choose("rename", "gone")
    assert [updates[parts[one]].visible for one in dialogs] == [False, False]
    lost = updates[parts["runs-said"]].value["text"]
    assert lost == "There is no run named gone. It may have been deleted or renamed; choose another one."
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")  # visitors are told the same, also of the runs of others
    assert choose("rename", "gone")[parts["runs-said"]].value["text"] == lost
    monkeypatch.delenv("NANOGPT_PUBLIC")
    updates = called("runs-rename", "click")("one", "two", None)
    assert updates[parts["runs-said"]].value == line("There is already a run named two. Choose another name.", "failed")
    assert [row["name"] for row in updates[parts["runs-table"]]["rows"]] == ["two", "one"]


def test_the_bundled_run_can_be_opened_exported_and_compared(home, tmp_path, monkeypatch, runs):
    project = tmp_path / "project" / "checkpoints"
    project.mkdir(parents=True)
    runs[0].change(public=True)
    runs[0].folder.rename(project / "one")
    monkeypatch.setattr("nanogpt.paths.SHIPPED", project)
    monkeypatch.setenv("NANOGPT_SHIPPED", "on")
    for where in (home, project.parent):  # from elsewhere, and in a checkout
        monkeypatch.setenv("NANOGPT_HOME", str(where))
        assert row("one")["actions"] == ["open", "export", "compare"]
        assert run_panel.offered("one") == dict(export=True, rename=False, delete=False, checkpoint=False)


def test_after_renaming_or_deleting_the_train_tab_shows_the_run_that_was_in_view(runs):
    assert runs_tab.renamed("one", "three", "one") == ("one is now called three.", "three", "three")
    assert runs_tab.renamed("three", "four", "two") == ("three is now called four.", "two", "four")
    assert runs_tab.deleted("four", "two")[:2] == ("four is deleted.", "two")
    assert runs_tab.deleted("two", "two")[:2] == ("two is deleted.", None)


# --- comparing -----------------------------------------------------------------------------------------------------


def test_two_to_five_runs_are_compared(runs):
    assert [run.name for run in compare.chosen(["two", "one", "two"])] == ["two", "one"]
    for names in (None, "one", [], ["one"], ["one", "one"], list("abcdef"), [{}, []]):
        with pytest.raises(NanoGPTError, match="Select two to five runs"):
            compare.chosen(names)
    with pytest.raises(NanoGPTError, match="no run named gone"):
        compare.chosen(["one", "gone"])


def test_the_losses_go_over_steps_time_or_epochs(runs, text):
    runs[1].log(step=100, seconds=9.0, tokens=100 * 64, val_loss=2.5)
    over_steps = compare.plot(runs)
    assert [line["label"] for line in over_steps["lines"]] == ["one", "two"]
    assert over_steps["lines"][0]["points"] == [[0, 4.1, 0], [25, 3.6, 25], [50, 3.1, 50]]
    assert (over_steps["axis"], over_steps["end"]) == ("step", 100)
    assert compare.plot(runs, "seconds")["end"] == 9.0
    epochs = compare.plot(runs, "epochs")
    assert epochs["end"] == pytest.approx(100 * 64 / int(0.9 * text.characters), abs=1e-4)
    assert compare.plot([prepare.new_run("new", text, "quick", **SMALL)])["end"] == 1


def test_only_the_settings_that_differ_are_listed(runs, text):
    table = compare.differences(runs)
    assert table["head"] == ["Setting", "one", "two"]
    assert table["rows"] == [["n_embd", "16", "32"], ["seed", "1337", "7"]]
    modern = ended_run(text, "modern", **SMALL, layout="modern")
    of_page = ["Architecture", "Classic (as in the lecture)", "Modern (faster)"]
    assert compare.differences([runs[0], modern])["rows"][0] == of_page
    assert not {"layout", "budget", "max_iters", "preset"} & compare.described(modern).keys()
    assert table["said"] == ""
    automatic = ended_run(text, "automatic", **SMALL, weight_decay=-1.0)
    decay = ["weight_decay", "0.1", "chosen from the number of epochs"]
    assert decay in compare.differences([runs[0], automatic])["rows"]
    same = ended_run(text, "same", **SMALL)
    assert compare.differences([runs[0], same]) == dict(head=["Setting", "one", "same"], rows=[], said=compare.SAME)
    same.event("started", step=0, device="CUDA")
    other = corpus.add("Another text, long enough to be one. " * 40, "A play")
    rows = compare.differences([runs[0], same, ended_run(other, "other", **SMALL)])["rows"]
    assert rows == [
        ["Text", *[f"A play ({text.characters:,} characters)"] * 2, f"A play ({other.characters:,} characters)"],
        ["Device", "CPU", "CUDA", "CPU"],
    ]
    like = corpus.add(text.text().upper().encode(), text.name)  # as long
    first = f"A play ({text.characters:,} characters), SHA-256 "
    assert compare.differences([runs[0], ended_run(like, "like", **SMALL)])["rows"] == [
        ["Text", f"{first}{text.sha256[:8]}…", f"{first}{like.sha256[:8]}…"]
    ]


def test_the_number_of_steps_of_a_timed_run_is_a_result_and_no_setting(runs, text, known_speed):
    timed, longer = (prepare.new_run(name, text, "timed", budget=budget) for name, budget in (("a", 60.0), ("b", 90.0)))
    assert timed.settings()["train"]["max_iters"] != longer.settings()["train"]["max_iters"]  # what was planned
    differ = lambda *runs: {key: values for key, *values in compare.differences(list(runs))["rows"]}
    assert differ(timed, longer)["Training time"] == ["1m", "90s"]
    assert "Steps" not in differ(timed, longer)
    mixed = differ(timed, runs[0])
    assert mixed["Training time"] == ["1m", "no limit"]
    assert mixed["Steps"] == ["set by the time budget", "50"]
    timed.log(step=700, seconds=60.0, tokens=text.characters, val_loss=1.75)
    timed.event("finished", step=700, val_loss=1.625, val_characters=round(0.25 * 0.1 * text.characters))
    runs[0].event("finished", step=50, val_loss=3.0, val_characters=text.characters)
    table = compare.results([timed, longer, runs[0]])
    assert table["said"] == compare.FINAL  # or the loss would contradict the plot
    assert table["head"] == ["Result", "a", "b", "one"]
    assert table["rows"][:4] == [
        ["Validation loss", "1.6250", "–", "3.0000"],
        ["Measured on", "25% of the validation set", "–", "all of the validation set"],
        ["Steps", "700", "0", "50"],
        ["Time", "1:00", "0:00", "0:01"],
    ]
    longer.log(step=10, seconds=1.0, tokens=100, val_loss=3.5)
    assert compare.result(longer)["Measured on"] == "part of the validation set, during training"
    assert compare.result(runs[1])["Measured on"] == "–"  # finished, in a version that didn't log it


def test_losses_of_different_texts_are_not_compared_without_a_warning(runs):
    said = lambda runs: (compare.plot(runs)["warning"], compare.results(runs)["said"])
    assert said(runs) == ("", "")
    other = ended_run(corpus.add("Another text, long enough to be one. " * 40, "A play"), "other", **SMALL)
    assert said([*runs, other]) == (compare.OTHER_TEXTS,) * 2
    other.event("finished", step=50, val_loss=3.0, val_characters=148)
    assert said([*runs, other])[1] == f"{compare.OTHER_TEXTS} {compare.FINAL}"
    made = other.settings()["corpus"]
    other.change(corpus={key: value for key, value in made.items() if key != "sha256"})  # as of a model from the Hub
    assert said([*runs, other]) == ("", compare.FINAL)


def test_a_sample_from_each_run_is_what_the_sample_tab_writes(runs):
    *_, last = compare.samples(["one", "two"], "The ", 5, 20)
    for column in last["columns"]:
        *_, written = sample_tab.write(column["name"], "The ", length=20, seed=5)
        assert column["prompt"] + column["text"] == written
        assert (column["state"], column["said"]) == ("done", "")


def test_another_vocabulary_or_a_failure_is_a_sentence_in_its_column(runs, home):
    greek = ended_run(corpus.add("Καλημέρα κόσμε, τι κάνεις; \n" * 60, "Greek"), "greek", **SMALL)
    *_, last = compare.samples(["one", "greek"], "The ", 5, 20)
    one, other = last["columns"]
    assert one["said"] == ""
    assert "alphabet" in other["said"]
    assert len(other["text"]) == 20
    (greek.folder / "model.safetensors").unlink()
    *_, last = compare.samples(["greek", "one"], "The ", 5, 20)
    assert [column["state"] for column in last["columns"]] == ["failed", "done"]
    assert "no weights" in last["columns"][0]["said"]
    with pytest.raises(NanoGPTError, match="^Length was 100000"):
        next(compare.samples(["one", "two"], "The ", 5, 100_000))


# --- in a browser --------------------------------------------------------------------------------------------------


def said(page, where: str, words: str) -> None:
    page.wait_for_function(
        "([where, words]) => document.querySelector(where)?.innerText.includes(words)", arg=[where, words]
    )


def names(page) -> list[str]:
    return page.locator(".runs-frame tbody th").all_inner_texts()


def choose(page, name: str, action: str) -> None:
    """Choose an action from the menu of a run."""
    page.get_by_role("button", name=f"Actions for {name}").click()
    page.get_by_role("menuitem", name=action).click()


@pytest.mark.slow
def test_all_runs_in_a_table(page, home: Path, tiny_text: str):
    text = corpus.add(tiny_text, "A <b>play</b>")
    ended_run(text, "b-run", **SMALL)
    ended_run(text, "a-run", **{**SMALL, "n_embd": 32}).log(step=75, seconds=2.0, tokens=1, val_loss=1.0)
    prepare.new_run("c-run", text, "quick", **SMALL)
    page.context.new_cdp_session(page).send("Emulation.setTimezoneOverride", dict(timezoneId="Asia/Tokyo"))
    page.get_by_role("tab", name="Runs", exact=True).click()
    page.wait_for_function("document.querySelectorAll('.runs-frame tbody tr').length === 3")
    created = datetime.fromisoformat(Run("a-run").settings()["created"]).astimezone(timezone(timedelta(hours=9)))
    assert f"{created:%Y-%m-%d %H:%M}" in page.locator("tr[data-name=a-run]").inner_text()  # in the browser's time
    assert page.locator(".runs-frame b").count() == 0  # names and texts are never parsed
    it_shows_what_matters_on_a_phone(page)
    it_sorts_with_the_mouse_and_the_keyboard(page)
    it_compares(page)
    it_can_be_read(page)
    it_says_what_came_of_the_last_import(page, home)
    it_goes_to_the_dialog_and_back(page)
    it_renames_exports_deletes_and_opens(page, home)


CUT = """() => [...document.querySelectorAll(".runs-frame tbody tr")].flatMap((row) => {
  const right = row.querySelector(".runs-more").closest("td").getBoundingClientRect().left;
  return [...row.children].slice(1, 4).filter((cell) => cell.getBoundingClientRect().right > right + 1);
}).map((cell) => cell.textContent)"""


def it_shows_what_matters_on_a_phone(page) -> None:
    page.set_viewport_size(dict(width=390, height=844))
    assert page.locator(".runs-frame thead th").all_inner_texts()[:3] == ["Name", "Val loss", "State"]
    assert page.evaluate(CUT) == []
    page.locator(".runs-frame [data-state]").first.evaluate(
        "(cell) => (cell.textContent = 'Interrupted')"
    )  # the longest
    assert page.evaluate(CUT) == []
    page.set_viewport_size(dict(width=1280, height=900))


def it_sorts_with_the_mouse_and_the_keyboard(page) -> None:
    heading = lambda label: page.locator(".runs-frame thead button", has_text=label)
    sorted_by = lambda: page.locator(".runs-frame th[aria-sort]:not([aria-sort=none])").get_attribute("aria-sort")
    heading("Name").click()
    assert names(page) == ["a-run", "b-run", "c-run"]
    assert sorted_by() == "ascending"
    heading("Name").press("Enter")
    assert names(page) == ["c-run", "b-run", "a-run"]
    assert sorted_by() == "descending"
    heading("Steps").press("Space")
    assert names(page) == ["a-run", "b-run", "c-run"]  # 75, 50, and none yet
    heading("Steps").press("Space")
    assert names(page) == ["b-run", "a-run", "c-run"]  # the run without a number stays last
    assert page.evaluate("document.activeElement.textContent") == "Steps"


def it_compares(page) -> None:
    button = page.locator("#runs-compare")
    page.get_by_label("Compare a-run").check()
    assert button.is_disabled()
    page.get_by_label("Compare b-run").check()
    button.click()
    page.wait_for_selector("#compare-plot .plot-line.plot-run-1")
    assert page.locator("#compare-plot .plot-key").all_inner_texts() == ["a-run", "b-run"]
    assert page.locator("#compare-plot .plot-line").count() == 2
    cells = page.locator("#compare-settings tr").all_inner_texts()
    assert [line.split() for line in cells] == [["Setting", "a-run", "b-run"], ["n_embd", "32", "16"]]
    page.get_by_label("Epochs", exact=True).check()
    page.wait_for_function(
        "[...document.querySelectorAll('#compare-plot svg text')].some((text) => text.textContent === 'epochs')"
    )
    page.locator("#compare-prompt textarea, #compare-prompt input").first.fill("The Ж")
    for length in ("0", "30"):
        page.locator("#compare-length input").fill(length)
        page.locator("#compare-length input").press("Tab")
        if length == "0":
            page.locator("#compare-sample").click()
            said(page, "#compare-sample-said", "Length was 0")
            button, line = (page.locator(f"#compare-{one}").bounding_box() for one in ("sample", "sample-said"))
            assert 0 <= line["y"] - button["y"] - button["height"] < 30  # right below it
            page.wait_for_selector("#compare-sample:not([disabled])")
    assert page.locator("#compare-stop").is_disabled()
    page.set_viewport_size(dict(width=390, height=500))
    page.locator("#compare-sample").click()
    page.wait_for_function("document.querySelectorAll('.side[data-state=done]').length === 2")
    assert page.locator(".side").last.evaluate("(side) => side.getBoundingClientRect().bottom <= innerHeight + 1")
    page.set_viewport_size(dict(width=1280, height=900))
    for column in page.locator(".side").all():
        assert "alphabet" in column.locator(".side-said").inner_text()
        assert len(column.locator(".side-text").text_content()) == len("The ") + 30
    page.wait_for_selector("#compare-stop[disabled]")
    page.locator("#compare-length input").fill("10000")
    page.locator("#compare-length input").press("Tab")
    for _ in range(5):  # models this small may have written it all when the click arrives
        page.locator("#compare-sample").click()
        page.wait_for_selector(".side[data-state=writing]")
        page.locator("#compare-stop").evaluate("(button) => button.click()")  # which does nothing if it has ended
        page.wait_for_function("!document.querySelector('.side[data-state=writing]')")
        if page.locator(".side[data-state=stopped]").count():
            break
    assert page.locator(".side[data-state=stopped]").count()
    page.wait_for_selector("#compare-sample:not([disabled])")
    assert page.locator(".side[data-state=writing]").count() == 0
    with page.expect_download() as saved:
        page.locator("#compare-plot").get_by_role("button", name="SVG", exact=True).click()
    picture = saved.value.path().read_text(encoding="utf-8")
    assert all(f">{key}</text>" in picture for key in ("Validation loss", "a-run", "b-run"))


def it_can_be_read(page) -> None:
    page.locator("#compare-plot").get_by_role("button", name="Log scale").click()
    choose(page, "b-run", "Delete run")
    page.wait_for_selector("#runs-delete-yes")
    page.mouse.move(0, 0)  # away from the button that was pressed
    assert faint(page) == []
    page.evaluate("document.body.classList.add('dark')")
    assert faint(page) == []
    page.evaluate("document.body.classList.remove('dark')")
    page.locator("#runs-delete-no").click()


def it_says_what_came_of_the_last_import(page, home: Path) -> None:
    for name, there in (("broken.zip", True), ("other.txt", False)):
        (home / name).write_text("not an archive", encoding="utf-8")
        with page.expect_file_chooser() as asked:
            page.locator("#run-import").click()
        asked.value.set_files(home / name)
        page.locator("#run-import-said").wait_for(state="visible" if there else "hidden")


NEW_NAME = ":is(#runs-new-name input, #runs-new-name textarea)"
IN_VIEW = """(selector) => {
  const part = document.querySelector(selector), { top, bottom } = part?.getBoundingClientRect() || {};
  return part && part === document.activeElement && top >= -1 && bottom <= innerHeight + 1;
}"""


def it_goes_to_the_dialog_and_back(page) -> None:
    page.set_viewport_size(dict(width=390, height=500))  # the dialogs are below it
    page.evaluate("scrollTo(0, 0)")
    rename = "Rename run", NEW_NAME
    delete = "Delete run", "#runs-delete-no"
    for (action, goal), leave in ((rename, "#runs-rename-no"), (delete, "#runs-delete-no")):
        choose(page, "b-run", action)
        page.wait_for_function(IN_VIEW, arg=goal)
        asked = page.get_by_role("alertdialog", name=re.compile("^Delete b-run, .* This can't be undone.$"))
        assert asked.is_visible() == (action == "Delete run")  # its name is read out when the focus goes there
        page.locator(leave).press("Enter")
        page.wait_for_function(IN_VIEW, arg="tr[data-name=b-run] .runs-more")
    for action, goal in (rename, delete, rename):  # one after another
        choose(page, "b-run", action)
        page.wait_for_function(IN_VIEW, arg=goal)
    page.set_viewport_size(dict(width=1280, height=900))


def it_renames_exports_deletes_and_opens(page, home: Path) -> None:
    choose(page, "b-run", "Rename run")
    page.wait_for_function(IN_VIEW, arg=NEW_NAME)  # the answer empties the field, which may still be open
    page.locator(NEW_NAME).fill("a-run")
    page.locator("#runs-rename").click()
    said(page, "#runs-said", "There is already a run named a-run")
    compared = page.locator("#compare-plot")
    assert compared.is_visible()
    page.locator(NEW_NAME).fill("d-run")
    page.locator("#runs-rename").click()
    said(page, "#runs-said", "b-run is now called d-run.")
    page.get_by_label("Compare d-run").wait_for()
    compared.wait_for(state="hidden")  # b-run was one of its runs
    assert not page.locator("#runs-renaming").is_visible()
    page.wait_for_function(IN_VIEW, arg="tr[data-name=d-run] .runs-more")
    with page.expect_download() as packed:
        choose(page, "d-run", "Export run")
    assert packed.value.suggested_filename == "d-run.zip"
    page.get_by_role("button", name="Actions for c-run").click()
    assert page.get_by_role("menuitem").all_inner_texts() == ["Open run", "Rename run …", "Delete run …"]  # no weights
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    said(page, "#runs-sure", "")
    rows = names(page)
    below = [*rows[rows.index("c-run") + 1 :], *rows[:-1][::-1]][0]  # or above, at the end of the table
    page.locator("#runs-delete-yes").press("Enter")
    said(page, "#runs-said", "c-run is deleted.")
    assert not (home / "checkpoints" / "c-run").exists()
    page.wait_for_function(IN_VIEW, arg=f"tr[data-name={below}] .runs-more")
    page.evaluate("document.activeElement.blur()")
    page.evaluate(f"({runs_tab.GO_BACK})(({runs_tab.NEIGHBOR})('no-run'))")  # there is no other run to go to
    page.wait_for_function("document.activeElement.matches('.runs-more')")
    page.get_by_role("button", name="a-run", exact=True).click()
    page.wait_for_function("document.querySelector('#train-run input')?.value === 'a-run'")
    assert page.get_by_role("tab", name="Train", exact=True).get_attribute("aria-selected") == "true"
