"""Measure the ladder: `python -m benchmarks.ladder [FILE] [--rungs 8 9 ...] [--seeds 1337 1338] [--device cpu]`.

FILE is Tiny Shakespeare, by default the file named by NANOGPT_TINYSHAKESPEARE. Results for the lecture's stages go to
benchmarks/results/ladder.json. `--rungs` measures stages 8 and up instead (all of them if you give no numbers) and
updates benchmarks/results/rungs.json, keeping the results of rungs that aren't measured.
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

from benchmarks.machine import RESULTS, write_result
from nanogpt import __version__
from nanogpt.device import pick_device
from nanogpt.lecture import ladder, stages_for
from nanogpt.rungs import FIRST, LAST, RUNGS, train_rung

ALIKE = ["batch_size", "block_size", "n_embd", "n_head", "n_layer", "max_iters"]
SETTINGS = ["batch_size", "block_size", "n_embd", "n_head", "n_layer", "dropout", "learning_rate", "max_iters"]


def machine(device: str) -> str:
    """Return the GPU's name, or the CPU's with its cores and the threads used."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s) used"


def measure_stages(text: str, args: argparse.Namespace) -> None:
    """Measure the lecture's stages. Losses are means of 200 batches, as in the lecture."""
    torch.set_num_threads(args.threads)
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
        "include evaluations",
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
    (RESULTS / "ladder.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measure_rungs(text: str, args: argparse.Namespace) -> None:
    """Measure the rungs. Losses cover the whole validation set in adjacent windows, with every character once."""
    device = pick_device(args.device)
    torch.set_num_threads(args.threads)
    path = RESULTS / "rungs.json"
    known = json.loads(path.read_text(encoding="utf-8"))["rungs"] if path.exists() else []
    rungs = {rung["rung"]: rung for rung in known}
    for rung in [RUNGS[number - FIRST] for number in args.rungs] or RUNGS:
        runs = []
        for seed in args.seeds:
            *_, last = train_rung(text, rung, device, seed)
            facts = {key: round(last[key], 4) for key in ("train_loss", "val_loss", "seconds")}
            runs.append({"seed": seed, "parameters": last["parameters"], **facts})
            print(rung.number, runs[-1], flush=True)
        mean = round(statistics.mean(run["val_loss"] for run in runs), 4)
        today = datetime.date.today().isoformat()
        rungs[rung.number] = dict(rung=rung.number, name=rung.name, date=today, val_loss_mean=mean, runs=runs)
        write_result(
            "rungs",
            {
                "what": "from the lecture's recipe to the modern one, one change per rung: nats per character on the "
                "whole validation set; seconds include evaluations and are affected by other work on the machine",
                "threads": args.threads,
                "settings": {key: getattr(rung, key) for key in ALIKE},
                "rungs": [rungs[number] for number in sorted(rungs)],
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", default=os.environ.get("NANOGPT_TINYSHAKESPEARE"))
    parser.add_argument("--rungs", type=int, nargs="*", choices=range(FIRST, LAST + 1), metavar="N")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337, 1338, 1339])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--machine", help="name of this machine, if the detected one is not good")
    args = parser.parse_args()
    if not args.file:
        parser.error("give the path of Tiny Shakespeare, as an argument or in NANOGPT_TINYSHAKESPEARE")
    text = Path(args.file).read_text(encoding="utf-8")
    (measure_stages if args.rungs is None else measure_rungs)(text, args)


if __name__ == "__main__":
    main()
