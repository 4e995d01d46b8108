"""Test the marker slow: conftest.py fails a test that needs it and lacks it, or has it for no reason."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

TESTS = """
import subprocess, sys, time
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
def test_marked_for_nothing(): pass

@pytest.mark.slow
def test_marked_for_its_time(): time.sleep(0.3)

@pytest.mark.slow
def test_skipped(): pytest.skip("not here")
"""


@pytest.mark.slow
def test_a_test_without_the_mark_may_start_nothing_and_one_with_it_must_be_slow(tmp_path: Path):
    (tmp_path / "test_them.py").write_text(TESTS, encoding="utf-8")
    options = ["-p", "conftest", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml", "--rootdir", tmp_path, "-rE"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
    environment["PYTHONPATH"] = str(ROOT / "tests")
    command = [sys.executable, "-m", "pytest", *options, tmp_path]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8")
    assert "7 passed, 1 skipped, 2 errors" in done.stdout
    failed = re.findall(r"^(test_\w+) (?:starts a process and is not|is) marked slow", done.stdout, re.M)
    assert failed == ["test_unmarked", "test_marked_for_nothing"]
