"""Measure what rounding to 8 bits costs, as `export NAME --html FILE --int8` does it: the loss on held-out text.

    python -m benchmarks.rounding TEXT RUN [RUN ...]

The runs must have been trained on TEXT; the loss is over its whole validation set, in nats per character.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.machine import write_result
from nanogpt.data import split, windows
from nanogpt.formats import load_model
from nanogpt.model import GPT
from nanogpt.publish import page_export
from nanogpt.runs import Run
from nanogpt.tokenizer import load_tokenizer


def rounded(model: GPT) -> GPT:
    """Round the matrices of a model in place, as an exported page has them."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if page_export.can_be_rounded(name, p.dim()):
                whole, scales = page_export.rounded(p.numpy())
                p.copy_(torch.from_numpy(whole * scales[:, None]))
    return model


@torch.no_grad()
def loss(model: GPT, val: torch.Tensor) -> float:
    """Return the mean loss over adjacent windows, in 32-bit floats."""
    nats = characters = 0.0
    for xb, yb in windows(val, model.config.block_size):
        nats += model(xb, yb)[1].item() * yb.numel()
        characters += yb.numel()
    return nats / characters


def measure(run: Run, text: str) -> dict:
    """Return a run's loss before and after rounding."""
    model, tokenizer = load_model(run.folder), load_tokenizer(run.folder)
    _, val = split(tokenizer.encode_array(text))
    before = loss(model, val)
    after = loss(rounded(model), val)
    return dict(
        run=run.name, layout=model.config.layout, parameters=model.count_parameters(), loss=round(before, 5),
        rounded=round(after, 5), costs=round(after - before, 5),
    )  # fmt: skip


def main(argv: list[str] | None = None) -> list[dict]:
    """Measure each run, print the table and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--quick", action="store_true", help="write nothing")
    args = parser.parse_args(argv)
    rows = [measure(Run(name), args.text.read_text(encoding="utf-8")) for name in args.runs]
    for row in rows:
        print(f"{row['run']:<20} {row['layout']:<8} {row['loss']:.4f} -> {row['rounded']:.4f} ({row['costs']:+.4f})")
    if not args.quick:
        write_result("rounding", dict(what="loss on held-out text before and after rounding to 8 bits", runs=rows))
    return rows


if __name__ == "__main__":
    main()
