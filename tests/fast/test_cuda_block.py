"""The fused training pass against the plain model: on a GPU, and in Triton's interpreter if it is installed."""

from __future__ import annotations

import copy
import importlib.util
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from nanogpt.config import ModelConfig
from nanogpt.layout import LAYOUTS
from nanogpt.model import GPT

SIZES = (dict(n_embd=48, n_head=3, block_size=10), dict(n_embd=32, n_head=4, block_size=7))


def a_model(**sizes) -> GPT:
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab_size=19, layout="modern", n_layer=2, **sizes))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.1)
    return model


def check_loss_and_gradients(device: str) -> None:
    """Compare loss and gradients in float32, so that any difference is a bug and not rounding."""
    from nanogpt.fast import cuda_block

    cuda_block.RESIDUAL = torch.float32
    for sizes in SIZES:
        model, T = a_model(**sizes).to(device), sizes["block_size"] - 1
        piece = torch.randint(19, (3, T + 1), generator=torch.Generator().manual_seed(1)).to(device)
        xb, yb = piece[:, :-1], piece[:, 1:]
        _, loss = model(xb, yb)
        expected = torch.autograd.grad(loss, list(model.parameters()))
        found = cuda_block.loss_of(model, model.rotary, xb, yb, 0.0, torch.tensor([5], device=device))
        grads = torch.autograd.grad(found, list(model.parameters()))
        assert abs(float(found) - float(loss)) < 1e-4
        for (name, _), grad, of in zip(model.named_parameters(), grads, expected):
            torch.testing.assert_close(grad, of, rtol=2e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


def check_dropout(device: str) -> None:
    """Check that kept values are scaled up, backward uses the same mask, and another seed gives another mask."""
    from nanogpt.fast.cuda_block import AddNorm

    torch.manual_seed(0)
    x, branch, g, gh = (torch.randn(64, 40, device=device, requires_grad=True) for _ in range(4))
    seed = torch.tensor([5], device=device)
    out, h = AddNorm.apply(x, branch, seed, 3, 0.4)
    kept = (out - x).abs() > 1e-9
    assert 0.55 < kept.float().mean() < 0.65
    torch.testing.assert_close(out, x + branch * kept / 0.6)
    found = torch.autograd.grad((out * g).sum() + (h * gh).sum(), [x, branch])
    plain = x + branch * kept / 0.6
    expected = torch.autograd.grad((plain * g).sum() + (F.rms_norm(plain, (40,), eps=1e-6) * gh).sum(), [x, branch])
    for grad, of in zip(found, expected):
        torch.testing.assert_close(grad, of, rtol=1e-3, atol=1e-4)
    other = (AddNorm.apply(x, branch, seed + 1000, 3, 0.4)[0] - x).abs() > 1e-9
    assert (other != kept).float().mean() > 0.3


def check_other_layouts(device: str) -> None:
    """Check that changing any feature except the weight initialization falls back to the plain pass."""
    from nanogpt.fast import cuda_block

    modern = LAYOUTS["modern"]
    for feature, on in asdict(modern).items():
        layout = replace(modern, **{feature: not on})
        model = GPT(ModelConfig(vocab_size=19, layout=layout, **SIZES[0])).to(device)
        assert cuda_block.fits(model, 2, 8) is (feature == "zero_init")


@pytest.mark.gpu
@pytest.mark.parametrize("check", [check_loss_and_gradients, check_dropout])
def test_on_a_gpu(check):
    check("cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_in_bfloat16_on_a_gpu_it_learns_what_the_plain_step_learns(dropout):
    from nanogpt.config import TrainConfig
    from nanogpt.device import pick_device
    from nanogpt.fast.cuda import GraphStep
    from nanogpt.step import Step

    device, config = pick_device("cuda"), TrainConfig(optimizer="muon", device="cuda")
    torch.manual_seed(0)
    shape = ModelConfig(vocab_size=19, layout="modern", n_layer=2, n_head=2, n_embd=64, block_size=32, dropout=dropout)
    plain = GPT(shape).to("cuda")
    fused = copy.deepcopy(plain)
    ends = []
    for step in (Step(plain, config, device), GraphStep(fused, config, device)):
        for seed in range(60):
            ids = (torch.arange(33) * 7 + torch.arange(16)[:, None] + seed) % 19  # a learnable pattern
            loss, _ = step(ids[:, :-1].to("cuda"), ids[:, 1:].to("cuda"), 3e-3)
        ends.append(float(loss))
    assert step.graph is not None
    assert step.low_loss == step.fused_loss
    assert ends[1] == pytest.approx(ends[0], abs=0.1)
    assert ends[0] < 1.5


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("check", ["check_loss_and_gradients", "check_dropout", "check_other_layouts"])
def test_in_tritons_interpreter(check):
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport test_cuda_block as t\nt.{check}('cpu')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
