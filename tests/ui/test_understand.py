"""The Understand tab: what its handlers return, who may see what, then every view in a real Chromium."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ended_run

from nanogpt import corpus
from nanogpt.config import NanoGPTError, SampleConfig
from nanogpt.explain import guessing
from nanogpt.explain.opened import open_run
from nanogpt.launch import visitors
from nanogpt.runs import queue
from nanogpt.ui import (
    share_tab,
    view,
    view_attention,
    view_characters,
    view_copies,
    view_guessing,
    view_loss,
    view_parts,
)

CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
SMALL = dict(layout="classic", n_layer=2, n_head=2, n_embd=16, block_size=16, batch_size=4, max_iters=50)


@pytest.fixture
def one(home, tiny_text):
    ended_run(corpus.add(tiny_text, "A play"), "one", **SMALL)
    return view.opened("one")


# --- character by character -----------------------------------------------------------------------------------------


def test_a_text_is_colored_token_by_token(one):
    data = view_characters.colored(one, "The mill\nQ", 3)
    assert "".join(data["tokens"]) in ("The mill\nq", "The mill\n")
    assert data["at"] == 3
    assert len(data["tokens"]) == len(data["bits"]) == len(data["ranks"])
    assert "Q" in data["note"]
    assert "bits each on average. Least expected: “" in data["words"]


def test_a_long_text_is_cut_and_an_empty_one_refused(one):
    data = view_characters.colored(one, "the " * 1000)
    assert len(data["tokens"]) == view_characters.LONGEST == data["at"]
    assert data["words"].startswith("Only the first 2,000 characters are shown. ")
    with pytest.raises(NanoGPTError, match="There is no text to color"):
        view_characters.colored(one, "")


def test_what_was_expected_at_a_place(one):
    there = view_characters.expected(one, "The mill", 4, SampleConfig())
    assert there["before"] == "The "
    assert there["own"] == "m"
    assert len(there["bars"]) == 5
    assert "In your training text, “The ” occurs" in there["seen"]
    at_the_end = view_characters.expected(one, "The mill", 99, SampleConfig())
    assert at_the_end["at"] == 8
    assert at_the_end["own"] == ""


def test_the_training_text_is_quoted_only_to_its_reader(one):
    shared = open_run(one.run, may_read_text=False)
    assert view_characters.expected(shared, "The mill", 4, SampleConfig())["seen"] == view_characters.NO_TEXT
    with pytest.raises(NanoGPTError, match="isn't here"):
        view_characters.a_passage(shared)


def test_on_a_public_server_nobody_opens_another_visitors_run(one, monkeypatch):
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    stranger = visitors.visitor_of(visitors.new_word())
    monkeypatch.setattr(view, "visitor", lambda: stranger)
    monkeypatch.setattr("nanogpt.ui.words.visitor", lambda: stranger)
    with pytest.raises(NanoGPTError, match="There is no run named one"):
        view.opened("one")
    one.run.change(public=True)
    assert view.opened("one").training_text() is None


def test_a_passage_begins_with_a_line_and_is_held_out(one):
    held_out = one.held_out_text()
    for _ in range(20):
        passage = view_characters.a_passage(one)
        assert passage
        assert passage in held_out
        assert held_out[held_out.index(passage) - 1] == "\n"


# --- switch it off ----------------------------------------------------------------------------------------------------


def test_the_grid_fills_and_says_what_it_found(one):
    *filling, last = view_parts.measured(one, ["0.mlp"])
    assert last["off"] == ["0.mlp"]
    assert len(last["rises"]) == 8
    assert last["n_layer"] == last["n_head"] == 2
    assert "Measured on held-out text, where the whole model has a loss of" in last["said"]
    assert filling[0]["said"] == "Measuring: 0 of 8 parts."


def test_nothing_is_measured_while_something_trains(one, monkeypatch):
    busy = [["other"], ["other"], []]
    monkeypatch.setattr(queue, "running", lambda: busy.pop(0) if len(busy) > 1 else busy[0])
    monkeypatch.setattr(view_parts.time, "sleep", lambda seconds: None)
    said = [data["said"] for data in view_parts.measured(one, [])]
    assert said[:2] == ["Waiting until the machine is free, so that nothing is slowed down."] * 2
    assert said[-1].endswith(".")
    assert "Measured on" in said[-1]


def test_one_model_is_measured_at_a_time_and_what_is_known_is_shown_at_once(one, monkeypatch):
    monkeypatch.setattr(view_parts.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(view_parts, "PATIENCE", -1.0)
    first = view_parts.measured(one, [])
    next(first)
    with pytest.raises(NanoGPTError, match="Open this view again"):
        list(view_parts.measured(one, []))
    [*_, last] = first
    assert last["said"].endswith(".")
    monkeypatch.setattr(queue, "running", lambda: ["other"])
    [at_once] = view_parts.measured(one, [])
    assert at_once["rises"] == last["rises"]


def test_a_public_server_limits_the_time_of_measuring(one, monkeypatch):
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    monkeypatch.setattr(view_parts, "SECONDS", -1.0)
    with pytest.raises(NanoGPTError, match="takes longer than"):
        list(view_parts.measured(one, []))


def test_both_texts_start_with_the_prompt_in_the_models_alphabet(one):
    *_, last = view_parts.side_by_side(one, ["0.mlp", "1.head.1"], "Ω The ", 5, 30)
    whole, less = last["columns"]
    assert whole["name"] == "With all parts"
    assert less["name"] == "Without block 1, MLP; block 2, head 2"
    assert whole["prompt"] == less["prompt"] == " The "
    assert len(whole["text"]) == len(less["text"]) == 30
    with pytest.raises(NanoGPTError, match="no part"):
        list(view_parts.side_by_side(one, ["9.mlp"], "", 5, 30))


# --- beat your model --------------------------------------------------------------------------------------------------


def test_what_is_still_hidden_never_reaches_the_browser(one):
    game = guessing.new_game(one, 3)
    hidden = game.text[game.place :]
    assert hidden not in json.dumps(view_guessing.shown(one, game), ensure_ascii=False)
    after = guessing.guess(game, hidden[0], one)
    data = view_guessing.shown(one, after)
    assert data["guessed"] == [[hidden[0], 1]]
    assert data["last"]["right"] == hidden[0]
    assert data["left"] == guessing.HIDDEN - 1
    assert len(data["last"]["bars"]) == 5


def test_your_score_counts_after_ten_characters_and_stands_on_the_ruler(one):
    game = guessing.new_game(one, 3)
    for _ in range(9):
        game = guessing.guess(game, game.text[game.place], one)
    assert view_guessing.scored({"other": 2.0}, "one", game, 40) == {"other": 2.0}
    game = guessing.guess(game, game.text[game.place], one)
    scores = view_guessing.scored(None, "one", game, 40)
    assert scores == {"one": pytest.approx(guessing.player_bits(game.ranks, 40), abs=1e-3)}
    [you] = [
        mark for mark in view_loss.ruler(one, player=view_loss.score_of(one, scores))["marks"] if mark["label"] == "You"
    ]
    assert you["bits"] == pytest.approx(scores["one"])
    for nonsense in (None, "x", {"one": "x"}, {"one": -1}, {"other": 2.0}):
        assert view_loss.score_of(one, nonsense) is None


# --- where does it look? ----------------------------------------------------------------------------------------------


def test_every_head_is_shown_with_its_cost_and_the_chosen_one_whole(one):
    data = view_attention.looked(one, "The mill turns", "1.head.1", 5)
    T = len(data["tokens"])
    assert T == 14
    assert data["at"] == 5
    assert data["head"] == "1.head.1"
    assert len(base64.b64decode(data["matrix"])) == T * T
    assert [len(base64.b64decode(head["small"])) for head in data["heads"]] == [data["size"] ** 2] * 4
    assert "Open “Switch it off” once to sort the heads" in data["words"]
    [*_] = view_parts.measured(one, [])
    costs = [float(head["cost"].split()[0]) for head in view_attention.looked(one, "The mill")["heads"]]
    assert costs == sorted(costs, reverse=True)


def test_a_picture_is_small_and_keeps_the_shape():
    matrix = np.tril(np.ones((100, 100)))
    small = view_attention.pooled(matrix)
    assert small.shape == (24, 24)
    assert small[0, -1] == 0
    assert small[-1, 0] == 1
    assert list(base64.b64decode(view_attention.picture(np.array([[0.0, 0.25, 1.0]])))) == [0, 128, 255]


# --- did it copy? -----------------------------------------------------------------------------------------------------


def test_a_copied_stretch_comes_with_its_place_in_the_training_text(one):
    training = one.training_text()
    at = training.index("\n", 200) + 1
    found = view_copies.found(one, "~~" + training[at : at + 50])
    span = found["spans"][0]
    assert (span["start"], span["length"]) == (2, 50)
    first = training.index(training[at : at + 50])
    assert span["line"] == training[:first].count("\n") + 1
    assert span["before"] == training[first - view_copies.AROUND : first]
    assert span["after"].startswith(training[first + 50 : first + 60])
    assert found["words"].endswith(" 3.8% of this text is original.")
    with pytest.raises(NanoGPTError, match="no text to check"):
        view_copies.found(one, "")


def test_the_share_tab_says_how_much_is_copied_before_anything_is_published(one):
    assert "Held-out text, which is new, has" in share_tab.copied_words("one")["text"]
    assert share_tab.copied_words("absent")["text"] == ""


# --- in a browser -----------------------------------------------------------------------------------------------------


def look_character_by_character(page) -> None:
    page.click("#characters-passage")
    page.wait_for_function("document.querySelectorAll('#characters-text .cell').length > 100")
    page.locator("#characters-text .cell").nth(30).click()
    page.wait_for_function("document.querySelector('.expected-title')?.textContent.startsWith('After')")
    assert page.locator(".expected-bar").count() == 5
    assert "In your training text" in page.locator(".expected-seen").text_content()
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
    page.get_by_role("button", name="Switch all on").click()
    page.wait_for_function("document.querySelectorAll('#parts-texts .side').length === 0")


def play(page, text: str) -> None:
    page.get_by_role("tab", name="Beat your model").click()
    page.wait_for_selector(".guessing-field")
    passage = page.locator(".guessing-text").text_content().split("?")[0]
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
    first = page.locator(".guessed").text_content()[0].replace("↵", "\n")
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


@pytest.mark.slow
def test_a_model_is_looked_into_with_mouse_and_keyboard(standing_page, standing_server, tiny_text, monkeypatch):
    monkeypatch.setenv("NANOGPT_HOME", str(standing_server.home))
    run = ended_run(corpus.add(tiny_text, "A play"), "looked-into", **SMALL)
    for step in (60, 70, 80, 90):
        run.sample(step, tiny_text[step : step + 200])
    page = standing_page
    page.reload()
    page.get_by_role("tab", name="Understand").click()
    page.wait_for_function("document.querySelectorAll('#characters-text .cell').length > 5")
    look_character_by_character(page)
    switch_parts_off(page)
    play(page, tiny_text)
    follow_attention(page)
    draw_the_architecture(page)
    look_for_copies(page, tiny_text)
    travel_in_time(page)
    for theme in ("light", "dark"):
        page.evaluate("(dark) => document.body.classList.toggle('dark', dark)", theme == "dark")
        page.wait_for_timeout(400)  # the colors fade
        assert page.evaluate(CONTRAST) == []
    page.set_viewport_size(dict(width=390, height=844))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
