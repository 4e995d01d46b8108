"""The Understand tab: which view opens, what it holds when you come back, and the shipped model's text."""

from __future__ import annotations

import os
from collections import Counter

import gradio as gr
import pytest
from conftest import TWO_BLOCKS, ended_run
from gradio.context import LocalContext

from nanogpt import corpus
from nanogpt.config import NanoGPTError
from nanogpt.explain import copies, guessing, readout
from nanogpt.ui import missing_text, understand_tab, view
from nanogpt.ui.drawn import is_failure
from nanogpt.ui.understand_tab import (
    SCORED,
    Opening,
    coming_to,
    is_pending,
    leave_others,
    updates_of,
    while_newest,
)
from nanogpt.ui.views import (
    ablation as view_ablation,
    architecture as view_architecture,
    attention as view_attention,
    characters as view_characters,
    copies as view_copies,
    guessing as view_guessing,
    readout as view_readout,
    replay as view_replay,
    units as view_units,
)


def test_a_view_opened_before_the_models_are_listed_waits(home, tiny_text):
    in_a_handler = LocalContext.in_event_listener.set(True)  # where Gradio creates no components, only updates
    try:
        assert not is_pending(None)  # there is none to wait for
        ended_run(corpus.add(tiny_text, "A play"), "one", **TWO_BLOCKS)
        assert is_pending(None)
        assert not is_pending("one")
    finally:
        LocalContext.in_event_listener.reset(in_a_handler)


def test_an_older_opening_of_a_view_ends_and_a_late_one_shows_nothing():
    newest: dict[str, tuple] = {}
    ended = []

    def waiting():
        try:
            while True:
                yield dict(said="waiting")
        finally:
            ended.append("first")

    opening = lambda number: Opening(number, "one", ("one", 1))
    first = while_newest(newest, "loss", opening(1), waiting())
    assert [next(first), next(first)] == [dict(said="waiting")] * 2
    other = while_newest(newest, "parts", opening(2), iter([dict(view=2)]))
    assert list(other) == [dict(view=2)]
    assert next(first) == dict(said="waiting")  # another view doesn't end it
    assert list(while_newest(newest, "loss", opening(4), iter([dict(view=4)]))) == [dict(view=4)]
    assert list(first) == []
    assert ended == ["first"]
    assert list(while_newest(newest, "loss", opening(3), iter([dict(view=3)]))) == []  # sent earlier, arrived later
    assert newest == dict(loss=opening(4), parts=opening(2))


def test_another_model_ends_what_a_view_still_shows_of_the_one_before():
    """Its tab shows another view by then, so that no newer opening of its own ends it."""
    newest: dict[str, Opening] = {}
    forever = iter(lambda: dict(said="waiting"), None)
    opening = while_newest(newest, "units", Opening(2, "one"), forever)
    other = while_newest(newest, "parts", Opening(5, "another"), forever)
    assert [next(opening), next(other)] == [dict(said="waiting")] * 2
    leave_others(newest, "another", 1)  # sent earlier, arrived later
    leave_others(newest, "one", 3)
    assert [next(opening), next(other)] == [dict(said="waiting")] * 2  # of this model, and of one chosen later
    leave_others(newest, "another", 4)
    assert list(opening) == []
    assert next(other) == dict(said="waiting")


def test_an_opening_is_ongoing_until_it_has_ended():
    newest: dict[str, Opening] = {}
    forever = iter(lambda: dict(said="waiting"), None)
    first, second, third = (while_newest(newest, "loss", Opening(number, "one"), forever) for number in (1, 2, 4))
    next(first)
    assert newest["loss"].ongoing
    next(second)
    assert list(first) == []
    assert newest["loss"].ongoing  # the second one is
    second.close()
    assert not newest["loss"].ongoing
    next(third)
    leave_others(newest, "another", 5)
    assert not newest["loss"].ongoing


def test_views_that_wait_take_no_places_of_others_and_their_openings_are_never_dropped(home):
    with gr.Blocks() as demo:
        tab = understand_tab.build()
    selects = [
        one for one in demo.fns.values() if one.targets and one.targets[0][1] == "select" and one.name == "open_it"
    ]
    assert len(selects) == len(understand_tab.VIEWS)
    assert {one.trigger_mode for one in selects} == {"always_last"}
    places = lambda fns: Counter(one.concurrency_id for one in fns)
    assert places(selects) == dict(explain=9, waiting=4)
    changes = [
        one for one in demo.fns.values() if (tab.run._id, "change") in one.targets and one.name == "open_in_front"
    ]
    assert places(changes) == dict(understand=1, waiting=1)
    assert {one.concurrency_limit for one in demo.fns.values() if one.concurrency_id == "waiting"} == {32}


class Visit:
    """A view in a browser tab: what comes to it, and what it holds by then."""

    def __init__(self, module):
        with gr.Blocks():
            scores = [gr.HTML()] if module in SCORED else []
            self.view = module.build(gr.Dropdown(), *scores)
        self.newest: dict[str, Opening] = {}
        self.shown = {one: one.value for one in [*self.view.inputs, *self.view.holds]}

    def come(self, name: str) -> list[dict]:
        """Come to the view, with this model chosen, and return the updates."""
        self.shown[self.view.inputs[0]] = name
        number = self.newest.get("it", Opening()).number + 1
        values = [self.shown[one] for one in [*self.view.inputs, *self.view.holds]]
        in_a_handler = LocalContext.in_event_listener.set(True)  # where Gradio creates no components, only updates
        try:
            updates = list(coming_to(self.view, "it", self.newest, number, values))
        finally:
            LocalContext.in_event_listener.reset(in_a_handler)
        for update in updates:
            self.shown |= {one: value for one, value in update.items() if not isinstance(value, gr.blocks.Block)}
        return updates


def trained_on(run) -> None:
    """Let the weights of a run look as if it had trained on."""
    path = run.folder / "model.safetensors"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


@pytest.fixture
def another(one, tiny_text):
    return ended_run(corpus.add(tiny_text, "A play"), "another", **TWO_BLOCKS)


def test_a_game_goes_on_after_coming_back_but_not_with_another_model(one, another):
    visit = Visit(view_guessing)
    drawn, _, game = visit.view.outputs
    visit.come("one")
    which, started = visit.shown[game]
    played = guessing.guess(started, started.text[started.place], one)
    visit.shown[game] = (which, played)
    assert visit.come("one") == []  # it is as it was left
    trained_on(one.run)
    [shown] = visit.come("one")
    assert shown[game] == (which, played)
    assert shown[drawn]["guessed"] == [[started.text[started.place], 1]]
    emptied, shown = visit.come("another")
    assert emptied == {drawn: None, visit.view.outputs[1]: None, game: None}
    assert shown[drawn]["guessed"] == []
    assert shown[game][0] == view.identity(another)
    trained_on(another)
    [again] = visit.come("another")
    assert again[game] == shown[game]


def test_coming_to_the_tab_opens_the_view_in_front_again_if_its_model_has_changed(one):
    with gr.Blocks() as demo:
        tab = understand_tab.build()
    came = [fn for fn in demo.fns.values() if (tab.came._id, "change") in fn.targets]
    assert [fn.name for fn in came] == ["offer", "open_in_front", "open_in_front"]  # see `wire_openings`
    opens, newest = came[1], {}

    def come(number: int) -> list[dict]:
        """Come with Embeddings in front, and return the updates."""
        given = ["one" if part is tab.run else part.value for part in opens.inputs[2:]]
        in_a_handler = LocalContext.in_event_listener.set(True)
        try:
            _, *updates = opens.fn(dict(number=number, view="neighbors"), newest, *given)
        finally:
            LocalContext.in_event_listener.reset(in_a_handler)
        return updates

    assert [bool(come(number)) for number in (1, 2)] == [True, False]
    trained_on(one.run)
    assert [bool(come(number)) for number in (3, 4)] == [True, False]
    newest["neighbors"].state, newest["neighbors"].ongoing = None, True
    assert come(5) == []
    newest["neighbors"].ongoing = False  # it has failed
    assert come(6)


def test_a_view_shows_its_model_again_after_another_one_was_chosen_elsewhere(one, another):
    """That canceled what it was doing, for example a training."""
    visit = Visit(view_replay)
    status = visit.view.outputs[0]
    visit.come("one")
    visit.shown[status] = dict(text="Stage 3, step 400.", state="running")
    assert visit.come("one") == []
    leave_others(visit.newest, "one", 9)
    assert visit.come("one") == []
    leave_others(visit.newest, "another", 9)
    [shown] = visit.come("one")
    assert shown[status]["text"] == ""


TEXTS = (view_characters, view_attention, view_readout, view_units, view_copies)


@pytest.mark.parametrize("module", TEXTS)
def test_an_own_text_stays_in_a_view_but_not_for_another_model(module, one, another, monkeypatch):
    for size, value in dict(STEPS=1, FITTED_ON=64, JUDGED_BY=64).items():
        monkeypatch.setattr(readout, size, value)
    monkeypatch.setattr(copies, "SAMPLE", 100)
    visit = Visit(module)
    drawn, text = visit.view.outputs[0], "The mill turn"
    visit.come("one")
    [first, *_] = visit.view.holds
    of_text = dict(tokens=list(text), text=text, head="0.head.1", at=3)
    visit.shown[first] = {view_characters: (text, 3), view_attention: of_text, view_copies: of_text}.get(module, text)
    assert visit.come("one") == []
    trained_on(one.run)
    *_, shown = visit.come("one")
    written = lambda data: data.get("text") or "".join(data["tokens"])
    assert written(shown[drawn]) == text
    if "head" in shown[drawn]:
        assert (shown[drawn]["head"], shown[drawn]["at"]) == ("0.head.1", 3)
    emptied, *_, shown = visit.come("another")
    assert emptied[drawn] is None
    assert emptied[first] is None
    assert written(shown[drawn]) != text


@pytest.mark.parametrize("module", TEXTS)
def test_an_error_about_your_own_text_is_shown_below_its_button(module, one, monkeypatch):
    for size, value in dict(STEPS=1, FITTED_ON=64, JUDGED_BY=64).items():
        monkeypatch.setattr(readout, size, value)
    with gr.Blocks() as demo:
        run = gr.Dropdown()
        module.build(run)
    parts = {part.elem_id: part for part in demo.blocks.values()}
    name = module.__name__.rpartition(".")[2]
    [button] = [part for id, part in parts.items() if id in [f"{name}-{do}" for do in ("use", "color", "check")]]
    [clicked] = [one for one in demo.fns.values() if (button._id, "click") in one.targets]
    values = ["one" if part is run else part.value or "" for part in clicked.inputs]
    *_, updates = updates_of(clicked.fn, values)
    assert is_failure(updates[parts[f"{name}-own-said"]])
    assert updates[parts[f"{name}-said"]].constructor_args["value"]["text"] == ""


def test_parts_stay_off_after_coming_back(one, another):
    visit = Visit(view_ablation)
    grid, off, *_ = visit.view.outputs
    visit.come("one")
    visit.shown[off] = ["0.mlp"]
    assert visit.come("one") == []
    trained_on(one.run)
    shown, *_ = visit.come("one")
    assert (visit.shown[off], shown[grid]["off"]) == (["0.mlp"], ["0.mlp"])
    visit.come("another")
    assert visit.shown[off] == []


def test_sizes_stay_as_entered_and_what_failed_is_tried_again(one):
    visit = Visit(view_architecture)
    drawn, wrong, _, _, n_layer, *_ = visit.view.outputs
    for _ in range(2):
        [update] = visit.come("absent")
        assert is_failure(update[wrong])
    visit.come("one")
    visit.shown[n_layer] = 7
    assert visit.come("one") == []
    trained_on(one.run)
    [update] = visit.come("one")
    assert update[drawn]["n_layer"] == 7
    assert "a training step of 4 sequences" in update[drawn]["words"]  # as in the run


def test_a_number_out_of_range_is_refused_by_its_own_view_alone(one):
    """Gradio refuses a number before any handler runs, also when another view is opened for another model."""
    with gr.Blocks() as demo:
        understand_tab.build()
    limited = [part for part in demo.blocks.values() if isinstance(part, gr.Number)]
    assert [part.elem_id for part in limited if (part.minimum, part.maximum) != (None, None)] == []
    visit = Visit(view_architecture)
    _, wrong, _, _, n_layer, *_ = visit.view.outputs
    visit.come("one")
    visit.shown[n_layer] = 0
    trained_on(one.run)
    [update] = visit.come("one")
    assert update[wrong].constructor_args["value"]["text"] == "n_layer was 0; it must be a whole number from 1 to 48."
    with pytest.raises(NanoGPTError, match="top_k was -1; it must be a whole number from 0"):
        view_characters.config_of((0.8, -1, 1.0))
    for length in (0, 2001):
        with pytest.raises(NanoGPTError, match=f"length was {length:,}; it must be a whole number from 1"):
            next(view_ablation.side_by_side(one, ["0.mlp"], "The", 1, length))


def test_sizes_entered_before_a_model_is_open_draw_nothing(home):
    with gr.Blocks() as demo:
        view_architecture.build(gr.Dropdown())
    [redraw] = [one.fn for one in demo.fns.values() if one.name == "redraw"]
    [update] = redraw(None, "classic", 2, 2, 16, 16).values()
    assert update == gr.skip()


def test_heads_are_sorted_again_once_their_costs_are_measured(one):
    visit = Visit(view_attention)
    drawn = visit.view.outputs[0]
    visit.come("one")
    assert visit.come("one") == []
    [*_] = view_ablation.measured(one, [])
    [update] = visit.come("one")
    assert all(head["cost"] for head in update[drawn]["heads"])


def test_the_text_of_the_shipped_model_can_be_downloaded(one, monkeypatch):
    about = one.run.settings()["corpus"]
    row, line = missing_text.offer("one")
    assert (row.visible, line["text"], missing_text.missing("absent")) == (False, "", None)
    text = corpus.load(about["id"])
    whole = text.text()
    corpus.delete(text.id)
    assert missing_text.missing("one") is None  # another text can't be downloaded
    monkeypatch.setitem(corpus.DOWNLOADED, about["id"], "shakespeare")
    row, line = missing_text.offer("one")
    assert row.visible
    assert line["text"].startswith("This model's text, Tiny Shakespeare, isn't on this machine")
    before = view.View(None, [], [], []).state("one")

    def find(key):
        raise NanoGPTError("Couldn't download Tiny Shakespeare.")

    monkeypatch.setattr(corpus, "find", find)
    _, wrong = missing_text.download("one")
    assert is_failure(wrong)
    monkeypatch.setattr(corpus, "find", lambda key: corpus.add(whole, key))
    row, wrong = missing_text.download("one")
    assert (row.visible, is_failure(wrong)) == (False, False)
    assert missing_text.missing("one") is None
    assert view.View(None, [], [], []).state("one") != before  # views open again


def test_before_units_are_computed_the_view_says_that_it_reads(one):
    visit = Visit(view_units)
    drawn, wrong, *_ = visit.view.outputs
    reading, found = visit.come("one")
    assert reading[wrong].constructor_args["value"]["text"] == "Reading …"
    assert found[drawn]["words"].startswith("Start of a word: ")
