"""Test that any file of nanogpt/fast/ can be deleted: training and sampling work without it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import ROOT

FILES = sorted({path.stem for path in (ROOT / "nanogpt" / "fast").glob("*.py")} - {"__init__"})
GPU = [file for file in FILES if file.startswith("cuda")]  # test_step.py and test_sample.py delete these for a GPU
# Without the modules that are named, trains two steps, then samples one text, and three together.
WITHOUT = """
import importlib.abc, sys
*files, text = sys.argv[1:]
gone = ["nanogpt.fast." + file for file in files]
class Deleted(importlib.abc.MetaPathFinder):
    asked = 0
    def find_spec(self, name, path, target=None):
        if name in gone:
            Deleted.asked += 1
            raise ModuleNotFoundError(name + " is deleted")
sys.meta_path.insert(0, Deleted())
from nanogpt import corpus
from nanogpt.config import SampleConfig
from nanogpt.formats import load_model
from nanogpt.launch import prepare
from nanogpt.sample import keep_ready, stream_many
from nanogpt.tokenizer import load_tokenizer
from nanogpt.train import train
sizes = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, layout="modern", device="cpu")
run = prepare.new_run("one", corpus.add(text), "quick", max_iters=2, **sizes)
train(run)
assert run.status().state == "finished", run.status()
model, tokenizer = keep_ready(load_model(run.folder)), load_tokenizer(run.folder)
for many in (1, 3):
    pieces = list(stream_many(model, tokenizer, "The", SampleConfig(length=20, num_samples=many)))
    assert [len("".join(one)) for one in zip(*pieces)] == [20] * many
print("imported:", bool(Deleted.asked))
"""


@pytest.mark.slow
@pytest.mark.parametrize("gone", [[file] for file in FILES if file not in GPU] + [GPU], ids=" ".join)
def test_training_and_sampling_work_without_a_file(gone, home, tiny_text):
    command = [sys.executable, "-c", WITHOUT, *gone, tiny_text]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    # on a CPU, nothing asks for the files for a GPU: they import Triton, which takes over a second
    assert done.stdout.endswith(f"imported: {gone != GPU}\n")
