"""How soon which loss: nanoGPT's published recipe for a CPU and ours, in turn, in one run on one machine.

    python -m benchmarks.time_to_loss [FILE] [--seeds 1337 1338 1339] [--quick]

FILE is Tiny Shakespeare; without it, what NANOGPT_TINYSHAKESPEARE names. The clock counts everything: making the model,
training, evaluations, samples and saving. Both losses are then computed by the same code over the whole held-out tenth,
in windows of each model's own block_size side by side, every character once. Hyper-parameters were fixed before.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import time

import torch
import torch.nn as nn
from torch.nn import functional as F

from benchmarks.machine import write_result
from nanogpt import corpus, jobs
from nanogpt.data import get_batch, split, windows
from nanogpt.device import pick_device
from nanogpt.formats import load_model
from nanogpt.train import train

# Ours: what the command line would be given. The first two are to meet the peer's loss, the last has three minutes.
OURS = {
    "ours, to the peer's loss": dict(layout="modern", n_layer=3, n_head=3, n_embd=96, batch_size=16, max_iters=280),
    "ours, 180 s": dict(budget=180.0),
}
PEER = "nanoGPT's CPU recipe"


class PeerBlock(nn.Module):
    """nanoGPT's block: LayerNorm, GELU, no biases."""

    def __init__(self, C: int, n_head: int):
        super().__init__()
        self.n_head = n_head
        self.ln_1, self.ln_2 = nn.LayerNorm(C, bias=False), nn.LayerNorm(C, bias=False)
        self.qkv, self.proj = nn.Linear(C, 3 * C, bias=False), nn.Linear(C, C, bias=False)
        self.fc, self.out = nn.Linear(C, 4 * C, bias=False), nn.Linear(4 * C, C, bias=False)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (z.view(B, T, self.n_head, -1).transpose(1, 2) for z in self.qkv(self.ln_1(x)).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, nh, T, hs)
        x = x + self.proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.out(F.gelu(self.fc(self.ln_2(x))))


class Peer(nn.Module):
    """nanoGPT's model at its CPU size: 4 layers, 4 heads, 128 wide, block 64, head tied to the embedding."""

    def __init__(self, vocab_size: int, block_size=64, n_layer=4, n_head=4, n_embd=128):
        super().__init__()
        self.block_size = block_size
        self.wte, self.wpe = nn.Embedding(vocab_size, n_embd), nn.Embedding(block_size, n_embd)
        self.blocks = nn.ModuleList([PeerBlock(n_embd, n_head) for _ in range(n_layer)])
        self.ln_f = nn.LayerNorm(n_embd, bias=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(
                    p, std=0.02 / math.sqrt(2 * n_layer) if name.endswith(("proj.weight", "out.weight")) else 0.02
                )

    def forward(self, idx, targets):
        x = self.wte(idx) + self.wpe.weight[: idx.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return logits, F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def peer_lr(step: int, max_iters: int) -> float:
    """100 steps of warm-up to 1e-3, then a cosine to 1e-4."""
    if step < 100:
        return 1e-3 * (step + 1) / 101
    return 1e-4 + 0.5 * (1 + math.cos(math.pi * (step - 100) / max(1, max_iters - 100))) * 9e-4


def run_peer(train_data, val_data, vocab_size: int, seed: int, max_iters: int) -> tuple[float, Peer]:
    """Train the peer, with an evaluation of 20 batches of both splits each 250 steps: seconds of all, and the model."""
    began = time.perf_counter()
    torch.manual_seed(seed)
    model = Peer(vocab_size)
    groups = [
        dict(params=[p for p in model.parameters() if p.dim() >= 2], weight_decay=0.1),
        dict(params=[p for p in model.parameters() if p.dim() < 2], weight_decay=0.0),
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(seed)
    for step in range(max_iters + 1):
        if step % 250 == 0 or step == max_iters:
            model.eval()
            with torch.no_grad():
                for data in (train_data, val_data):
                    for _ in range(20):
                        model(*get_batch(data, 64, 12, generator))
            model.train()
        if step == max_iters:
            break
        for group in optimizer.param_groups:
            group["lr"] = peer_lr(step, max_iters)
        _, loss = model(*get_batch(train_data, 64, 12, generator))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return time.perf_counter() - began, model


def run_ours(text: corpus.Corpus, seed: int, settings: dict) -> tuple[float, nn.Module]:
    """A whole run of this program: calibration, training, evaluations, samples, saving."""
    began = time.perf_counter()
    run = jobs.new_run(f"run-{seed}-{time.time_ns()}", text, seed=seed, **settings)
    train(run)
    return time.perf_counter() - began, load_model(run.folder)


@torch.inference_mode()
def whole_loss(model, data, block_size: int) -> float:
    """Nats a character over all of `data`: the judge of both."""
    model.eval()
    total, count = 0.0, 0
    for xb, yb in windows(data, block_size):
        total, count = total + float(model(xb, yb)[1]) * yb.numel(), count + yb.numel()
    return total / count


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", nargs="?", default=os.environ.get("NANOGPT_TINYSHAKESPEARE"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337, 1338, 1339])
    parser.add_argument(
        "--quick", action="store_true", help="a few steps of each, to see that it runs; writes no result"
    )
    args = parser.parse_args()
    if not args.file:
        parser.error("name the file of Tiny Shakespeare, as an argument or in NANOGPT_TINYSHAKESPEARE")
    with tempfile.TemporaryDirectory() as home:
        os.environ["NANOGPT_HOME"] = home
        print(f"on {pick_device('cpu')}")
        text = corpus.add_files([args.file])
        train_data, val_data = split(text.tokens())
        rows: dict[str, list[dict]] = {name: [] for name in (PEER, *OURS)}
        for seed in args.seeds[:1] if args.quick else args.seeds:
            for name in rows:
                settings = dict(OURS.get(name, {}), **(dict(max_iters=5, budget=0) if args.quick else {}))
                if name == PEER:
                    seconds, model = run_peer(train_data, val_data, len(text.chars), seed, 5 if args.quick else 2000)
                    block_size = model.block_size
                else:
                    seconds, model = run_ours(text, seed, settings)
                    block_size = model.config.block_size
                loss = whole_loss(model, val_data, block_size)
                numbers = sum(p.numel() for p in model.parameters())
                rows[name].append(
                    dict(seed=seed, seconds=seconds, val_loss=loss, parameters=numbers, block_size=block_size)
                )
                print(f"{name:28} seed {seed}: {seconds:7.1f} s  val {loss:.4f}  {numbers:,} parameters", flush=True)
    peer_seconds = statistics.median(row["seconds"] for row in rows[PEER])
    table = []
    for name, found in rows.items():
        seconds, loss = (statistics.median(row[key] for row in found) for key in ("seconds", "val_loss"))
        table.append(dict(name=name, seconds=seconds, val_loss=loss, times_faster=peer_seconds / seconds, runs=found))
        print(f"{name:28} median {seconds:7.1f} s  val {loss:.4f}  {peer_seconds / seconds:.1f} x the peer's speed")
    if not args.quick:
        write_result("time_to_loss", dict(ours={k: v for k, v in OURS.items()}, table=table))


if __name__ == "__main__":
    main()
