"""The picture of a model: its numbers against the model itself, and the code that each part is linked to."""

from __future__ import annotations

import inspect

import pytest

from nanogpt import lecture
from nanogpt.config import ModelConfig
from nanogpt.explain import architecture
from nanogpt.layout import LAYOUTS
from nanogpt.model import count_parameters
from nanogpt.ui import view_architecture


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


def test_every_part_is_linked_to_lines_of_the_lecture():
    for layout in LAYOUTS:
        for box in architecture.boxes(ModelConfig(10, layout)):
            lines, first = inspect.getsourcelines(getattr(lecture, box.code))
            assert architecture.code_of(box.code) == ("".join(lines), first)
    assert "F.softmax" in architecture.code_of("Head")[0]


def test_shapes_follow_the_settings():
    found = {box.name: box.shape for box in architecture.boxes(ModelConfig(65, "modern", block_size=128, n_embd=96))}
    assert found["Token embedding"] == "(B, 128, 96)"
    assert found["Output head"] == "(B, 128, 65)"
    data = view_architecture.picture(ModelConfig(65, "modern"))
    assert {box["code"] for box in data["boxes"]} == set(data["code"])
    assert data["words"].startswith(f"{count_parameters(ModelConfig(65, 'modern')):,} parameters")
