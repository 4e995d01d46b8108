"""Test the marker slow and `until`: conftest.py fails a test that starts a process without it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, until

TESTS = """
import subprocess, sys
import pytest

def start():
    subprocess.run([sys.executable, "-c", "pass"], check=True)

@pytest.fixture(scope="module")
def served():
    start()

def test_unmarked(): start()

def test_unmarked_but_quick(): pass

@pytest.mark.slow
def test_marked(): start()

@pytest.mark.slow
def test_first_of_a_fixture(served): pass

@pytest.mark.slow
def test_second_of_a_fixture(served): pass

@pytest.mark.slow
def test_skipped(): pytest.skip("not here")
"""


@pytest.mark.slow
def test_a_test_without_the_mark_may_not_start_a_process(tmp_path: Path):
    (tmp_path / "test_them.py").write_text(TESTS, encoding="utf-8")
    options = ["-p", "conftest", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml", "--rootdir", tmp_path, "-rE"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
    environment["PYTHONPATH"] = str(ROOT / "tests")
    command = [sys.executable, "-m", "pytest", *options, tmp_path]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8")
    assert "5 passed, 1 skipped, 1 error" in done.stdout
    failed = re.findall(r"^(test_\w+) starts a process and is not marked slow", done.stdout, re.M)
    assert failed == ["test_unmarked"]


def test_waiting_for_something_ends():
    waited = []
    with pytest.raises(AssertionError, match="it never came"):
        until(lambda: waited == [1, 2, 3], seconds=0.01, wait=lambda: waited.append(1))
    assert waited
