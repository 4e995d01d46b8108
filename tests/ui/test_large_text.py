"""A large text on the page: it is read while you watch, and you can stop that."""

from __future__ import annotations

import json

import pytest

from nanogpt import corpus

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def large(tmp_path_factory, tiny_text):
    path = tmp_path_factory.mktemp("large") / "plays.txt"
    with path.open("w", encoding="utf-8") as file:
        for i in range(60_000_000 // len(tiny_text)):
            file.write(f"{i}\n{tiny_text}\n")
    return path


def test_a_large_upload_shows_how_far_it_is_and_can_be_stopped(standing_page, standing_server, large):
    page = standing_page
    before = {one.id for one in corpus.listed()}
    page.set_input_files("#corpus-upload input[type=file]", str(large))
    page.wait_for_selector("#corpus-bar progress")
    assert page.locator("#corpus-bar").inner_text().startswith("Reading the text: ")
    page.get_by_role("button", name="Stop reading").click()
    page.wait_for_selector("text=Reading was stopped, and nothing was stored.")
    page.wait_for_function("!document.querySelector('#corpus-progress')?.checkVisibility()")
    assert {one.id for one in corpus.listed()} == before
    page.wait_for_timeout(1000)  # what was being written when it was stopped
    assert not [path for path in (standing_server.home / "corpora").iterdir() if path.name.startswith(".new")]


def test_a_large_upload_is_stored_and_reported_on(standing_page, large):
    page = standing_page
    page.set_input_files("#corpus-upload input[type=file]", str(large))
    page.wait_for_selector("text=Every character was counted", timeout=60_000)
    [text] = [one for one in corpus.listed() if one.name == "plays"]
    assert text.large
    assert text.characters == len(large.read_text(encoding="utf-8"))
    facts = page.locator("#corpus-report .report-facts").inner_text()
    assert f"{text.characters:,}" in facts
    assert page.get_by_role("button", name='Next: choose settings for "plays"').is_enabled()


def test_one_field_of_records_can_be_chosen(standing_page, tmp_path, tiny_text):
    page = standing_page
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(dict(id=str(i), body=tiny_text)) + "\n" for i in range(3)), encoding="utf-8")
    page.set_input_files("#corpus-upload input[type=file]", str(path))
    page.wait_for_function("document.querySelector('#corpus-report h3')?.textContent === 'records'")
    assert "choose it under “Encoding and clean-up”: id, body." in page.locator("#corpus-report").inner_text()
    page.get_by_role("button", name="Encoding and clean-up").click()
    page.locator("#corpus-field input").click()
    page.get_by_role("option", name="body").click()
    page.wait_for_function(
        "f => document.querySelector('.report-preview')?.textContent.startsWith(f)", arg=tiny_text[:40]
    )
    [text] = [one for one in corpus.listed() if one.name == "records"]
    assert text.text() == 3 * (tiny_text if tiny_text.endswith("\n") else tiny_text + "\n")


def test_the_first_place_that_a_clean_up_changes_is_shown_wherever_it_is(page, tmp_path, tiny_text):
    path = tmp_path / "letters.txt"
    path.write_text(tiny_text + "A space \nAn \x1b[1mancient\x1b[0m <b>end</b>.\n", encoding="utf-8")
    page.wait_for_selector("#corpus-report h3")
    page.set_input_files("#corpus-upload input[type=file]", str(path))
    places = page.locator("#corpus-report dl.report-place").first
    places.wait_for()
    assert page.locator("#corpus-report p.report-place").all_inner_texts() == [
        "Removed 2 terminal codes, such as colors.",
        "Remove 1 space at the ends of lines. To do so, turn it on under “Encoding and clean-up”.",
    ]
    [before, after] = places.locator("dd").all_inner_texts()
    assert before.endswith("An [ESC][1mancient[ESC][0m <b>end</b>.↵")  # as text, not as HTML
    assert after == before.replace("[ESC][1m", "").replace("[ESC][0m", "")
    assert (places.locator("del").inner_text(), places.locator("ins").count()) == ("[ESC][1m", 0)
    assert "[ESC]" not in page.locator(".report-preview").inner_text()
