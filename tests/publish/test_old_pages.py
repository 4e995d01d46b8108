"""Exported pages of earlier versions still open and write offline, in a real Chromium.

Each file in `old` was exported by the code of one version, from a model that it had trained on one sentence again and
again. A change of what a page contains (its tensors, its `about`, how it computes) adds another. Nothing in the program
reads such a page.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

OLD = sorted((Path(__file__).parent / "old").glob("*.html"))
SENTENCE = "The river turns the mill and the mill turns the old stone wheel by the bridge."


def test_there_is_one_for_each_form_and_architecture():
    assert [path.stem for path in OLD] == [
        "1-first-classic", "1-first-modern", "2-features-classic", "2-features-modern", "3-webassembly-classic-int8",
        "3-webassembly-modern",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_an_old_page_opens_and_writes_offline(browser, path):
    context = browser.new_context(viewport={"width": 390, "height": 844})
    context.set_offline(True)
    page, complaints, requests = context.new_page(), [], []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("#text[aria-busy=false]", state="attached")
    page.locator("#temperature").fill("0")
    page.locator("#length").fill("200")
    page.locator("#prompt").fill("The old ")
    page.locator("#go").click()
    page.wait_for_selector("#text[aria-busy=false]", state="attached")
    written = page.locator("#written").evaluate("element => element.textContent")
    assert len(written) == 200
    assert "stone wheel by the bridge.\nThe river turns" in written
    words = re.findall(r"\w+", ("old " + written).rpartition(" ")[0])
    assert set(words) <= set(re.findall(r"\w+", SENTENCE)), "the model has learned the words of its sentence"
    context.close()
    assert complaints == []
    assert requests == [path.as_uri()]
