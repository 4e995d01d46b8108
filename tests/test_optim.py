"""The schedule at its edges, and the optimizer's memory through a file and back."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load, save
from torch.nn import functional as F

from nanogpt.config import ModelConfig, TrainConfig
from nanogpt.model import GPT
from nanogpt.optim import get_lr, load_optimizer_tensors, make_optimizer, optimizer_tensors

MODEL = ModelConfig(vocab_size=7, block_size=8, n_layer=1, n_head=2, n_embd=8)


def a_model(seed=0):
    torch.manual_seed(seed)
    return GPT(MODEL)


def learn(model, optimizer, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        idx = torch.randint(7, (4, 9), generator=generator)
        logits, _ = model(idx[:, :-1])
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits.reshape(-1, 7), idx[:, 1:].reshape(-1)).backward()
        optimizer.step()


# --- the schedule --------------------------------------------------------------------------------------------------

CONFIG = TrainConfig(learning_rate=1e-2, min_lr=1e-3, warmup_iters=10, max_iters=110)


@pytest.mark.parametrize(
    ("step", "lr"),
    [
        (0, 1e-3),  # the first of ten steps up
        (4, 5e-3),
        (9, 1e-2),
        (10, 1e-2),  # the top
        (35, 1e-3 + 9e-3 * 0.5 * (1 + math.sqrt(0.5))),  # a quarter of the way: cos 45 degrees
        (60, 5.5e-3),  # half way
        (110, 1e-3),
        (111, 1e-3),
        (10_000, 1e-3),
    ],
)
def test_the_learning_rate_rises_straight_and_falls_along_a_cosine(step, lr):
    assert get_lr(step, CONFIG) == pytest.approx(lr, rel=1e-12)


def test_after_the_top_it_never_rises_and_always_stays_positive():
    rates = [get_lr(step, CONFIG) for step in range(111)]
    assert all(a < b for a, b in zip(rates[:9], rates[1:10]))
    assert all(a >= b for a, b in zip(rates[10:], rates[11:]))
    assert min(rates) > 0


def test_without_warm_up_it_starts_at_the_top_and_equal_ends_make_it_constant():
    plain = TrainConfig(learning_rate=3e-4, min_lr=3e-4, warmup_iters=0, max_iters=100)
    assert {get_lr(step, plain) for step in range(101)} == {3e-4}


def test_a_run_shorter_than_its_warm_up_only_rises():
    short = TrainConfig(learning_rate=1e-2, min_lr=0.0, warmup_iters=100, max_iters=50)
    assert [get_lr(step, short) for step in (0, 24, 49)] == pytest.approx([1e-4, 2.5e-3, 5e-3])
    assert get_lr(5, TrainConfig(warmup_iters=5, max_iters=5)) == 1e-3  # nothing is divided by zero


# --- the optimizer -------------------------------------------------------------------------------------------------


def test_weight_decay_pulls_on_matrices_only():
    model = a_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, TrainConfig(learning_rate=0.1, min_lr=0.1, weight_decay=0.5))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        expected = before[name] * (1 - 0.1 * 0.5) if p.dim() >= 2 else before[name]
        torch.testing.assert_close(p.detach(), expected, rtol=1e-6, atol=0)


def test_one_step_is_that_of_adamw_worked_out_by_hand():
    model = a_model()
    before = {name: p.detach().double() for name, p in model.named_parameters()}
    config = TrainConfig(learning_rate=1e-2, min_lr=1e-2, weight_decay=0.1, beta1=0.9, beta2=0.99)
    learn(model, make_optimizer(model, config), 1)
    for name, p in model.named_parameters():
        g = p.grad.double()
        m, v = 0.1 * g / (1 - 0.9), 0.01 * g**2 / (1 - 0.99)  # with the bias corrections of the first step
        decayed = before[name] * (1 - 1e-2 * (0.1 if p.dim() >= 2 else 0.0))
        expected = decayed - 1e-2 * m / (v.sqrt() + 1e-8)
        torch.testing.assert_close(p.detach().double(), expected, rtol=1e-4, atol=1e-6)


def test_the_optimizer_s_memory_goes_through_a_file_and_back_to_the_bit():
    config = TrainConfig()
    model = a_model()
    optimizer = make_optimizer(model, config)
    learn(model, optimizer, 5)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    kept = load(save(optimizer_tensors(optimizer)))
    parameters = sum(1 for _ in model.parameters())
    assert len(kept) == 3 * parameters  # step, exp_avg, exp_avg_sq of each
    learn(model, optimizer, 5, seed=1)

    other = a_model(seed=9)
    other.load_state_dict(weights)
    fresh = make_optimizer(other, config)
    load_optimizer_tensors(fresh, kept)
    again = optimizer_tensors(fresh)
    assert again.keys() == kept.keys()
    assert all(torch.equal(again[name], kept[name]) and again[name].dtype == kept[name].dtype for name in kept)
    learn(other, fresh, 5, seed=1)
    for (name, a), b in zip(model.state_dict().items(), other.state_dict().values()):
        assert torch.equal(a, b), name
    forgetful = a_model(seed=9)
    forgetful.load_state_dict(weights)
    learn(forgetful, make_optimizer(forgetful, config), 5, seed=1)
    assert not torch.equal(model.lm_head.weight, forgetful.lm_head.weight)  # the memory does matter


def test_a_fresh_optimizer_remembers_nothing():
    model = a_model()
    optimizer = make_optimizer(model, TrainConfig())
    assert optimizer_tensors(optimizer) == {}
    load_optimizer_tensors(optimizer, {})
    learn(model, optimizer, 1)
