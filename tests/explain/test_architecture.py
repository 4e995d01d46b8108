"""The picture of a model: its numbers against the model itself, and the code that each part is linked to."""

from __future__ import annotations

import inspect

import pytest
import torch

from nanogpt import lecture, model
from nanogpt.config import ModelConfig, TrainConfig
from nanogpt.explain import architecture
from nanogpt.layout import LAYOUTS
from nanogpt.model import GPT, count_parameters
from nanogpt.optim import make_optimizers
from nanogpt.ui.views import architecture as view_architecture


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "size", [dict(n_layer=3, n_head=4, n_embd=32, block_size=16), dict(n_layer=1, n_head=1, n_embd=8)]
)
def test_the_parameters_are_those_of_the_model(layout, size):
    config = ModelConfig(41, layout, **size)
    assert architecture.totals(config)[0] == count_parameters(config)


def test_multiplications_by_hand():
    config = ModelConfig(10, "classic", n_layer=2, n_head=2, n_embd=4, block_size=8)
    block = 4 + (4 * 16 + 8 * 4) + 4 + 8 * 16  # norm, attention, norm, feed-forward
    assert architecture.totals(config)[1] == 2 * block + 4 + 4 * 10  # the last norm and the head


def test_multiplications_of_the_modern_layout_by_hand():
    config = ModelConfig(10, "modern", n_layer=2, n_head=2, n_embd=4, block_size=8)
    rotations = 2 * 2 * 4  # of queries and keys: each pair of numbers takes four
    block = 4 + rotations + (4 * 16 + 8 * 4 + 2 * 4) + 4 + 8 * 16  # norm, rotary, attention, norm, feed-forward
    assert architecture.totals(config)[1] == 4 + 2 * block + 4 + 4 * 10  # the first norm, the last and the head


MODULES = dict(lecture=lecture, model=model)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_part_is_linked_to_the_lines_that_do_it(layout):
    for box in architecture.boxes(ModelConfig(10, layout)):
        module, _, name = box.code.partition(".")
        lines, first = inspect.getsourcelines(getattr(MODULES[module], name))
        assert architecture.code_of(box.code) == ("".join(lines), first)
    assert "F.softmax" in architecture.code_of("lecture.Head")[0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_parts_come_in_the_order_of_the_model(layout):
    """The modules that the model calls, in order, of one block; what is inside attention isn't a module of its own."""
    config, called = ModelConfig(10, layout, n_layer=1, n_head=2, n_embd=8, block_size=4), list[str]()
    gpt = GPT(config)
    kinds = {
        "Embedding": "Token embedding", "RMSNorm": "RMS norm", "LayerNorm": "LayerNorm",
        "MultiHeadAttention": "Multi-head attention", "FeedForward": "Feed-forward",
    }  # fmt: skip
    for module in gpt.modules():
        kind = "Output head" if module is gpt.lm_head else kinds.get(type(module).__name__)
        if kind and module is not getattr(gpt, "position_embedding_table", None):
            module.register_forward_pre_hook(lambda *_, kind=kind: called.append(kind))
    gpt(torch.zeros(1, 4, dtype=torch.long))
    names = [box.name for box in architecture.boxes(config)]
    at, placed = (3, "Rotary positions") if config.features.rotary else (1, "Position embedding")
    assert names.pop(at) == placed
    assert names == called
    assert ("normalized to the same length" in str(architecture.boxes(config))) == config.features.qk_norm


def test_only_what_the_lecture_has_is_linked_to_it():
    for box in architecture.boxes(ModelConfig(10, "modern")):
        assert box.code.startswith("lecture.") == (box.name in ("Token embedding", "Output head")), box.name


def test_the_lecture_s_code_has_the_parameters_of_the_part_that_is_linked_to_it():
    """Or the text of the part says how many more it has."""
    config, sizes = ModelConfig(41, "classic", n_layer=1, n_head=2, n_embd=8, block_size=4), lecture.Stage
    theirs = lecture.GPT(sizes(n_layer=1, n_head=2, n_embd=8, block_size=4), 41)
    block = theirs.blocks[0]
    parts = [
        theirs.token_embedding_table, theirs.position_embedding_table, block.ln1, block.sa, block.ln2, block.ffwd,
        theirs.ln_f, theirs.lm_head,
    ]  # fmt: skip
    boxes = architecture.boxes(config)
    assert len(boxes) == len(parts)
    for box, part in zip(boxes, parts):
        more = box.parameters - sum(p.numel() for p in part.parameters())
        assert more == 0 or f"have {more} biases, as in GPT-2; the lecture's have none" in box.does, box.name
    assert [box.name for box in boxes if "GPT-2" in box.does] == ["Multi-head attention"]


def test_shapes_follow_the_settings():
    found = {box.name: box.shape for box in architecture.boxes(ModelConfig(65, "modern", block_size=128, n_embd=96))}
    assert found["Token embedding"] == "(B, 128, 96)"
    assert found["Output head"] == "(B, 128, 65)"
    data = view_architecture.picture(ModelConfig(65, "modern"))
    assert {box["code"] for box in data["boxes"]} == set(data["code"])
    assert data["words"].startswith(f"{count_parameters(ModelConfig(65, 'modern')):,} parameters")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_memory_for_training_is_what_the_optimizer_keeps(model, optimizer):
    """Numbers per parameter: itself, its gradient and the averages."""
    made = make_optimizers(model, TrainConfig(optimizer=optimizer))
    sum(p.sum() for p in model.parameters()).backward()
    kept = {}
    for one in made:
        one.step()
        for p, state in one.state.items():
            kept[p] = 2 + sum(value.numel() for value in state.values() if value.ndim == p.ndim) / p.numel()
    words = view_architecture.picture(model.config, optimizer=optimizer)["words"]
    assert {round(times) for times in kept.values()} == ({3, 4} if optimizer == "muon" else {4})
    assert ("three times that for the matrices of the blocks, which Muon trains" in words) == (optimizer == "muon")
    assert "four times" in words
