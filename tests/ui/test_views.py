"""The views of Understand: what their handlers return, and who may see what."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from conftest import MASKS, TWO_BLOCKS, ended_run

from nanogpt import corpus
from nanogpt.config import NanoGPTError, SampleConfig
from nanogpt.explain import ablation, cache, guessing, readout, replay, tiny, tour, tour_steps
from nanogpt.explain.opened import open_run
from nanogpt.launch import visitors
from nanogpt.runs import queue
from nanogpt.ui import measuring, share_tab, view
from nanogpt.ui.views import (
    ablation as view_ablation,
    attention as view_attention,
    characters as view_characters,
    copies as view_copies,
    guessing as view_guessing,
    loss as view_loss,
    readout as view_readout,
    replay as view_replay,
    timemachine as view_timemachine,
    tour as view_tour,
    units as view_units,
)

# --- character by character -----------------------------------------------------------------------------------------


def test_a_text_is_colored_token_by_token(one):
    data = view_characters.colored(one, "The mill\nQ", 3)
    assert "".join(data["tokens"]) in ("The mill\nq", "The mill\n")
    assert data["at"] == 3
    assert len(data["tokens"]) == len(data["bits"]) == len(data["ranks"])
    assert "Q" in data["note"]
    assert "bits each on average. Least expected: “" in data["words"]
    assert re.fullmatch(r"1 character, \d+\.\d\d bits\.", view_characters.colored(one, "T")["words"])


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
    choice = "the model's first choice" if rank == 1 else f"number {rank} on the model's list"
    assert there["found"] == f"The text has “m”: {2**-bits:.1%}, {bits:.1f} bits, {choice}."
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


def test_running_out_of_memory_has_a_sentence_in_every_view(one, monkeypatch):
    def full(*_, **more):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    monkeypatch.setattr("nanogpt.model.MultiHeadAttention.forward", full)
    monkeypatch.setattr("nanogpt.fast.decode.FastDecoder.read", full)
    for compute in (
        lambda: view_characters.colored(one, "The mill"),
        lambda: view_characters.expected(one, "The mill", 4, SampleConfig()),
        lambda: view_attention.looked(one, "The mill"),
        lambda: list(view_ablation.measured(one, [])),
        lambda: list(view_ablation.side_by_side(one, ["0.mlp"], "", 5, 30)),
        lambda: readout.of_text(one, [1, 2], [None] * 3),
        lambda: tour.read(one, "The mill"),
        lambda: tour.written(one, 1.0),
        lambda: list(tour.without(one, "mlp")),
        lambda: view.a_sample(one),
    ):
        with pytest.raises(MemoryError):
            compute()


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


def recreate(run) -> None:
    """Let a run look as if it was deleted, and another one of this name created on another day."""
    path = run.folder / "run.json"
    path.write_text(json.dumps(run.settings() | dict(created="2020-01-01T00:00:00+00:00")))


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


def test_a_text_that_is_cut_to_the_context_says_so(one, monkeypatch):
    for size, value in dict(STEPS=1, FITTED_ON=64, JUDGED_BY=64).items():
        monkeypatch.setattr(readout, size, value)
    *_, last = filter(None, view_readout.fitted(one))
    text = "the mill turns by the old river"
    said = "Only the first 16 characters are shown: the model's context."
    assert view_units.of_feature(one, "word-start", text)["note"] == said
    after = "Only the first 15 characters are shown: the model's context, less the one before them."
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
