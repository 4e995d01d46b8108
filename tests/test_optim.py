"""Test the learning rate schedule at its edges, and saving and loading of optimizer state."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save
from torch.nn import functional as F

from nanogpt.config import ModelConfig, NanoGPTError, TrainConfig
from nanogpt.device import Device
from nanogpt.model import GPT
from nanogpt.optim import (
    load_optimizer_tensors,
    make_optimizers,
    optimizer_tensors,
    orthogonalize,
    rough_on,
    set_lr,
)
from nanogpt.schedule import get_lr, settled, weight_decay
from nanogpt.step import Step

SIZES = dict(vocab_size=7, block_size=8, n_layer=1, n_head=2, n_embd=8)
both = pytest.mark.parametrize(("layout", "optimizer"), [("classic", "adamw"), ("modern", "muon"), ("classic", "muon")])


def a_model(seed=0, layout="classic"):
    torch.manual_seed(seed)
    model = GPT(ModelConfig(layout=layout, **SIZES))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def learn(model, optimizers, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        idx = torch.randint(7, (4, 9), generator=generator)
        logits, _ = model(idx[:, :-1])
        model.zero_grad(set_to_none=True)
        F.cross_entropy(logits.reshape(-1, 7), idx[:, 1:].reshape(-1)).backward()
        for optimizer in optimizers:
            optimizer.step()


# --- the learning rate schedule ------------------------------------------------------------------------------------

CONFIG = TrainConfig(learning_rate=1e-2, min_lr=1e-3, warmup_iters=10, max_iters=110)


@pytest.mark.parametrize(
    ("step", "lr"),
    [
        (0, 1e-3),  # the first of ten warm-up steps
        (4, 5e-3),
        (9, 1e-2),
        (10, 1e-2),  # the peak
        (35, 1e-3 + 9e-3 * 0.5 * (1 + math.sqrt(0.5))),  # a quarter of the way: cos 45 degrees
        (60, 5.5e-3),  # halfway
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


def test_the_linear_schedule_is_a_line():
    line = TrainConfig(learning_rate=1e-2, min_lr=0.0, warmup_iters=10, max_iters=110, schedule="linear")
    expected = [1e-3, 1e-2, 1e-2, 7.5e-3, 5e-3, 1e-4, 0.0, 0.0]
    assert [get_lr(step, line) for step in (0, 9, 10, 35, 60, 109, 110, 500)] == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize(("steps", "warm"), [(110, 6), (400, 20), (40_000, 100)])
def test_a_time_budget_s_warm_up_ends_after_a_twentieth_of_it_without_a_jump(schedule, steps, warm):
    """In 110 steps, 100 of warm-up left a sixth of the learning rate for the others."""
    config = TrainConfig(budget=3.0, warmup_iters=100, learning_rate=1e-3, min_lr=1e-4, schedule=schedule)
    rates = [get_lr(step, config, step / steps) for step in range(steps + 1)]
    top = max(range(steps), key=rates.__getitem__)
    assert abs(top - warm) <= 1
    assert rates[top] > 0.93e-3
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(a - b for a, b in zip(rates[top:], rates[top + 1 :])) < 2e-5
    settled_rates = [get_lr(step, replace(config, warmup_iters=0), step / steps) for step in range(top, steps + 1)]
    assert rates[top + 1 :] == settled_rates[1:]
    assert rates[-1] == pytest.approx(1e-4)


def test_muon_s_learning_rate_falls_in_proportion():
    config = TrainConfig(optimizer="muon", learning_rate=1e-2, matrix_lr=3e-2, momentum=0.9)
    adamw, muon = make_optimizers(a_model(layout="modern"), config)
    set_lr([adamw, muon], 5e-3, config)
    assert {group["lr"] for group in adamw.param_groups} == {5e-3}
    assert [group["lr"] for group in muon.param_groups] == pytest.approx([1.5e-2, 1.5e-2])
    assert {group["momentum"] for group in muon.param_groups} == {0.9}


def test_a_run_shorter_than_its_warm_up_only_rises():
    short = TrainConfig(learning_rate=1e-2, min_lr=0.0, warmup_iters=100, max_iters=50)
    assert [get_lr(step, short) for step in (0, 24, 49)] == pytest.approx([1e-4, 2.5e-3, 5e-3])
    assert get_lr(5, TrainConfig(warmup_iters=5, max_iters=5)) == 1e-3  # no division by zero


# --- the optimizer -------------------------------------------------------------------------------------------------


def test_weight_decay_pulls_on_matrices_only():
    model = a_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    (optimizer,) = make_optimizers(model, TrainConfig(learning_rate=0.1, min_lr=0.1, weight_decay=0.5))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        expected = before[name] * (1 - 0.1 * 0.5) if p.dim() >= 2 else before[name]
        torch.testing.assert_close(p.detach(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("rate", [float, torch.tensor])
def test_adamw_is_torch_s_own_to_the_bit(rate):
    model, other = a_model(), a_model()
    (ours,) = make_optimizers(model, TrainConfig(weight_decay=0.1, beta1=0.8))
    twin = dict(zip(model.parameters(), other.parameters()))
    same = [group | dict(params=[twin[p] for p in group["params"]]) for group in ours.param_groups]
    theirs = torch.optim.AdamW(same, betas=(0.8, 0.95), fused=True)
    for step in range(5):
        for p, q in zip(model.parameters(), other.parameters()):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(step))
            q.grad = p.grad.clone()
        for optimizer in (ours, theirs):
            for group in optimizer.param_groups:
                group["lr"] = rate(0.1 / (1 + step))
            optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters()))
    kept = theirs.state_dict()["state"]
    found = optimizer_tensors([ours])
    assert found.keys() == {f"0.{i}.{name}" for i, entry in kept.items() for name in entry}
    assert all(torch.equal(found[f"0.{i}.{name}"], value) for i, entry in kept.items() for name, value in entry.items())


def test_a_step_whose_gradients_overflow_in_float16_changes_nothing():
    model = a_model()
    (optimizer,) = make_optimizers(model, TrainConfig(weight_decay=0.1))
    scaler = torch.amp.GradScaler("cpu")

    def take_step(factor: float) -> dict[str, torch.Tensor]:
        scaler.scale(sum((p * factor).sum() for p in model.parameters())).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        model.zero_grad()
        return {
            name: value.clone()
            for name, value in (*optimizer_tensors([optimizer]).items(), *model.state_dict().items())
        }

    first, scale = take_step(0.1), scaler.get_scale()
    assert first["0.0.step"] == 1
    second = take_step(1e38)  # times the scale, infinite
    assert scaler.get_scale() == scale / 2
    assert all(torch.equal(first[name], value) for name, value in second.items())
    third = take_step(0.1)
    assert third["0.0.step"] == 2
    assert not torch.equal(third["lm_head.weight"], second["lm_head.weight"])


@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("name", ["lm_head.weight", "blocks.0.sa.proj.weight"])
def test_an_overflow_in_the_gradients_of_one_optimizer_skips_the_step_of_all(name, clip):
    model = a_model(layout="modern")
    step = Step(model, TrainConfig(optimizer="muon", grad_clip=clip), Device("cpu", torch.float16, "a T4"))
    assert len(step.optimizers) == 2
    one, weights = dict(model.named_parameters())[name], lambda: [p.detach().clone() for p in model.parameters()]

    def take_step(add: float) -> list[torch.Tensor]:
        def forward_backward(xb, yb):
            model.zero_grad()
            step.scaler.scale(sum((p * p).sum() for p in model.parameters())).backward()
            one.grad[0, 0] += add
            return torch.zeros(())

        step.forward_backward = forward_backward
        step(None, None, 0.01)
        return weights()

    before = weights()
    scale = step.scaler.scale(torch.ones(()))
    assert all(torch.equal(p, q) for p, q in zip(before, take_step(math.inf), strict=True))
    assert step.scaler.get_scale() == scale / 2
    after = take_step(0.0)
    assert not any(torch.equal(p, q) for p, q in zip(before, after, strict=True) if p.abs().sum())
    assert all(p.isfinite().all() for p in after)


def test_a_parameter_without_a_gradient_stays_as_it_is():
    model = a_model(layout="modern")
    optimizers = make_optimizers(model, TrainConfig(optimizer="muon", weight_decay=0.1))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for name, p in model.named_parameters():
        p.grad = None if "qkv" in name or "embedding" in name else torch.ones_like(p)
    for optimizer in optimizers:
        optimizer.step()
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) is (p.grad is None), name


def test_beside_muon_weight_decay_pulls_on_every_matrix_at_its_own_rate():
    model = a_model(layout="modern")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    rates = dict(learning_rate=0.1, min_lr=0.1, matrix_lr=0.2)
    for optimizer in make_optimizers(model, TrainConfig(optimizer="muon", weight_decay=0.5, **rates)):
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
    for name, p in model.named_parameters():
        rate = 0.2 if name.startswith("blocks.") else 0.1
        torch.testing.assert_close(p.detach(), before[name] * (1 - rate * 0.5), rtol=1e-5, atol=1e-7)


def test_weight_decay_grows_with_the_square_of_the_epochs_and_with_the_size_of_a_small_model():
    characters, per_epoch = 1_115_394, 61  # batches of 64 x 256
    decays = [weight_decay(p, per_epoch * p, 803_072, characters) for p in (0.5, 1, 5, 10, 14.2, 20, 1000)]
    assert decays == [0.001, 0.002, 0.05, 0.2, 0.403, 0.8, 0.911]
    assert weight_decay(10, 610, 10_000_000, characters) == weight_decay(10, 610, 803_072, 1000) == 0.2
    assert weight_decay(10, 610, 80_308, characters) == 0.021  # 0.2 of 80,308 / (0.7 * 1,115,394)


def test_weights_remember_a_good_half_of_an_epoch():
    per_epoch = 980  # batches of 4 x 256 on Tiny Shakespeare
    decay = weight_decay(10, 10 * per_epoch, 2_237_000, 1_115_394)
    assert decay == 0.057  # 0.2, were it not for the many steps
    assert 1 / (0.03 * decay) / per_epoch == pytest.approx(0.6, rel=0.01)
    assert weight_decay(10, 10 * per_epoch, 2_237_000, 1_115_394, lr=0.015) == 0.113
    assert weight_decay(100, 300, 803_072, 10_000) == 1.0  # never more


def test_a_weight_decay_is_settled_where_it_was_left_open():
    shape, numbers = ModelConfig(layout="modern", **SIZES), a_model(layout="modern").count_parameters()
    left_open = TrainConfig(weight_decay=-1.0, max_iters=9000, batch_size=1)  # ten epochs of 0.9 * 8,000
    adamw = weight_decay(10, 9000, numbers, 8000, left_open.learning_rate)
    assert settled(left_open, shape, 8000) == replace(left_open, weight_decay=adamw)
    muon = replace(left_open, optimizer="muon", matrix_lr=0.3)
    assert settled(muon, shape, 8000).weight_decay == weight_decay(10, 9000, numbers, 8000, 0.3) < adamw
    for decay in (0.0, 0.3):
        config = TrainConfig(weight_decay=decay)
        assert settled(config, shape, 8000) is config
    with pytest.raises(NanoGPTError, match="weight_decay was -2"):
        TrainConfig(weight_decay=-2)


def test_one_step_is_that_of_adamw_worked_out_by_hand():
    model = a_model()
    before = {name: p.detach().double() for name, p in model.named_parameters()}
    config = TrainConfig(learning_rate=1e-2, min_lr=1e-2, weight_decay=0.1, beta1=0.9, beta2=0.99)
    learn(model, make_optimizers(model, config), 1)
    for name, p in model.named_parameters():
        g = p.grad.double()
        m, v = 0.1 * g / (1 - 0.9), 0.01 * g**2 / (1 - 0.99)  # with the first step's bias corrections
        decayed = before[name] * (1 - 1e-2 * (0.1 if p.dim() >= 2 else 0.0))
        expected = decayed - 1e-2 * m / (v.sqrt() + 1e-8)
        torch.testing.assert_close(p.detach().double(), expected, rtol=1e-4, atol=1e-6)


@both
def test_the_optimizers_memory_goes_through_a_file_and_back_to_the_bit(layout, optimizer):
    config = TrainConfig(optimizer=optimizer)
    model = a_model(layout=layout)
    optimizers = make_optimizers(model, config)
    learn(model, optimizers, 5)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    kept = load(save(optimizer_tensors(optimizers)))
    matrices = [n for n, p in model.named_parameters() if n.startswith("blocks.") and p.dim() == 2]
    by_muon = matrices if optimizer == "muon" else []
    parameters = sum(1 for _ in model.parameters())
    assert len(kept) == 3 * (parameters - len(by_muon)) + len(by_muon)  # step, exp_avg, exp_avg_sq; Muon: momentum
    learn(model, optimizers, 5, seed=1)

    other = a_model(seed=9, layout=layout)
    other.load_state_dict(weights)
    fresh = make_optimizers(other, config)
    load_optimizer_tensors(fresh, kept)
    again = optimizer_tensors(fresh)
    assert again.keys() == kept.keys()
    assert all(torch.equal(again[name], kept[name]) and again[name].dtype == kept[name].dtype for name in kept)
    learn(other, fresh, 5, seed=1)
    for (name, a), b in zip(model.state_dict().items(), other.state_dict().values()):
        assert torch.equal(a, b), name
    forgetful = a_model(seed=9, layout=layout)
    forgetful.load_state_dict(weights)
    learn(forgetful, make_optimizers(forgetful, config), 5, seed=1)
    for name, p in model.named_parameters():
        assert not torch.equal(p, forgetful.get_parameter(name)), name  # each parameter's optimizer state matters


@both
def test_a_fresh_optimizer_remembers_nothing(layout, optimizer):
    model = a_model(layout=layout)
    optimizers = make_optimizers(model, TrainConfig(optimizer=optimizer))
    assert optimizer_tensors(optimizers) == {}
    load_optimizer_tensors(optimizers, {})
    learn(model, optimizers, 1)


@both
def test_every_parameter_belongs_to_exactly_one_optimizer(layout, optimizer):
    model = a_model(layout=layout)
    optimizers = make_optimizers(model, TrainConfig(optimizer=optimizer))
    held = [id(p) for one in optimizers for group in one.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


# --- Muon ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 8), (8, 32), (32, 8), (3, 5)])
def test_the_nearest_orthogonal_matrix_is_that_of_the_singular_value_decomposition(shape):
    torch.manual_seed(0)
    matrices = torch.randn(4, *shape) * torch.tensor([1.0, 1e-3, 1e3, 1.0]).view(4, 1, 1)
    found = orthogonalize(matrices)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    in_their_axes = u.mT @ found @ v.mT  # near the identity if `found` is near u @ v
    size = torch.diagonal(in_their_axes, dim1=-2, dim2=-1)
    assert size.min() > 0.15
    assert size.max() < 1.95
    torch.testing.assert_close(in_their_axes, torch.diag_embed(size), atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("least", [1.0, 0.3, 0.03, 1e-3, 0.0])
def test_whatever_its_singular_values_an_update_is_moderate(least, dtype):
    """The largest is near 1 if there is only one, where a polynomial grows fast beyond what it is made for."""
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(64, 24, 96), full_matrices=False)
    values = torch.cat([torch.ones(64, 1), least * torch.rand(64, 23)], dim=1)
    matrices = (u @ torch.diag_embed(values) @ v).to(dtype)
    found = torch.linalg.svdvals(orthogonalize(matrices).float())
    assert found.max() < 2.05
    assert found[:, 0].min() > 0.15


def test_three_steps_of_muon_are_those_worked_out_by_hand(monkeypatch):
    """Three steps, because momentum starts at zero and its coefficient doesn't matter in the first."""
    monkeypatch.setattr("nanogpt.optim.native_bfloat16", lambda: False)  # use float32 on every machine
    model = a_model(layout="modern")
    config = TrainConfig(optimizer="muon", matrix_lr=0.02, momentum=0.9, weight_decay=0.1)
    optimizers = make_optimizers(model, config)
    memory = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    grads = {}  # as they were before the step, which overwrites them
    for name, p in model.named_parameters():
        p.register_post_accumulate_grad_hook(lambda p, name=name: grads.update({name: p.grad.clone()}))
    for seed in range(3):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        learn(model, optimizers, 1, seed)
        for name, p in model.named_parameters():
            if not name.startswith("blocks."):
                continue
            memory[name] = 0.9 * memory[name] + 0.1 * grads[name]
            update = 0.1 * grads[name] + 0.9 * memory[name]
            parts = update.chunk(3) if "qkv" in name else [update]  # query, key and value separately
            turned = torch.cat([orthogonalize(part[None])[0] for part in parts])
            rows, columns = parts[0].shape
            expected = before[name] * (1 - 0.02 * 0.1) - 0.02 * max(1, rows / columns) ** 0.5 * turned
            torch.testing.assert_close(p.detach(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("device", ["cuda", "cpu", "mps"])
def test_muon_is_rough_only_where_bfloat16_is_not_emulated(device, native, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    monkeypatch.setattr("nanogpt.optim.native_bfloat16", lambda: device == "cpu" and native)
    assert rough_on(device) is (native and device != "mps")


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_muon_asks_before_its_first_step_what_the_device_can_do(monkeypatch, native, dtype):
    """A CUDA graph records its steps."""
    monkeypatch.setattr("nanogpt.optim.native_bfloat16", lambda: native)
    model, dtypes = a_model(layout="modern"), set()
    optimizers = make_optimizers(model, TrainConfig(optimizer="muon"))
    monkeypatch.setattr("nanogpt.optim.native_bfloat16", lambda: pytest.fail("asked in a step"))
    optimizers[1].orthogonalize = lambda x: dtypes.add(x.dtype) or orthogonalize(x)
    learn(model, optimizers, 1)
    assert dtypes == {dtype}


@pytest.mark.parametrize("at_once", [1, 256])
def test_large_stacks_are_orthogonalized_in_parts(at_once, monkeypatch):
    """To save memory; the result is the same."""
    monkeypatch.setattr("nanogpt.optim.native_bfloat16", lambda: False)
    ends, stacks = [], []
    for limit in (1 << 24, at_once):
        monkeypatch.setattr("nanogpt.optim.AT_ONCE", limit)
        torch.manual_seed(0)
        model = a_model(layout="modern")
        optimizers = make_optimizers(model, TrainConfig(optimizer="muon"))
        optimizers[1].orthogonalize = lambda matrices: stacks.append(matrices.numel()) or orthogonalize(matrices)
        learn(model, optimizers, 2)
        ends.append([p.detach().clone() for p in model.parameters()])
    whole, parts = stacks[:4], stacks[4:]
    assert len(parts) > 4
    assert max(parts) < max(whole)
    torch.testing.assert_close(ends[1], ends[0], atol=1e-6, rtol=1e-5)
