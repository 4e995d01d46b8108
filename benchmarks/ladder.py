"""Measure the lecture's ladder: `python -m benchmarks.ladder [FILE] [--seeds 1337 1338] [--device cpu]`.

FILE is Tiny Shakespeare; without it, what NANOGPT_TINYSHAKESPEARE names. Writes benchmarks/results/ladder.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
from pathlib import Path

import torch

from nanogpt import __version__
from nanogpt.lecture import ladder, stages_for

RESULTS = Path(__file__).parent / "results" / "ladder.json"
SETTINGS = ["batch_size", "block_size", "n_embd", "n_head", "n_layer", "dropout", "learning_rate", "max_iters"]


def machine(device: str) -> str:
    """The GPU's name, or the processor's with its cores and the threads used."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s) used"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", default=os.environ.get("NANOGPT_TINYSHAKESPEARE"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337, 1338, 1339])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--machine", help="what to call this machine, where the system does not say it well")
    args = parser.parse_args()
    if not args.file:
        parser.error("name the file of Tiny Shakespeare, as an argument or in NANOGPT_TINYSHAKESPEARE")
    torch.set_num_threads(args.threads)
    text = Path(args.file).read_text(encoding="utf-8")

    stages = stages_for(args.device)
    runs: dict[int, list[dict]] = {stage.number: [] for stage in stages}
    for seed in args.seeds:
        for event in ladder(text, stages, args.device, seed):
            if "sample" in event:
                facts = {key: round(event[key], 4) for key in ("train_loss", "val_loss", "seconds")}
                runs[event["stage"]].append({"seed": seed, "parameters": event["parameters"], **facts})
                print(event["stage"], runs[event["stage"]][-1], flush=True)
    result = {
        "what": "the lecture's ladder on Tiny Shakespeare: losses in nats per character, mean of 200 batches; seconds "
        "with the evaluations",
        "date": datetime.date.today().isoformat(),
        "machine": args.machine or machine(args.device),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "nanogpt": __version__,
        "stages": [
            {
                "stage": stage.number,
                "name": stage.name,
                "settings": {key: getattr(stage, key) for key in SETTINGS},
                "lecture_val_loss": stage.lecture_loss,
                "val_loss_mean": round(statistics.mean(run["val_loss"] for run in runs[stage.number]), 4),
                "runs": runs[stage.number],
            }
            for stage in stages
        ],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
