"""Train on Hugging Face Jobs with the real client, against the fake Hub, which runs each job's command for real."""

from __future__ import annotations

import pytest
from fake_hub import MAYA

from nanogpt.cli.main import main
from nanogpt.runs import Run

SHAPE = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, eval_interval=10)
TINY = [part for name, value in SHAPE.items() for part in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture
def signed_in(hub, home, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", MAYA)
    return hub


@pytest.fixture
def diary(tmp_path, tiny_text):
    (tmp_path / "diary.txt").write_text(tiny_text, encoding="utf-8")
    return str(tmp_path / "diary.txt")


@pytest.mark.slow
def test_a_run_goes_there_comes_back_and_is_resumed_here(signed_in, diary, capsys):
    assert main(["train", diary, "--on", "t4-small", "--max-iters", "40", *TINY, "--yes"]) == 0
    said = capsys.readouterr().out
    print(said)
    run = Run("diary")
    assert run.status().state == "finished"
    assert run.status().step == 40
