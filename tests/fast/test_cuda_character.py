"""One character in fused kernels against the plain decoder: on a GPU, and on the CPU in Triton's interpreter."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nanogpt.config import ModelConfig, SampleConfig
from nanogpt.layout import LAYOUTS, Layout
from nanogpt.model import GPT
from nanogpt.sample import Decoder, pick

# The named layouts, plus combinations that test each feature apart from those it usually comes with.
CASES = LAYOUTS | {
    "rotary": Layout(rotary=True),
    "plain": Layout(plain_norms=True, relu_squared=True),
    "normed": Layout(qk_norm=True, biases=False),
}


def a_model(layout: Layout, **sizes) -> GPT:
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab_size=11, layout=layout, n_layer=2, block_size=12, **sizes)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.5)
    return model


class Number:
    """A random generator that always returns the given number."""

    def __init__(self, number: float):
        self.number = number

    def random(self) -> float:
        return self.number


def check_scores_and_draws(device: str, layout: Layout, steps: int) -> None:
    from nanogpt.fast import cuda_character

    cuda_character.SPREAD = 1 if device == "cpu" else cuda_character.SPREAD  # the interpreter is slow per program
    for sizes in (dict(n_head=2, n_embd=16), dict(n_head=3, n_embd=36)):
        model, texts = a_model(layout, **sizes).to(device), 2
        idx = torch.zeros(texts, 1, dtype=torch.long, device=device)
        at, drawn = (
            torch.zeros(1, dtype=torch.long, device=device),
            torch.zeros(3, texts, dtype=torch.long, device=device),
        )
        shape = (2, texts, sizes["n_head"], 12, sizes["n_embd"] // sizes["n_head"])
        cache = [SimpleNamespace(k=room[0], v=room[1]) for room in torch.zeros((2, *shape), device=device)]
        character = cuda_character.Character(model, idx, at, cache)
        plain, rng, config = Decoder(model, texts), np.random.default_rng(0), SampleConfig(temperature=0.7)
        for step in range(steps):
            ids, offset = rng.integers(0, 11, (texts, 1)), min(step, 2)
            idx.copy_(torch.from_numpy(ids))
            at.fill_(step - offset)
            with torch.inference_mode():
                found, expected = character.forward(offset), plain.read(ids)
                np.testing.assert_allclose(found.cpu().numpy(), expected, atol=1e-3)
                numbers = rng.random((3, texts))
                temperature = torch.tensor([0.7], dtype=torch.double, device=device)
                character.draw(torch.from_numpy(numbers).to(device), temperature, drawn, step % 3)
            numbers = numbers[step % 3]
            picked = [pick(row, config, Number(number)) for row, number in zip(expected, numbers)]
            assert drawn[step % 3].tolist() == idx[:, 0].tolist() == picked


def interpreter_works() -> bool:
    """Return True if Triton's interpreter can run these kernels: NumPy 2.5 refuses what older versions of it do."""
    try:
        triton = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return False
    number = lambda version: tuple(map(int, version.split(".")[:2]))
    return number(triton) >= (3, 9) or number(np.__version__) < (2, 5)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", CASES)
def test_on_a_gpu(layout):
    check_scores_and_draws("cuda", CASES[layout], steps=12)


@pytest.mark.slow
@pytest.mark.skipif(not interpreter_works(), reason="Triton is not installed, or too old for this NumPy")
@pytest.mark.parametrize("layout", CASES)
def test_in_tritons_interpreter(layout):
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport test_cuda_character as t\n"
    script += f"t.check_scores_and_draws('cpu', t.CASES[{layout!r}], 3)"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
