"""The page as a person uses it: a real server process, real trainers, a real Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Server

pytestmark = pytest.mark.slow
SMALL = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16, "batch_size": 4}


def open_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def upload(page, path: Path) -> None:
    page.set_input_files("#corpus-upload input[type=file]", str(path))
    page.wait_for_function("name => document.querySelector('#corpus-report h3')?.textContent === name", arg=path.stem)


def fill_small(page, max_iters: int) -> None:
    """Settings for a model that trains in seconds."""
    page.get_by_label("Quick look").check()
    page.locator("#train-max-iters input").fill(str(max_iters))  # it appears when the preset has filled the fields
    page.get_by_role("button", name="Advanced").first.click()
    for name, value in SMALL.items():
        page.locator(f"#train-{name.replace('_', '-')} input").fill(str(value))


def wait_for_state(page, *states: str) -> None:
    page.wait_for_function(
        "states => states.includes(document.querySelector('#train-status .status-line')?.dataset.state)",
        arg=list(states),
    )


def step(page) -> int:
    """The last step on the plot."""
    return int(page.locator("#train-plot svg").get_attribute("data-step") or 0)


def wait_for_step(page, at_least: int) -> None:
    page.wait_for_function(
        "n => Number(document.querySelector('#train-plot svg')?.dataset.step || 0) >= n", arg=at_least
    )


@pytest.fixture
def text_file(tmp_path: Path, tiny_text: str) -> Path:
    path = tmp_path / "millers-play.txt"
    path.write_text(tiny_text, encoding="utf-8")
    return path


def test_the_main_job(page, server: Server, text_file: Path, home: Path):
    upload(page, text_file)
    assert f"{len(text_file.read_text()):,}" in page.locator("#corpus-report dl").inner_text()
    page.locator("#corpus-next").click()
    fill_small(page, 100_000)
    page.locator("#train-start").click()
    wait_for_state(page, "running")
    wait_for_step(page, 1)
    the_plot_goes_on_in_place(page)
    a_refresh_changes_nothing(page)
    neither_does_a_new_server(page, server, home / "checkpoints" / "millers-play" / "metrics.jsonl")
    stop_saves_and_continue_goes_on(page)
    open_tab(page, "Sample")
    it_writes_and_can_be_stopped(page)
    open_tab(page, "Train")
    page.locator("#train-stop").click()
    wait_for_state(page, "stopped")


def the_plot_goes_on_in_place(page) -> None:
    svg = page.locator("#train-plot svg").element_handle()
    wait_for_step(page, step(page) + 1)
    assert svg.evaluate("node => node.isConnected")


def a_refresh_changes_nothing(page) -> None:
    before = step(page)
    page.reload()
    open_tab(page, "Train")
    wait_for_state(page, "running")
    wait_for_step(page, before + 1)


def neither_does_a_new_server(page, server: Server, metrics: Path) -> None:
    before = step(page)
    server.stop()
    size = metrics.stat().st_size
    server.start()
    page.goto(server.url)
    open_tab(page, "Train")
    wait_for_state(page, "running")
    wait_for_step(page, before + 1)
    assert metrics.stat().st_size > size


def stop_saves_and_continue_goes_on(page) -> None:
    page.locator("#train-stop").click()
    wait_for_state(page, "stopped")
    stopped = step(page)
    assert page.locator("#train-sample textarea").input_value()
    page.locator("#train-continue").click()
    wait_for_state(page, "running")
    wait_for_step(page, stopped + 1)


def it_writes_and_can_be_stopped(page) -> None:
    text = "document.querySelector('#sample-output textarea').value"
    length = page.locator("#sample-length input[type=number]")
    page.locator("#sample-prompt textarea").fill("The ")
    length.fill("40")
    length.press("Tab")
    page.locator("#sample-generate").click()
    page.wait_for_function(f"{text}.length === 44")
    length.fill("10000")
    length.press("Tab")
    many = page.locator("#sample-num-samples input[type=number]")
    many.fill("16")  # one text of a model as small as this would be done before Stop is pressed
    many.press("Tab")
    page.locator("#sample-generate").click()
    page.wait_for_function(f"{text}.length > 1000")
    page.locator("#sample-stop").click()
    page.wait_for_timeout(700)  # Stop takes effect within half a second …
    written = page.evaluate(text)
    page.wait_for_timeout(1000)
    assert page.evaluate(text) == written  # … and keeps what there is
    assert written.startswith("The ")
    assert 1000 < len(written) < 16 * 10_004


def test_what_cannot_be_done_is_said_where_it_happened(page, tmp_path: Path):
    short = tmp_path / "short.txt"
    short.write_text("too short", encoding="utf-8")
    page.set_input_files("#corpus-upload input[type=file]", str(short))
    page.wait_for_selector("#corpus-report .note-error")
    assert "characters" in page.locator("#corpus-report .note-error").inner_text()

    # the text chosen before is still chosen, and a wrong number is a sentence in the tab
    open_tab(page, "Train")
    page.get_by_role("button", name="Advanced").first.click()
    page.locator("#train-n-head input").fill("3")
    page.locator("#train-start").click()
    wait_for_state(page, "failed")
    assert "n_embd" in page.locator("#train-status").inner_text()
    assert page.locator("#train-n-head input").input_value() == "3"


def test_pasted_text_is_text_and_never_html(page):
    hostile = "<img src=x onerror=window.owned=1> ${window.owned=1} {{value}} 你好 🙂 \n" * 40
    page.locator("#corpus-paste textarea").fill(hostile)
    page.locator("#corpus-use").click()
    page.wait_for_function("document.querySelector('#corpus-report pre')?.textContent.includes('onerror')")
    assert page.evaluate("window.owned") is None
    assert page.locator("#corpus-report img").count() == 0


@pytest.mark.gpu
def test_training_on_a_gpu(page, text_file: Path):
    upload(page, text_file)
    open_tab(page, "Train")
    fill_small(page, 100_000)
    page.locator("#train-start").click()
    wait_for_state(page, "running")
    wait_for_step(page, 1)
    assert "CPU" not in page.locator("#train-status").inner_text()
    page.locator("#train-stop").click()
    wait_for_state(page, "stopped")
    stopped = step(page)
    page.locator("#train-continue").click()
    wait_for_step(page, stopped + 1)
    open_tab(page, "Sample")
    page.locator("#sample-generate").click()
    page.wait_for_function("document.querySelector('#sample-output textarea').value.length > 60")
    open_tab(page, "Train")
    page.locator("#train-stop").click()
    wait_for_state(page, "stopped")
