"""The drawings of the views, each alone in a real Chromium, without a server."""

from __future__ import annotations

import base64
import json

import pytest
from conftest import MASKS

from nanogpt.ui import drawn
from nanogpt.ui.theme import CSS
from nanogpt.ui.views import (
    guessing as view_guessing,
    tour as view_tour,
)

# Runs the script of a component. What it triggers is in `sent`, and how often it listens to the window in `listens`.
# As in Gradio, a value that is given is drawn, and one that the script sets is not.
ALONE = """(script) => {
  const element = document.body.appendChild(document.createElement("div")), listen = window.addEventListener;
  const shows = [];
  Object.assign(window, { sent: [], listens: 0, props: { value: null } });
  window.addEventListener = (...what) => { window.listens++; listen.apply(window, what); };
  window.give = (value) => { props.value = value; for (const show of shows) show(); };
  const trigger = (event, data) => sent.push([event, data]), watch = (_, show) => shows.push(show);
  new Function("element", "props", "trigger", "watch", script)(element, props, trigger, watch);
}"""


@pytest.fixture
def alone(browser):
    """Return a function that opens a component on a blank page, at an address that has a storage."""
    window = browser.new_context(viewport=dict(width=360, height=700))
    window.route("http://alone/", lambda route: route.fulfill(body="<!doctype html><body>", content_type="text/html"))

    def opened(name: str, *uses: str):
        page = window.new_page()
        page.goto("http://alone/")
        mount(page, name, *uses)
        return page

    yield opened
    window.close()


def mount(page, name: str, *uses: str) -> None:
    """Add a component to a page, as Gradio does when it shows one again that was hidden."""
    page.evaluate(ALONE, drawn.drawn(name, uses=uses).js_on_load)


def draw(page, **data) -> None:
    page.evaluate("(data) => give(data)", data)


def compose(page, *steps: str, commit: str = "") -> list:
    """Type as a keyboard that composes does. Return the guesses that were sent."""
    page.locator(".guessing-field").focus()
    keys = page.context.new_cdp_session(page)
    for text in steps:
        keys.send("Input.imeSetComposition", dict(text=text, selectionStart=len(text), selectionEnd=len(text)))
    if commit:
        keys.send("Input.insertText", dict(text=commit))
    return page.evaluate("sent.splice(0).map(([event, { letter }]) => letter)")


STATES = "() => [...document.querySelectorAll('.side, .writing')].map((one) => one.dataset.state)"


@pytest.mark.slow
def test_a_piece_that_arrives_after_stop_shows_as_stopped(alone):
    """A piece may be of another column than the one that was being written, or of runs no longer compared."""
    page = alone("side_by_side", "in_view")
    column = lambda name, text, state: dict(name=name, prompt="", said="", text=text, state=state)
    begun = [column("a", "ab", "writing"), column("b", "", "")]
    draw(page, columns=begun)
    assert page.evaluate(STATES) == ["writing", ""]
    draw(page, columns=begun, stopped=True)
    assert page.evaluate(STATES) == ["stopped", ""]
    draw(page, columns=[column("a", "abc", "done"), column("b", "a", "writing")])
    assert page.evaluate(STATES) == ["done", "stopped"]
    draw(page, columns=[column("c", "", ""), column("d", "", "")], stopped=True)
    draw(page, columns=[column("a", "abc", "done"), column("b", "abc", "writing")])
    assert page.locator(".side h4").all_inner_texts() == ["c", "d"]
    asked = [column("c", "a longer text than the one that was stopped", "writing"), column("d", "", "")]
    draw(page, columns=asked, stopped=False)
    draw(page, columns=asked)
    assert page.evaluate(STATES) == ["writing", ""]


@pytest.mark.slow
def test_a_sample_that_begins_as_the_stopped_one_is_being_written(alone):
    page = alone("writing", "in_view")
    for text, told, state in (
        ("ab", {}, "writing"), ("ab", dict(stopped=True), "stopped"), ("abc", {}, "stopped"),
        ("abc", dict(stopped=False), "writing"), ("abcd", {}, "writing"),
    ):  # fmt: skip
        draw(page, prompt="", texts=[text], state="writing", **told)
        assert page.evaluate(STATES) == [state]


@pytest.mark.slow
def test_a_guess_is_the_character_that_a_keyboard_has_composed(alone):
    page = alone("guessing", "aloud", "tokens", "token_bars")
    for passage, steps, letter in (
        ("学而时习之，不亦说", ["h", "hu", "hu'"], "乎"),
        ("古池や蛙飛びこむ", ["m", "み", "みず"], "水"),
        ("나 보기가 역겨워 ", ["ㄱ", "가"], "가"),
        ("Le café était déj", ["´"], "à"),
        ("", ["x"], "x"),
    ):
        draw(page, before=passage, left=5)
        assert compose(page, *steps) == [], passage
        assert compose(page, commit=letter) == [letter]


@pytest.mark.slow
@pytest.mark.parametrize(("passage", "letter"), [("The mill turns 学", "e"), ("Мельница the", "в")])
def test_a_phone_that_composes_every_letter_sends_one_of_the_passages_alphabet_at_once(alone, passage, letter):
    page = alone("guessing", "aloud", "tokens", "token_bars")
    draw(page, before=passage, left=5)
    assert compose(page, letter) == [letter]
    assert compose(page, commit=letter) == []


@pytest.mark.slow
def test_one_guess_is_sent_until_the_answer_is_drawn(alone):
    page = alone("guessing", "aloud", "tokens", "token_bars")
    draw(page, before="The mill", left=5)
    page.locator(".guessing-field").focus()
    page.keyboard.type("abc")
    page.keyboard.press("Enter")
    assert page.evaluate("sent") == [["select", dict(letter="a")]]
    assert page.locator(".guessing-field").input_value() == ""  # no letter seems to count that doesn't
    draw(page, before="The mill", left=5, wrong=["a"])
    page.keyboard.type("b")
    page.evaluate(f"({view_guessing.NEXT})()")  # when the answer was an error, it draws nothing
    page.keyboard.type("c")
    assert [data["letter"] for _, data in page.evaluate("sent")] == ["a", "b", "c"]


STEPS = [
    dict(key=key, title=key, says="", question="Which?", choices=["this", "that"], right=0, do="Try.", answer="So.")
    for key in ("parts", "mask")
]


@pytest.mark.slow
def test_what_a_model_showed_in_the_tour_goes_with_it(alone):
    page = alone("tour", "tokens", "text_cells", "token_bars", "looking", "tour_steps")
    draw(page, steps=STEPS, model="a", tokens=["T"])
    page.locator(".tour-question input").first.check()
    draw(page, want="parts", kind="mlp", texts=["The", "Eee"], losses=[1.5, 3.5], on="held-out text")
    assert page.locator(".side").count() == 2
    draw(page, steps=STEPS, model="a", tokens=["T"])
    assert page.locator(".side").count() == 2
    draw(page, steps=STEPS, model="b", tokens=["T"])  # another one, or the same after more training
    assert page.locator(".side").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("other", [dict(choices=["these", "that"]), dict(question="Which of these?")])
def test_an_answer_to_another_models_question_is_not_judged(alone, other):
    page = alone("tour", "tokens", "text_cells", "token_bars", "looking", "tour_steps")
    draw(page, steps=STEPS, model="a", tokens=["T"])
    page.locator(".tour-question input").first.check()
    draw(page, want="parts", kind="mlp", texts=["The", "Eee"], losses=[1.5, 3.5], on="held-out text")
    assert page.locator(".tour-answer").text_content() == "Right. So."
    draw(page, steps=[dict(STEPS[0], **other), STEPS[1]], model="b", tokens=["T"])
    assert page.locator(".tour-question :checked, .tour-answer p, .tour-area").count() == 0
    assert page.locator(".tour-dot[data-done=true]").count() == 1
    page.locator(".tour-question input").nth(1).check()
    assert page.locator(".tour-answer b").text_content().startswith("Not quite.")


@pytest.mark.slow
def test_tries_of_the_tour_are_what_was_chosen_and_not_what_was_passed(alone):
    page = alone("tour", "tokens", "text_cells", "token_bars", "looking", "tour_steps")
    draw(page, steps=[dict(STEPS[0], key="surprise")], model="a", tokens=list("mill"), bits=[1, 2, 3, 4])
    page.locator(".tour-question input").first.check()
    text, said = page.locator(".tour-text"), page.locator(".tour-said")
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "Home"):
        text.press(key)
    assert said.text_content() == ""
    for key, words in (
        ("Enter", "“m” cost 1.0 bits."),
        ("End", ""),
        ("ArrowLeft", ""),
        ("Space", "“l” cost 4.0 bits. That is"),
    ):
        text.press(key)
        if words:
            assert said.text_content().startswith(words)
    page.locator(".tour-text .cell").nth(1).click()
    assert said.text_content().startswith("“i” cost 2.0 bits.")


@pytest.mark.slow
def test_a_step_of_the_tour_shows_only_what_was_asked_for_in_it(alone):
    page = alone("tour", "tokens", "text_cells", "token_bars", "looking", "tour_steps")
    draw(page, steps=[dict(STEPS[0], key=key, title=key) for key in ("training", "adamw")], model="a", tokens=["T"])
    curves = lambda: page.locator(".tour-curves").count()
    page.locator(".tour-question input").first.check()
    page.get_by_role("button", name="100 steps").click()
    steps = [dict(g=0.1, m=0.1, v=0.1, update=-0.1)]
    weights = [dict(character=character, path=[[0.1, 0.2, 0.3]] * 100, steps=steps) for character in "AB"]
    losses = dict(adamw=[4.9] + [4.0] * 99 + [3.8], sgd=[4.0] * 101)  # before the first step, and after each
    found = dict(want="adamw", **losses, rate=1, weights=weights, doing="", words="So.")
    draw(page, **found)
    assert curves() == 1
    said = page.locator(".tour-said").last.text_content()
    assert said == "After 100 steps: loss 3.80, at the beginning 4.90."
    page.get_by_role("button", name="Next").click()
    page.locator(".tour-question input").first.check()
    draw(page, **found)  # which the step before had asked for
    assert (curves(), page.locator(".tour-dot[data-done=true]").count()) == (0, 1)
    page.get_by_role("button", name="Train with both").click()
    assert (curves(), page.locator(".tour-dot[data-done=true]").count()) == (1, 2)
    assert page.locator(".tour-said").text_content().startswith("Both are already trained.")
    assert page.get_by_role("region", name="Steps of the weight").get_attribute("tabindex") == "0"
    assert [event for event, _ in page.evaluate("sent")] == ["apply"]  # only once
    page.get_by_role("button", name="Back").click()
    assert curves() == 0
    page.get_by_role("button", name="Finish").or_(page.get_by_role("button", name="Next")).click()
    assert curves() == 1  # asked for here


@pytest.mark.slow
def test_a_training_of_the_tour_that_was_canceled_says_so(alone):
    page = alone("tour", "tokens", "text_cells", "token_bars", "looking", "tour_steps")
    draw(page, steps=STEPS[1:], model="a", tokens=["T"])
    page.locator(".tour-question input").first.check()
    ended = lambda: page.evaluate(f"({view_tour.ENDED.replace('WANT', 'mask')})()")
    assert ended() != ended()  # or Gradio would pass on only the first
    ends = lambda: draw(page, **ended())
    said = lambda: page.locator(".tour-said, .tour-do .spoken").all_text_contents()
    train = lambda: page.get_by_role("button", name="Train both").click()
    train()
    assert said() == ["Waiting for its turn …"] * 2
    ends()  # before it has said anything
    assert said() == ["Stopped."] * 2
    train()
    for step in (375, 400):
        draw(page, want="mask", events=[], doing=f"Step {step}.", spoken="Training.")
        train()  # which does nothing: it is being trained
    assert said() == ["Step 400.", "Training."]
    for _ in range(2):  # a cancel says it twice
        ends()
    assert said() == ["Stopped."] * 2
    train()
    draw(page, want="mask", events=MASKS, doing="", words="So.")
    ends()
    assert said() == [""] * 2
    assert page.locator(".side").count() == 2
    assert [event for event, _ in page.evaluate("sent")] == ["submit"] * 3


@pytest.mark.slow
def test_two_steps_of_the_tour_can_train_at_once(alone):
    page = alone("tour", "tokens", "text_cells", "token_bars", "looking", "tour_steps")
    steps = [dict(STEPS[0], key=key, title=key) for key in ("mask", "training", "adamw")]
    draw(page, steps=steps, model="a", tokens=["T"])
    said = lambda: page.locator(".tour-said").text_content()
    for button in ("Train both", "1 step", "Train with both"):
        page.locator(".tour-question input").first.check()
        page.get_by_role("button", name=button).click()
        assert said() == "Waiting for its turn …"
        draw(page, want="mask", events=[], doing="Step 25.", spoken="Training.")
        if button != "Train with both":
            page.get_by_role("button", name="Next").click()
    assert page.evaluate("sent") == [["submit", {}], ["apply", {}]]  # the last two steps train the same
    draw(page, **page.evaluate(f"({view_tour.ENDED.replace('WANT', 'mask')})()"))
    assert said() == "Waiting for its turn …"  # this one hasn't ended


@pytest.mark.slow
def test_the_tours_progress_in_two_browser_tabs_adds_up(alone):
    pages = [alone("tour", "tokens", "text_cells", "token_bars", "looking", "tour_steps") for _ in range(2)]
    for page in pages:
        draw(page, steps=STEPS, model="a", tokens=["T"])
    stored = lambda: json.loads(pages[0].evaluate("localStorage.getItem('nanogpt-tour')"))
    pages[0].locator(".tour-question input").first.check()
    draw(pages[0], want="parts", kind="mlp", texts=["The", "Eee"], losses=[1.5, 3.5], on="held-out text")
    pages[1].get_by_role("button", name="Next", exact=True).click()
    pages[1].locator(".tour-question input").nth(1).check()
    answers = {key: dict(to="Which?", choice=choice) for key, choice in dict(parts="this", mask="that").items()}
    assert stored() == dict(at=1, done=["parts"], answers=answers)
    assert pages[1].locator(".tour-title").text_content() == "2. mask"
    pages[0].get_by_role("button", name="Restart").click()
    assert stored() == dict(at=0, done=[], answers={})


@pytest.mark.slow
def test_guesses_are_told_apart_without_their_shades(alone):
    page = alone("guessing", "aloud", "tokens", "token_bars")
    draw(page, before="The mill", guessed=[["a", 1], ["b", 2], ["c", 3], ["d", 4]], left=5)
    assert (
        page.locator(".guessing-legend").text_content() == "right on the 1st guess on the 2nd on the 3rd not guessed "
    )
    classes = lambda within: page.locator(f"{within} .guessed").evaluate_all(
        "cells => cells.map((cell) => cell.className)"
    )
    assert classes(".guessing-text") == classes(".guessing-legend")
    assert len(set(classes(".guessing-text"))) == 4
    rules = [rule for rule in CSS.splitlines() if rule.startswith(".guessed-")]
    assert len({rule.split("{")[1] for rule in rules}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [5, 8, 9, 12, 48])
def test_losses_of_many_blocks_do_not_overlap(alone, blocks):
    page = alone("readout", "aloud", "tokens", "text_cells")
    page.add_style_tag(content=CSS)
    depths = ["Embedding", *(f"Block {i}" for i in range(1, blocks + 1))]
    likeliest = [[[[0, 90.0]]] * 2] * len(depths)
    losses, bits = [4 - i / blocks for i in range(len(depths))], [[1.0]] * len(depths)
    draw(page, tokens=["T"], depths=depths, losses=losses, names=["T"], likeliest=likeliest, bits=bits)
    for key in ("End", "ArrowUp", "Home", "ArrowDown", "ArrowDown", "ArrowDown"):
        page.locator(".readout-depths").press(key)
        chosen = page.locator(".readout-depth[aria-selected=true] i").text_content()
        for which in (".readout-loss", ".readout-unit"):
            texts = page.locator(f".readout-curve {which}")
            shown = [texts.nth(i) for i in range(texts.count()) if texts.nth(i).is_visible()]
            boxes = [one.bounding_box() for one in shown]
            assert all(a["x"] + a["width"] <= b["x"] for a, b in zip(boxes, boxes[1:])), (which, key)
            assert which == ".readout-unit" or chosen in [one.text_content() for one in shown]


@pytest.mark.slow
def test_heads_are_said_to_be_sorted_only_when_they_are(alone):
    page = alone("attention", "aloud", "tokens", "text_cells", "looking")
    for cost, label in (("", "Heads"), ("loss +0.10 without it", "Heads, the most important first")):
        heads = [dict(key="0.head.0", name="Block 1, head 1", says="", cost=cost, small="AA==")]
        draw(page, tokens=["T"], heads=heads, size=1, head="0.head.0", matrix="AA==")
        assert page.locator(".attention-heads").get_attribute("aria-label") == label


HEADS = [dict(key="0.head.0", name="Block 1, head 1", says="", cost="", small="AA==")]
COLUMN = dict(name="a", prompt="", text="")
ANSWERS: dict[str, tuple[str, dict, str]] = {  # of drawings: what they use, an answer, and what is announced of it
    "status_line": ("", dict(text="Bad Name!", state="failed"), "Bad Name!"),
    "guessing": (
        "aloud tokens token_bars", dict(left=5, last=dict(right="m", rank=1, bars=[]), words="2 bits."),
        "Right on the first guess: it was “m”. 2 bits.",
    ),
    "expected": ("aloud tokens", dict(bars=[], found="The text has “m”.", seen="Never."), "The text has “m”. Never."),
    "units": ("aloud tokens text_cells", dict(tokens=["T"], values=[1], words="Start."), "Start."),
    "readout": ("aloud tokens text_cells", dict(depths=["Embedding"], words="Fitting."), "Fitting."),
    "attention": (
        "aloud tokens text_cells looking", dict(tokens=["T"], heads=HEADS, size=1, head="0.head.0", matrix="/w=="),
        "looks most at “T” itself 100%",
    ),
    "copies": ("aloud", dict(text="The", words="Nothing is copied."), "Nothing is copied."),
    "side_by_side": ("in_view", dict(columns=[dict(COLUMN, said="Left out Ω.")]), "Left out Ω."),
}  # fmt: skip
KNOWN = """() => {
  window.regions = [...document.querySelectorAll("[role=status]")].filter((one) => one.checkVisibility());
}"""
HEARD = "regions.filter((one) => one.isConnected && one.checkVisibility()).map((one) => one.textContent).join('')"


@pytest.mark.slow
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_comes_into_a_region_that_screen_readers_know(alone, name):
    """One that comes into the page together with its words isn't announced."""
    uses, answer, words = ANSWERS[name]
    page = alone(name, *uses.split())
    if name == "side_by_side":
        draw(page, columns=[dict(COLUMN, said="")])
    page.evaluate(KNOWN)
    draw(page, **answer)
    assert words in page.evaluate(HEARD)


@pytest.mark.slow
def test_what_changes_each_second_is_announced_by_its_other_words(alone):
    page = alone("status_line")
    page.evaluate(KNOWN)
    draw(page, text="Step 1.", state="running", spoken="Training.")
    assert page.get_by_role("status").all_text_contents() == ["Training."]
    assert "Training." in page.evaluate(HEARD)
    draw(page, text="Finished.", state="finished")
    assert page.get_by_role("status").all_text_contents() == ["Finished."]


@pytest.mark.slow
def test_the_report_on_another_text_is_announced_and_that_of_the_page_is_not(alone):
    page = alone("report", "aloud")
    region = page.locator("[role=status]").element_handle()
    fine = dict(title="Plays", facts=[["Characters", "5,000"], ["Lines", "90"]], preview="The mill")
    draw(page, **fine, notes=[])
    assert region.text_content() == ""
    draw(page, **fine, notes=[dict(kind="advice", text="Only 5,000 characters.")])
    assert region.text_content() == "Plays. Characters: 5,000. Only 5,000 characters."
    refused = dict(title="Couldn't use this text.", facts=[], notes=[dict(kind="error", text="It is an image.")])
    draw(page, **refused, preview="")
    assert region.text_content() == "Couldn't use this text. It is an image."
    assert region.evaluate("(node) => node.isConnected")


@pytest.mark.slow
def test_a_table_that_may_be_too_wide_can_be_scrolled_with_the_keyboard(alone):
    page = alone("plain_table")
    page.add_style_tag(content=CSS)
    names = [f"a-run-of-that-name-{i}" for i in range(5)]
    table = dict(head=["Setting", *names], rows=[["learning_rate", *["0.000123456789"] * 5]])
    draw(page, **table)
    page.keyboard.press("Tab")
    region = page.get_by_role("region", name="Setting table")
    assert region.evaluate("(box) => box === document.activeElement")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.activeElement.scrollLeft > 0")
    draw(page, **table, said="They differ.")
    assert region.evaluate("(box) => box === document.activeElement")
    draw(page, said="The same settings.")
    assert page.locator("[tabindex], [role]").count() == 0


@pytest.mark.slow
def test_parts_that_are_switched_while_the_grid_fills_are_sent(alone):
    """A second event waits until the first was answered, and is sent with the value of that moment."""
    page = alone("ablation")
    grid = dict(model="one", n_layer=1, n_head=1, names={key: key for key in ("0.head.0", "0.attention", "0.mlp")})
    draw(page, **grid, rises={}, off=[])
    page.locator("[data-key='0.mlp']").click()
    draw(page, **grid, rises={"0.mlp": 0.1}, off=[])  # the next part has been measured
    assert page.evaluate("props.value.off") == ["0.mlp"]
    page.get_by_text("Switch all on").click()
    draw(page, **grid, rises={"0.mlp": 0.1, "0.attention": 0.2}, off=[])
    assert page.evaluate("props.value.off") == []


@pytest.mark.slow
def test_scores_of_two_browser_tabs_add_up(alone):
    first, second = alone("scores"), alone("scores")
    first.evaluate("localStorage.setItem('nanogpt-scores', 'U2FsdGVkX1')")  # by an earlier version, encrypted
    draw(first, one=2.5)
    second.wait_for_function("props.value?.one === 2.5")  # no reload
    draw(second, two=3.5)
    draw(first, one=2.25)
    both = dict(one=2.25, two=3.5)
    for page in (first, second):  # what is stored at the same time isn't lost, either
        page.wait_for_function("props.value.one === 2.25 && props.value.two === 3.5")
    assert first.evaluate("props.value") == second.evaluate("props.value") == both
    assert json.loads(first.evaluate("localStorage.getItem('nanogpt-scores')")) == both
    assert alone("scores").evaluate("props.value") == both


@pytest.mark.slow
@pytest.mark.parametrize("view", ["attention", "units"])
def test_a_view_of_a_text_shows_which_characters_were_left_out(alone, view):
    page = alone(view, "aloud", "tokens", "text_cells", "looking")
    heads = [dict(key="0.head.0", name="Block 1, head 1", says="", cost="", small="AA==")]
    text = dict(tokens=["T"], values=[0.5], heads=heads, size=1, head="0.head.0", matrix="AA==")
    note = "Not in this model's alphabet: skipped Ω."
    draw(page, **text, note=note)
    assert page.locator(".expected-hint", has_text="skipped Ω").text_content() == note
    draw(page, **text)
    assert page.locator(".expected-hint", has_text="skipped").count() == 0


@pytest.mark.slow
def test_focus_stays_where_it_was_pressed_when_the_answer_is_drawn(alone):
    focused = lambda: page.evaluate("document.activeElement.className")
    page = alone("expected", "aloud", "tokens")
    bars = [dict(token=token, p=0.3, drawn=0.4) for token in "abc"]
    draw(page, bars=bars, at=1)
    page.locator(".expected-bar").first.press("ArrowDown")
    page.keyboard.press("Enter")
    draw(page, bars=bars, at=2)
    assert page.evaluate("[...document.querySelectorAll('.expected-bar')].indexOf(document.activeElement)") == 1
    assert page.locator(".expected-bar[tabindex='0']").count() == 1
    draw(page, bars=bars[:1], at=3)
    assert focused() == "expected-bar"

    page = alone("units", "aloud", "tokens", "text_cells")
    text = dict(tokens=list("mill"), values=[0, 0, 1, 0], name="unit 1")
    draw(page, **text)
    page.locator(".units-text").press("Shift+ArrowRight")
    page.locator(".units-find").press("Enter")
    draw(page, **text, selected=[0, 1])
    assert focused() == "units-find"
    page.locator(".units-text").focus()
    draw(page, **text)
    assert focused() == page.locator(".units-text").get_attribute("class")


@pytest.mark.slow
def test_a_stretch_is_selected_wherever_the_pointer_is_released(alone):
    page = alone("units", "aloud", "tokens", "text_cells")
    text = dict(tokens=list("the\tmill\nturns"), values=[0] * 14, name="unit 1")
    strongest = [dict(before="a", here="\t", after="b", value=1)]
    draw(page, **text, strongest=strongest)
    chosen = lambda: page.locator(".units-chosen").all_text_contents()
    middle = lambda i: page.locator(".cell").nth(i).bounding_box()

    def drag(start: int, x: float, y: float) -> None:
        begin = middle(start)
        page.mouse.move(begin["x"] + 1, begin["y"] + begin["height"] / 2)
        page.mouse.down()
        page.mouse.move(x, y, steps=4)
        page.mouse.up()

    end = middle(6)
    drag(4, end["x"] + end["width"] - 1, end["y"] + end["height"] / 2)
    assert chosen() == list("mil")
    drag(10, 340, middle(10)["y"] + 60)  # below the box
    assert chosen() == list("urns")
    assert page.locator(".units-find").is_enabled()
    assert page.locator(".units-strongest mark").text_content() == "⇥"
    page.locator(".cell").nth(3).click()
    assert page.get_by_text("At “⇥”: 0%").count() == 1
    draw(page, **text)  # which leaves the box that was selected in
    page.evaluate("getSelection().selectAllChildren(document.querySelector('.units-text'))")
    page.wait_for_function("document.querySelectorAll('.units-chosen').length === 14")


@pytest.mark.slow
def test_columns_that_are_followed_listen_to_the_window_once(alone):
    page = alone("side_by_side", "in_view")
    columns = lambda *names: [dict(name=name, prompt="", text="The", said="", state="writing") for name in names]
    draw(page, columns=columns("a", "b"))
    assert page.evaluate("listens") == 0
    for names in ("ab", "bc", "abc"):
        draw(page, columns=columns(*names), follow=True)
        assert page.evaluate("listens") == 4
    page.evaluate("document.body.replaceChildren()")
    mount(page, "side_by_side", "in_view")  # which counts from 0 again
    draw(page, columns=columns("a", "b"), follow=True)
    assert page.evaluate("listens") == 0


@pytest.mark.slow
def test_what_is_followed_is_left_when_you_scroll_until_another_text_begins(alone):
    page = alone("side_by_side", "in_view")
    grow = lambda text: draw(
        page, columns=[dict(name="a", prompt="", text=text, said="", state="writing")], follow=True
    )
    page.add_style_tag(content="body { padding-top: 2000px; }")
    top = lambda: page.evaluate("scrollY")
    grow("a")
    assert top() > 0
    page.mouse.wheel(0, -2000)
    page.wait_for_function("scrollY === 0")
    grow("ab")
    assert top() == 0
    grow("b")
    assert top() > 0


@pytest.mark.slow
def test_the_keys_that_generate_do_it_once_however_often_the_text_was_shown(alone):
    page = alone("writing", "in_view")
    mount(page, "writing", "in_view")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<input id=sample-prompt><b id=sample-generate>')")
    page.evaluate("window.clicks = 0; document.querySelector('b').addEventListener('click', () => { clicks++; })")
    page.locator("#sample-prompt").press("Control+Enter")
    assert page.evaluate("clicks") == 1


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 300])
def test_the_losses_at_a_point_are_within_a_plot_of_any_width(alone, width):
    page = alone("loss_plot")
    page.add_style_tag(content=f"body {{ margin: 16px; }} {CSS}")
    page.set_viewport_size(dict(width=width, height=700))
    lines = [dict(label="the lecture's recipe, as it is", points=[[i, 3.25, i] for i in range(5)])]
    draw(page, axis="step", end=4, lines=lines)
    plot = page.locator(".plot").bounding_box()
    for share in (0.2, 0.4, 0.6, 0.8):
        page.mouse.move(plot["x"] + share * plot["width"], plot["y"] + 100)
        tip = page.locator(".plot-tip rect").bounding_box()
        assert plot["x"] <= tip["x"]
        assert tip["x"] + tip["width"] <= plot["x"] + plot["width"]


HEADS = [dict(key=f"0.head.{i}", name=f"Head {i}", says="", cost="", small="AA==") for i in range(4)]
SHARES = [255, 0, 0, 150, 206, 0, 90, 180, 156]  # of three characters, as in the data of the views


def attend(page, head: int, at: int = 2, tokens: str = "the") -> None:
    matrix = base64.b64encode(bytes(SHARES)).decode()
    draw(page, tokens=list(tokens), at=at, heads=HEADS, size=1, head=HEADS[head]["key"], matrix=matrix)


@pytest.mark.slow
def test_what_you_do_before_attention_has_answered_counts(alone):
    page = alone("attention", "aloud", "tokens", "text_cells", "looking")
    heads, text = page.locator(".attention-heads"), page.locator(".attention-text")
    chosen = lambda: page.locator(".attention-head[aria-selected=true] b").all_text_contents()
    place = lambda: page.locator(".cell").evaluate_all("(all) => all.findIndex((one) => one.ariaSelected === 'true')")
    asked = lambda: page.evaluate("[props.value.head, props.value.at]")
    attend(page, 0)
    heads.press("ArrowDown")
    assert chosen() == ["Head 1"]  # at once
    heads.press("ArrowDown")
    assert (chosen(), asked(), page.evaluate("sent.length")) == (["Head 2"], ["0.head.2", 2], 2)
    assert page.locator(f"#{heads.get_attribute('aria-activedescendant')}").text_content() == "Head 2"
    text.press("Home")
    attend(page, 1)  # the answer to the first
    assert (chosen(), place()) == (["Head 2"], 0)
    assert text.evaluate("(text) => text === document.activeElement")
    attend(page, 2)
    assert (chosen(), place()) == (["Head 2"], 0)
    heads.press("ArrowDown")
    assert asked() == ["0.head.3", 0]
    attend(page, 0, tokens="mil")  # another text begins at its start
    assert (chosen(), place()) == (["Head 0"], 2)


@pytest.mark.slow
def test_the_tour_shades_and_says_what_attention_does(alone):
    read = "(cells) => cells.map((cell) => cell.style.getPropertyValue('--strength'))"
    strengths = lambda: page.locator(".cell").evaluate_all(read)
    most = lambda said: page.locator(said).first.text_content().partition("it looks most at ")[2]
    page = alone("attention", "aloud", "tokens", "text_cells", "looking")
    attend(page, 0)
    shown = strengths(), most(".attention-said")
    assert shown == (["35%", "70%", "61%", "0%"], "“h” 1 back 50%, “e” itself 37%, “t” 2 back 12%.")
    page = alone("tour", "tokens", "text_cells", "token_bars", "looking", "tour_steps")
    draw(page, steps=[dict(STEPS[0], key="attention")], model="a", tokens=list("the"), head=dict(shares=SHARES))
    page.locator(".tour-question input").first.check()
    page.locator(".tour-text .cell").nth(2).click()
    assert (strengths(), most(".tour-said")) == shown


@pytest.mark.slow
def test_what_you_do_before_units_has_answered_counts(alone):
    page = alone("units", "aloud", "tokens", "text_cells")
    text, find = page.locator(".units-text"), page.locator(".units-find")
    chosen = lambda: "".join(page.locator(".units-chosen").all_text_contents())
    data = dict(tokens=list("the mill"), values=[0] * 8, name="unit 1")
    draw(page, **data)
    for _ in range(4):
        text.press("ArrowRight")
    draw(page, **data)  # the unit of another feature
    for _ in range(2):
        text.press("Shift+ArrowRight")
    assert chosen() == "mi"
    find.click()
    text.press("Shift+ArrowRight")
    draw(page, **data, selected=[4, 6])
    assert chosen() == "mil"
    find.click()
    draw(page, **data, selected=[4, 7])
    assert chosen() == "mil"
    draw(page, **data)
    assert chosen() == ""


MARKS = [
    dict(label=label, loss=loss, bits=loss, knows="knows a lot", kind="counted") for label, loss in zip("ab", (3, 2))
]


@pytest.mark.slow
def test_the_ruler_is_read_as_a_slider_and_keeps_its_mark(alone):
    page = alone("loss_ruler")
    draw(page, marks=MARKS)
    ruler = page.get_by_role("slider", name="Losses in nats per character: a 3.00, b 2.00.")
    value = lambda: [ruler.get_attribute(f"aria-value{key}") for key in ("min", "now", "max", "text")]
    assert value() == ["0", "0", "2", "no mark chosen"]
    ruler.press("End")
    assert value() == ["0", "2", "2", "b knows a lot: 2.000 nats, 2.00 bits per character."]
    assert page.locator("[aria-live]").count() == 0  # or it would be heard twice
    ruler = page.get_by_role("slider", name="Losses in nats per character: you 4.00, a 3.00, b 2.00.")
    draw(page, marks=[dict(MARKS[0], label="you", loss=4), *MARKS])  # a score that was just reached
    assert value()[1:] == ["3", "3", "b knows a lot: 2.000 nats, 2.00 bits per character."]
    draw(page, marks=MARKS[:1])
    ruler = page.get_by_role("slider", name="Losses in nats per character: a 3.00.")
    assert value()[3] == "no mark chosen"


@pytest.mark.slow
def test_a_plot_that_has_the_focus_does_not_say_each_new_point(alone):
    page = alone("loss_plot")
    points = lambda many: [[i, 3.25, i] for i in range(many)]
    draw(page, axis="step", end=9, train=points(3), val=[])
    plot = page.get_by_role("slider", name="Loss over steps")
    said = lambda: [plot.get_attribute(f"aria-value{key}") for key in ("now", "text")]
    latest = "Latest training loss 3.2500, validation loss none yet."
    assert said() == ["2", latest]
    plot.focus()
    draw(page, axis="step", end=9, train=points(4), val=[])
    assert said() == ["2", latest]
    plot.press("ArrowUp")
    assert said() == ["3", "Step 3, training loss 3.2500."]
    draw(page, axis="step", end=9, train=points(5), val=[])
    assert said() == ["3", "Step 3, training loss 3.2500."]
    plot.evaluate("(plot) => plot.blur()")
    assert said() == ["4", latest]
    page.mouse.move(300, 100)  # where there is no point yet
    assert said() == ["4", latest]


@pytest.mark.slow
def test_a_part_that_is_switched_off_is_not_called_off_and_pressed(alone):
    page = alone("ablation")
    names = {"0.attention": "attention", "0.mlp": "mlp"}
    draw(page, model="one", n_layer=1, n_head=0, rises={"0.mlp": 0.1}, names=names, off=[])
    switch = page.get_by_role("button", name="mlp: +0.10 nats without it", exact=True)
    switch.click()
    assert switch.get_attribute("aria-pressed") == "true"


@pytest.mark.slow
def test_the_menu_of_a_run_closes_when_the_focus_leaves_it(alone):
    page = alone("runs_table")
    cells = dict(name=["a", "a"])
    rows = [dict(name=name, actions=["open", "rename"], cells=dict(name=[name, name])) for name in "ab"]
    columns = [dict(key="name", label="Name")]
    draw(page, columns=columns, rows=rows)
    more = page.get_by_role("button", name="Actions for a", exact=True)
    expanded = lambda: [one.get_attribute("aria-expanded") for one in page.locator(".runs-more").all()]
    assert expanded() == ["false", "false"]
    for leave in ("Shift+Tab", "Escape"):
        more.press("Enter")
        assert expanded()[0] == "true"
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowDown")
        draw(page, columns=columns, rows=[*rows, dict(rows[0], name=f"after {leave}", cells=cells)])
        assert page.get_by_role("menuitem").count() == 2  # it stays open meanwhile
        page.keyboard.press(leave)
        page.locator(f"tr[data-name='after {leave}']").wait_for()
        assert page.get_by_role("menuitem").count() == 0
        assert set(expanded()) == {"false"}
    more.click()
    page.get_by_role("menuitem", name="Rename run").click()
    assert page.evaluate("sent") == [["select", dict(action="rename", name="a")]]


RUN = dict(
    name="one", val=[[0, 4.0], [50, 2.0], [100, 1.5]], train=[[50, 2.1], [100, 1.4]],
    samples=[[step, f"text {step} " * 9] for step in (0, 25, 50, 100)],
)  # fmt: skip


@pytest.mark.slow
def test_the_replay_can_be_paused_and_goes_on_from_there(alone):
    page = alone("welcome")
    page.add_style_tag(content=CSS)
    text, slider = page.locator(".replay-text"), page.locator(".replay-controls input")
    state = lambda: (text.text_content(), slider.input_value())
    draw(page, **RUN)
    button = page.locator(".replay-controls button")
    page.wait_for_function("document.querySelector('.replay-text').textContent.length < 20")  # it has begun by itself
    width = button.bounding_box()["width"]
    page.get_by_role("button", name="Pause").click()
    paused = state()
    page.wait_for_timeout(400)
    assert state() == paused
    page.get_by_role("button", name="Continue").click()
    page.wait_for_function("([text]) => document.querySelector('.replay-text').textContent !== text", arg=paused)
    assert text.text_content().startswith(paused[0])
    assert button.text_content() == "Pause"
    slider.fill("3")
    assert state() == (RUN["samples"][2][1], "3")  # which stops it, too
    assert button.text_content() == "Continue"
    assert button.bounding_box()["width"] == width  # so the slider stays as long as it is
    button.click()
    assert slider.input_value() == "3"
    page.get_by_role("button", name="Replay").wait_for()
    assert state() == (RUN["samples"][3][1], "4")
    button.click()
    assert state()[1] == "1"


@pytest.mark.slow
def test_the_replay_fits_when_the_page_is_turned_or_its_tab_is_chosen_later(alone):
    page = alone("welcome")
    page.emulate_media(reduced_motion="reduce")
    page.add_style_tag(content=CSS)
    page.evaluate("document.querySelector('div').style.display = 'none'")
    draw(page, **RUN)
    page.evaluate("document.querySelector('div').style.display = ''")
    fits = "(svg) => Math.abs(svg.viewBox.baseVal.width - svg.getBoundingClientRect().width)"
    for width in (360, 700, 360):
        page.set_viewport_size(dict(width=width, height=700))
        page.wait_for_function(f"({fits})(document.querySelector('.replay-plot')) < 3")  # its border
        assert page.locator(".replay-plot").bounding_box()["height"] == 110
        drawn_to = "document.querySelector('.replay-plot').viewBox.baseVal.width - 8"
        assert float(page.locator(".plot-dot").get_attribute("cx")) == page.evaluate(drawn_to)


@pytest.mark.slow
def test_the_curve_of_the_time_machine_fits_when_the_page_is_turned(alone):
    page = alone("timemachine")
    page.add_style_tag(content=CSS)
    shown = dict(texts=[dict(step=step, text="The") for step in (0, 100)], curve=[[1, 4], [100, 2]], at=1)
    page.evaluate("document.querySelector('div').style.display = 'none'")
    draw(page, **shown, milestones=[dict(step=100, at=1, says="It spells")])
    page.evaluate("document.querySelector('div').style.display = ''")
    for width in (360, 600, 1000):
        page.set_viewport_size(dict(width=width, height=700))
        room = "Math.min(720, document.querySelector('div').clientWidth)"
        page.wait_for_function(f"document.querySelector('.timemachine-curve').viewBox.baseVal.width === {room}")
