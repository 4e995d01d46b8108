"""Run all checks, even on a bare machine: python tests/run.py [--fast] [arguments for pytest]

Install both requirements files, find or install a Chromium for the browser tests, then run ruff, mypy and pytest. The
exit status is nonzero if any of them fails; pytest's summary comes last.
The tests use up to four cores. With --fast, skip those marked slow, which takes about a minute and needs no browser.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
}
CORES = [  # each process imports torch and gradio; conftest.py sorts the files, the slowest first
    "--numprocesses", "auto", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder",
]  # fmt: skip
FAST = ["-m", "not slow", "--durations", "5", "--durations-min", "2"]  # slower tests need the marker
BROWSERS = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",  # Edge is based on Chromium and comes with Windows
]


def say(sentence: str) -> None:
    """Print a progress message."""
    print(f"tests/run.py: {sentence}", flush=True)


def python(*arguments: str) -> bool:
    """Run this interpreter in the project folder. Return True if it succeeds."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT).returncode == 0


def apt_install(package: str) -> bool:
    """Install a Debian package if that needs no password. Return True if it succeeds."""
    sudo = [] if getattr(os, "geteuid", lambda: 1)() == 0 else ["sudo", "-n"]
    if not shutil.which("apt-get") or (sudo and not shutil.which("sudo")):
        return False
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    say(f"installing {package} with apt-get")
    return all(subprocess.run([*apt, *rest]).returncode == 0 for rest in (["update"], ["install", "-y", package]))


def leave_managed_python(arguments: list[str]) -> None:
    """Restart in a .venv inside the project if the system manages this Python and forbids pip (PEP 668)."""
    marker = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
    if sys.prefix != sys.base_prefix or not marker.exists():
        return
    say("the system manages this Python; continuing in .venv")
    if importlib.util.find_spec("ensurepip") is None:
        apt_install("python3-venv")
    interpreter = ROOT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not interpreter.exists() and not python("-m", "venv", "--clear", ".venv"):
        sys.exit("tests/run.py: could not create .venv; install your system's package for Python's venv module")
    sys.exit(subprocess.run([str(interpreter), __file__, *arguments]).returncode)


def install_requirements() -> None:
    """Install both requirements files with pip. If nothing is missing, this takes a second and no network access."""
    if importlib.util.find_spec("pip") is None:
        python("-m", "ensurepip")
    say("installing what is missing from requirements.txt and requirements-dev.txt")
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]
    pip += ["--no-compile"]  # halves the time; Python compiles modules on first import anyway
    if not python(*pip, "-r", "requirements.txt", "-r", "requirements-dev.txt"):
        sys.exit("tests/run.py: pip could not install the requirements")
    importlib.invalidate_caches()


def starts(browser: str) -> bool:
    """Return True if the browser runs. Ubuntu's chromium-browser may be a stub that only points to a snap."""
    if sys.platform != "linux":
        return True  # on other systems, --version may open a window
    try:
        return subprocess.run([browser, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def find_browser() -> str | None:
    """Return a Chromium for the browser tests (NANOGPT_CHROMIUM, installed, or playwright's), or None."""
    if named := os.environ.get("NANOGPT_CHROMIUM"):
        if not shutil.which(named):
            sys.exit(f"tests/run.py: NANOGPT_CHROMIUM is {named!r}, but there is no such program")
        return shutil.which(named)
    for name in BROWSERS:
        if (path := shutil.which(name)) and starts(path):
            return path
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() and starts(path) else None


def install_browser() -> str | None:
    """Try to install a Chromium. Return its path, or None if that fails."""
    say("the browser tests need a Chromium, and none was found")
    if apt_install("chromium") and (browser := find_browser()):
        return browser
    say("installing playwright's Chromium")
    python("-m", "playwright", "install", "chromium")
    return find_browser()


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 11):  # noqa: UP036, this file must run on older versions to report that they're too old
        sys.exit("tests/run.py: nanogpt needs Python 3.11 or newer; this is " + sys.version.split()[0])
    leave_managed_python(arguments)
    install_requirements()
    # Keep bytecode files: without them, pytest and every process a test starts would recompile the project.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    failed = []
    if "--fast" in arguments:
        arguments = [*FAST, *(argument for argument in arguments if argument != "--fast")]
    elif browser := find_browser() or install_browser():
        os.environ["NANOGPT_CHROMIUM"] = browser
    elif os.environ.get("CI"):
        failed.append("Chromium (not found, and CI must not skip the browser tests)")
    else:
        say("could not find or install a Chromium; the browser tests will be skipped")
    for name, command in CHECKS.items():
        say(name)
        if not python("-m", *command):
            failed.append(name)
    if failed:
        say("FAILED before the tests: " + ", ".join(failed))
    say("pytest")
    passed = python("-m", "pytest", *CORES, *arguments)
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
