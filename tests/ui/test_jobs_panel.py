"""Train on Hugging Face Jobs from the page, in a real Chromium, against the fake Hub."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import Server, open_page, stop_all
from fake_hub import MAYA, READER, Hub, Refusal
from test_page import open_tab

from nanogpt import corpus
from nanogpt.config import NanoGPTError
from nanogpt.launch import local, visitors
from nanogpt.runs import Run
from nanogpt.ui import form, jobs_panel

STATUS = "document.querySelector('#train-status').innerText"
HERE = SimpleNamespace(server_name="127.0.0.1", share=False)
PRICES = "document.querySelector('#jobs-hardware input').value"


@pytest.fixture
def jobs_page(browser, hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple]:
    """Yield an open page and its server, with Maya signed in on this machine."""
    monkeypatch.setenv("HF_TOKEN", MAYA)
    server = Server(home)
    try:
        for page in open_page(browser, server, moves=False):
            yield page, server
    finally:
        stop_all()
        server.stop()


def open_panel(page) -> None:
    open_tab(page, "Train")
    page.wait_for_function("document.querySelector('#train-estimate textarea').value")
    page.locator("#jobs-panel button").first.click()
    page.wait_for_function(f"{PRICES}.includes('per hour')")


def follower_of(name: str) -> int:
    """Return the process that follows a run's job."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"nanogpt.jobs.follow\0{name}\0" in (path / "cmdline").read_text():
                return int(path.name)
        except OSError:
            continue
    raise AssertionError(f"nothing follows {name}")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_run_is_started_on_jobs_found_again_after_a_restart_and_stopped(jobs_page, hub):
    page, server = jobs_page
    open_panel(page)
    assert page.evaluate(PRICES) == "$0.40 per hour · Nvidia T4 - small, 4 vCPU, 15 GB, 16 GB of GPU memory"
    page.locator("#train-budget").locator("input, textarea").fill("10m")
    page.locator("#jobs-ask").click()
    page.wait_for_selector("#jobs-start")
    terms = page.locator("#jobs-terms textarea").input_value()
    assert "at most $0.13, since the job ends after 20 minutes" in terms
    assert "Your text leaves this machine" in terms
    assert (hub.repos, hub.jobs.made) == ({}, {})  # nothing happens before the confirmation
    page.locator("#jobs-start").click()
    page.wait_for_function(f"{STATUS}.includes('step')")
    assert not page.locator("#jobs-start").is_visible()
    page.wait_for_function("document.querySelector('#page-status').innerText.startsWith('Training python-reference')")
    page.wait_for_selector("#train-plot svg path")
    page.goto("about:blank")  # leave the page: when the server is back, it would reload itself while we load it
    server.stop()
    os.kill(follower_of("python-reference"), signal.SIGKILL)
    server.start()
    page.goto(server.url)
    open_tab(page, "Train")
    page.wait_for_function(f"{STATUS}.startsWith('Training')")
    page.locator("#train-stop").click()
    page.wait_for_function(f"{STATUS}.startsWith('Stopped at step')")
    [job] = hub.jobs.made.values()
    assert job.stage == "COMPLETED"
    assert hub.repos == {}


@pytest.mark.slow
def test_what_has_changed_is_shown_again_and_an_error_stays_in_the_panel(jobs_page, hub):
    page, _ = jobs_page
    open_panel(page)
    page.locator("#jobs-ask").click()
    page.wait_for_selector("#jobs-start")
    page.locator("#jobs-said", has_text=jobs_panel.AGREE).wait_for()
    page.locator("#jobs-limit").locator("input, textarea").fill("2h")
    page.locator("#jobs-start").click()
    page.wait_for_function("document.querySelector('#jobs-said')?.innerText.includes('changed')")
    assert page.locator("#jobs-start").is_visible()
    assert "2 hours" in page.locator("#jobs-terms textarea").input_value()  # what the next click agrees to
    page.locator("#jobs-limit").locator("input, textarea").fill("soon")
    page.locator("#jobs-ask").click()
    page.wait_for_function("document.querySelector('#jobs-said')?.innerText.includes('as a time')")
    assert not page.locator("#jobs-start").is_visible()
    assert hub.jobs.made == {}


def test_the_prices_are_the_hubs_or_a_sentence(hub, home, monkeypatch):
    with pytest.raises(Exception, match="not signed in"):
        jobs_panel.hardware_choices(HERE)
    monkeypatch.setenv("HF_TOKEN", READER)
    with pytest.raises(Exception, match="read-only"):
        jobs_panel.hardware_choices(HERE)
    monkeypatch.setenv("HF_TOKEN", MAYA)
    assert [name for _, name in jobs_panel.hardware_choices(HERE)] == ["t4-small", "a100-large", "cpu-upgrade"]
    hub.refuse = lambda request: Refusal(503) if "hardware" in request else None
    with pytest.raises(Exception, match="having problems"):
        jobs_panel.hardware_choices(HERE)


def test_a_run_whose_follower_cannot_be_started_is_not_started_later(hub, home, tiny_text, monkeypatch):
    def full(run, module):
        raise BlockingIOError(errno.EAGAIN, "no process")

    monkeypatch.setenv("HF_TOKEN", MAYA)
    monkeypatch.setattr(local, "start", full)
    text, fields = corpus.add(tiny_text).id, ["timed", "modern", "1m", 100, *[None] * len(form.ADVANCED)]
    shown = str(jobs_panel.terms(HERE, text, "t4-small", "", *fields))
    with pytest.raises(BlockingIOError):
        jobs_panel.begin(HERE, text, "diary", "t4-small", "", shown, *fields)
    assert not Run("diary").exists()


def test_visitors_of_a_public_server_cannot_use_the_owners_account(hub, home, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", MAYA)
    monkeypatch.setattr(jobs_panel, "visitor", lambda: visitors.Visitor("0" * 32))
    with pytest.raises(Exception, match="On a public server"):
        jobs_panel.terms(HERE, "", "t4-small", "", "timed")
    assert hub.requests == []
    assert not Run("diary").exists()


def test_other_machines_cannot_rent_with_the_login_saved_here(hub, home, tiny_text, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", MAYA)
    text, fields = corpus.add(tiny_text).id, ["timed", "modern", "1m", 100, *[None] * len(form.ADVANCED)]
    asked = lambda page: jobs_panel.terms(page, text, "t4-small", "", *fields)
    assert "at most $" in str(asked(HERE))
    hub.requests.clear()
    for page in (SimpleNamespace(server_name="0.0.0.0", share=False), SimpleNamespace(share=True)):
        for look in (asked, jobs_panel.hardware_choices):
            with pytest.raises(NanoGPTError, match="Other machines can reach this server"):
                look(page)
    assert hub.requests == []
