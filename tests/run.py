"""Run every check of the project, on a bare machine too: python tests/run.py [--fast] [arguments for pytest]

Install what the two requirements files ask for, find or install a Chromium for the tests of the page, then run ruff,
mypy and pytest. The exit status is not zero if any of them fails; the last line is pytest's own.
With --fast, leave out the tests marked slow and use two or more cores: it takes about a minute, and needs no browser.
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
FAST = [
    "-m", "not slow",
    "--numprocesses", "auto", "--maxprocesses", "4", "--dist", "loadfile",  # each process imports torch and gradio
    "--durations", "5", "--durations-min", "2",  # what takes longer than that wants the mark
]  # fmt: skip
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
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",  # a Chromium, and on every Windows
]


def say(sentence: str) -> None:
    print(f"tests/run.py: {sentence}", flush=True)


def python(*arguments: str) -> bool:
    """Run this interpreter in the project's folder; true if it succeeds."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT).returncode == 0


def apt_install(package: str) -> bool:
    """Install a Debian package where that needs no password."""
    sudo = [] if getattr(os, "geteuid", lambda: 1)() == 0 else ["sudo", "-n"]
    if not shutil.which("apt-get") or (sudo and not shutil.which("sudo")):
        return False
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    say(f"installing {package} with apt-get")
    return all(subprocess.run([*apt, *rest]).returncode == 0 for rest in (["update"], ["install", "-y", package]))


def leave_managed_python(arguments: list[str]) -> None:
    """Where the system forbids pip in its Python (PEP 668), make .venv in the project and go on there."""
    marker = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
    if sys.prefix != sys.base_prefix or not marker.exists():
        return
    say("this Python belongs to the system; going on in .venv")
    if importlib.util.find_spec("ensurepip") is None:
        apt_install("python3-venv")
    interpreter = ROOT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not interpreter.exists() and not python("-m", "venv", "--clear", ".venv"):
        sys.exit("tests/run.py: could not make .venv; install your system's package for Python's venv module")
    sys.exit(subprocess.run([str(interpreter), __file__, *arguments]).returncode)


def install_requirements() -> None:
    """A second or two where all is there already: pip then asks nobody."""
    if importlib.util.find_spec("pip") is None:
        python("-m", "ensurepip")
    say("installing what is missing from requirements.txt and requirements-dev.txt")
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]
    if not python(*pip, "-r", "requirements.txt", "-r", "requirements-dev.txt"):
        sys.exit("tests/run.py: pip could not install the requirements")
    importlib.invalidate_caches()


def starts(browser: str) -> bool:
    """Whether the file runs at all: Ubuntu's chromium-browser may be a mere pointer to a snap."""
    if sys.platform != "linux":
        return True  # there, --version may open a window
    try:
        return subprocess.run([browser, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def find_browser() -> str | None:
    """The Chromium for the tests of the page: named, installed, or playwright's own."""
    if named := os.environ.get("NANOGPT_CHROMIUM"):
        if not shutil.which(named):
            sys.exit(f"NANOGPT_CHROMIUM is {named!r}, which is not a program on this machine")
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
    say("no Chromium here, and the tests of the page want one")
    if apt_install("chromium") and (browser := find_browser()):
        return browser
    say("asking playwright for its Chromium")
    python("-m", "playwright", "install", "chromium")
    return find_browser()


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 11):  # noqa: UP036, whoever is too old for us gets this far
        sys.exit("tests/run.py: nanogpt needs Python 3.11 or newer; this is " + sys.version.split()[0])
    leave_managed_python(arguments)
    install_requirements()
    # Without bytecode, pytest and every process that a test starts would compile the project again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    failed = []
    if "--fast" in arguments:
        arguments = [*FAST, *(argument for argument in arguments if argument != "--fast")]
    elif browser := find_browser() or install_browser():
        os.environ["NANOGPT_CHROMIUM"] = browser
    elif os.environ.get("CI"):
        failed.append("Chromium (there is none, and CI must not skip the tests of the page)")
    else:
        say("no Chromium could be found or installed: the tests of the page will be skipped")
    for name, command in CHECKS.items():
        say(name)
        if not python("-m", *command):
            failed.append(name)
    if failed:
        say("FAILED before the tests: " + ", ".join(failed))
    say("pytest")
    passed = python("-m", "pytest", *arguments)
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
