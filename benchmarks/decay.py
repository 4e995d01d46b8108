"""Find the weight decay, by kind of matrix, that keeps every layer of the shipped model's size alive.

    python -m benchmarks.decay FILE --out FOLDER [--device cpu | cuda] [--at-once N] [--only NAME…] [--quick]
    python -m benchmarks.decay FILE --leave-out FOLDER

FILE is Tiny Shakespeare. Each variant of `VARIANTS` trains one model and reports its best and last loss on the whole
validation set, how much worse the model gets without each attention and feed-forward layer, and the norms of the
feed-forward layers' matrices. A layer whose removal changes nothing is dead: it takes up space and time for nothing.
FOLDER gets decay.json, written after each run, and the best model of at most 10 MB as NAME.zip. On a GPU, `--at-once`
trains several models side by side, each on its own stream, because a model this small leaves most of a GPU idle.

`--leave-out` writes zeros over the feed-forward layers of a trained model (a run's folder) that don't matter.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

import nanogpt.reporter as reporter
import nanogpt.train as loop
from nanogpt import corpus, optim, step
from nanogpt.data import split
from nanogpt.device import pick_device
from nanogpt.disk import write_whole
from nanogpt.evaluate import estimate_loss
from nanogpt.formats import load_model, weights_bytes
from nanogpt.launch import prepare
from nanogpt.model import GPT
from nanogpt.optim import Muon
from nanogpt.runs import Run, archive
from nanogpt.step import Step
from nanogpt.train import train

SIZE = dict(layout="modern", n_layer=5, n_head=6, n_embd=192, block_size=256, batch_size=4)
LONG = dict(SIZE, block_size=512, batch_size=8)  # longer contexts, larger batches: a quarter of the steps
LARGE = dict(SIZE, n_layer=6, n_embd=384, batch_size=16)  # the lecture's size, for comparison
TINY = dict(n_layer=2, n_head=2, n_embd=16, block_size=16, batch_size=2)  # for --quick
NOTHING = 0.001  # nats: a layer that gains less is as good as none
MOST_BYTES = 10_000_000  # of a model that ships

# name -> settings, and what only this file can change: `kinds`, the share of the decay that a kind of matrix gets,
# `cautious` decay, Muon `per_head`, `first_lr`, the share of the learning rate that a feed-forward layer's first matrix
# gets, `second_std`, with which its second matrix is initialized, `without_first`, the number of first blocks whose
# feed-forward layer is left out from the start (its second matrix stays 0), and `ahead`, the share in the training
# loss of a second head that predicts the character after the next
VARIANTS: dict[str, dict[str, Any]] = {
    "0.2": dict(SIZE, weight_decay=0.2),  # as it shipped
    "0.2, cautious": dict(SIZE, weight_decay=0.2, cautious=True),
    "0.06, dropout 0.1": dict(SIZE, weight_decay=0.06, dropout=0.1),
    "long, 0.2": dict(LONG, weight_decay=0.2),
    "long, 0.2, dropout 0.1": dict(LONG, weight_decay=0.2, dropout=0.1, passes=15),
    "long, 0.2, dropout 0.1, 3 x 256": dict(
        LONG, weight_decay=0.2, dropout=0.1, passes=15, n_layer=3, n_head=8, n_embd=256
    ),
    "long, 0.2, cautious": dict(LONG, weight_decay=0.2, cautious=True),
    "long, 0.4, cautious": dict(LONG, weight_decay=0.4, cautious=True),
    "0.2, cautious, slow first": dict(SIZE, weight_decay=0.2, cautious=True, first_lr=0.5),
    "0.2, cautious, second not 0": dict(SIZE, weight_decay=0.2, cautious=True, second_std=0.02),
    "long, 0.2, slow first": dict(LONG, weight_decay=0.2, first_lr=0.5),
    "long, 0.2, second not 0": dict(LONG, weight_decay=0.2, second_std=0.02),
    "long, 0.4, cautious, slow first": dict(LONG, weight_decay=0.4, cautious=True, first_lr=0.5),
    "0.1": dict(SIZE, weight_decay=0.1),
    "0.06": dict(SIZE, weight_decay=0.06),
    "0.1, cautious": dict(SIZE, weight_decay=0.1, cautious=True),
    "0.4, cautious": dict(SIZE, weight_decay=0.4, cautious=True),
    "long, 0.2, second free": dict(LONG, weight_decay=0.2, kinds=dict(second=0.0)),
    "long, 0.2, per head": dict(LONG, weight_decay=0.2, per_head=True),
    "long, 0.1": dict(LONG, weight_decay=0.1),
    "long, 0.4": dict(LONG, weight_decay=0.4),
    "long, 0.4, cautious, 15 epochs": dict(LONG, weight_decay=0.4, cautious=True, passes=15),
    "long, 0.8, cautious, 15 epochs": dict(LONG, weight_decay=0.8, cautious=True, passes=15),
    "8 x 256, 0.3, cautious": dict(SIZE, batch_size=8, weight_decay=0.3, cautious=True),
    "long, 0.4, cautious, 7 x 160": dict(LONG, weight_decay=0.4, cautious=True, n_layer=7, n_head=5, n_embd=160),
    "long, 0.4, cautious, 4 x 224": dict(LONG, weight_decay=0.4, cautious=True, n_layer=4, n_head=7, n_embd=224),
    "long, 0.4, cautious, slow": dict(LONG, weight_decay=0.4, cautious=True, matrix_lr=0.02, learning_rate=0.008),
    "long, 0.4, cautious, warm-up": dict(LONG, weight_decay=0.4, cautious=True, warmup_iters=250),
    "long, 0.4, cautious, dropout 0.05": dict(LONG, weight_decay=0.4, cautious=True, dropout=0.05),
    "0.2, second free": dict(SIZE, weight_decay=0.2, kinds=dict(second=0.0)),
    "0.2, feed-forward free": dict(SIZE, weight_decay=0.2, kinds=dict(first=0.0, second=0.0)),
    "long, 0.4, cautious, 4 x 512": dict(LONG, weight_decay=0.4, cautious=True, batch_size=4),
    "long, 0.2, 4 x 224": dict(LONG, weight_decay=0.2, n_layer=4, n_head=7, n_embd=224),
    "long, by rule, 15 epochs": dict(LONG, passes=15),
    "long, by rule, 15 epochs, 4 x 224": dict(LONG, passes=15, n_layer=4, n_head=7, n_embd=224),
    "large, 16 x 256, by rule, 8 epochs": dict(LARGE, passes=8),
    "large, 16 x 256, by rule, 8 epochs, dropout 0.1": dict(LARGE, passes=8, dropout=0.1),
    "large, 8 x 512, by rule": dict(LARGE, block_size=512, batch_size=8),
    "long, 15 epochs, without first": dict(LONG, passes=15, without_first=1),
    "long, 15 epochs, without first two": dict(LONG, passes=15, without_first=2),
    "long, 15 epochs, ahead 0.2": dict(LONG, passes=15, ahead=0.2),
    "long, 15 epochs, ahead 0.5": dict(LONG, passes=15, ahead=0.5),
    "long, 15 epochs, recorded only": dict(LONG, passes=15, ahead=0.0),  # for comparison
    "large, 8 x 512, 0.4, cautious": dict(LARGE, block_size=512, batch_size=8, weight_decay=0.4, cautious=True),
}  # fmt: skip

own = threading.local()  # the current variant's `kinds`, `cautious`, `per_head` and stream
starting = threading.Lock()  # held until a run has recorded its step: the random generators are shared


class Cautious(Muon):
    """Muon with cautious weight decay (Chen et al., 2025, arXiv 2510.12402): only where the update shrinks a weight."""

    @torch.no_grad()
    def step(self):
        decays = [group["weight_decay"] for group in self.param_groups]
        before = [[p.clone() for p in group["params"]] for group in self.param_groups]
        for group in self.param_groups:
            group["weight_decay"] = 0.0
        super().step()
        for group, decay, olds in zip(self.param_groups, decays, before):
            group["weight_decay"] = decay
            for p, old in zip(group["params"], olds):
                shrinks = (p - old) * old <= 0
                p.sub_(old * shrinks * group["lr"] * decay)


def add_update(matrices: torch.Tensor, wide: torch.Tensor) -> None:
    """Add updates as optim.py does, but smaller ones to the feed-forward layers' first matrices (the tall ones)."""
    rows, columns = matrices.shape[1:]
    PLAIN_UPDATE(matrices, wide * own.variant.get("first_lr", 1.0) if rows > columns else wide)


class LooksAhead(GPT):
    """A GPT that also learns, while it trains, to predict the character after the next, with a head of its own."""

    def __init__(self, config: Any):
        super().__init__(config)
        self.share = own.variant["ahead"]
        if self.share:
            self.second_head = torch.nn.Linear(config.n_embd, config.vocab_size, bias=False)
            torch.nn.init.zeros_(self.second_head.weight)

    def state_dict(self, *args: Any, **kwargs: Any):
        """Return what a model without the second head would save."""
        return {k: v for k, v in super().state_dict(*args, **kwargs).items() if not k.startswith("second_head")}

    def forward(self, idx, targets=None, cache=None):
        if targets is None or not self.training or not self.share:
            return super().forward(idx, targets, cache)
        kept = []
        handle = self.ln_f.register_forward_hook(lambda _, __, out: kept.append(out))
        try:
            logits, loss = super().forward(idx, targets)  # (B, T, vocab_size)
        finally:
            handle.remove()
        later = self.second_head(kept[0][:, :-1])  # (B, T - 1, vocab_size)
        second = torch.nn.functional.cross_entropy(later.float().flatten(0, 1), targets[:, 1:].flatten())
        return logits, loss + self.share * second


def make_model(config: Any) -> GPT:
    """Return a new model with the current variant's initialization."""
    model = LooksAhead(config) if "ahead" in own.variant else GPT(config)
    if std := own.variant.get("second_std"):
        for block in model.blocks:
            torch.nn.init.normal_(block.ffwd.net[2].weight, std=std)
    return model


def kind_of(name: str) -> str:
    """Return which share of `kinds` a matrix in a block gets."""
    kinds = {"qkv": "attention", "proj": "attention", "net.0": "first", "net.2": "second"}
    return next(kind for part, kind in kinds.items() if part in name)


def make_step(model: GPT, config: Any, device: Any, ranks: None = None) -> Step:
    """Return the fastest step that knows the model: on a CPU the others compute the loss without the second head."""
    known = device.type == "cuda" or not isinstance(model, LooksAhead)
    return MAKE_STEP(model, config, device) if known else Step(model, config, device)


def left_out(name: str) -> bool:
    """Return whether a matrix stays 0 in the current variant, and with it its whole feed-forward layer."""
    return name in [f"blocks.{i}.ffwd.net.2.weight" for i in range(own.variant.get("without_first", 0))]


def make_optimizers(model: torch.nn.Module, config: Any) -> list[optim.Optimizer]:
    """Make the optimizers as optim.py does, with the current variant's changes to Muon."""
    adamw, _ = ORIGINAL(model, config)
    heads = model.config.n_head if own.variant.get("per_head") else 1  # type: ignore[union-attr]
    groups: dict[tuple[int, float], list] = {}  # (parts, weight decay) -> parameters
    for name, p in model.named_parameters():
        if left_out(name):
            continue
        if p.dim() == 2 and name.startswith("blocks."):
            decay = config.weight_decay * own.variant.get("kinds", {}).get(kind_of(name), 1.0)
            groups.setdefault((3 * heads if "qkv" in name else 1, decay), []).append(p)
    kind = Cautious if own.variant.get("cautious") else Muon
    made = [dict(params=params, parts=parts, weight_decay=decay) for (parts, decay), params in groups.items()]
    return [adamw, kind(made, lr=config.matrix_lr, momentum=config.momentum)]


ORIGINAL: Callable = optim.make_optimizers
SAMPLE: Callable = reporter.write_sample
MAKE_STEP: Callable = loop.make_step
PLAIN_UPDATE: Callable = optim.add_update
ONLY_HERE = ("kinds", "cautious", "per_head", "first_lr", "second_std", "without_first", "ahead")


def without(model: GPT, layer: torch.nn.Module, loss: Callable[[], float]) -> float:
    """Return the loss of a model whose layer adds nothing to the residual path."""
    handle = layer.register_forward_hook(lambda _, __, out: torch.zeros_like(out))
    try:
        return loss()
    finally:
        handle.remove()


def anatomy(run: Run, text: corpus.Corpus, device: Any) -> dict[str, Any]:
    """Return how much each layer of a trained model matters, in nats, and the norms of its feed-forward matrices."""
    model = load_model(run.folder, device.type).eval()
    val = split(text.tokens())[1].to(device.type)
    loss = lambda: estimate_loss(model, val, device)
    whole = loss()
    change = lambda layer: round(without(model, layer, loss) - whole, 4)
    norms = lambda i: [round(float(block.ffwd.net[i].weight.detach().norm()), 1) for block in model.blocks]
    return dict(attention=[change(block.sa) for block in model.blocks],
                feed_forward=[change(block.ffwd) for block in model.blocks],
                first_norms=norms(0), second_norms=norms(2))  # fmt: skip


def leave_out(folder: Path, text: corpus.Corpus) -> None:
    """Write zeros over the feed-forward layers whose removal changes the loss by less than NOTHING."""
    device, model = pick_device("cpu"), load_model(folder, "cpu").eval()
    val = split(text.tokens())[1]
    loss = lambda: estimate_loss(model.eval(), val, device)
    before = loss()
    for i, block in enumerate(model.blocks):
        if without(model, block.ffwd, loss) - before < NOTHING:
            for p in block.ffwd.parameters():
                p.detach().zero_()
            print(f"the feed-forward layer of block {i} is left out")
    write_whole(folder / "model.safetensors", weights_bytes(model))
    print(f"loss before: {before:.5f}, after: {loss():.5f}")


def measure(name: str, variant: dict[str, Any], text: corpus.Corpus, args: argparse.Namespace) -> dict[str, Any]:
    """Train a variant and return what became of it."""
    device, how = pick_device(args.device), dict(variant)
    own.variant = {key: how.pop(key) for key in ONLY_HERE if key in how}
    passes = how.pop("passes", 10)
    how |= TINY if args.quick else {}
    steps = passes * 0.9 * text.characters / (how["batch_size"] * how["block_size"])
    how["max_iters"] = 6 if args.quick else round(steps)
    how.setdefault("eval_interval", -(-how["max_iters"] // 4))
    run = prepare.new_run(name, text, "quick", device=args.device, patience=0, **how)
    began = time.perf_counter()
    with torch.cuda.stream(torch.cuda.Stream()) if device.type == "cuda" else nullcontext():
        starting.acquire()
        try:
            train(run, alone=True)
        finally:
            if starting.locked() and own.variant.pop("starting", True):
                starting.release()
        end = run.history().events[-1]
        return dict(name=name, run=run.name, steps=how["max_iters"], seconds=round(time.perf_counter() - began, 1),
                    best=end["best_val_loss"], last=end["last_val_loss"],
                    bytes=(run.folder / "model.safetensors").stat().st_size, notes=run.history().notes,
                    **anatomy(run, text, device))  # fmt: skip


def start_side_by_side() -> None:
    """Let several threads train at once: let the next one start when a step is recorded, each on its own streams."""
    from nanogpt.fast import cuda

    fits = cuda.cuda_block.fits
    cuda.cuda_block.fits = lambda model, *shape: not isinstance(model, LooksAhead) and fits(model, *shape)
    ready = cuda.GraphStep.ready

    def and_let_the_next_start(self: Any, xb: torch.Tensor, yb: torch.Tensor) -> None:
        ready(self, xb, yb)
        own.variant["starting"] = False
        starting.release()

    def own_stream(use: str, gpu: int) -> torch.cuda.Stream:  # there is one GPU
        streams = vars(own).setdefault("streams", {})
        return streams.setdefault(use, torch.cuda.Stream())

    cuda.GraphStep.ready = and_let_the_next_start  # type: ignore[method-assign]
    cuda.recording_stream = own_stream  # type: ignore[assignment]


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--leave-out", type=Path, metavar="FOLDER")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no run after this many seconds")
    parser.add_argument("--at-once", type=int, default=1, help="models to train side by side, on a GPU")
    parser.add_argument("--only", nargs="+", default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337])
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args(argv)
    if not args.out and not args.leave_out:
        parser.error("give --out or --leave-out")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    began, lock = time.monotonic(), threading.Lock()

    def one(job: tuple[int, str, int]) -> None:
        number, name, seed = job
        if time.monotonic() - began > args.seconds:
            return
        try:
            row = measure(f"v{number}", dict(VARIANTS[name], seed=seed), text, args)
        except Exception:
            row = dict(error=traceback.format_exc()[-1500:])
        row |= dict(name=name, seed=seed)
        with lock:
            rows.append(row)
            print(json.dumps(row), flush=True)
            (args.out / "decay.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            ended = [r for r in rows if r.get("bytes", MOST_BYTES) < MOST_BYTES]
            if ended and min(ended, key=lambda r: r["best"]) is row:
                archive.pack(Run(row["run"]), args.out / "best.zip")

    with tempfile.TemporaryDirectory() as home:
        before, os.environ["NANOGPT_HOME"] = os.environ.get("NANOGPT_HOME"), home
        step.make_optimizers, optim.add_update = make_optimizers, add_update
        loop.GPT = make_model  # type: ignore[assignment, misc]
        loop.make_step = make_step
        reporter.write_sample = lambda *_: ""  # a sample would record a graph of its own
        try:
            text = corpus.add([args.file])
            if args.leave_out:
                leave_out(args.leave_out, text)
                return []
            if args.device == "cuda":
                start_side_by_side()
            jobs = [(i, name, seed) for i, (name, seed) in enumerate((n, s) for s in args.seeds for n in args.only)]
            with ThreadPoolExecutor(args.at_once) as pool:
                list(pool.map(one, jobs))
        finally:
            step.make_optimizers, optim.add_update = ORIGINAL, PLAIN_UPDATE
            loop.GPT, reporter.write_sample, loop.make_step = GPT, SAMPLE, MAKE_STEP  # type: ignore[misc]
            os.environ.pop("NANOGPT_HOME")
            os.environ.update({"NANOGPT_HOME": before} if before else {})
    return rows


if __name__ == "__main__":
    main()
