"""Compare the time to reach a loss: nanoGPT's published recipe and ours, in turn, on the same machine.

    python -m benchmarks.time_to_loss [FILE] [--device cpu | cuda] [--seeds 1337 1338 1339] [--quick]

FILE is Tiny Shakespeare, by default the file named by NANOGPT_TINYSHAKESPEARE. Times include everything: creating the
model, recording a CUDA graph, training, evaluations, samples and saving. The same code then computes both losses on the
whole validation set, in adjacent windows of each model's own block_size, with every character predicted once.
Hyperparameters were fixed in advance. `--device cuda` also measures the speed of a step and of sampling (card.py),
and writes results/time_to_loss-cuda.json.
"""

from __future__ import annotations

import os

os.environ["GOMP_SPINCOUNT"] = "300000"  # the default, to be fair to the peer; this package sets a lower one

import argparse
import math
import statistics
import tempfile
import time

import torch
import torch.nn as nn
from torch.nn import functional as F

from benchmarks import card
from benchmarks.machine import write_result
from nanogpt import corpus
from nanogpt.config import NanoGPTError
from nanogpt.data import get_batch, split, windows
from nanogpt.device import Device, pick_device
from nanogpt.formats import load_model
from nanogpt.heap import keep_freed_memory
from nanogpt.launch import prepare
from nanogpt.train import train

PEER = "nanoGPT's recipe"
PEERS = {
    "cpu": dict(
        n_layer=4, n_head=4, n_embd=128, block_size=64, dropout=0.0, batch_size=12, max_iters=2000, evaluate=20
    ),
    "cuda": dict(
        n_layer=6, n_head=6, n_embd=384, block_size=256, dropout=0.2, batch_size=64, max_iters=5000, evaluate=200
    ),
}
# Our settings, as on the command line. On a CPU: one run to match the peer's loss, and one of three minutes. On a GPU:
# one of 5 seconds, and one of fixed steps.
LECTURE_SIZE = dict(layout="modern", n_layer=6, n_head=6, n_embd=384, block_size=256, batch_size=64)
OURS: dict[str, dict[str, dict]] = {
    "cpu": {
        # larger steps than the recipe's, which suit so short a run (benchmarks/README.md)
        "ours, to the peer's loss": dict(
            layout="modern",
            n_layer=3,
            n_head=3,
            n_embd=96,
            batch_size=16,
            max_iters=240,
            eval_interval=60,
            learning_rate=0.018,
            matrix_lr=0.05,
            momentum=0.85,
        ),
        "ours, 180 s": dict(budget=180.0),
    },  # fmt: skip
    "cuda": {
        "ours, 5 s": dict(**LECTURE_SIZE, budget=5.0),
        # 16 epochs; these settings are a guess based on smaller models on less text (benchmarks/README.md)
        "ours, many passes": dict(**LECTURE_SIZE, dropout=0.1, max_iters=1000),
    },
}
TINY = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=2, max_iters=5, budget=0.0)  # for --quick


class PeerBlock(nn.Module):
    """nanoGPT's block, with LayerNorm, GELU and no biases."""

    def __init__(self, C: int, n_head: int, dropout: float):
        super().__init__()
        self.n_head, self.dropout = n_head, dropout
        self.ln_1, self.ln_2 = nn.LayerNorm(C, bias=False), nn.LayerNorm(C, bias=False)
        self.qkv, self.proj = nn.Linear(C, 3 * C, bias=False), nn.Linear(C, C, bias=False)
        self.fc, self.out = nn.Linear(C, 4 * C, bias=False), nn.Linear(4 * C, C, bias=False)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (z.view(B, T, self.n_head, -1).transpose(1, 2) for z in self.qkv(self.ln_1(x)).split(C, dim=2))
        p = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)  # (B, nh, T, hs)
        x = x + F.dropout(self.proj(y.transpose(1, 2).reshape(B, T, C)), p)
        return x + F.dropout(self.out(F.gelu(self.fc(self.ln_2(x)))), p)


class Peer(nn.Module):
    """nanoGPT's model, whose output head shares its weights with the embedding."""

    def __init__(self, vocab_size: int, block_size: int, n_layer: int, n_head: int, n_embd: int, dropout: float):
        super().__init__()
        self.block_size, self.dropout = block_size, dropout
        self.wte, self.wpe = nn.Embedding(vocab_size, n_embd), nn.Embedding(block_size, n_embd)
        self.blocks = nn.ModuleList([PeerBlock(n_embd, n_head, dropout) for _ in range(n_layer)])
        self.ln_f = nn.LayerNorm(n_embd, bias=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(
                    p, std=0.02 / math.sqrt(2 * n_layer) if name.endswith(("proj.weight", "out.weight")) else 0.02
                )

    def forward(self, idx, targets):
        x = F.dropout(self.wte(idx) + self.wpe.weight[: idx.shape[1]], self.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return logits, F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def peer_lr(step: int, max_iters: int) -> float:
    """Return the peer's learning rate: 100 steps of warm-up to 1e-3, then cosine decay to 1e-4."""
    if step < 100:
        return 1e-3 * (step + 1) / 101
    return 1e-4 + 0.5 * (1 + math.cos(math.pi * (step - 100) / max(1, max_iters - 100))) * 9e-4


def run_peer(train_data, val_data, vocab_size: int, seed: int, how: dict, device: Device) -> tuple[float, Peer]:
    """Train the peer, evaluating both splits every 250 steps. Return the total seconds and the model."""
    how = dict(how)
    batch_size, max_iters, evaluate = (how.pop(name) for name in ("batch_size", "max_iters", "evaluate"))
    began = time.perf_counter()
    torch.manual_seed(seed)
    model = Peer(vocab_size, **how).to(device.type)
    groups = [
        dict(params=[p for p in model.parameters() if p.dim() >= 2], weight_decay=0.1),
        dict(params=[p for p in model.parameters() if p.dim() < 2], weight_decay=0.0),
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=device.type == "cuda")
    generator = torch.Generator().manual_seed(seed)
    block_size, whole = model.block_size, model
    if device.type == "cuda":
        model = torch.compile(model)  # as published
    for step in range(max_iters + 1):
        if step % 250 == 0 or step == max_iters:
            model.eval()
            with torch.no_grad(), device.autocast():
                for data in (train_data, val_data):
                    for _ in range(evaluate):
                        float(model(*get_batch(data, block_size, batch_size, generator))[1])
            model.train()
        if step == max_iters:
            break
        for group in optimizer.param_groups:
            group["lr"] = peer_lr(step, max_iters)
        with device.autocast():
            _, loss = model(*get_batch(train_data, block_size, batch_size, generator))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return time.perf_counter() - began, whole


def run_ours(text: corpus.Corpus, seed: int, settings: dict, device: Device) -> tuple[float, nn.Module]:
    """Do a whole run of this package, with calibration, evaluations, samples and saving. Return seconds and model."""
    began = time.perf_counter()
    run = prepare.new_run(f"run-{seed}-{time.time_ns()}", text, seed=seed, device=device.type, **settings)
    train(run)
    return time.perf_counter() - began, load_model(run.folder, device.type)


@torch.inference_mode()
def whole_loss(model, data, block_size: int) -> float:
    """Return nats per character over all of `data`, in float32, for either model."""
    model.eval()
    total, count = 0.0, 0
    for xb, yb in windows(data, block_size):
        total, count = total + float(model(xb, yb)[1]) * yb.numel(), count + yb.numel()
    return total / count


def measure(file: str, seeds: list[int], device: Device, recipes: str, quick: bool) -> dict[str, list[dict]]:
    """Train every recipe in turn, seed by seed. Return the seconds and the loss of each run."""
    text = corpus.add([file])
    train_data, val_data = (part.to(device.type) for part in split(text.tokens()))
    rows: dict[str, list[dict]] = {name: [] for name in (PEER, *OURS[recipes])}
    for seed in seeds:
        for name, found in rows.items():
            how = {**(PEERS[recipes] if name == PEER else OURS[recipes][name]), **(TINY if quick else {})}
            if name == PEER:
                how.pop("budget", None)
                seconds, model = run_peer(train_data, val_data, len(text.chars), seed, how, device)
            else:
                seconds, model = run_ours(text, seed, how, device)
            block_size = getattr(model, "block_size", None) or model.config.block_size
            loss = whole_loss(model, val_data, block_size)
            numbers = sum(p.numel() for p in model.parameters())
            found.append(dict(seed=seed, seconds=seconds, val_loss=loss, parameters=numbers, block_size=block_size))
            print(f"{name:28} seed {seed}: {seconds:7.1f} s  val {loss:.4f}  {numbers:,} parameters", flush=True)
    return rows


def main(argv: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", nargs="?", default=os.environ.get("NANOGPT_TINYSHAKESPEARE"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--recipes", choices=("cpu", "cuda"), help="use the other device's recipes, to try them out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337, 1338, 1339])
    parser.add_argument("--quick", action="store_true", help="try the script with a few tiny steps; write no result")
    args = parser.parse_args(argv)
    if not args.file:
        parser.error("give the path of Tiny Shakespeare, as an argument or in NANOGPT_TINYSHAKESPEARE")
    before = os.environ.get("NANOGPT_HOME")
    with tempfile.TemporaryDirectory() as home:
        os.environ["NANOGPT_HOME"] = home
        try:
            keep_freed_memory()  # our step does this anyway; do it up front, so that the peer benefits as well
            device = pick_device(args.device)
            print(f"on {device}")
            seeds = args.seeds[:1] if args.quick else args.seeds
            recipes = args.recipes or args.device
            rows = measure(args.file, seeds, device, recipes, args.quick)
            more = {"card": card.figures(device, args.quick)} if recipes == "cuda" else {}
        except NanoGPTError as error:
            parser.error(str(error))
        finally:
            os.environ.pop("NANOGPT_HOME")
            os.environ.update({"NANOGPT_HOME": before} if before else {})
    peer_seconds = statistics.median(row["seconds"] for row in rows[PEER])
    table = []
    for name, found in rows.items():
        seconds, loss = (statistics.median(row[key] for row in found) for key in ("seconds", "val_loss"))
        mean = statistics.mean(row["val_loss"] for row in found)
        table.append(
            dict(
                name=name, seconds=seconds, val_loss=loss, val_loss_mean=mean, times_faster=peer_seconds / seconds,
                runs=found,
            )
        )  # fmt: skip
        print(
            f"{name:28} median {seconds:7.1f} s  val {loss:.4f} (mean {mean:.4f})  "
            f"{peer_seconds / seconds:.1f} x the peer's speed"
        )
    if not args.quick:
        result = "time_to_loss" if args.device == "cpu" else "time_to_loss-cuda"
        write_result(result, dict(load=os.getloadavg()[0], recipes=[PEERS, OURS], table=table, **more))
    return table


if __name__ == "__main__":
    main()
