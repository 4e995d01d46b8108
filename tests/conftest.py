"""What every test shares: an environment in which nothing is sent out or written into the project, and small texts."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRATCH = Path(tempfile.mkdtemp(prefix="nanogpt-tests-"))
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)

NETWORK = os.environ.get("NANOGPT_TEST_NETWORK") == "1"
REAL_HOME = Path(os.environ.get("NANOGPT_HOME") or ROOT)
TINY_SHAKESPEARE = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"  # its SHA-256

# Read when gradio, huggingface_hub or torch is first imported, and inherited by the processes that tests start.
os.environ.update(
    GRADIO_ANALYTICS_ENABLED="False",
    GRADIO_TEMP_DIR=str(SCRATCH / "gradio"),
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HOME=str(SCRATCH / "huggingface"),  # neither the developer's login nor their cache
    NANOGPT_HOME=str(SCRATCH / "home"),  # for a test that forgets the fixture `home`
    OMP_NUM_THREADS="1",  # torch's threads
)
os.environ.pop("HF_TOKEN", None)
if not NETWORK:
    # Not HF_HUB_OFFLINE=1: that refuses the tests' own Hub on the loopback address, too.
    os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # the discard port; nobody listens


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out only what this machine cannot do."""
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu:
        import torch

        if not torch.cuda.is_available():
            for item in gpu:
                item.add_marker(pytest.mark.skip(reason="needs CUDA"))
    for item in items:
        if item.get_closest_marker("network") and not NETWORK:
            item.add_marker(pytest.mark.skip(reason="talks to the Hub: set NANOGPT_TEST_NETWORK=1"))


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """Undo what an earlier test set; sums then come out the same on every machine."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as NANOGPT_HOME, for checkpoints/ and corpora/ of this test alone."""
    monkeypatch.setenv("NANOGPT_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def tiny_text() -> str:
    """About 5,000 characters in the form of a play, the same on every machine; 40-odd distinct characters."""
    state = 1337

    def pick(words: str) -> str:
        nonlocal state
        state = (state * 1103515245 + 12345) % 2**31  # a plain generator, whose numbers no release of Python changes
        choices = words.split()
        return choices[(state >> 16) % len(choices)]

    text = ""
    while len(text) < 5000:
        text += f"{pick('MILLER BAKER FERRYMAN CHILD')}:\n"
        for _ in range(1 + len(pick("a bb ccc"))):
            text += f"The {pick('old quick quiet golden')} {pick('river mill fox boat wheel')} "
            text += f"{pick('turns sleeps jumps waits')} {pick('by over under')} the {pick('bridge hazel stone vale')}"
            text += f"{pick('. , ; ! ?')}\n"
        text += "\n"
    return text


@pytest.fixture(scope="session")
def shakespeare() -> str:
    """Tiny Shakespeare, not in the project: the file that NANOGPT_TINYSHAKESPEARE names, else a copy in corpora/."""
    if named := os.environ.get("NANOGPT_TINYSHAKESPEARE"):
        return Path(named).read_text(encoding="utf-8")
    for path in (REAL_HOME / "corpora").rglob("*.txt"):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == TINY_SHAKESPEARE:
            return content.decode("utf-8")
    pytest.skip("Tiny Shakespeare is neither named by NANOGPT_TINYSHAKESPEARE nor in corpora/")


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The browser for the tests of the page. In CI its absence is a failure, elsewhere a skip."""
    from run import find_browser  # tests/run.py, which also installs one

    if browser := find_browser():
        return browser
    absent = pytest.fail if os.environ.get("CI") else pytest.skip
    absent("there is no Chromium on this machine; `python tests/run.py` installs one")
