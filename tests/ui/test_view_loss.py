"""The view "What does this loss mean?", the lines on the loss plot, and counting in the background."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from conftest import CLASSIC, ended_run, faint, until

from nanogpt import corpus
from nanogpt.explain import baselines, loss
from nanogpt.launch import counting, prepare
from nanogpt.runs import overview, queue
from nanogpt.ui import measuring, view, watching
from nanogpt.ui.drawn import line
from nanogpt.ui.views import loss as view_loss


@pytest.fixture
def one(text):
    ended_run(text, "one", **CLASSIC)
    return view.opened("one")


# --- the ruler -------------------------------------------------------------------------------------------------------


def test_the_ruler_has_the_run_among_the_baselines(one, text):
    baselines.keep(text)
    data = view_loss.ruler(one)
    assert [mark["loss"] for mark in data["marks"]] == sorted((mark["loss"] for mark in data["marks"]), reverse=True)
    [own] = [mark for mark in data["marks"] if mark["kind"] == "model"]
    assert (own["label"], own["loss"], own["knows"]) == ("one", 3.0, "sees up to the previous 16 characters")
    adaptive = {mark["label"] for mark in data["marks"] if mark["kind"] == "adaptive"}
    assert adaptive == {"xz (compressor)", "PPMd (compressor)"} or not view_loss.compressors()["ppmd"]
    bigram = baselines.kept(text).losses["bigram"]
    assert data["words"][:2] == [
        "Better than knowing how often each character occurs.",
        f"Next: knowing the previous character, which reaches {bigram:.2f}.",
    ]
    assert "as unsure as if it had to choose among 20.1 equally likely characters" in data["words"][2]
    assert "ahead, too, but keep" in data["words"][3]


def test_the_next_one_ahead_is_a_counting_model_as_long_as_there_is_one():
    losses = {"uniform": 4.0, "unigram": 3.3, "bigram": 2.48, "5-gram": 1.78, "7-gram": 1.76, "xz": 2.04, "ppmd": 1.69}
    first, following, _, ahead = view_loss.compared(2.92, losses)
    assert (first[:11], following) == ("Better than", "Next: knowing the previous character, which reaches 2.48.")
    assert ahead == "xz and PPMd are ahead, too, but keep learning as they read."
    [_, _, ahead] = view_loss.compared(1.7, losses)
    assert ahead == "PPMd is ahead, but keeps learning as it reads."
    assert view_loss.compared(4.1, losses)[0] == view_loss.WORSE


def test_a_run_that_has_just_begun_is_not_said_to_have_gone_wrong(one, text):
    losses = baselines.keep(text).losses
    run = prepare.new_run("new", text, "quick", **CLASSIC)
    said = lambda: view_loss.ruler(replace(one, run=run))["words"]
    run.event("started", step=0, device="CPU")
    run.log(step=0, seconds=0.5, tokens=0, train_loss=4.1, val_loss=losses["uniform"] + 0.01)
    hardly, unsure, part = said()
    assert hardly == "This run has hardly trained yet."
    assert "as unsure as" in unsure
    assert part == "The model's loss was measured during training, on a part of the validation set."
    run.log(step=9, seconds=1.0, tokens=64, train_loss=9.0, val_loss=9.0)
    run.event("stopped", step=9, message="Stopped.")
    assert said()[0] == f"No better than guessing: {view_loss.WRONG}"  # it got worse from there


def test_a_loss_that_cannot_be_lower_is_not_said_to_have_gone_wrong():
    digits = {"uniform": 2.3026, "unigram": 2.3027, "bigram": 2.304}  # random ones
    for own in (2.295, 2.3026, 2.31):
        first, unsure = view_loss.compared(own, digits)
        assert first == "No better than guessing, and neither is counting: this text has hardly any patterns."
        assert "among 10.0 equally likely" in unsure or "among 9.9" in unsure or "among 10.1" in unsure
    assert view_loss.compared(2.4, digits)[0] == view_loss.WORSE
    one_character = dict.fromkeys(digits, 0.0)
    first, _ = view_loss.compared(0.0, one_character)
    assert first == view_loss.NOTHING_LEFT


def test_the_ruler_says_on_how_much_the_model_was_judged(one, text):
    baselines.keep(text)
    assert "measured" not in " ".join(view_loss.ruler(one)["words"])  # an older version didn't log it
    held_out = len(one.held_out_text())
    half = "The model's loss was measured on 50% of the validation set."
    for part, said in ((held_out // 2, half), (held_out, None)):
        one.run.event("finished", step=50, val_loss=3.0, val_characters=part, message="Finished.")
        words = view_loss.ruler(one)["words"]
        assert words[4:] == ([said] if said else [])


def test_without_counts_the_ruler_says_why(one, text):
    assert view_loss.ruler(one, waiting=True)["words"] == [view_loss.COUNTING]
    [uncounted] = view_loss.ruler(one)["words"]
    assert uncounted.startswith("The characters of this text haven't been counted")
    corpus.delete(text.id)
    assert view_loss.ruler(view.opened("one"))["words"] == [
        "The text of this model isn't here, so there is nothing to compare its loss with."
    ]


def test_the_ruler_goes_on_waiting_when_another_text_has_been_counted_first(one, monkeypatch):
    finished, wanted = iter([0, 1, 2]), iter([True, False])
    monkeypatch.setattr(view_loss.counting, "ask", lambda id: True)
    monkeypatch.setattr(view_loss.counting, "is_wanted", lambda id: next(wanted))
    monkeypatch.setattr(view_loss.counting, "finished", lambda: next(finished, 2))
    monkeypatch.setattr(view_loss.time, "sleep", lambda seconds: None)
    first, *others = [data["words"] for data in view_loss.show("one") if data]
    assert [first, *others[:-1]] == [[view_loss.COUNTING]] * 2
    assert others[-1][0].startswith("The characters of this text haven't been counted")


def test_learning_while_reading_is_shown_and_waits_for_runs_and_other_measurements(one, text, monkeypatch):
    *_, found = view_loss.learn(one)
    data = view_loss.ruler(one, learned=found)
    [mark] = [mark for mark in data["marks"] if mark["kind"] == "model adaptive"]
    assert mark["loss"] == found["dynamic"]
    assert f"the model reaches {found['dynamic']:.3f}" in data["words"][-1]
    monkeypatch.setattr(view_loss.loss, "learn", lambda one, seconds: iter([1, 2]))
    monkeypatch.setattr(measuring.time, "sleep", lambda seconds: None)
    busy = [["other"], [], ["other"], []]
    monkeypatch.setattr(queue, "running", lambda: busy.pop(0) if len(busy) > 1 else busy[0])
    assert list(view_loss.learn(one)) == [None, None, 1, 2]
    other = measuring.in_turn([1])
    next(other)
    second = view_loss.learn(one)
    assert next(second) is None
    other.close()
    assert list(second) == [1, 2]


def test_what_the_right_to_learn_is_worth_is_a_difference_with_its_side():
    said = lambda dynamic: view_loss.learned(dict(static=2.0, dynamic=dynamic))
    assert said(1.875) == "If it may also keep learning as it reads, the model reaches 1.875, 0.125 lower than without."
    assert said(2.25) == "If it may also keep learning as it reads, the model reaches 2.250, 0.250 higher than without."


def test_learning_has_less_time_on_a_public_server(one, monkeypatch):
    given = []
    monkeypatch.setattr(loss, "learn", lambda one, seconds: given.append(seconds) or iter([]))
    for public in ("", "1"):
        monkeypatch.setenv("NANOGPT_PUBLIC", public)
        list(view_loss.learn(one))
    assert given == [loss.SECONDS, view_loss.PUBLIC_SECONDS]


def test_while_it_learns_every_fifth_window_is_told(one, monkeypatch):
    found = [dict(windows=number, of=12, dynamic=2.0) for number in range(1, 13)]
    monkeypatch.setattr(view_loss, "learn", lambda one: iter(found))
    monkeypatch.setattr(view_loss, "ruler", lambda *_, **more: more)
    with gr.Blocks() as demo:
        view_loss.build(gr.Dropdown(), gr.HTML())
    [start] = [one.fn for one in demo.fns.values() if one.name == "start"]
    said = [next(update.value for update in updates.values() if isinstance(update, gr.HTML))
            for updates in start("one", None)]  # fmt: skip
    assert [line["text"] for line in said] == [view_loss.how_far(found[number]) for number in (0, 5, 10)] + [""]
    assert {line["spoken"] for line in said[:-1]} == {"Reading."}
    monkeypatch.setattr(view_loss, "learn", lambda one: iter([None, *found[:1]]))
    waiting, *_ = start("one", None)
    assert [update.value["text"] for update in waiting.values()] == [measuring.WAITING]


def test_pressing_the_button_says_at_once_that_it_waits(home):
    with gr.Blocks() as demo:
        [_, wrong] = view_loss.build(gr.Dropdown(), gr.HTML()).outputs
    [button] = [part for part in demo.blocks.values() if part.elem_id == "loss-learn"]
    [pressed] = [one for one in demo.fns.values() if (button._id, "click") in one.targets]
    assert pressed.queue is False  # another measurement may have the queue's only turn
    shown = pressed.fn()
    assert (shown[wrong].value, shown[button].interactive) == (line(view_loss.TURN, "running"), False)


# --- the plot --------------------------------------------------------------------------------------------------------


def test_the_plot_has_baselines_once_they_are_known(one, text):
    status = overview(one.run).status
    assert "baselines" not in watching.curves(one.run, status)
    losses = baselines.keep(text).losses
    data = watching.curves(one.run, status)
    assert {line["loss"] for line in data["baselines"]} == {round(value, 4) for value in losses.values()}
    assert data["passed"] == "Better than knowing how often each character occurs."
    assert data["live"] is False


def test_an_untrained_model_has_passed_nothing(text):
    baselines.keep(text)
    run = prepare.new_run("new", text, "quick", **CLASSIC)
    run.event("started", step=0, device="CPU")
    run.log(step=0, seconds=0.5, tokens=0, train_loss=3.0, val_loss=3.0)  # by luck, it is better than guessing
    assert watching.curves(run, overview(run).status)["passed"] == ""
    run.log(step=1, seconds=1.0, tokens=64, train_loss=3.0, val_loss=3.0)
    assert watching.curves(run, overview(run).status)["passed"].startswith("Better than ")


# --- in the background -----------------------------------------------------------------------------------------------


@pytest.fixture
def working(monkeypatch):
    """Let texts be asked for, without a thread that counts them."""
    monkeypatch.setattr(counting, "_worker", object())
    monkeypatch.setattr(counting, "_wanted", [])
    monkeypatch.setattr(counting, "_failed", set())
    monkeypatch.setattr(counting, "LOOK", 0.001)


def test_nothing_is_counted_unless_the_page_is_served(text):
    assert not counting.ask(text.id)
    assert not counting.is_wanted(text.id)


def test_texts_are_counted_latest_first_and_only_once(text, working):
    other = corpus.add(text.text() * 2, "Twice")
    assert counting.ask(text.id)
    assert counting.ask(other.id)
    assert counting.ask(text.id)
    assert counting._wanted == [other.id, text.id]
    assert not counting.ask("0" * 16)
    baselines.keep(text)
    assert not counting.ask(text.id)


def test_counting_waits_for_runs_and_ends_when_one_starts(text, working, monkeypatch):
    class Child:
        returncode, killed = None, False

        def poll(self):
            return self.returncode

        def kill(self):
            self.killed, self.returncode = True, -9

        def wait(self):
            pass

    busy, children = [["other"], [], []], []
    monkeypatch.setattr(queue, "waiting", lambda: [])
    monkeypatch.setattr(queue, "running", lambda: busy.pop(0) if busy else ["another"])
    monkeypatch.setattr(counting, "launch", lambda id: children.append(Child()) or children[-1])
    assert counting.count(text.id) is False
    assert busy == []
    assert [child.killed for child in children] == [True]
    assert not counting._failed


def test_a_text_that_was_deleted_meanwhile_is_counted_once_it_is_added_again(text, working, monkeypatch):
    monkeypatch.setattr(queue, "waiting", lambda: [])
    monkeypatch.setattr(queue, "running", lambda: [])
    failed = SimpleNamespace(returncode=1, poll=lambda: 1)
    monkeypatch.setattr(counting, "launch", lambda id: corpus.delete(id) or failed)
    content = text.text()
    assert counting.count(text.id)
    assert counting.ask(corpus.add(content).id)


@pytest.mark.slow
def test_a_process_counts_a_text_and_a_failure_is_not_repeated(text, working):
    assert counting.count(text.id)
    assert baselines.kept(text).missing() == []
    (text.folder / "baselines.json").unlink()
    (text.folder / "text.txt").write_bytes(b"\xff" * 6000)
    assert counting.count(text.id)
    assert not counting.ask(text.id)


@pytest.mark.slow
def test_counting_needs_no_torch():
    code = "import sys, nanogpt.explain.baselines; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- in a browser ----------------------------------------------------------------------------------------------------


def open_at_once(page) -> None:
    """Open the ruler before the list of models is there. Its own request, without a model, is answered last of all."""
    held: dict[str, list] = {"Understand": [], "Loss": []}

    def hold(route):
        sent = route.request.post_data or ""
        [name] = [name for name in held if f'"event_data":{{"value":"{name}"' in sent] or [""]
        held[name].append(route) if name else route.continue_()

    page.route("**/gradio_api/**", hold)
    page.get_by_role("tab", name="Understand").click()
    page.get_by_role("tab", name="Loss", exact=True).click()
    until(lambda: all(held.values()), wait=lambda: page.wait_for_timeout(20))
    assert [request.request.post_data_json["data"][2] for request in held["Loss"]] == [None]
    [models], [without] = held.values()
    models.continue_()
    page.wait_for_selector(".ruler-mark")
    with page.expect_response(lambda response: response.request == without.request):
        without.continue_()
    page.unroute("**/gradio_api/**")
    page.wait_for_timeout(300)  # its answer comes on another connection; the page must not show it
    assert page.locator("#loss-said").is_hidden()


def your_score_from_another_browser_tab_is_on_it(page, run) -> None:
    other = page.context.new_page()
    other.goto("/")
    scores = json.dumps({view.identity(run): 3.25})
    other.evaluate("(scores) => localStorage.setItem('nanogpt-scores', scores)", scores)
    other.close()
    page.get_by_role("tab", name="Architecture").click()
    page.get_by_role("tab", name="Loss", exact=True).click()
    page.wait_for_selector(".ruler-mark:has-text('You 2.25')")  # nats


@pytest.mark.slow
def test_the_ruler_and_the_lines_with_keyboard_in_both_themes(unopened_page, tiny_text):
    text = corpus.add(tiny_text, "A play")
    run = ended_run(text, "measured", **CLASSIC)
    losses, page = baselines.keep(text).losses, unopened_page
    page.goto("/?run=measured")
    page.wait_for_selector("#train-plot .plot-baseline-name")
    within = [loss for loss in losses.values() if 2.9 < loss < 4.2]
    assert page.locator("#train-plot line.plot-baseline").count() == len(within) > 0
    assert page.locator(".plot-passed").text_content() == "Better than knowing how often each character occurs."
    with page.expect_download() as saved:
        page.get_by_role("button", name="SVG").click()
    picture = Path(saved.value.path()).read_text(encoding="utf-8")
    assert "unigram" in picture
    assert "stroke-dasharray" in picture

    open_at_once(page)
    assert page.locator(".ruler-mark").count() == len(losses) + 1
    page.locator(".ruler").focus()
    page.keyboard.press("Home")
    assert page.locator(".ruler-told").text_content().startswith("Uniform knows only the alphabet: 3.")
    page.keyboard.press("ArrowDown")
    told = page.locator(".ruler-told").text_content()
    assert told != ""
    assert page.get_by_role("slider", name="Losses in nats per character").get_attribute("aria-valuetext") == told
    assert page.locator(".ruler-mark.ruler-chosen").count() == 1
    assert page.locator(".ruler-table tbody tr").count() == len(losses) + 1
    page.locator(".ruler-more summary").click()
    assert page.get_by_role("region", name="Losses as a table").get_attribute("tabindex") == "0"
    page.click("#loss-learn")
    page.wait_for_function("n => document.querySelectorAll('.ruler-mark').length === n", arg=len(losses) + 2)
    page.wait_for_selector("#loss-learn:enabled")
    assert "the model reaches" in page.locator(".ruler-words").text_content()
    your_score_from_another_browser_tab_is_on_it(page, run)
    page.mouse.move(0, 0)
    for theme in ("light", "dark"):
        page.evaluate("(dark) => document.body.classList.toggle('dark', dark)", theme == "dark")
        assert faint(page) == []
    page.set_viewport_size(dict(width=390, height=844))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
