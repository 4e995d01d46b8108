"""What survives a refresh, the title that shows progress, and the page's head: its mark and its link preview."""

from __future__ import annotations

import json

import httpx
import pytest
from conftest import SMALL, ended_run, until, visit, wait_until_still

from nanogpt import corpus
from nanogpt.launch import prepare
from nanogpt.runs import Run, queue
from nanogpt.ui import form, refresh, watching
from nanogpt.ui.web import head
from nanogpt.ui.words import page_line


@pytest.fixture(scope="module")
def drawn_form() -> form.Form:
    import gradio as gr

    with gr.Blocks():
        made = form.build()
        form.build_advanced(made, gr.State())
    return made


# --- handlers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [None, "", "{", "[]", "3", '{"tab": 3, "run": {}, "values": []}', "[" * 50_000, 5])
def test_what_is_not_a_place_is_ignored(kept):
    assert refresh.read(kept) == refresh.Place()


def test_a_place_is_read():
    place = dict(tab="runs", run="one", values={"train-n-embd": 96})
    assert refresh.read(json.dumps(place)) == refresh.Place("runs", "one", {"train-n-embd": 96})
    models = dict(sample="one", understand=3, other="two")
    assert refresh.read(json.dumps(dict(models=models))).models == dict(sample="one")
    assert refresh.read(json.dumps(dict(models="one"))).models == {}
    assert (refresh.read('{"text": "0a"}').text, refresh.read('{"text": ["0a"]}').text) == ("0a", None)


def test_the_form_comes_back_with_what_was_entered(drawn_form):
    entered = {"train-preset": "quick", "train-layout": "classic", "train-n-embd": 96, "train-max-iters": None}
    updates = refresh.form_values(drawn_form, entered)
    shown = dict(zip([part.elem_id for part in drawn_form.fields], updates))
    assert shown["train-preset"]["value"] == "quick"
    assert (shown["train-n-embd"]["value"], shown["train-n-embd"]["visible"]) == (96, True)
    assert (shown["train-max-iters"]["value"], shown["train-max-iters"]["visible"]) == (None, True)
    assert shown["train-budget"].visible is False
    assert shown["train-batch-size"].value == form.settings_of("quick")["batch_size"]  # not kept, so as in the preset


def test_values_that_a_component_cannot_have_are_ignored(drawn_form):
    for wrong in ({}, {"train-preset": "huge", "train-layout": "classic"}, {"train-preset": [], "train-layout": {}}):
        assert refresh.form_values(drawn_form, wrong) is None
    entered = {"train-preset": "quick", "train-layout": "classic", "train-n-embd": "many", "train-schedule": "x"}
    updates = dict(zip([part.elem_id for part in drawn_form.fields], refresh.form_values(drawn_form, entered)))
    usual = form.settings_of("quick", "classic")
    assert updates["train-n-embd"].value == usual["n_embd"]
    assert updates["train-schedule"] == usual["schedule"]


def test_the_run_in_view_comes_before_one_that_waits(home, tiny_text):
    text = corpus.add(tiny_text, "A play")
    first, second = (prepare.new_run(name, text, **SMALL) for name in ("a", "b"))
    with queue.turn("a", "cpu"), first.held():
        queue.draw("b")
        assert watching.newest("a") == "a"
        assert watching.newest(None) == "a"  # it trains, and b waits
        assert watching.newest("b") == "b"
        assert second.glance().state == "queued"


def test_the_title_has_the_progress_of_a_run_that_trains(home, tiny_text):
    run = prepare.new_run("one", corpus.add(tiny_text, "A play"), **SMALL)
    assert "title" not in page_line()
    run.event("started", step=0, device="CPU")
    with queue.turn("one", "cpu"), run.held():
        assert page_line()["title"] == ["0%"]
        run.log(step=31, seconds=1.0, tokens=1, train_loss=2.0, val_loss=1.7149)
        assert page_line()["title"] == ["62%", "val 1.71"]


def test_the_head_is_ours_and_what_follows_stays():
    theirs = '<meta property="og:title" content="Gradio" /><meta\n name="twitter:creator" content="@Gradio" />'
    later = '<script>"<head>" + \'<meta property="og:title" content="mine">\'</script><body>'
    page = head.with_tags(f'<html><head><meta charset="utf-8" />{theirs}{later}')
    assert page.endswith(f'<meta charset="utf-8" />{later}')
    assert page.count("og:title") == 2
    assert "Gradio" not in page


# --- in a browser --------------------------------------------------------------------------------------------------


def value_of(page, where: str) -> None:
    return page.locator(f"{where} input, {where} textarea").first.input_value()


def wait_for(page, expression: str) -> None:
    page.wait_for_function(expression)


@pytest.mark.slow
def test_after_a_refresh_you_are_where_you_were(unopened_page, standing_server, tiny_text: str):
    page, server = unopened_page, standing_server
    text = corpus.add(tiny_text, "A play")
    first, _ = ended_run(text, "a-run", **SMALL), prepare.new_run("b-run", text, **SMALL)
    with queue.turn("a-run", "cpu"), first.held():
        queue.draw("b-run", seconds=600)
        visit(page)
        page.get_by_role("tab", name="Train", exact=True).click()
        in_view = "document.querySelector('#train-run input')?.value === '{}'"
        wait_for(page, in_view.format("a-run"))
        page.get_by_label("Quick").check()
        page.wait_for_selector("#train-max-iters input")
        page.locator("#train-max-iters input").fill("123")
        page.locator("#train-name input, #train-name textarea").first.fill("mine")
        page.get_by_role("button", name="Advanced").first.click()
        page.locator("#train-n-embd input").fill("96")
        page.locator("#train-n-embd input").press("Tab")
        kept = "JSON.parse(sessionStorage.getItem('nanogpt-place')).values['train-n-embd'] === 96"
        wait_for(page, kept)
        page.reload()
        page.wait_for_selector("#train-max-iters input")
        wait_for(page, in_view.format("a-run"))
        assert page.get_by_role("tab", name="Train", exact=True).get_attribute("aria-selected") == "true"
        assert page.get_by_label("Quick").is_checked()
        assert value_of(page, "#train-max-iters") == "123"
        assert value_of(page, "#train-name") == "mine"
        page.get_by_role("button", name="Advanced").first.click()
        assert value_of(page, "#train-n-embd") == "96"
        a_link_wins(page, server)
        another_run_and_tab(page)
        another_browser_tab_leaves_the_text(page, server)
        a_new_visit_starts_afresh(page, server)


def a_link_wins(page, server) -> None:
    page.goto(f"{server.url}/?preset=laptop&n_embd=64")
    page.reload()
    wait_for(page, "document.querySelector('#train-n-embd input') || document.querySelector('#train-max-iters input')")
    wait_for(page, "document.querySelector('#train-preset input:checked')?.value === 'laptop'")


def another_run_and_tab(page) -> None:
    """A finished or queued run stays in view although another one trains."""
    page.locator("#train-run input").click()
    page.get_by_role("option", name="b-run").click()
    page.get_by_role("tab", name="Sample", exact=True).click()
    page.locator("#sample-prompt textarea").fill("Once")
    wait_for(page, "JSON.parse(sessionStorage.getItem('nanogpt-place')).values['sample-prompt'] === 'Once'")
    page.evaluate("history.replaceState(null, '', '/')")
    page.reload()
    selected = "document.querySelector('[role=tab][aria-selected=true]')?.textContent.trim() === 'Sample'"
    wait_for(page, selected)
    wait_for(page, "document.querySelector('#sample-prompt textarea')?.value === 'Once'")
    page.get_by_role("tab", name="Train", exact=True).click()
    wait_for(page, "document.querySelector('#train-run input')?.value === 'b-run'")


def another_browser_tab_leaves_the_text(page, server) -> None:
    title = "document.querySelector('#corpus-report h3')?.textContent === '{}'"
    page.get_by_role("tab", name="Text", exact=True).click()
    page.locator("#corpus-stored input").click()
    page.get_by_role("option", name="A play").click()
    wait_for(page, title.format("A play"))
    before = page.evaluate("localStorage.getItem('nanogpt-text')")
    other = page.context.new_page()
    other.goto(f"{server.url}/?text=python-reference")
    other.wait_for_function("(before) => localStorage.getItem('nanogpt-text') !== before", arg=before)
    other.close()
    page.reload()
    wait_for(page, title.format("A play"))


def a_new_visit_starts_afresh(page, server) -> None:
    page.goto("about:blank")
    page.goto(server.url)
    page.wait_for_selector("#corpus-report h3")
    assert page.get_by_role("tab", name="Text", exact=True).get_attribute("aria-selected") == "true"


@pytest.mark.slow
def test_the_chosen_model_and_tab_stay_and_the_text_is_followed(unopened_page, tiny_text: str):
    page = unopened_page
    text = corpus.add(tiny_text, "A play")
    for name in ("a-run", "b-run", "c-run"):
        ended_run(text, name, **SMALL)
    open_tab = lambda name: page.get_by_role("tab", name=name, exact=True).click()
    model = "document.querySelector('#{}-run input')?.value === '{}'"
    page.set_viewport_size(dict(width=500, height=844))
    visit(page)
    page.wait_for_selector("#corpus-report h3")
    open_tab("Sample")
    wait_for(page, model.format("sample", "c-run"))
    page.locator("#sample-run input").click()
    page.get_by_role("option", name="a-run").click()
    the_text_is_followed_as_it_grows(page)
    open_tab("Text")
    open_tab("Sample")
    page.wait_for_timeout(1000)  # in which it would have changed
    assert value_of(page, "#sample-run") == "a-run"
    page.reload()
    wait_for(page, model.format("sample", "a-run"))
    open_tab("Understand")
    wait_for(page, model.format("understand", "c-run"))
    page.locator("#understand-run input").click()
    page.get_by_role("option", name="b-run").click()
    Run("a-run").delete()
    open_tab("Sample")
    wait_for(page, model.format("sample", "c-run"))
    open_tab("Understand")
    page.wait_for_timeout(1000)  # in which it would have changed
    assert value_of(page, "#understand-run") == "b-run"
    a_tab_clicked_before_the_answer_stays(page)


def the_text_is_followed_as_it_grows(page) -> None:
    page.set_viewport_size(dict(width=390, height=844))
    page.locator("#sample-generate").click()
    wait_for(page, "document.querySelector('#sample-output .writing').dataset.state === 'done'")
    bottom = "document.querySelector('#sample-output .writing').getBoundingClientRect().bottom"
    assert len(page.locator("#sample-output p").first.text_content()) == 500
    assert page.evaluate(f"{bottom} <= innerHeight + 1")
    page.set_viewport_size(dict(width=500, height=844))


def a_tab_clicked_before_the_answer_stays(page) -> None:
    loads = page.evaluate(
        "gradio_config.dependencies.filter((one) => one.targets.some((on) => on[1] === 'load')).map((one) => one.id)"
    )
    held = []

    def hold(route, request):
        if request.post_data_json["fn_index"] in loads:
            held.append((route, route.fetch()))
        else:
            route.continue_()

    page.route("**/run/predict*", hold)
    page.reload()
    until(lambda: len(held) == len(loads), wait=lambda: page.wait_for_timeout(20))
    page.get_by_role("tab", name="Train", exact=True).click()
    for route, answer in held:
        route.fulfill(response=answer)
    page.wait_for_selector("#corpus-report h3", state="attached")
    page.unroute_all(behavior="ignoreErrors")
    page.wait_for_timeout(500)  # in which it would have changed
    assert page.get_by_role("tab", name="Train", exact=True).get_attribute("aria-selected") == "true"


@pytest.mark.slow
def test_a_page_at_rest_draws_nothing(unopened_page):
    """Gradio's loading display would count seconds at every frame for ever: see before_gradio.js."""
    page = unopened_page
    page.add_init_script("""{
      const ask = requestAnimationFrame;
      window.frames_asked = 0;
      window.requestAnimationFrame = (callback) => { frames_asked++; return ask(callback); };
    }""")
    visit(page)
    page.wait_for_function("frames_asked > 100", polling=100)
    wait_until_still(page, "frames_asked")


@pytest.mark.slow
def test_the_title_the_mark_and_the_link_preview(standing_page, standing_server, tiny_text: str):
    page, server = standing_page, standing_server
    assert page.title() == "nanogpt"
    served = httpx.get(server.url).text
    assert "<title>nanogpt</title>" in served
    tags = "[...document.querySelectorAll('meta[property^=og], meta[name^=twitter]')].map((tag) => tag.content)"
    assert set(page.evaluate(tags)) == {"nanogpt", "website", head.DESCRIPTION}
    assert 'og:title" content="Gradio' not in served
    assert "header-image" not in served
    assert page.locator("meta[name=description]").get_attribute("content") == head.DESCRIPTION
    assert page.evaluate("gradio_config.dependencies.length > 100 && gradio_config.dependencies.constructor !== Array")
    icon = httpx.get(page.evaluate("document.querySelector('link[rel=icon]').href"))
    assert icon.headers["content-type"].startswith("image/svg+xml")
    assert icon.text == head.MARK.read_text(encoding="utf-8")
    drawn = f"new Promise((done) => {{ const i = new Image(); i.onload = () => done(i.width); i.src = '{icon.url}'; }})"
    assert page.evaluate(drawn) > 0
    run = prepare.new_run("one", corpus.add(tiny_text, "A play"), **SMALL)
    run.event("started", step=0, device="CPU")
    with queue.turn("one", "cpu"), run.held():
        run.log(step=31, seconds=1.0, tokens=1, train_loss=2.0, val_loss=1.7149)
        page.reload()
        wait_for(page, "document.title === '62% · val 1.71 · nanogpt'")
        run.log(step=40, seconds=1.0, tokens=1, train_loss=2.0, val_loss=1.5)
        wait_for(page, "document.title === '80% · val 1.50 · nanogpt'")
        run.event("finished", step=50)
    wait_for(page, "document.title === 'nanogpt'")
