"""The tour: its steps say what the model does, with and without its text, and its answers are computed."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
import torch
from conftest import ROOT, ended_run

from nanogpt import corpus, lecture
from nanogpt.config import NanoGPTError, SampleConfig
from nanogpt.explain import ablation, attention, characters, tiny, tour, tour_steps
from nanogpt.explain.opened import open_run

SMALL = dict(layout="classic", n_layer=2, n_head=2, n_embd=16, block_size=64, batch_size=4, max_iters=50)


@pytest.fixture
def one(home, tiny_text):
    return open_run(ended_run(corpus.add(tiny_text, "A play"), "one", **SMALL))


def test_every_step_asks_something_has_something_to_do_and_answers(one):
    lesson = tour.lesson(one)
    json.dumps(lesson)  # it goes to the browser
    steps = lesson["steps"]
    assert len(steps) == 10
    for step in steps:
        assert len(step["choices"]) == len(set(step["choices"])) >= 3
        assert step["choices"][step["right"]]
        assert step["question"].endswith("?")
        assert step["do"]
    without_answer = [step["key"] for step in steps if not step["answer"]]
    assert without_answer == ["mask", "adamw"]  # theirs are measured when the reader trains
    done = (ROOT / "nanogpt" / "ui" / "views" / "tour_steps.js").read_text(encoding="utf-8")
    assert re.findall(r"^    (\w+)\(area, ", done, re.M) == [
        "numbers", "next", "surprise", "alike", "attention", "mask", "parts", "training", "adamw", "dice",
    ]  # fmt: skip
    assert {step["key"] for step in steps} == set(re.findall(r"^    (\w+)\(area, ", done, re.M))


def test_right_answers_are_the_models_own(one):
    lesson = tour.lesson(one, seed=3)
    text = "".join(lesson["tokens"])
    assert text in one.held_out_text()
    assert len(lesson["tokens"]) == SMALL["block_size"] - 1
    read = characters.read(one.model, one.tokenizer, text)
    assert lesson["bits"] == pytest.approx(read.bits.tolist(), abs=0.01)
    by_key = {step["key"]: step for step in lesson["steps"]}
    right = lambda key: by_key[key]["choices"][by_key[key]["right"]]
    assert right("numbers") == f"{len(lesson['word'])}, one per character"
    place = lesson["asked"]["next"]
    assert right("next") == tour_steps.quoted(lesson["tokens"][place])
    assert lesson["likeliest"][place] == [
        dict(token=bar["token"], p=pytest.approx(bar["p"], abs=1e-4))
        for bar in characters.likeliest(
            characters.logits_at(one.model, one.tokenizer, text, place), one.tokenizer, SampleConfig()
        )
    ]
    # the neighbor of "e", by hand
    rows = one.model.token_embedding_table.weight.detach()
    rows = rows - rows.mean(0)
    asked = re.search("most like “(.)”", by_key["alike"]["question"])[1]
    alike = torch.nn.functional.cosine_similarity(rows, rows[one.tokenizer.stoi[asked]][None])
    assert right("alike") == tour_steps.quoted(one.tokenizer.itos[int(alike.topk(2).indices[1])])
    # where the head looks
    at = lesson["asked"]["attention"]
    wei = attention.of_text(one.model, [one.tokenizer.stoi["\n"], *one.tokenizer.encode(text)][1:])[0, 0]
    best = int(wei[at].argmax())
    assert right("attention").startswith(tour_steps.quoted(lesson["tokens"][best]))
    T = len(lesson["tokens"])
    assert [(share / 255) ** 2 for share in lesson["head"]["shares"]] == pytest.approx(
        wei.flatten().tolist(), abs=0.005
    )
    assert len(lesson["head"]["shares"]) == T * T


def test_it_works_without_the_models_text(one):
    alone = open_run(one.run, may_read_text=False)
    lesson = tour.lesson(alone)
    assert len(lesson["tokens"]) > 20
    by_key = {step["key"]: step for step in lesson["steps"]}
    reference = "Python's reference manual (your model's text isn't here)"
    for said in (by_key["mask"]["do"], by_key["training"]["question"], by_key["adamw"]["do"]):
        assert reference in said
    # the alphabet of the text that the tiny model is trained on
    path, _ = tiny.text_for(alone)
    size = len(set(path.read_text(encoding="utf-8")[: tiny.MOST]))
    assert size != alone.tokenizer.vocab_size
    training = by_key["training"]
    assert f"all {size} characters" in training["question"]
    assert training["choices"][training["right"]] == f"about {math.log(size):.1f} nats"
    assert f"The natural logarithm of {size}: {math.log(size):.2f}." in training["answer"]


def test_the_tour_opens_where_there_is_no_text_to_train_on(one, monkeypatch):
    def missing(key):
        raise NanoGPTError("This Python was installed without its reference manual; choose another text.")

    monkeypatch.setattr(corpus, "find", missing)
    [training] = [step for step in tour.lesson(open_run(one.run, False))["steps"] if step["key"] == "training"]
    assert f"all {one.tokenizer.vocab_size} characters" in training["question"]


def test_tiny_models_have_the_alphabet_of_what_they_read_of_a_long_text(one, monkeypatch):
    monkeypatch.setattr(tiny, "MOST", 5)
    size = len(set(one.training_text()[:5]))
    assert f"all {size} characters" in tour_steps.training(one).question
    assert "will learn your text." in tour_steps.training(one).question


def test_what_the_reader_asks_for(one):
    assert tour.encoded(one, "The Ω") == [(ch, one.tokenizer.stoi[ch]) for ch in "The "]
    assert len(set(tour.written(one, 0.0))) == 1
    assert len(set(tour.written(one, 2.0))) == 2
    *_, last = tour.without(one, "mlp")
    xb, yb, on = ablation.passages(one)
    mlps = [part for part in ablation.parts_of(one.model) if part.kind == "mlp"]
    with torch.inference_mode():
        both = [float(model(xb, yb)[1]) for model in (one.model, ablation.without(one.model, mlps))]
    assert last["losses"] == pytest.approx(both)
    assert (last["on"], last["kind"]) == (on, "mlp")
    assert len(last["texts"][0]) == len(last["texts"][1]) == tour.WRITTEN


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a (shortest) word", "word"),
        ("an extraordinarily to", "extraor"),
        ("我们在这里学习语言模型", "我们在这里学习"),
        ("में हिन्दी", "में"),
        (" \n 12 + 3;", "12+3"),
        ("\n\n  a \n", "!ab"),
        ("", "!ab"),
    ],
)
def test_the_word_to_encode_can_be_read(text, word):
    assert tour_steps.word_of(text, ["\n", " ", "!", "a", "b"]) == word


def passage_of(text, bits, likeliest="e"):
    """Return a text as a model may have read it, which expects the same everywhere."""
    wei = torch.eye(len(text))
    bars = [[dict(token=likeliest, p=0.7)]] * len(text)
    return tour_steps.Passage(list(text), bits, bars, wei, "block 1, head 1", "looks back 3 places on average")


def test_a_text_of_few_characters_has_no_step_about_embeddings(home):
    """Their likeness would be chance, and the nearest of six the only choice."""
    for i, (text, asked) in enumerate([("a" * 1600, False), ("GATTACA\n" * 200, False), ("abcdefg" * 230, True)]):
        one = open_run(ended_run(corpus.add(text, "Few"), f"few-{i}", **SMALL))
        assert ("alike" in [step["key"] for step in tour.lesson(one)["steps"]]) == asked


def test_no_step_asks_what_a_model_without_attention_writes_if_it_writes_the_same(one):
    keys = lambda: [step["key"] for step in tour.lesson(one)["steps"]]
    assert "parts" in keys()
    for block in one.model.blocks:  # as the modern architecture begins
        block.sa.proj.weight.detach().zero_()
        block.sa.proj.bias.detach().zero_()
    assert "parts" not in keys()


def test_an_untrained_tiny_model_is_near_the_loss_that_is_asked_for(one):
    step = tour_steps.training(one)
    assert "If it finds all" in step.question
    assert "its loss is near that, usually a little more" in step.answer
    size = tiny.alphabet(one)
    model = tiny.made(lecture.Stage(block_size=32, n_embd=32, n_head=4, n_layer=1), size)
    xb, yb = torch.randint(size, (2, 16, 32), generator=torch.Generator().manual_seed(0))
    assert math.log(size) < tiny.loss_of(model, xb, yb) < math.log(size) + 0.5


def test_the_step_about_embeddings_asks_for_a_letter_of_the_passage_and_has_wrong_choices():
    near = lambda tokens: [
        dict(token=one, near=[dict(token=t, cosine=0.5) for t in tokens if t != one][:5]) for one in tokens
    ]
    passage = passage_of("мир и мельница", [1.0] * 14)
    assert tour_steps.likened(near("a !мирельнц"), passage)["token"] == "м"
    assert tour_steps.likened(near("abmir"), passage_of("mira", [1.0] * 4))["token"] == "a"
    for tokens in ("abcdefg", "0123456789", "abcdefghijklmnop"):
        for one in near(tokens):
            wrong = tour_steps.unlike(near(tokens), one)
            assert len({*wrong, one["token"], one["near"][0]["token"]}) == 4, tokens


def test_beginnings_of_words_are_said_to_cost_more_only_where_they_do():
    text = "the mill and the sea"
    costs = lambda start, end: [start if i == 0 or text[i - 1] == " " else end for i in range(len(text))]
    said = tour_steps.starts_and_ends(passage_of(text, costs(4.0, 0.5)))
    assert said.endswith("they cost 4.0 bits on average, and the ends of words 0.5.")
    for passage in (
        passage_of(text, costs(2.0, 2.0)),
        passage_of("GATTACA", [2.0] * 7),
        passage_of("3.14159", [3.0] * 7),
    ):
        assert tour_steps.starts_and_ends(passage) == ""


def test_what_comes_next_is_asked_of_the_text_and_not_of_the_model():
    step = tour_steps.next_character(passage_of("the mill", [1.0] * 7 + [3.0]))
    assert step.question == "What follows “the mil” in the text?"
    assert "The text has “l”, to which the model gave 12%; it expected “e” more, with 70%." in step.answer
    rare = tour_steps.next_character(passage_of("the mill", [1.0] * 7 + [9.0]))
    assert "to which the model gave less than 1%; it expected “e” more, with 70%." in rare.answer
    alike = tour_steps.next_character(passage_of("the mill", [1.0] * 7 + [0.515]))  # untrained, all have the same
    assert "The text has “l”, to which the model gave 70%. To write," in alike.answer


def test_what_a_head_looks_at_is_part_of_a_sentence(one):
    passage = passage_of("the mill turns", [1.0] * 14)
    assert "Here is block 1, head 1, which looks back 3 places on average." in tour_steps.looking_back(passage).says
    on = replace(passage, says="86% on spaces and line breaks")
    assert "which puts 86% of its attention on spaces and line breaks." in tour_steps.looking_back(on).says


def test_a_passage_says_that_a_short_context_cuts_it(one):
    cut = "Only the first 63 characters are shown: the model's context, less the one before them."
    assert tour.lesson(one)["note"] == cut
    assert tour.shortened(one, passage_of("The mill", [1.0] * 8)) == ""


def test_measured_answers_in_words():
    last = {"with": dict(held_out=1.9, writing=1.9), "without": dict(held_out=0.09, writing=6.1)}
    words = tour_steps.mask_words(last)
    assert "has a loss of 0.09, the other one 1.90." in words
    assert "its loss is 6.10 instead of 1.90" in words
    weights = [
        dict(character=" ", share=15.2, typical=dict(gradient=0.4, adamw=0.002, sgd=0.4)),
        dict(character="z", share=0.051, typical=dict(gradient=0.01, adamw=0.001, sgd=0.0)),
    ]
    words = tour_steps.adamw_words(dict(weights=weights, adamw=[4.0] * 31 + [2.0] * 20, sgd=[3.0] * 51, rate=1.0))
    assert "of “␣”, which is 15% of the text, B in that of “z”, which is 0.05% of the text." in words
    assert "40.0 times as large, but AdamW moves it 2.0 times as far; SGD, many times." in words
    assert "After 50 steps the loss is 2.00 with AdamW and 3.00 with SGD" in words
