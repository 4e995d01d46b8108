"""Pack what a job needs: the run's settings (and its checkpoint, if it is resumed), its text, and this package.

Everything travels through a private repository of yours, which exists only as long as the job. `offered` returns
exactly what is uploaded; a token, the log and anything else on this machine never are.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

from huggingface_hub import constants

from .. import corpus
from ..paths import PACKAGE
from ..runs import Job, Run

RUN = (  # of the run folder, if it is there; in the order in which they are read on the way back, because the log must
    # not be older than the checkpoint
    "last.safetensors", "model.safetensors", "metrics.jsonl", "samples.jsonl", "run.json", "config.json",
    "generation_config.json", "tokenizer.json", "tokenizer_config.json",
)  # fmt: skip
TEXT = ("corpus.json", "text.txt", "tokens.npy")
NOT_NEEDED = ("ui", "cli", "explain")  # packages that training doesn't need
IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"  # the Hub's own default: Debian, Python, uv, and a C compiler
NEEDED = (  # what training imports, as in requirements.txt
    "torch>=2.9,<2.14", "huggingface-hub>=2,<3", "numpy>=2,<3", "safetensors>=0.8,<1", "platformdirs>=4,<5",
    "charset-normalizer>=3.4,<4",
)  # fmt: skip
HUB = "https://huggingface.co"
# What the container runs: $1 is the repository, $2 the commit, $3 the run, $4 the time limit in seconds, and what
# follows has to be installed. PyTorch comes for the GPU that is there, and nothing is installed into an image that has
# everything: a job pays for the time.
SCRIPT = """
set -e
export NANOGPT_JOB_BEGAN="$(date +%s)" PYTHONUNBUFFERED=1
cd "$(mktemp -d)"
export HOME="$PWD"  # for the caches
python=python3
found='from importlib.util import find_spec as find; import sys; sys.exit(not all(map(find, sys.argv[1:])))'
if ! $python -c "$found" torch huggingface_hub numpy safetensors platformdirs charset_normalizer; then
  echo 'Installing PyTorch ...'
  uv venv --quiet environment
  python=environment/bin/python
  uv pip install --quiet --python $python --torch-backend auto "${@:5}"
fi
export HF_HUB_DISABLE_PROGRESS_BARS=1
$python -c 'import sys, huggingface_hub as hub
hub.hf_hub_download(sys.argv[1], "code.zip", revision=sys.argv[2], local_dir=".")' "$1" "$2"
$python -m zipfile -e code.zip code
export PYTHONPATH="$PWD/code"  # with the client that doesn't wait for a silent Hub without end
$python -c 'import os, sys; from nanogpt.publish.hub_client import client
client(os.environ["HF_TOKEN"]).snapshot_download(sys.argv[1], revision=sys.argv[2], local_dir=".")' "$1" "$2"
export NANOGPT_HOME="$PWD/home"
exec $python -m nanogpt.jobs.remote "$1" "$3" "$4"
"""


def offered(run: Run, job: Job) -> dict[str, Path | bytes]:
    """Return exactly what is uploaded for a run: {path in the repository: file here, or content}."""
    about = run.settings()["corpus"]
    text = corpus.load(about["id"], about["name"])
    there, files = f"home/checkpoints/{run.name}", {}
    for name in RUN:
        if (run.folder / name).exists():
            files[f"{there}/{name}"] = run.folder / name
    files |= {f"home/corpora/{text.id}/{name}": text.folder / name for name in TEXT}
    packed: dict[str, Path | bytes] = {"code.zip": code(), "wish.json": json.dumps(job.wish).encode()}
    return {**files, **packed}


def code() -> bytes:
    """Return this package as a .zip, without the packages that training doesn't need."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(PACKAGE.rglob("*.py")):
            inside = path.relative_to(PACKAGE)
            if inside.parts[0] not in NOT_NEEDED:
                archive.writestr(zipfile.ZipInfo(f"nanogpt/{inside.as_posix()}"), path.read_bytes())
    return packed.getvalue()


def command(run: Run, job: Job) -> list[str]:
    """Return what the job's container runs."""
    return ["bash", "-c", SCRIPT, "nanogpt", job.repo, job.commit, run.name, str(job.timeout), *NEEDED]


def environment() -> dict[str, str]:
    """Return the environment of the job, without its secret: the Hub's address, if it is not the usual one."""
    return {} if constants.ENDPOINT == HUB else {"HF_ENDPOINT": constants.ENDPOINT}
