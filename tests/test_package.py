"""The package: a wheel, built and installed without the network, that trains, samples and serves from any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from conftest import ROOT, Server

import nanogpt

pytestmark = pytest.mark.slow
TINY = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, max_iters=5)
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "requirements.txt", "requirements-dev.txt", "app.py")


@dataclass
class Installed:
    """A wheel, and the environment that it is installed into."""

    source: Path  # the checkout that the wheel was built in
    wheel: Path
    command: Path  # `nanogpt`
    package: Path  # in site-packages
    environment: dict[str, str]
    data: Path  # the user's data folder for nanogpt

    def run(self, *arguments: str, cwd: Path) -> str:
        """Run a command that must succeed and complain of nothing; return what it printed."""
        done = subprocess.run(
            [self.command, *arguments], cwd=cwd, env=os.environ | self.environment, capture_output=True,
            encoding="utf-8", timeout=120,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


def python(*arguments: str | Path) -> None:
    subprocess.run(
        [sys.executable, *arguments], check=True, capture_output=True, env=os.environ | {"PIP_NO_INDEX": "1"}
    )


def files_in(folder: Path) -> set[str]:
    """The files in a folder, without those that Python, Gradio or a run's lock leave beside the source."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".pyc", ".pyi")]
    return {path.relative_to(folder).as_posix() for path in files if path.name != ".lock"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installed:
    """Build the wheel in a copy of the project and install it, without its dependencies, into a fresh environment.

    The environment borrows the dependencies from the one that runs the tests.
    """
    top = tmp_path_factory.mktemp("package")
    source, environment = top / "source", top / "environment"
    skip = shutil.ignore_patterns("__pycache__", "*.pyi", ".lock")
    for folder in ("nanogpt", "checkpoints/shakespeare"):
        shutil.copytree(ROOT / folder, source / folder, ignore=skip)
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, source)
    python("-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", top, source)
    [wheel] = top.glob("*.whl")
    shutil.rmtree(source / "build")  # holds a second copy of the package

    venv.create(environment, symlinks=os.name != "nt")
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    suffix = ".exe" if os.name == "nt" else ""
    python("-m", "pip", "--python", scripts / f"python{suffix}", "install", "--no-deps", wheel)
    [package] = environment.rglob("site-packages/nanogpt")
    borrowed = [path for path in sys.path if path.endswith("-packages")]
    (package.parent / "borrowed.pth").write_text("\n".join(borrowed), encoding="utf-8")

    user = {"HOME": str(top), "XDG_DATA_HOME": str(top / "data"), "WIN_PD_OVERRIDE_LOCAL_APPDATA": str(top / "data")}
    user |= {"NANOGPT_HOME": "", "NANOGPT_SHIPPED": "on", "PYTHONPATH": ""}
    data = top / ("Library/Application Support" if sys.platform == "darwin" else "data") / "nanogpt"
    return Installed(source, wheel, scripts / f"nanogpt{suffix}", package, user, data)


@pytest.fixture
def nothing_else_is_written(installed):
    """Neither site-packages nor the checkout may change, whatever the test does."""
    folders = installed.package.parent, installed.source
    before = [files_in(folder) for folder in folders]
    yield
    assert [files_in(folder) for folder in folders] == before


def test_the_wheel_is_the_package_and_the_shipped_model(installed):
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert installed.wheel.name.startswith(f"nanogpt-{nanogpt.__version__}-")
    package = {f"nanogpt/{name}" for name in files_in(ROOT / "nanogpt")}
    model = {f"nanogpt/checkpoints/shakespeare/{name}" for name in files_in(ROOT / "checkpoints" / "shakespeare")}
    assert {"nanogpt/py.typed", "nanogpt/ui/page.css"} <= package
    assert names == package | model


def test_the_command_alone_prints_its_help(installed, tmp_path):
    printed = installed.run(cwd=tmp_path)
    assert printed.startswith("usage: nanogpt ")
    assert str(installed.data) in printed
    assert printed == installed.run("--help", cwd=tmp_path)
    assert installed.run("--version", cwd=tmp_path) == f"nanogpt {nanogpt.__version__}\n"


@pytest.mark.usefixtures("nothing_else_is_written")
def test_it_trains_and_samples_from_another_folder(installed, tmp_path, tiny_text):
    (tmp_path / "play.txt").write_text(tiny_text, encoding="utf-8")
    flags = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    printed = installed.run("train", "play.txt", *flags, cwd=tmp_path)
    assert printed.endswith("Try it: nanogpt sample play\n")
    assert (installed.data / "checkpoints" / "play" / "model.safetensors").is_file()
    assert len(installed.run("sample", "play", "--length", "20", cwd=tmp_path)) == 21
    assert installed.run("sample", "shakespeare", "--prompt", "ROMEO:", "--length", "20", cwd=tmp_path)[:6] == "ROMEO:"
    assert [line.split()[0] for line in installed.run("runs", cwd=tmp_path).splitlines()] == ["play", "shakespeare"]
    assert files_in(tmp_path) == {"play.txt"}
    installed.environment["NANOGPT_HOME"] = "elsewhere"
    assert installed.run("runs", cwd=tmp_path).startswith("shakespeare ")
    installed.environment["NANOGPT_HOME"] = ""


@pytest.mark.usefixtures("nothing_else_is_written")
def test_it_serves_and_trains_from_the_checkout_it_was_installed_from(installed, tiny_text):
    """As the README says: `pip install .`, then `nanogpt serve` in the same folder. Trainers must not run its code."""
    from gradio_client import Client

    server = Server(
        installed.data, command=[str(installed.command), "serve"], cwd=installed.source, **installed.environment
    )
    try:
        assert httpx.get(server.url).status_code == 200
        assert httpx.get(f"{server.url}/config").json()["title"] == "nanogpt"
        client = Client(server.url, verbose=False)
        text = client.predict(tiny_text, "A play", api_name="/add_corpus")
        run = client.predict(text["id"], "served", "quick", TINY, api_name="/start_training")
        deadline = time.monotonic() + 90
        while run["state"] in ("queued", "running") and time.monotonic() < deadline:
            time.sleep(0.2)
            run = client.predict(run["name"], api_name="/run_status")
        client.close()
    finally:
        server.stop()
    assert (run["state"], run["step"]) == ("finished", 5), run
    assert (installed.data / "checkpoints" / "served" / "model.safetensors").is_file()
