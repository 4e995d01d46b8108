"""Time whole commands of the presets for a CPU, from start to end, with several seeds.

    python -m benchmarks.presets [FILE] [--seeds 1337 1338 1339] [--quick]

FILE is Tiny Shakespeare, by default the file named by NANOGPT_TINYSHAKESPEARE.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile

import torch

from benchmarks.clock import train
from benchmarks.machine import write_result

PRESETS = ("quick", "laptop")


def main(argv: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", nargs="?", default=os.environ.get("NANOGPT_TINYSHAKESPEARE"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337, 1338, 1339])
    parser.add_argument("--quick", action="store_true", help="try the script with two steps each; write no result")
    args = parser.parse_args(argv)
    if not args.file:
        parser.error("give the path of Tiny Shakespeare, as an argument or in NANOGPT_TINYSHAKESPEARE")
    short = dict(max_iters=2) if args.quick else {}
    rows = []
    with tempfile.TemporaryDirectory() as root:
        for seed in args.seeds:
            for preset in PRESETS:
                settings = dict(preset=preset, seed=seed, device="cpu", **short)
                rows.append(dict(preset=preset, seed=seed) | train(root, args.file, None, f"{preset}-{seed}", settings))
                print(rows[-1], flush=True)
    for preset in PRESETS:
        mine = [row for row in rows if row["preset"] == preset]
        seconds, loss = (statistics.median(row[key] for row in mine) for key in ("seconds", "val_loss"))
        print(f"{preset}: {seconds:.1f} s, validation loss {loss:.3f}, medians of {len(mine)}")
    if not args.quick:
        write_result("presets", dict(threads=torch.get_num_threads(), runs=rows))
    return rows


if __name__ == "__main__":
    main()
