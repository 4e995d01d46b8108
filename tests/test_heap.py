"""A server that gives its memory back keeps doing so, even when it trains for a second to measure a model."""

from __future__ import annotations

import pytest

from nanogpt import heap


def test_a_process_that_gives_memory_back_does_not_keep_it_again(monkeypatch: pytest.MonkeyPatch):
    done: list[tuple[int, int]] = []
    monkeypatch.setattr(heap, "_gives_back", False)
    monkeypatch.setattr(heap, "_set", lambda option, value: done.append((option, value)))
    heap.keep_freed_memory()
    assert dict(done)[heap.M_MMAP_THRESHOLD] == 32 << 20
    heap.give_memory_back()
    heap.keep_freed_memory()
    assert dict(done)[heap.M_MMAP_THRESHOLD] == 1_000_000
