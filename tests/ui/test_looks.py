"""What everyone must be able to read, reach and name on the page: WCAG 2.2 AA, as far as it can be computed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest
from conftest import ended_run, faint, until

from nanogpt import corpus

OPERATED = {
    "button", "textbox", "radio", "checkbox", "slider", "spinbutton", "combobox", "listbox", "tab", "link", "searchbox",
}  # fmt: skip

# When a tab has drawn what it shows of a run.
DRAWN = {
    "Text": "document.querySelector('#corpus-report h3')",
    "Train": "document.querySelector('#train-plot svg path')",
    "Sample": "document.querySelector('#sample-run input')?.value === 'one'",
    "Understand": "document.querySelectorAll('#characters-text .cell').length > 5",
    "Runs": "document.querySelector('tr[data-name=one]')",
    "Share": "document.querySelector('#share-run input')?.value === 'one'",
}

# Presets with the longest times that were seen, which depend on the machine.
LONGEST_PRESETS = """() => document.querySelectorAll("#train-preset label span").forEach((label) => {
  label.textContent = "Lecture · ~10 days";
})"""
# What is cut off at the edge of a box around it.
CLIPPED = """() => [...document.querySelectorAll("main :is(button, input, textarea, label, span)")].filter((node) => {
  if (!node.checkVisibility() || node.closest("svg, .spoken, .sr-only, .visually-hidden")) return false;
  for (let box = node.parentElement; box; box = box.parentElement) {
    const { overflowX, textOverflow } = getComputedStyle(box);
    if (overflowX === "visible") continue;
    if (textOverflow === "ellipsis" || (overflowX !== "hidden" && !box.matches(".block"))) return false;
    if (node.getBoundingClientRect().right > box.getBoundingClientRect().right + 1.5) return true;
  }
  return false;
}).map((node) => `${node.tagName} ${node.closest("[id]")?.id} ${(node.textContent || node.value).slice(0, 40)}`)"""

# The lines without a message that take room, or leave a gap.
ROOM = """() => [...document.querySelectorAll(".quiet-line")].filter((line) => {
  const { parentElement: box } = line, height = () => box.getBoundingClientRect().height;
  if (line.querySelector(".status-line span").textContent || !box.checkVisibility()) return false;
  const before = height();
  line.style.display = "none";
  const without = height();
  line.style.display = "";
  return Math.abs(before - without) > 0.5;
}).map((line) => line.id)"""


@pytest.fixture(autouse=True)
def finished_run(standing_server, monkeypatch: pytest.MonkeyPatch, tiny_text: str) -> Iterator[None]:
    """Have the server show a run."""
    monkeypatch.setenv("NANOGPT_HOME", str(standing_server.home))
    ended_run(corpus.add(tiny_text, "A play"), n_layer=1, n_embd=16, n_head=2)
    yield
    for kind in ("checkpoints", "corpora"):
        shutil.rmtree(standing_server.home / kind, ignore_errors=True)


def visit(page):
    """Open every tab in turn, and everything that is folded in it. Yield the name of the tab."""
    tabs = page.locator("main [role=tablist]").first.get_by_role("tab")
    folded = page.locator("button.label-wrap:visible:not(.open)")

    def unfold():
        folded.first.click()
        page.wait_for_timeout(200)

    assert tabs.all_inner_texts() == list(DRAWN)
    for tab in tabs.all():
        tab.click()
        page.wait_for_function(DRAWN[tab.inner_text()])
        until(lambda: not folded.count(), wait=unfold)
        yield tab.inner_text()


def nameless(page) -> list[str]:
    """Return the roles of the visible controls without a name."""
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    seen = [node for node in nodes if not node.get("ignored") and node["role"]["value"] in OPERATED]
    return [node["role"]["value"] for node in seen if not node.get("name", {}).get("value", "").strip()]


@pytest.mark.slow
def test_everyone_can_read_it_and_every_control_has_a_name_and_nothing_is_too_wide(browser, standing_server):
    """Look at everything on the page once, because opening it all takes a minute."""
    page = browser.new_page(base_url=standing_server.url, locale="ru-RU", viewport=dict(width=1280, height=900))
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.goto("/")
    page.wait_for_selector("#corpus-report h3")
    found = {}
    for tab in visit(page):
        found[tab, "foreign"] = re.findall("[а-яё]+", page.inner_text("body").lower())
        found[tab, "nameless"] = nameless(page)
        found[tab, "room"] = page.evaluate(ROOM)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            found[tab, scheme] = faint(page)
        page.evaluate(LONGEST_PRESETS)
        for width in (390, 768):
            page.set_viewport_size(dict(width=width, height=844))
            page.wait_for_timeout(300)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
            found[tab, width] = page.evaluate(CLIPPED)
            found[tab, width, "room"] = page.evaluate(ROOM)
        page.set_viewport_size(dict(width=1280, height=900))
        page.emulate_media(color_scheme="light")
    page.close()
    assert {where: what for where, what in found.items() if what} == {}


@pytest.mark.slow
def test_a_row_of_tabs_is_one_stop_with_arrow_keys(standing_page):
    page = standing_page
    focused = lambda: page.evaluate("document.activeElement.textContent.trim()")
    stops = (
        "(list) => [...list.querySelectorAll('[role=tab]')].filter((tab) => tab.tabIndex === 0).map((t) => t.innerText)"
    )
    for row, names in (("main", ("Text", "Train", "Share")), ("#understand-views", ("Characters", "Tour", "Lecture"))):
        tabs = page.locator(f"{row} [role=tablist]").first
        tabs.get_by_role("tab").first.focus()
        seen = [focused()]
        for key in ("ArrowRight", "End", "ArrowRight", "ArrowLeft", "Home", "ArrowRight"):
            page.keyboard.press(key)
            seen.append(focused())
            page.wait_for_function("document.activeElement.tabIndex === 0")  # the stop follows the focus
            page.wait_for_timeout(20)
            assert tabs.evaluate(stops) == [focused()]
        first, second, last = names
        assert seen == [first, second, last, first, last, first, second]
        assert tabs.locator("[aria-selected=true]").inner_text() == first  # the arrow keys only move
        page.keyboard.press("Enter")
        assert tabs.locator("[aria-selected=true]").inner_text() == second
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('[role=tablist]')") is None or row == "main"
        page.get_by_role("tab", name="Understand", exact=True).click()
        page.wait_for_selector("#understand-views [role=tab]")


@pytest.mark.slow
def test_the_report_is_in_line_with_the_cards_and_no_button_is_a_slab(standing_page):
    edges = lambda selector: standing_page.locator(selector).bounding_box()
    report, cards, use = edges(".report"), edges("#corpus-cards"), edges("#corpus-use")
    assert (report["x"], report["width"]) == (cards["x"], cards["width"])
    assert use["height"] <= 44
    assert edges("#corpus-paste textarea")["y"] - edges(".card h3 >> nth=1")["y"] < 60  # right below its heading


@pytest.mark.slow
def test_the_list_of_more_tabs_hands_the_focus_on_and_closes_behind_it(standing_page):
    page = standing_page
    page.get_by_role("tab", name="Understand", exact=True).click()
    page.set_viewport_size(dict(width=390, height=844))
    more = page.locator("#understand-views").get_by_label("More tabs")
    listed = page.locator("#understand-views .overflow-dropdown button")
    more.press("Enter")
    name = listed.last.inner_text()
    listed.last.press("Enter")
    page.wait_for_function(
        "(name) => document.activeElement.matches('#understand-views [role=tab][aria-selected=true]') && "
        "document.activeElement.innerText === name", arg=name,
    )  # fmt: skip
    more.press("Enter")
    listed.first.focus()
    page.keyboard.press("Tab")
    listed.first.wait_for(state="hidden")
    assert page.evaluate("document.activeElement.closest('.overflow-menu')") is None
