"""Write benchmark results, along with the machine, date and commit they were measured on."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """Return the name of the CPU, its cores, and the GPU if there is one."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = f"{models[0] if models else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    return f"{name}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else name


def about() -> dict[str, Any]:
    """Return the machine, date, commit and versions of a measurement."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RESULTS.parent)
    return dict(
        machine=machine(), date=datetime.date.today().isoformat(), commit=commit.stdout.strip() or None,
        torch=torch.__version__, python=platform.python_version(),
    )  # fmt: skip


def write_result(name: str, result: dict[str, Any]) -> Path:
    """Write benchmarks/results/NAME.json with what it is `about`. Return its path."""
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**about(), **result}, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(RESULTS.parent.parent)}")
    return path
