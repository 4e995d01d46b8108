"""Requests that are generated together: each gets the text it would get alone, and none waits for another to end."""

from __future__ import annotations

import gc
import threading
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import until

from nanogpt import together as together_module
from nanogpt.config import ModelConfig, NanoGPTError, SampleConfig
from nanogpt.fast.rows import Rows
from nanogpt.model import GPT
from nanogpt.sample import pick, pick_each, stream, stream_many
from nanogpt.together import REST, Request, Together
from nanogpt.tokenizer import CharTokenizer

TOKENIZER = CharTokenizer("\nabcd")
T = 15  # odd, so that half of it is rounded down
LONG = 10_000


def made(layout: str = "modern") -> GPT:
    torch.manual_seed(0)
    shape = dict(block_size=T, n_layer=2, n_head=2, n_embd=16, layout=layout)
    model = GPT(ModelConfig(vocab_size=TOKENIZER.vocab_size, **shape)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


def ended(model: Together) -> bool:
    """Wait for a model's thread to end."""
    thread = model.thread
    if thread is not None:
        thread.join(60)
    return model.thread is None and not model.texts and model.rows is None


def written(request: Request) -> list[str]:
    with request:
        assert request.wait(60)
        return request.written()


class Gate:
    """Stops a model's thread before each call of a method, until it is opened. Counts the calls."""

    def __init__(self, monkeypatch, owner, name: str):
        self.calls, self.open = 0, threading.Event()
        original = getattr(owner, name)

        def gated(*arguments):
            self.calls += 1
            assert self.open.wait(60)
            return original(*arguments)

        monkeypatch.setattr(owner, name, gated)


CONFIGS = [
    SampleConfig(length=5 * T, seed=1),
    SampleConfig(length=3, seed=2, temperature=1.5),
    SampleConfig(length=4 * T, seed=3, top_k=3, top_p=0.9),
    SampleConfig(length=50, seed=4, temperature=0),
    SampleConfig(length=90, seed=5, num_samples=3, temperature=1.0, stop="ab"),
    SampleConfig(length=1, seed=2**53 - 1, num_samples=2),
]
PROMPTS = ["", "abc", "abcd" * 9, "d" * T, "\n", ("abcd" * T)[: T - 1]]


@pytest.mark.parametrize("layout", ["classic", "modern"])
def test_each_request_gets_the_text_that_it_gets_alone(layout, monkeypatch):
    """More texts than rows, of all lengths and settings, some asked for while others are being generated."""
    monkeypatch.setattr(together_module, "MOST", 4)
    monkeypatch.setattr(together_module, "TURN", 20)
    monkeypatch.setattr(together_module, "READ", 20)
    steps, step = list[int](), Rows.step
    monkeypatch.setattr(Rows, "step", lambda rows, ids: steps.append(len(ids)) or step(rows, ids))
    model = Together(made(layout))
    alone = lambda prompt, config: [
        "".join(pieces) for pieces in zip(*stream_many(model.model, TOKENIZER, prompt, config))
    ]
    asked = [(prompt, config) for prompt in PROMPTS for config in CONFIGS]
    expected = [alone(*one) for one in asked]
    steps.clear()
    requests = []
    for at, (prompt, config) in enumerate(asked):
        requests.append(model.ask(TOKENIZER, prompt, config))
        if at % 9 == 8:  # let some end, so that one is alone for a while
            assert requests[at - 4].wait(60)
    assert [written(request) for request in requests] == expected
    assert max(steps) == 4
    assert min(steps) < 4
    assert ended(model)


def test_of_a_long_prompt_only_what_the_model_sees_is_kept():
    model, config = Together(made()), SampleConfig(length=3 * T, seed=8, num_samples=2)
    prompt = "abcd" * 1000 + "dcba"
    expected = ["".join(pieces) for pieces in zip(*stream_many(model.model, TOKENIZER, prompt, config))]
    request = model.ask(TOKENIZER, prompt, config)
    assert [len(text.prompt) for text in request.texts] == [T, T]
    assert written(request) == expected
    [reference] = written(model.ask(TOKENIZER, prompt[-T:], SampleConfig(length=3 * T, seed=8)))
    assert reference == expected[0]
    assert ended(model)


@pytest.mark.parametrize("layout", ["classic", "modern"])
def test_a_model_that_is_dropped_is_freed_without_the_garbage_collector(layout):
    gc.disable()
    try:
        model = Together(made(layout))
        left = weakref.ref(model.model)
        for several in (1, 3):
            written(model.ask(TOKENIZER, "abcd" * 4, SampleConfig(length=2 * T, num_samples=several)))
            assert ended(model)
        del model
        until(lambda: left() is None)  # once its thread is gone
    finally:
        gc.enable()


@pytest.mark.parametrize("layout", ["classic", "modern"])
def test_a_request_alone_takes_the_path_of_a_single_text(layout, monkeypatch):
    monkeypatch.setattr(Rows, "step", lambda *_: pytest.fail("there is only one text"))
    model, config = Together(made(layout)), SampleConfig(length=6 * T, seed=8)
    for prompt in PROMPTS:
        assert written(model.ask(TOKENIZER, prompt, config)) == [
            "".join(stream(model.model, TOKENIZER, prompt, config))
        ]
        assert ended(model)


def test_a_request_that_comes_later_does_not_wait_until_the_first_ends(monkeypatch):
    model = Together(made())
    with model.ask(TOKENIZER, "", SampleConfig(length=LONG)) as first:
        until(lambda: any(first.written()))
        later = [model.ask(TOKENIZER, "", SampleConfig(length=20, seed=seed)) for seed in range(3)]
        assert all(len(written(one)[0]) == 20 for one in later)
        assert not first.wait(0)
    assert ended(model)
    assert len(first.written()[0]) < LONG


def test_texts_take_turns_if_there_are_more_than_rows(monkeypatch):
    monkeypatch.setattr(together_module, "MOST", 2)
    monkeypatch.setattr(together_module, "TURN", 10)
    model = Together(made())
    with model.ask(TOKENIZER, "", SampleConfig(length=LONG, num_samples=4)) as first:
        until(lambda: all(first.written()))  # all four continue
        assert len(written(model.ask(TOKENIZER, "ab", SampleConfig(length=30)))[0]) == 30
        assert not first.wait(0)
    assert ended(model)


def test_without_rows_texts_take_turns(monkeypatch):
    monkeypatch.setattr(together_module, "Rows", None)
    monkeypatch.setattr(together_module, "TURN", 10)
    model = Together(made())
    configs = [SampleConfig(length=40, seed=seed) for seed in range(4)]
    with model.ask(TOKENIZER, "", SampleConfig(length=LONG)) as first:
        later = [model.ask(TOKENIZER, "ab", config) for config in configs]
        expected = [["".join(stream(model.model, TOKENIZER, "ab", config))] for config in configs]
        assert [written(one) for one in later] == expected
        assert not first.wait(0)
    assert ended(model)


def test_who_leaves_frees_the_row_and_others_go_on(monkeypatch):
    gate = Gate(monkeypatch, Rows, "step")
    model, config = Together(made()), SampleConfig(length=LONG, num_samples=2)
    leaves, also, stays = (model.ask(TOKENIZER, "", config) for _ in range(3))
    short = model.ask(TOKENIZER, "ab", SampleConfig(length=20, seed=3))
    until(lambda: gate.calls == 1)
    with leaves:
        pass
    with pytest.raises(KeyError), also:
        raise KeyError  # the caller's own problem
    late = model.ask(TOKENIZER, "", SampleConfig(length=LONG))
    with late:
        pass  # before it was ever begun
    gate.open.set()
    assert written(short) == ["".join(stream(model.model, TOKENIZER, "ab", SampleConfig(length=20, seed=3)))]
    until(lambda: model.texts == 2)  # those of the one that stays
    with stays:
        assert not stays.wait(0)
    assert ended(model)


@pytest.mark.parametrize("where", ["join", "step"])
def test_an_error_reaches_those_it_concerns_and_the_next_request_works(where, monkeypatch):
    model, config = Together(made()), SampleConfig(length=20)
    with monkeypatch.context() as broken:
        gate = Gate(broken, Rows, where)
        broken.setattr(Rows, where, lambda *_: gate.open.wait(60) and (_ for _ in ()).throw(MemoryError("no room")))
        requests = [model.ask(TOKENIZER, "ab", SampleConfig(length=LONG)) for _ in range(5)]
        gate.open.set()
        said = []
        for request in requests:
            try:
                written(request)
            except MemoryError as error:
                said.append(str(error))
        assert len(said) >= 4  # one may have been alone
        assert set(said) == {"no room"}
        assert ended(model)
    assert written(model.ask(TOKENIZER, "ab", config)) == ["".join(stream(model.model, TOKENIZER, "ab", config))]


def test_if_there_is_no_memory_for_rows_those_who_wait_are_told(monkeypatch):
    model, config = Together(made()), SampleConfig(length=20)
    with monkeypatch.context() as broken:
        broken.setattr(together_module, "Rows", lambda *_: (_ for _ in ()).throw(MemoryError("no room")))
        with pytest.raises(MemoryError, match="no room"):
            written(model.ask(TOKENIZER, "ab", SampleConfig(length=20, num_samples=2)))
        assert ended(model)
    assert written(model.ask(TOKENIZER, "ab", config)) == ["".join(stream(model.model, TOKENIZER, "ab", config))]


def test_what_cannot_be_asked_starts_no_thread():
    model = Together(made())
    with pytest.raises(NanoGPTError):
        model.ask(TOKENIZER, "é", SampleConfig())
    assert ended(model)


def test_memory_is_limited():
    """15 million parameters with a context of 4,096 characters have a gigabyte of keys and values for each text."""
    small, wide = ModelConfig(vocab_size=5, n_layer=1, n_head=1, n_embd=8), dict(n_layer=8, n_head=2, n_embd=32)
    assert Together(GPT(small)).most == together_module.MOST
    model = Together(GPT(ModelConfig(vocab_size=5, block_size=4096, **wide)))
    assert model.most == 200_000_000 // (2 * 4 * 8 * 4096 * (32 + 2))
    assert sum(kv.nbytes for kv in Rows(model.model.ready, model.most).kv) <= 200_000_000


def test_draws_for_several_are_those_for_each():
    logits = np.random.default_rng(0).normal(0, 3, (300, 4, 65)).astype(np.float32)
    warm = [SampleConfig(temperature=t) for t in (0.2, 0.8, 1.0, 2.0)]
    for configs in (warm, [SampleConfig(temperature=0), SampleConfig(top_k=3), *warm[:2]]):
        ours, theirs = ([np.random.default_rng(seed) for seed in range(4)] for _ in range(2))
        for scores in logits:
            assert pick_each(scores, configs, ours) == [pick(*one) for one in zip(scores, configs, theirs)]


@pytest.mark.parametrize("training", [False, True])
def test_several_texts_leave_time_for_a_run_that_trains(training, monkeypatch):
    slept, looks = [], []
    clock = SimpleNamespace(monotonic=lambda: len(looks) * 0.1, sleep=slept.append)  # each look at it takes 0.1 s
    monkeypatch.setattr(clock, "monotonic", lambda tick=clock.monotonic: looks.append(1) or tick())
    monkeypatch.setattr(together_module, "time", clock)
    asked = []
    model = Together(made(), training=lambda: asked.append(1) or training)
    assert len(written(model.ask(TOKENIZER, "a", SampleConfig(length=T, num_samples=3, seed=1)))) == 3
    assert ended(model)
    assert len(asked) < len(looks) / 5  # once per second
    if training:
        assert slept == pytest.approx([REST * 0.1] * T)
    else:
        assert slept == []
