"""What everyone must be able to read, reach and name on the page: WCAG 2.2 AA, as far as it can be computed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
OPERATED = {
    "button", "textbox", "radio", "checkbox", "slider", "spinbutton", "combobox", "listbox", "tab", "link", "searchbox",
}  # fmt: skip


def visit(page):
    """Open every tab in turn, and everything that is folded in it. Yield the name of the tab."""
    for tab in page.get_by_role("tab").all():
        tab.click()
        page.wait_for_timeout(800)
        folded = page.locator("button.label-wrap:visible:not(.open)")
        while folded.count():
            folded.first.click()
            page.wait_for_timeout(200)
        page.wait_for_timeout(500)
        yield tab.inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(page, scheme):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.reload()
    page.wait_for_selector("#corpus-report h3")
    assert {tab: faint for tab in visit(page) if (faint := page.evaluate(CONTRAST))} == {}


@pytest.mark.slow
def test_everything_that_is_operated_has_a_name(page):
    tree = page.context.new_cdp_session(page)
    nameless = {}
    for tab in visit(page):
        nodes = tree.send("Accessibility.getFullAXTree")["nodes"]
        roles = [
            node["role"]["value"]
            for node in nodes
            if not node.get("ignored")
            and node["role"]["value"] in OPERATED
            and not node.get("name", {}).get("value", "").strip()
        ]
        if roles:
            nameless[tab] = roles
    assert nameless == {}


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 768])
def test_nothing_is_wider_than_the_window(page, width):
    page.set_viewport_size(dict(width=width, height=844))
    for tab in visit(page):
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab


@pytest.mark.slow
def test_the_page_speaks_one_language(browser, server):
    opened = browser.new_page(locale="ru-RU")
    opened.goto(server.url)
    opened.wait_for_selector("#corpus-report h3")
    foreign = {
        tab: words for tab in visit(opened) if (words := re.findall("[а-яё]+", opened.inner_text("body").lower()))
    }
    opened.close()
    assert foreign == {}
