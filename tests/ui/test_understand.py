"""The Understand tab: what its handlers return, who may see what, then every view in a real Chromium."""

from __future__ import annotations

import base64
import json
import os
import re
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from conftest import CONTRAST, TWO_BLOCKS, ended_run, visit
from gradio.context import LocalContext

from nanogpt import corpus
from nanogpt.config import NanoGPTError, SampleConfig
from nanogpt.explain import ablation, cache, copies, guessing, readout, replay, tiny, tour_steps
from nanogpt.explain.opened import open_run
from nanogpt.launch import visitors
from nanogpt.runs import queue
from nanogpt.ui import drawn, measuring, missing_text, share_tab, understand_tab, view
from nanogpt.ui.drawn import is_failure
from nanogpt.ui.theme import CSS
from nanogpt.ui.understand_tab import SCORED, Opening, coming_to, is_pending, leave_others, while_newest
from nanogpt.ui.views import (
    ablation as view_ablation,
)
from nanogpt.ui.views import (
    architecture as view_architecture,
)
from nanogpt.ui.views import (
    attention as view_attention,
)
from nanogpt.ui.views import (
    characters as view_characters,
)
from nanogpt.ui.views import (
    copies as view_copies,
)
from nanogpt.ui.views import (
    guessing as view_guessing,
)
from nanogpt.ui.views import (
    loss as view_loss,
)
from nanogpt.ui.views import (
    readout as view_readout,
)
from nanogpt.ui.views import (
    replay as view_replay,
)
from nanogpt.ui.views import (
    timemachine as view_timemachine,
)
from nanogpt.ui.views import (
    tour as view_tour,
)
from nanogpt.ui.views import (
    units as view_units,
)


@pytest.fixture
def one(home, tiny_text):
    ended_run(corpus.add(tiny_text, "A play"), "one", **TWO_BLOCKS)
    return view.opened("one")


# --- opening a view ---------------------------------------------------------------------------------------------------


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


def recreate(run) -> None:
    """Let a run look as if it was deleted, and another one of this name created on another day."""
    path = run.folder / "run.json"
    path.write_text(json.dumps(run.settings() | dict(created="2020-01-01T00:00:00+00:00")))


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


def test_a_long_match_is_quoted_from_its_end(one):
    training = one.training_text()
    assert "“…" not in view_characters.seen_words(training, training[:40])
    assert f"“…{training[60:100]}” occurs".replace("\n", "↵") in view_characters.seen_words(training, training[:100])


def test_what_was_expected_at_a_place(one):
    there = view_characters.expected(one, "The mill", 4, SampleConfig())
    assert there["before"] == "The "
    assert there["own"] == "m"
    assert len(there["bars"]) == 5
    assert "In your training text, “The ” occurs" in there["seen"]
    read = view_characters.colored(one, "The mill")
    bits, rank = read["bits"][4], read["ranks"][4]
    choice = "first choice" if rank == 1 else f"choice number {rank}"
    assert there["found"] == f"The text has “m”: {2**-bits:.1%}, {bits:.1f} bits, the model's {choice}."
    assert view_characters.own_words(" ", 12.0, 40).startswith("The text has “␣”: less than 0.1%, 12.0 bits, ")
    assert view_characters.own_words(" ", 1.0, 0) == "The text has “␣”: 50.0%, 1.0 bits."  # others share its place
    at_the_end = view_characters.expected(one, "The mill", 99, SampleConfig())
    assert at_the_end["at"] == 8
    assert at_the_end["own"] == at_the_end["found"] == ""


def test_the_training_text_is_quoted_only_to_its_reader(one):
    shared = open_run(one.run, may_read_text=False)
    assert view_characters.expected(shared, "The mill", 4, SampleConfig())["seen"] == view_characters.NO_TEXT
    with pytest.raises(NanoGPTError, match="isn't here"):
        view.a_passage(shared)


def test_on_a_public_server_nobody_opens_another_visitors_run(one, monkeypatch):
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    stranger = visitors.visitor_of(visitors.new_word())
    monkeypatch.setattr(view, "visitor", lambda: stranger)
    monkeypatch.setattr("nanogpt.ui.web.visit.visitor", lambda: stranger)
    with pytest.raises(NanoGPTError, match="There is no run named one"):
        view.opened("one")
    one.run.change(public=True)
    assert view.opened("one").training_text() is None


def test_a_passage_begins_with_a_line_and_is_held_out(one, monkeypatch):
    held_out = one.held_out_text()
    monkeypatch.setattr(view, "PASSAGE", 60)
    for _ in range(20):
        passage = view.a_passage(one)
        at = held_out.index(passage)
        assert len(passage) == 60
        assert held_out[at - 1] == "\n" or "\n" not in held_out[at:-60]  # no line begins before what is left is shorter


# --- switch it off ----------------------------------------------------------------------------------------------------


def test_the_grid_fills_and_says_what_it_found(one):
    *filling, last = view_ablation.measured(one, ["0.mlp"])
    assert last["off"] == ["0.mlp"]
    assert len(last["rises"]) == 8
    assert last["n_layer"] == last["n_head"] == 2
    assert re.search(r"Measured on \d+ characters of held-out text, where the whole model has a loss of", last["said"])
    assert filling[0]["said"] == "Measuring: 0 of 8 parts."
    measuring = [data for data in filling if data["said"].startswith("Measuring")]  # the full grid may be drawn twice
    assert {data["spoken"] for data in measuring} == {"Measuring."}  # to those who hear each change
    assert "spoken" not in last


def test_nothing_is_measured_while_something_trains(one, monkeypatch):
    busy = [["other"], ["other"], []]
    monkeypatch.setattr(queue, "running", lambda: busy.pop(0) if len(busy) > 1 else busy[0])
    monkeypatch.setattr(measuring.time, "sleep", lambda seconds: None)
    said = [data["said"] for data in view_ablation.measured(one, [])]
    assert said[:2] == ["Waiting until the machine is free, so that nothing is slowed down."] * 2
    assert said[-1].endswith(".")
    assert "Measured on" in said[-1]


def test_one_model_is_measured_at_a_time_and_what_is_known_is_shown_at_once(one, monkeypatch):
    monkeypatch.setattr(measuring.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(measuring, "PATIENCE", -1.0)
    first = view_ablation.measured(one, [])
    next(first)
    with pytest.raises(NanoGPTError, match="Open this view again"):
        list(view_ablation.measured(one, []))
    [*_, last] = first
    assert last["said"].endswith(".")
    monkeypatch.setattr(queue, "running", lambda: ["other"])
    [at_once] = view_ablation.measured(one, [])
    assert at_once["rises"] == last["rises"]


def test_a_public_server_limits_the_time_of_measuring(one, monkeypatch):
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    now, busy = [0.0], [[], ["other"], []]

    def computing():
        for _ in range(7):
            now[0] += 10.0
            yield now[0]

    def passes(seconds):  # while a run trains
        now[0] += 100.0

    monkeypatch.setattr(measuring.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(measuring.time, "sleep", passes)
    monkeypatch.setattr(queue, "running", lambda: busy.pop(0) if len(busy) > 1 else busy[0])
    results = measuring.in_turn(computing())
    assert [next(results) for _ in range(7)] == [None, 10.0, *(100.0 + 10 * n for n in range(2, 7))]
    with pytest.raises(NanoGPTError, match="takes longer than the 60 s this server allows. Choose a smaller model"):
        next(results)


def test_on_a_public_server_one_measurement_waits_per_visitor(monkeypatch):
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    now = [visitors.visitor_of(visitors.new_word())]
    monkeypatch.setattr(measuring, "visitor", lambda: now[0])
    monkeypatch.setattr(queue, "running", lambda: ["other"])
    monkeypatch.setattr(measuring.time, "sleep", lambda seconds: None)
    first = measuring.in_turn([1])
    assert next(first) is None
    now[0] = visitors.visitor_of(visitors.new_word())
    of_another = measuring.in_turn([2])
    assert [next(of_another), next(first)] == [None, None]
    second = measuring.in_turn([3])
    assert [next(second), next(first)] == [None, None]
    with pytest.raises(NanoGPTError, match="You have opened another view"):
        next(of_another)
    monkeypatch.setattr(queue, "running", lambda: [])
    assert [*second, *first] == [3, 1]
    assert measuring.waits == {}


def test_without_cookies_one_measurement_waits_per_address(monkeypatch):
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    now = [visitors.Visitor("", "10.0.0.1")]
    monkeypatch.setattr(measuring, "visitor", lambda: now[0])
    monkeypatch.setattr(queue, "running", lambda: ["other"])
    monkeypatch.setattr(measuring.time, "sleep", lambda seconds: None)
    first = measuring.in_turn([1])
    assert next(first) is None
    now[0] = visitors.Visitor("", "10.0.0.2")
    second = measuring.in_turn([2])
    assert [next(second), next(first)] == [None, None]
    monkeypatch.setattr(queue, "running", lambda: [])
    assert [*second, *first] == [2, 1]
    assert measuring.waits == {}


@pytest.mark.parametrize(("computing", "seconds"), [(ablation.measured, 6), (readout.measured, 4)])
def test_what_a_public_server_has_measured_in_its_time_is_kept(one, monkeypatch, computing, seconds):
    """Each result takes a second here, so there is time for one of two blocks, or one of two read-outs."""
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    monkeypatch.setattr(readout, "STEPS", 20)
    monkeypatch.setattr(measuring, "SECONDS", seconds)
    now = [0.0]
    monkeypatch.setattr(measuring.time, "monotonic", lambda: now[0])

    def in_turn(opened):
        for result in measuring.in_turn(timed(computing(opened)), cache.can_keep(opened)):
            yield dict(result)

    def timed(results):
        for result in results:
            now[0] += 1.0
            yield result

    other = ended_run(corpus.load(one.corpus_id), "other", **TWO_BLOCKS)
    at_once = list(computing(replace(one, run=other)))
    with pytest.raises(NanoGPTError, match=f"Paused after {seconds} s.*is kept: choose another view and then this"):
        list(in_turn(one))
    later = list(in_turn(one))
    assert later[-1] == at_once[-1]
    assert len(later) < len(at_once)
    assert list(computing(one)) == [later[-1]]


def test_both_texts_start_with_the_prompt_in_the_models_alphabet(one):
    *_, last = view_ablation.side_by_side(one, ["0.mlp", "1.head.1"], "Ω The ", 5, 30)
    whole, less = last["columns"]
    assert whole["name"] == "With all parts"
    assert less["name"] == "Without block 1, feed-forward layer; block 2, head 2"
    assert whole["prompt"] == less["prompt"] == " The "
    assert len(whole["text"]) == len(less["text"]) == 30
    with pytest.raises(NanoGPTError, match="no part"):
        list(view_ablation.side_by_side(one, ["9.mlp"], "", 5, 30))


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


def test_a_guess_after_a_restart_of_the_server_begins_a_new_game(one):
    with gr.Blocks() as demo:
        parts = view_guessing.build(gr.Dropdown(), gr.HTML()).outputs
    [guess] = [one.fn for one in demo.fns.values() if one.name == "guess"]
    drawing, _, game = parts
    first = guess(SimpleNamespace(letter="e"), "one", None)
    which, begun = first[game]
    assert (which, begun.ranks, begun.wrong) == (view.identity(one.run), (), ())
    second = guess(SimpleNamespace(letter="e"), "one", first[game])
    assert second[game] == (which, guessing.guess(begun, "e", one)) != first[game]
    freed = [one.trigger_only_on_failure for one in demo.fns.values() if one.js == view_guessing.NEXT]
    assert sorted(freed) == [False, True]  # whether the answer comes or fails
    assert second[drawing] != first[drawing]
    recreate(one.run)
    third = guess(SimpleNamespace(letter="e"), "one", second[game])
    assert third[game][0] == view.identity(one.run) != which
    assert third[game][1].ranks == ()


def test_the_text_to_begin_with_is_the_newest_sample(one):
    assert view.first_text(one) == "text 50"


def test_your_score_counts_after_ten_characters_and_stands_on_the_ruler(one):
    game = guessing.new_game(one, 3)
    for _ in range(9):
        game = guessing.guess(game, game.text[game.place], one)
    which = view.identity(one.run)
    assert view_guessing.scored(which, game, 40) == {}
    game = guessing.guess(game, game.text[game.place], one)
    scores = view_guessing.scored(which, game, 40)
    [(key, bits)] = scores.items()
    assert key.startswith(f"{which} ")
    assert bits == pytest.approx(guessing.player_bits(game.ranks, 40), abs=1e-3)
    assert view_guessing.over_passages(scores, which) == ""
    [you] = [
        mark for mark in view_loss.ruler(one, player=view_loss.score_of(one, scores))["marks"] if mark["label"] == "You"
    ]
    assert you["bits"] == pytest.approx(bits)
    # of several passages, the mean; those of another run don't count, nor does what isn't a score
    scores |= {which: bits + 1, f"{which} 7": "x", f"{which}5 7": 9.0}
    assert view_loss.score_of(one, scores) == pytest.approx(bits + 0.5)
    assert view_guessing.over_passages(scores, which) == f" Over 2 passages, you have {bits + 0.5:.2f} on average."
    for nonsense in (None, "x", {which: "x"}, {which: -1}, {"one": 2.0}):
        assert view_loss.score_of(one, nonsense) is None
    recreate(one.run)
    assert view_loss.score_of(one, scores) is None


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
    [*_] = view_ablation.measured(one, [])
    costs = [float(head["cost"].split()[1]) for head in view_attention.looked(one, "The mill")["heads"]]
    assert costs == sorted(costs, reverse=True)


def test_an_empty_text_is_refused_and_not_replaced(one):
    for text in ("", "ΩΩ"):  # the second one has no character that the model knows
        with pytest.raises(NanoGPTError, match="There is no text to look at. Enter some first."):
            view_attention.looked(one, text)


def test_samples_that_are_there_at_once_are_not_said_to_be_written(one):
    """A run without snapshots shows those of its evaluations."""
    [(data, said)] = view_timemachine.travel(one, "", 5)
    assert data["samples"]
    assert said == ""


def test_a_run_that_was_deleted_in_another_tab_is_named_as_on_the_page(one):
    with pytest.raises(NanoGPTError) as caught:
        view.opened("gone")
    assert str(caught.value) == ("There is no run named gone. It may have been deleted or renamed; choose another one.")


def test_a_cost_of_nothing_has_no_sign():
    assert [view_attention.signed(nats) for nats in (1.449, -0.02, 0.004, -0.004)] == ["+1.45", "-0.02", "0.00", "0.00"]


def test_a_picture_is_small_and_keeps_the_shape():
    matrix = np.tril(np.ones((100, 100)))
    small = view_attention.pooled(matrix)
    assert small.shape == (24, 24)
    assert small[0, -1] == 0
    assert small[-1, 0] == 1
    assert list(base64.b64decode(view_attention.picture(np.array([[0.0, 0.25, 1.0]])))) == [0, 128, 255]


# --- what can be read out after each block? ---------------------------------------------------------------------------


def test_read_outs_are_fitted_and_then_read_place_by_place(one, monkeypatch):
    monkeypatch.setattr(readout, "STEPS", 20)
    *filling, last = filter(None, view_readout.fitted(one))
    assert filling[0]["words"] == "Fitting read-outs on the training text: embedding, 0 of 3."
    assert len(last["losses"]) == 3
    data = view_readout.read(one, last["losses"], "The mill Ω")
    assert "".join(data["tokens"]) == "The mill "
    assert "Ω" in data["note"]
    assert data["depths"] == ["Embedding", "Block 1", "Block 2"]
    assert [len(of_depth) for of_depth in data["likeliest"]] == [10] * 3  # the last place is after the text
    assert all(len(place) == 5 for of_depth in data["likeliest"] for place in of_depth)
    read = view_characters.colored(one, "The mill ")
    assert data["bits"][-1] == pytest.approx(read["bits"], abs=0.06)
    before = [pair[1] for pair in data["likeliest"][-1][4]]
    expected = view_characters.expected(one, "The mill", 4, SampleConfig())["bars"]
    assert before == pytest.approx([100 * bar["p"] for bar in expected], abs=0.06)
    with pytest.raises(NanoGPTError, match="no text to read"):
        view_readout.read(one, last["losses"], "")


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
    assert "original" not in found["words"]  # shorter stretches may be copied, too
    with pytest.raises(NanoGPTError, match="no text to check"):
        view_copies.found(one, "")
    half = view_copies.found(one, "\ud83d" + training[at : at + 50])  # half of an emoji, as of a text that was cut
    assert half["text"] == "�" + training[at : at + 50]
    assert half["spans"][0]["start"] == 1


def test_the_share_tab_says_how_much_is_copied_before_anything_is_published(one):
    assert "Held-out text, which the model hasn't seen, has" in share_tab.copied_words("one")["text"]
    assert share_tab.copied_words("absent")["text"] == ""


# --- a unit for it ----------------------------------------------------------------------------------------------------


def test_a_text_is_shaded_by_the_unit_of_a_feature_or_of_a_selection(one):
    data = view_units.of_feature(one, "word-start", "The MILLER turns")
    assert "".join(data["tokens"]) == "The MILLER turns"
    assert len(data["values"]) == 16
    assert 0 <= min(data["values"]) <= max(data["values"]) <= 1
    assert data["words"].startswith("Start of a word: ")
    data = view_units.of_selection(one, "The MILLER turns", 9, 12)
    assert data["selected"] == [9, 12]
    assert data["words"].startswith(data["name"] + " best tells your selection from the rest")
    for start, end in ((0, 16), (3, 3), (None, "x")):
        with pytest.raises(NanoGPTError, match="Select a part"):
            view_units.of_selection(one, "The MILLER turns", start, end)
    with pytest.raises(NanoGPTError, match="no text to look at"):
        view_units.of_feature(one, "word-start", "")


def test_before_units_are_computed_the_view_says_that_it_reads(one):
    visit = Visit(view_units)
    drawn, wrong, _ = visit.view.outputs
    reading, found = visit.come("one")
    assert reading[wrong].constructor_args["value"]["text"] == "Reading …"
    assert found[drawn]["words"].startswith("Start of a word: ")


def test_a_text_that_is_cut_to_the_context_says_so(one, monkeypatch):
    for size, value in dict(STEPS=1, FITTED_ON=64, JUDGED_BY=64).items():
        monkeypatch.setattr(readout, size, value)
    *_, last = filter(None, view_readout.fitted(one))
    text = "the mill turns by the old river"
    said = "Only the first 16 characters are shown: the model's context."
    assert view_units.of_feature(one, "word-start", text)["note"] == said
    after = "Only the first 15 characters are shown: the model's context, after a line break."
    assert view_readout.read(one, last["losses"], text)["note"] == after
    data = view_attention.looked(one, text + "Ω")
    assert data["note"] == f"Not in this model's alphabet: skipped Ω. {said}"
    assert view_attention.looked(one, "".join(data["tokens"]), "1.head.0", 3, data["note"])["note"] == data["note"]
    assert view_units.of_feature(one, "word-start", text[:16])["note"] == ""


def test_characters_that_a_model_does_not_know_are_named(one):
    left_out = "Not in this model's alphabet: skipped Ω."
    assert view_units.of_feature(one, "word-start", "The millΩ")["note"] == left_out
    assert view_units.of_selection(one, "The MILLERΩ turns", 9, 12)["note"] == left_out
    assert view_units.of_feature(one, "word-start", "The mill")["note"] == ""
    data = view_attention.looked(one, "The millΩ")
    assert data["note"] == left_out
    # of a text of tokens, as when another head is chosen
    assert view_attention.looked(one, "".join(data["tokens"]), "1.head.0", 3, data["note"])["note"] == left_out
    *_, both = view_ablation.side_by_side(one, ["0.mlp"], "TheΩ", 1, 5)
    assert [column["said"] for column in both["columns"]] == [left_out] * 2


# --- the tour ---------------------------------------------------------------------------------------------------------


def test_the_tour_answers_what_its_steps_ask_for(one):
    [ids] = view_tour.answered(one, "numbers", dict(text="The mill" * 10))
    assert "".join(token for token, _ in ids["tokens"]) == ("The mill" * 10)[: view_tour.WORD]
    *_, less = view_tour.answered(one, "parts", dict(kind="attention"))
    assert len(less["losses"]) == 2
    [same] = view_tour.answered(one, "dice", dict(temperature=0))
    assert same["texts"][0] == same["texts"][1]
    for want, wish in (("parts", dict(kind="head")), ("dice", dict(temperature=9)), ("x", {})):
        with pytest.raises(NanoGPTError, match="Reload"):
            list(view_tour.answered(one, want, wish))


MASKS = [
    dict(step=0, **{name: dict(held_out=4.0) for name in ("with", "without")}),
    dict(step=400, **{name: dict(held_out=2.0, writing=2.0, sample="The") for name in ("with", "without")}),
]


def test_the_tour_trains_in_a_process_of_its_own(one, monkeypatch):
    asked = []

    def process(question, path, paused):
        asked.append((question, path, paused()))
        yield from [dict(paused=True), {}, *MASKS]

    monkeypatch.setattr(tiny, "asked", process)
    starting, waiting, first, second, last = view_tour.trained(one, "mask")
    assert asked == [("mask", one.text_folder() / "text.txt", False)]
    assert (starting["doing"], waiting["doing"]) == ("Starting …", measuring.WAITING)
    assert (first["events"], second["doing"]) == (MASKS[:1], "Step 400.")
    assert first["spoken"] == second["spoken"]  # to those who hear each change
    assert (last["events"], last["words"]) == (MASKS, tour_steps.mask_words(MASKS[-1]))
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    monkeypatch.setattr(measuring, "SECONDS", -1.0)
    with pytest.raises(NanoGPTError, match="this server allows"):
        list(view_tour.trained(one, "mask"))
    # only while it trains: what it waits for others doesn't count
    monkeypatch.setattr(measuring, "SECONDS", 60.0)
    monkeypatch.setattr(replay, "timed", lambda pairs: ((*pair, 61.0) for pair in pairs))
    with pytest.raises(NanoGPTError, match="longer than the 60 s"):
        list(view_tour.trained(one, "mask"))


def test_no_view_trains_where_training_is_turned_off(one, monkeypatch):
    monkeypatch.setenv("NANOGPT_TRAINING", "off")
    with gr.Blocks() as demo:
        view_replay.build(gr.Dropdown())
    [train] = [made.fn for made in demo.fns.values() if made.name == "train"]
    for [updates] in (train("one", "lecture"), view_tour.train("mask", "one")):
        said = list(updates.values() if isinstance(updates, dict) else updates)[-1]
        assert said.value["text"].startswith("Training is turned off")


# --- drawings, each alone in a browser ------------------------------------------------------------------------------

# Runs the script of a component. What it triggers is in `sent`, and how often it listens to the window in `listens`.
ALONE = """(script) => {
  const element = document.body.appendChild(document.createElement("div")), listen = window.addEventListener;
  const shows = [];
  let value = null;
  Object.assign(window, { sent: [], listens: 0 });
  window.addEventListener = (...what) => { window.listens++; listen.apply(window, what); };
  window.props = { get value() { return value; }, set value(to) { value = to; for (const show of shows) show(); } };
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
        page.evaluate(ALONE, drawn.drawn(name, uses=uses).js_on_load)
        return page

    yield opened
    window.close()


def draw(page, **data) -> None:
    page.evaluate("(data) => { props.value = data; }", data)


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
    page = alone("guessing", "tokens", "token_bars")
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
    page = alone("guessing", "tokens", "token_bars")
    draw(page, before=passage, left=5)
    assert compose(page, letter) == [letter]
    assert compose(page, commit=letter) == []


@pytest.mark.slow
def test_one_guess_is_sent_until_the_answer_is_drawn(alone):
    page = alone("guessing", "tokens", "token_bars")
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
    page = alone("tour", "tokens", "text_cells", "token_bars", "tour_steps")
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
    page = alone("tour", "tokens", "text_cells", "token_bars", "tour_steps")
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
    page = alone("tour", "tokens", "text_cells", "token_bars", "tour_steps")
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
    page = alone("tour", "tokens", "text_cells", "token_bars", "tour_steps")
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
    assert [event for event, _ in page.evaluate("sent")] == ["apply"]  # only once
    page.get_by_role("button", name="Back").click()
    assert curves() == 0
    page.get_by_role("button", name="Finish").or_(page.get_by_role("button", name="Next")).click()
    assert curves() == 1  # asked for here


@pytest.mark.slow
def test_a_training_of_the_tour_that_was_canceled_says_so(alone):
    page = alone("tour", "tokens", "text_cells", "token_bars", "tour_steps")
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
    page = alone("tour", "tokens", "text_cells", "token_bars", "tour_steps")
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
    pages = [alone("tour", "tokens", "text_cells", "token_bars", "tour_steps") for _ in range(2)]
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
    page = alone("guessing", "tokens", "token_bars")
    draw(page, before="The mill", guessed=[["a", 1], ["b", 2], ["c", 3], ["d", 4]], left=5)
    assert (
        page.locator(".guessing-legend").text_content() == "right at the 1st guess at the 2nd at the 3rd not guessed "
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
    page = alone("readout", "tokens", "text_cells")
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
    page = alone("attention", "tokens", "text_cells")
    for cost, label in (("", "Heads"), ("loss +0.10 without it", "Heads, the most important first")):
        heads = [dict(key="0.head.0", name="Block 1, head 1", says="", cost=cost, small="AA==")]
        draw(page, tokens=["T"], heads=heads, size=1, head="0.head.0", matrix="AA==")
        assert page.locator(".attention-heads").get_attribute("aria-label") == label


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
    page = alone(view, "tokens", "text_cells")
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
    page = alone("expected", "tokens")
    bars = [dict(token=token, p=0.3, drawn=0.4) for token in "abc"]
    draw(page, bars=bars, at=1)
    page.locator(".expected-bar").first.press("ArrowDown")
    page.keyboard.press("Enter")
    draw(page, bars=bars, at=2)
    assert page.evaluate("[...document.querySelectorAll('.expected-bar')].indexOf(document.activeElement)") == 1
    assert page.locator(".expected-bar[tabindex='0']").count() == 1
    draw(page, bars=bars[:1], at=3)
    assert focused() == "expected-bar"

    page = alone("units", "tokens", "text_cells")
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
    page = alone("units", "tokens", "text_cells")
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


# --- in a browser -----------------------------------------------------------------------------------------------------


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
        page.wait_for_timeout(400)  # the colors fade
        assert page.evaluate(CONTRAST) == []


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
    for key in [*["ArrowRight"] * 10, *["Shift+ArrowRight"] * 3]:
        page.locator(".units-text").press(key)
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
        page.wait_for_timeout(400)  # the colors fade
        assert page.evaluate(CONTRAST) == []
        page.get_by_role("tab", name="Characters", exact=True).click()
        page.wait_for_selector("#characters-parts .cell-break, .characters .cell-break")
        assert page.evaluate(CONTRAST) == []
    page.set_viewport_size(dict(width=390, height=844))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
