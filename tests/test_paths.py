"""Test where runs and texts are stored: in NANOGPT_HOME, the checkout or the user's data folder."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest
from conftest import ROOT

from nanogpt import paths


@pytest.fixture
def elsewhere(monkeypatch, tmp_path) -> Path:
    """Point the user's data folder to a temporary folder, and return its path."""
    monkeypatch.delenv("NANOGPT_HOME")
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name, **_: tmp_path / "data" / name)
    return tmp_path / "data" / "nanogpt"


def test_a_checkout_keeps_its_runs_beside_the_code(elsewhere):
    assert paths.home() == paths.CHECKOUT == ROOT
    assert paths.SHIPPED == ROOT / "checkpoints"


def test_an_installed_package_keeps_its_runs_with_the_user(elsewhere, monkeypatch):
    monkeypatch.setattr(paths, "CHECKOUT", None)
    assert paths.home() == elsewhere
    assert not elsewhere.exists()


def test_the_variable_comes_first(elsewhere, monkeypatch, tmp_path):
    for checkout in (ROOT, None):
        monkeypatch.setattr(paths, "CHECKOUT", checkout)
        monkeypatch.setenv("NANOGPT_HOME", str(tmp_path / "mine"))
        assert paths.home() == tmp_path / "mine"
        monkeypatch.setenv("NANOGPT_HOME", "")
        assert paths.home() == (checkout or elsewhere)
    monkeypatch.setenv("NANOGPT_HOME", str(Path("~", "mine")))
    assert paths.home() == Path.home() / "mine"
