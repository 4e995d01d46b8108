"""Fixtures shared by all tests, and an environment that keeps them off the network and out of the project."""

from __future__ import annotations

import atexit
import collections
import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import prepared
import pytest
from fake_hub import Hub

ROOT = Path(__file__).resolve().parent.parent
SCRATCH = Path(tempfile.mkdtemp(prefix="nanogpt-tests-"))
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)

NETWORK = os.environ.get("NANOGPT_TEST_NETWORK") == "1"
REAL_HOME = Path(os.environ.get("NANOGPT_HOME") or ROOT)
TINY_SHAKESPEARE = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"  # its SHA-256


def free_port(first: int) -> int:
    """Return the first free port from `first` on. Raise OSError if there is none in the next 5,000."""
    for port in range(first, first + 5000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no port is free")


# Set before gradio, huggingface_hub and torch are imported, because they read these once. Child processes inherit them.
os.environ.update(
    GRADIO_ANALYTICS_ENABLED="False",
    GRADIO_TEMP_DIR=str(SCRATCH / "gradio"),
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_XET="1",  # the fake Hub speaks plain HTTP only
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HOME=str(SCRATCH / "huggingface"),  # keeps out the developer's login and cache
    NANOGPT_HOME=str(SCRATCH / "home"),  # fallback for a test that doesn't use the `home` fixture
    NANOGPT_SHIPPED="off",  # tests see only the runs they create
    OMP_NUM_THREADS="1",  # torch reads this for its thread count
)
os.environ.pop("HF_TOKEN", None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else ignored in a background job, and by children
if worker := os.environ.get("PYTEST_XDIST_WORKER"):  # or parallel servers could race for a port
    os.environ["GRADIO_SERVER_PORT"] = str(7860 + 100 * int(worker.removeprefix("gw")))
if not NETWORK:
    # Don't use HF_HUB_OFFLINE=1 here: it would block the fake Hub on the loopback address, too.
    # This port stays closed until a test uses the `hub` fixture. It is below the range of ephemeral ports.
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{free_port(20_000 + os.getpid() % 5000)}"
if re.search(r"-m[ =]?gpu( |$)", " ".join(sys.argv)):  # the processes that pytest-xdist starts don't see these
    os.environ["NANOGPT_TEST_GPU"] = "1"
if os.environ.get("NANOGPT_TEST_GPU") != "1":  # most tests compare with what a CPU computes
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
prepared.install()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip only what this machine can't run. Run the files with the most slow tests first.

    With several processes, a file that is started last would otherwise keep one of them busy for minutes, alone.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu:
        import torch

        if not torch.cuda.is_available():
            for item in gpu:
                item.add_marker(pytest.mark.skip(reason="needs CUDA"))
    for item in items:
        if item.get_closest_marker("network") and not NETWORK:
            item.add_marker(pytest.mark.skip(reason="talks to the Hub: set NANOGPT_TEST_NETWORK=1"))


# --- the marker slow: for tests that start a process or take seconds ----------------------------------------------

STARTS = {
    "subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.exec", "os.system", "os.startfile",
}  # fmt: skip
started: list[str] = []  # programs started by the current test
earlier: set[int] = set()  # threads of tests before it, which may still start a process, such as a spare trainer


def watch(event: str, arguments: tuple) -> None:
    if event not in STARTS or threading.get_ident() in earlier:
        return
    program = str(arguments[0] or arguments[1][0]) if event == "subprocess.Popen" else event
    # Count only Python, Node and browsers: libraries run short system commands of their own (NumPy runs lscpu).
    if event != "subprocess.Popen" or re.match("python|node|chrom|msedge", Path(program).name, re.I):
        started.append(program)


sys.addaudithook(watch)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    earlier.clear()
    earlier.update(one.ident for one in threading.enumerate() if one.ident and one is not threading.main_thread())
    started.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item):
    """Fail a test that starts a process without being marked slow."""
    done = yield
    marked = item.get_closest_marker("slow") or item.get_closest_marker("gpu")  # compiling kernels starts processes
    if started and not marked:
        pytest.fail(f"{item.name} starts a process and is not marked slow: {started[0][:200]}", pytrace=False)
    return done


def pytest_sessionfinish() -> None:
    """End the prepared process, and any trainer processes that tests left running, including pre-warmed ones."""
    prepared.close()
    if local := sys.modules.get("nanogpt.launch.local"):
        for process in [*local._children.values(), *local._spare]:
            process.kill()
            process.wait()


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """Reset torch to one thread, so that sums are the same on every machine."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set NANOGPT_HOME to an empty folder for this test, and return its path."""
    monkeypatch.setenv("NANOGPT_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan timed runs for a fixed machine speed instead of spending a second on measuring it."""
    from nanogpt.launch import pace

    monkeypatch.setattr(pace, "speed", lambda model, train, seconds=1.0: 2e10)  # FLOP/s


class Clock:
    """A fake `time` module, so that timed runs take the same number of steps on every machine.

    Each call to `perf_counter` advances it by `tick` seconds. A test can also set `now`.
    """

    def __init__(self, tick: float = 0.0):
        self.now, self.tick = 0.0, tick

    def perf_counter(self) -> float:
        self.now += self.tick
        return self.now


@contextlib.contextmanager
def steady_clock(tick: float) -> Iterator[Clock]:
    """Yield a `Clock` that replaces `time` in planning and training. Assume a fixed machine speed."""
    from nanogpt import reporter, timetable, train
    from nanogpt.launch import pace, prepare
    from nanogpt.runs import snapshots

    clock = Clock(tick)
    with pytest.MonkeyPatch.context() as patch:
        for module in (prepare, reporter, timetable, train, snapshots):
            patch.setattr(module, "time", clock)
        patch.setattr(pace, "speed", lambda model, train, seconds=1.0: 1e9)  # FLOP/s
        yield clock


@contextlib.contextmanager
def home_for_all(tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """Set NANOGPT_HOME to an empty folder that a whole test module shares, and yield its path."""
    path = tmp_path_factory.mktemp(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOGPT_HOME", str(path))
        yield path


T = TypeVar("T")


def until(true: Callable[[], T], seconds: float = 60.0, wait: Callable[[], object] = lambda: time.sleep(0.01)) -> T:
    """Wait until a function returns something true, and return that. Fail after `seconds`.

    `wait` is called in between. In a browser's test, let the page wait, which also handles its events.
    """
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it never came"
        wait()
    return found


# Settings of runs that take no time.
SMALL: dict[str, Any] = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, max_iters=50)
CLASSIC = SMALL | dict(layout="classic")
TWO_BLOCKS = CLASSIC | dict(n_layer=2)

# What the Tour's process reports of its two models, with and without the causal mask.
MASKS = [
    dict(step=0, **{name: dict(held_out=4.0) for name in ("with", "without")}),
    dict(step=400, **{name: dict(held_out=2.0, writing=2.0, sample="The") for name in ("with", "without")}),
]

# What a page has too little contrast for.
CONTRAST = (ROOT / "tests" / "ui" / "contrast.js").read_text(encoding="utf-8")


def last_of(steps):
    """Return the last thing that a generator yields."""
    *_, last = steps
    return last


def ended_run(text, name="one", **sizes):
    """Create a finished run with logs and samples, without training it."""
    import torch

    from nanogpt.formats import read_config, weights_bytes
    from nanogpt.launch import prepare
    from nanogpt.model import GPT

    made = prepare.new_run(name, text, "quick", **sizes)
    torch.manual_seed(1)  # else a test could depend on those before it
    (made.folder / "model.safetensors").write_bytes(weights_bytes(GPT(read_config(made.folder))))
    made.event("started", step=0, device="CPU")
    for step in (0, 25, 50):
        made.log(step=step, seconds=1.0, tokens=step * 64, train_loss=4.0 - step / 50, val_loss=4.1 - step / 50)
        made.sample(step, f"text {step}")
    made.event("finished", step=50, val_loss=3.0, message="Finished.")
    return made


@pytest.fixture
def text(home: Path, tiny_text: str):
    """Store `tiny_text` and return it as a Corpus."""
    from nanogpt import corpus

    return corpus.add(tiny_text, "A play")


@pytest.fixture
def one(text):
    """Return a finished run of two blocks, opened for the views of Understand."""
    from nanogpt.ui import view

    ended_run(text, "one", **TWO_BLOCKS)
    return view.opened("one")


@pytest.fixture(params=["classic", "modern"])
def model(request: pytest.FixtureRequest):
    """Return a small model of 11 tokens in each layout, with weights so large that every part does something."""
    import torch

    from nanogpt.config import ModelConfig
    from nanogpt.model import GPT

    torch.manual_seed(1)
    made = GPT(ModelConfig(11, request.param, block_size=16, n_layer=2, n_head=2, n_embd=16)).eval()
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return made


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Start a fake Hub at HF_ENDPOINT, where every Hub client in the tests connects."""
    if NETWORK:
        pytest.skip("the real Hub is asked in this run")
    running = Hub(int(os.environ["HF_ENDPOINT"].rpartition(":")[2]))
    yield running
    running.close()


@pytest.fixture(scope="session")
def tiny_text() -> str:
    """Return a play of about 5,000 characters, about 40 of them distinct. It is the same on every machine."""
    state = 1337

    def pick(words: str) -> str:
        nonlocal state
        state = (state * 1103515245 + 12345) % 2**31  # an LCG, because `random` may change between Python versions
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
    """Return Tiny Shakespeare from the file NANOGPT_TINYSHAKESPEARE or a copy in corpora/; skip if neither exists."""
    if named := os.environ.get("NANOGPT_TINYSHAKESPEARE"):
        return Path(named).read_text(encoding="utf-8")
    for path in (REAL_HOME / "corpora").rglob("*.txt"):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == TINY_SHAKESPEARE:
            return content.decode("utf-8")
    pytest.skip("Tiny Shakespeare is neither named by NANOGPT_TINYSHAKESPEARE nor in corpora/")


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Return the path of a browser for the page tests. If there isn't one, fail in CI and skip elsewhere."""
    from run import find_browser  # tests/run.py, which can also install one

    if browser := find_browser():
        return browser
    absent = pytest.fail if os.environ.get("CI") else pytest.skip
    absent("there is no Chromium on this machine; `python tests/run.py` installs one")


# --- page tests: a real server process and a real Chromium ---------------------------------------------------------


class Server:
    """The app as a separate process (`python app.py` or another command), which a test can stop and restart.

    On Linux, `python app.py` and its trainers are forks of a process that has imported everything (tests/prepared.py).
    """

    def __init__(
        self, home: Path, *arguments: str, program: str = "app.py", command: list[str] | None = None, cwd: Path = ROOT,
        says: str = r"http://127\.0\.0\.1:\d+", **environment: str,
    ):  # fmt: skip
        self.home, self.says = home, says
        self.command, self.cwd = [*(command or [sys.executable, program]), *arguments], cwd
        quiet = {"NANOGPT_BASELINES": "off", "PYTHONUNBUFFERED": "1"}  # counting would take its share of the processor
        self.environment = {"NANOGPT_HOME": str(home), **quiet, **environment}
        self.process: subprocess.Popen | None = None
        self.url = ""
        self.start()

    def start(self) -> None:
        port = re.search(r":(\d+)", self.url)
        command = [*self.command, *(["--port", port[1]] if port else [])]
        if sys.platform == "win32":
            alone = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # keep Ctrl-Break away from the tests
        else:
            alone = {"start_new_session": True}
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        environment = os.environ | self.environment
        self.process = subprocess.Popen(command, cwd=self.cwd, env=environment, **pipes, **alone)
        assert self.process.stdout is not None
        self.said = collections.deque(maxlen=100)  # its last lines, for the report of a test that fails
        for line in self.process.stdout:
            self.said.append(line)
            if found := re.search(self.says, line):
                self.url = found[0]
                self.reader = threading.Thread(target=self.said.extend, args=(self.process.stdout,), daemon=True)
                self.reader.start()  # drain the pipe, or the server would block on a full one
                return
        raise AssertionError("the server ended before it named its address:\n" + "".join(self.said))

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.CTRL_BREAK_EVENT if sys.platform == "win32" else signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS raises the latter instead
                os.killpg(self.process.pid, signal.SIGKILL)  # kill its forks; trainers have their own process groups
        self.reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def public_demo(tmp_path_factory: pytest.TempPathFactory):
    """Start a public server in this process, for the tests of a module."""
    from nanogpt.ui.page import build_app, launch_options

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOGPT_HOME", str(tmp_path_factory.mktemp("public")))
        patch.setenv("NANOGPT_PUBLIC", "1")
        demo, options = build_app(), launch_options("127.0.0.1")
        demo.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, inbrowser=False, **options)
        yield demo
        demo.close()


@pytest.fixture
def real_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each process of this test as a new Python process, as users do. Name it in `usefixtures`."""
    monkeypatch.setattr(subprocess, "_fork_exec", prepared.new_process, raising=False)


def stop_all() -> None:
    """Stop all trainers, before their folders are deleted: also those that wait or are just starting."""
    from nanogpt.runs import all_runs

    for run in all_runs():
        run.request_stop()


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    running = Server(home)
    yield running
    try:
        stop_all()
    finally:
        running.stop()


@pytest.fixture(scope="module")
def browser(chromium_path: str):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=chromium_path,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"],
        )
        yield launched
        launched.close()


@pytest.fixture
def page(browser, server: Server, request: pytest.FixtureRequest) -> Iterator:
    """Yield an open page of a server of the test's own."""
    yield from open_page(browser, server, moves=bool(request.node.get_closest_marker("moving")))


@pytest.fixture(scope="module")
def standing_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server that a module's tests share. They must leave nothing behind in its folder."""
    running = Server(tmp_path_factory.mktemp("standing"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def window(browser, standing_server: Server) -> Iterator:
    """Yield a browser context that a module's tests share: what it has loaded once, it needn't load again."""
    shared = browser.new_context(base_url=standing_server.url, viewport={"width": 1280, "height": 900})
    yield shared
    shared.close()


@pytest.fixture
def unopened_page(
    window, standing_server: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator:
    """Yield a page for the server that the module's tests share, and set NANOGPT_HOME to its folder.

    It is blank, for tests that first create what it shows: `visit` opens it. What the test leaves in the folder and
    in the browser is deleted. No run may train on.
    """
    monkeypatch.setenv("NANOGPT_HOME", str(standing_server.home))
    made = window.new_page()
    yield from watched(made, standing_server, moves=bool(request.node.get_closest_marker("moving")))
    forgetful = window.new_page()
    everything = dict(origin=standing_server.url, storageTypes="cookies,local_storage")
    window.new_cdp_session(forgetful).send("Storage.clearDataForOrigin", everything)
    forgetful.close()
    for kind in ("checkpoints", "corpora"):
        while (standing_server.home / kind).exists():  # a trainer that ends may delete a file at the same moment
            shutil.rmtree(standing_server.home / kind, ignore_errors=True)


@pytest.fixture
def standing_page(unopened_page):
    """Return an open page of the server that the module's tests share."""
    visit(unopened_page)
    return unopened_page


def open_page(browser, server: Server, moves: bool = True) -> Iterator:
    """Yield an open page in a browser context of its own."""
    for page in watched(browser.new_page(viewport={"width": 1280, "height": 900}), server, moves):
        visit(page, server.url)
        yield page


def visit(page, address: str = "/") -> None:
    """Open the page, and wait until all of it is there."""
    page.goto(address)
    page.wait_for_selector("#corpus-report h3", state="attached")
    # both answers to the page's opening: one that arrives later would take back what a test has done since
    page.wait_for_function("document.querySelector('#page-status')?.innerText.trim()")


def watched(page, server: Server, moves: bool) -> Iterator:
    """Yield a page and close it. Then check that it logged no errors and sent requests only to its own server.

    Unless it `moves`, it asks for reduced motion, because animations take a third of a core without a GPU.
    """
    if not moves:
        page.emulate_media(reduced_motion="reduce")
    errors: list[str] = []
    strangers: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: strangers.append(request.url) if stranger(request.url, server) else None)
    page.set_default_timeout(90_000)  # generous, for busy machines
    yield page
    page.close()
    # Restarting the server breaks open requests, and leaving the page aborts them. Any other error is a bug.
    harmless = (
        "net::ERR_", "Failed to fetch", "TypeError: network error", "AbortError: signal is aborted without reason",
        "Unexpected error Connection errored out.",
    )  # fmt: skip
    wrong = [error for error in errors if not any(kind in error for kind in harmless)]
    assert wrong == [], "The server's last lines:\n" + "".join(server.said)
    assert strangers == []


def stranger(url: str, server: Server) -> bool:
    return not url.startswith((server.url, "data:", "blob:"))


def faint(page) -> list[str]:
    """Return what has too little contrast, once the colors have changed, which they do gradually."""
    for _ in range(20):
        page.wait_for_timeout(300)
        if not (found := page.evaluate(CONTRAST)):
            break
    return found


def wait_until_still(page, expression: str) -> str:
    """Return the expression's value once it has stayed the same for a second. Wait at most 20 seconds."""
    for _ in range(20):
        before = page.evaluate(expression)
        page.wait_for_timeout(1000)
        if page.evaluate(expression) == before:
            return before
    raise AssertionError("it never came to rest")
