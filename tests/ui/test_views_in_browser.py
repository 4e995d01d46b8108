"""The views of Understand in a real Chromium, with a server."""

from __future__ import annotations

import pytest
import torch
from conftest import TWO_BLOCKS, ended_run, faint, visit

from nanogpt import corpus
from nanogpt.explain import readout, replay
from nanogpt.explain.opened import open_run
from nanogpt.formats import read_config, weights_bytes
from nanogpt.model import GPT

SWATCHES = """(keys) => [...document.querySelectorAll(keys)].map((key) => {
  const { display, backgroundColor } = getComputedStyle(key, "::before");
  return display === "none" ? "" : backgroundColor;
})"""


def watch_lecture(page) -> None:
    page.get_by_role("tab", name="Understand").click()
    page.get_by_role("tab", name="Lecture").click()
    page.wait_for_selector("#replay-start:enabled")  # once it is opened


def choose_model(page, name: str) -> None:
    page.locator("#understand-run input").click()
    page.get_by_role("option", name=name, exact=True).click()
    page.wait_for_function("name => document.querySelector('#understand-run input').value === name", arg=name)


@pytest.mark.slow
def test_stages_wait_for_their_turn_and_can_be_started_again_however_they_ended(unopened_page, tiny_text):
    page, other = unopened_page, unopened_page.context.new_page()
    for name in ("one", "two"):
        ended_run(corpus.add(tiny_text, "A play"), name, **TWO_BLOCKS)
    status = "document.querySelector('#replay-status .status-line span')?.textContent"
    visit(other)
    watch_lecture(other)
    other.click("#replay-start")
    other.wait_for_function(f"/Stage \\d+: /.test({status})")
    assert other.locator("#replay-which input:enabled").count() == 0  # or its events would be drawn as another list's
    visit(page)
    watch_lecture(page)  # which needs no turn
    page.click("#replay-start")
    page.wait_for_function(f"{status} === 'Waiting for its turn …'")
    page.locator("#replay-stop").click()
    for one in (page, other):
        if one is other:  # another model is chosen while another view is in front, and then this one again
            one.get_by_role("tab", name="Embeddings").click()
            before = one.locator("#understand-run input").input_value()
            for name in ({"one", "two"} - {before}, {before}):
                choose_model(one, *name)
            one.get_by_role("tab", name="Lecture").click()
        one.wait_for_selector("#replay-start:enabled")
        one.wait_for_selector("#replay-stop:disabled")
        said = "" if one is other else "Stopped. The stages that were completed are kept."
        one.wait_for_function(f"{status} === '{said}'")
        assert one.locator("#replay-which input:enabled").count() == 2
    other.close()


@pytest.mark.slow
def test_the_losses_of_every_stage_can_be_read(unopened_page, tiny_text):
    page, text = unopened_page, corpus.add(tiny_text, "A play")
    ended_run(text, "one", **TWO_BLOCKS)
    for stage in replay.MODERN:
        ended = dict(step=400, val_loss=1.5 + stage / 10, sample="The", parameters=9, seconds=1.0)
        replay.keep(text.folder, stage, [dict(step=0, val_loss=4.0), ended])
    visit(page)
    watch_lecture(page)
    page.get_by_label("On to the modern recipe (8 to 18)").check()
    page.wait_for_selector("#replay-plot .plot-end.plot-run-10")
    # the samples have the colors of their lines
    swatches = [page.evaluate(SWATCHES, f"{where} .plot-key") for where in ("#replay-plot", "#replay-samples")]
    assert len(set(swatches[0])) == len(swatches[0]) == 11
    assert swatches[0] == swatches[1]
    for theme in ("light", "dark"):
        page.evaluate("(dark) => document.body.classList.toggle('dark', dark)", theme == "dark")
        page.mouse.move(0, 0)
        assert faint(page) == []


def look_character_by_character(page) -> None:
    sample = page.locator("#characters-text .characters").text_content()
    page.click("#characters-passage")
    page.wait_for_function(
        "old => document.querySelector('#characters-text .characters').textContent !== old", arg=sample
    )
    page.locator("#characters-text .cell").nth(30).click()
    page.wait_for_function("document.querySelector('.expected-title')?.textContent.startsWith('After')")
    assert page.locator(".expected-bar").count() == 5
    found, seen = page.locator(".expected-seen").all_text_contents()
    assert found.startswith("The text has “")
    assert seen.startswith("In your training text")
    before = page.locator(".expected-title").text_content()
    page.locator("#characters-text .characters").press("ArrowRight")
    page.wait_for_function("old => document.querySelector('.expected-title').textContent !== old", arg=before)
    assert page.locator("#characters-text .cell").nth(31).get_attribute("aria-selected") == "true"
    assert "bits, choice" in page.locator("#characters-text [aria-selected]").get_attribute("aria-label")

    # write together, and go back
    token = page.locator(".expected-bar code").nth(1).text_content()
    page.locator(".expected-bar").first.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "document.querySelectorAll('#characters-text .cell').length === 33"
    )  # 31 kept, one new, and the end
    assert page.locator("#characters-text .cell").nth(31).text_content() == {"↵": "↵\n", "␣": " "}.get(token, token)
    page.click("#characters-undo")
    page.wait_for_function("document.querySelectorAll('#characters-text .cell').length > 100")
    widths = lambda: page.eval_on_selector_all(".expected-drawn", "bars => bars.map((bar) => bar.style.width)")
    was = widths()
    page.locator("#characters-temperature input[type=number]").fill("0")
    page.keyboard.press("Tab")
    page.wait_for_function("document.querySelector('.expected-drawn').style.width === '100%'")
    assert widths() != was


def switch_parts_off(page) -> None:
    page.get_by_role("tab", name="Switch it off").click()
    page.wait_for_function("document.querySelector('.switches-words')?.textContent.includes('Measured on')")
    page.locator(".switch").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('#parts-texts .side').length === 2")
    assert page.locator(".switch[aria-pressed=true]").get_attribute("data-key") == "1.head.0"
    page.wait_for_function("document.querySelectorAll('#parts-texts .side-text')[1].textContent.length > 250")
    assert page.evaluate(SWATCHES, "#parts-texts .plot-key") == ["", ""]
    page.get_by_role("button", name="Switch all on").click()
    page.wait_for_function("document.querySelectorAll('#parts-texts .side').length === 0")


def play(page, text: str) -> None:
    page.get_by_role("tab", name="Beat your model").click()
    page.wait_for_selector(".guessing-field")
    passage = page.locator(".guessing-text").evaluate("(box) => box.firstChild.textContent")  # which may have a "?"
    field = page.locator(".guessing-field")
    for letter in "~#^":  # none of them is in the text
        field.press_sequentially(letter)
        page.wait_for_function(
            "letter => document.querySelector('.guessing-tries').textContent.includes(letter) || "
            "document.querySelector('.guessing-words').textContent", arg=letter,
        )  # fmt: skip
    assert page.locator(".guessing-words").text_content().startswith("None of your guesses: it was")
    assert page.locator(".guessing-bar").count() == 5
    assert page.evaluate("document.activeElement.className") == "guessing-field"
    first = page.locator(".guessing-text .guessed").text_content()[0].replace("↵", "\n")
    assert passage + first in text


def follow_attention(page) -> None:
    page.get_by_role("tab", name="Attention").click()
    page.wait_for_selector(".attention-head")
    assert page.locator(".attention-head").count() == 4
    first = page.locator(".attention-head[aria-selected=true] b").text_content()
    page.locator(".attention-heads").press("ArrowDown")
    page.wait_for_function(
        "old => document.querySelector('.attention-head[aria-selected=true] b').textContent !== old", arg=first
    )
    assert page.evaluate("document.activeElement.className") == "attention-heads"
    said = page.locator(".attention-said").text_content()
    page.locator(".attention-text").press("ArrowLeft")
    assert page.locator(".attention-said").text_content() != said
    page.locator(".attention-whole summary").click()
    assert page.locator(".attention-whole canvas").is_visible()


def travel_in_time(page) -> None:
    page.get_by_role("tab", name="Time machine").click()
    page.wait_for_selector(".timemachine-option")
    first = page.locator(".timemachine-text").text_content()
    assert page.locator("#time-at input").get_attribute("aria-label") == "Steps of the training"
    assert page.locator(".timemachine-dot").count() == page.locator(".timemachine-option").count()
    assert (
        page.locator(".timemachine-curve").get_attribute("aria-label").startswith("Training loss from 4.00 to 3.00. ")
    )
    page.locator("#time-at input").press("End")
    page.wait_for_function("old => document.querySelector('.timemachine-text').textContent !== old", arg=first)
    page.locator(".timemachine-list").press("Home")
    page.wait_for_selector(".timemachine-option[aria-selected=true]")
    assert page.evaluate("document.activeElement.className") == "timemachine-list"
    step = page.locator(".timemachine-option").first.text_content().split("step ")[-1]
    page.wait_for_function(
        "step => document.querySelector('#time-at input').getAttribute('aria-valuetext').startsWith(`step ${step}`)",
        arg=step,
    )  # fmt: skip


def read_out_after_each_block(page) -> None:
    page.get_by_role("tab", name="Read-out").click()
    page.wait_for_selector(".readout-depth")
    assert page.locator(".readout-depth").count() == 3
    assert page.locator(".readout-curve").get_attribute("aria-label").startswith("Loss after each block: Embedding ")
    page.locator(".readout-text").press("Home")
    page.locator(".readout-text").press("ArrowRight")
    said = page.locator("#readout-view .attention-title[role=status]").text_content()
    assert said.startswith("After “")
    page.locator(".readout-depths").press("Home")
    assert page.locator(".readout-depth[aria-selected=true] b").text_content() == "Embedding"
    assert page.locator(".readout-depth").first.get_attribute("aria-label").startswith("Embedding: ")
    assert page.locator("#readout-view .attention-title").first.text_content().endswith("embedding")


def find_neighbors(page) -> None:
    page.get_by_role("tab", name="Embeddings").click()
    page.wait_for_selector(".neighbors-map")
    assert page.locator("#neighbors-view .attention-title").text_content().startswith("Nearest to “e”")
    page.locator(".neighbors-text").press("ArrowRight")
    assert page.locator("#neighbors-view .attention-title").text_content().startswith("Nearest to “f”")
    assert page.locator("#neighbors-view .guessing-bar").count() == 5
    assert page.locator(".neighbors-line").count() == 5


def find_a_unit(page) -> None:
    page.get_by_role("tab", name="Units").click()
    page.wait_for_selector(".units-text")
    assert page.locator(".units-words").text_content().startswith("Start of a word: ")
    page.get_by_label("Late in the line").check()
    page.wait_for_function("document.querySelector('.units-words').textContent.startsWith('Late in the line: ')")
    assert page.locator(".units-find").is_disabled()
    for key in [*["ArrowRight"] * 10, "Shift+ArrowRight"]:
        page.locator(".units-text").press(key)
    page.get_by_text("1 character selected.", exact=True).wait_for()
    for _ in range(2):
        page.locator(".units-text").press("Shift+ArrowRight")
    page.get_by_text("3 characters selected.", exact=True).wait_for()
    assert page.locator(".units-chosen").count() == 3
    page.locator(".units-find").click()
    page.wait_for_function("document.querySelector('.units-words').textContent.includes('your selection')")


def take_the_tour(page) -> None:
    page.get_by_role("tab", name="Tour").click()
    page.wait_for_selector(".tour-title")
    assert page.locator(".tour-area").count() == 0  # first comes the question
    page.locator(".tour-question input").first.check()
    chosen = page.locator(".tour-choice").first.text_content()
    page.get_by_role("button", name="Encode").click()
    page.wait_for_selector(".tour-answer p")
    assert page.locator(".tour-answer b").text_content().startswith(("Right.", "Not quite. The answer is: "))
    assert page.locator(".tour-dot[data-done=true]").count() == 1
    page.get_by_role("button", name="Next", exact=True).click()
    assert page.evaluate("document.activeElement.className") == "tour-title"
    page.locator(".tour-question input").first.check()
    for _ in range(3):
        page.locator(".tour-text").press("ArrowRight")
        page.locator(".tour-text").press("Enter")
    assert page.locator("#tour-view .guessing-bar").count() == 5
    page.wait_for_selector(".tour-answer p")
    # the steps are one tab stop
    assert page.locator(".tour-dot[tabindex='0']").count() == 1
    page.locator(".tour-dot[tabindex='0']").press("End")
    assert page.locator(".tour-title").text_content().startswith("10. ")
    page.locator(".tour-question input").first.check()
    page.get_by_role("button", name="Write twice").click()
    page.wait_for_function("document.querySelector('#tour-view .tour-said').textContent.includes('the same')")
    page.get_by_role("button", name="Finish").click()
    assert page.locator(".tour-end").text_content().startswith("You have done 2 of 10 steps. Left: What does")
    page.get_by_role("button", name="Back", exact=True).click()
    # what was done is remembered
    page.reload()
    page.get_by_role("tab", name="Understand").click()
    page.get_by_role("tab", name="Tour").click()
    page.wait_for_selector(".tour-title")
    assert page.locator(".tour-dot[data-done=true]").count() == 2
    assert page.locator(".tour-dot[aria-current]").text_content() == "9"
    page.locator(".tour-dot").first.click()
    assert page.locator(".tour-choice:has(:checked)").text_content() == chosen
    page.get_by_role("button", name="Restart").click()
    assert page.locator(".tour-dot[data-done=true]").count() == 0


def draw_the_architecture(page) -> None:
    page.get_by_role("tab", name="Architecture").click()
    page.wait_for_selector(".architecture-box")
    assert page.locator(".architecture-box[aria-pressed=true] b").text_content() == "Multi-head attention"
    assert "class MultiHeadAttention" in page.locator(".architecture-lines").text_content()
    page.locator(".architecture-box").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator(".architecture-box[aria-pressed=true] b").text_content() == "Position embedding"
    before = page.locator(".architecture-words").text_content()
    page.locator("#architecture-n_layer input").fill("3")
    page.keyboard.press("Tab")
    page.wait_for_function("old => document.querySelector('.architecture-words').textContent !== old", arg=before)
    assert page.locator(".architecture-times").text_content() == "block, 3 times"
    page.locator("#architecture-n_head input").fill("5")
    page.keyboard.press("Tab")
    page.wait_for_selector("#architecture-said [role=status]:has-text('n_head')")


def replay_the_lecture(page) -> None:
    page.get_by_role("tab", name="Lecture").click()
    status = "document.querySelector('#replay-status .status-line span')?.textContent"
    page.get_by_label("On to the modern recipe (8 to 18)").check()
    assert page.locator("#replay-stop").is_disabled()  # there is nothing to stop
    page.click("#replay-start")
    page.wait_for_function(f"/^Stage 8: .*, step 0\\./.test({status})")
    assert page.locator("#replay-samples h4").first.text_content().startswith("8 the lecture's recipe")
    page.click("#replay-stop")
    page.wait_for_selector("#replay-stop[disabled]")
    page.wait_for_selector("#replay-start:not([disabled])")
    page.wait_for_function(f"{status} === 'Stopped. The stages that were completed are kept.'")


def look_for_copies(page, text: str) -> None:
    page.get_by_role("tab", name="Copies").click()
    page.wait_for_function("document.querySelector('.copies-words')?.textContent.includes('Held-out text')")
    page.get_by_role("button", name="Check your own text").click()
    page.fill("#copies-own textarea", text[:200] + "\n" + text[300:340])
    page.get_by_role("button", name="Check this text").click()
    page.wait_for_selector(".copies-option")
    page.locator(".copies-list").press("ArrowDown")
    assert page.locator(".copies-option[aria-selected=true] b").text_content().endswith(" characters")
    assert page.locator(".copies-where").text_content().startswith("Line ")


def come_back(page, text: str) -> None:
    """What was played and entered in `play` and `look_for_copies` is still there, also after another tab."""
    page.get_by_role("tab", name="Share").click()
    page.get_by_role("tab", name="Understand").click()
    for name in ("Beat your model", "Copies"):
        page.get_by_role("tab", name=name).click()
    page.wait_for_timeout(500)  # an opening would have replaced them by now
    assert page.locator(".guessing-text .guessed").count() == 1
    assert page.locator(".copies-text").text_content() == text[:200] + "\n" + text[300:340]


@pytest.mark.slow
def test_the_view_in_front_follows_its_model_when_you_come_back_to_the_tab(unopened_page, tiny_text):
    run, page = ended_run(corpus.add(tiny_text, "A play"), "one", **TWO_BLOCKS), unopened_page
    visit(page)
    page.get_by_role("tab", name="Understand").click()
    words = "document.querySelector('.characters-words')?.textContent"
    page.wait_for_function(words)
    before, path = page.evaluate(words), run.folder / "model.safetensors"
    page.get_by_role("tab", name="Train", exact=True).click()
    torch.manual_seed(2)
    path.write_bytes(weights_bytes(GPT(read_config(run.folder))))  # it has trained on
    page.get_by_role("tab", name="Understand").click()
    page.wait_for_function(f"was => {words} !== was", arg=before)


@pytest.mark.slow
def test_a_model_is_looked_into_with_mouse_and_keyboard(unopened_page, tiny_text, monkeypatch):
    run = ended_run(corpus.add(tiny_text, "A play"), "looked-into", **TWO_BLOCKS)
    for step in (60, 70, 80, 90):
        run.sample(step, tiny_text[step : step + 200])
    monkeypatch.setattr(readout, "STEPS", 20)
    [*_] = readout.measured(open_run(run))
    page = unopened_page
    visit(page)
    page.get_by_role("tab", name="Understand").click()
    page.wait_for_function("document.querySelectorAll('#characters-text .cell').length > 5")
    look_character_by_character(page)
    switch_parts_off(page)
    play(page, tiny_text)
    follow_attention(page)
    read_out_after_each_block(page)
    draw_the_architecture(page)
    replay_the_lecture(page)
    look_for_copies(page, tiny_text)
    travel_in_time(page)
    find_neighbors(page)
    find_a_unit(page)
    come_back(page, tiny_text)
    take_the_tour(page)
    for theme in ("light", "dark"):
        page.evaluate("(dark) => document.body.classList.toggle('dark', dark)", theme == "dark")
        assert faint(page) == []
        page.get_by_role("tab", name="Characters", exact=True).click()
        page.wait_for_selector("#characters-parts .cell-break, .characters .cell-break")
        assert faint(page) == []
    page.set_viewport_size(dict(width=390, height=844))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
