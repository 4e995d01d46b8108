"""The whole page: the status line, the tabs, and the connections between them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import gradio as gr
from gradio.utils import get_space

from .. import limits
from ..errors import home_problem
from ..launch import place
from ..runs import queue
from . import (
    api,
    choosing,
    chosen_text,
    corpus_tab,
    form,
    link,
    refresh,
    runs_tab,
    sample_tab,
    share_tab,
    theme,
    train_tab,
    understand_tab,
    watching,
    welcome,
)
from .drawn import HERE, drawn, line as drawn_line, said, told
from .parts import NO_SECRET, QUIET
from .web import visit
from .web.guard import middleware
from .web.intake import upload_bytes
from .words import trained

SCRIPTS = ("title.js", "accessible.js", "folders.js", "waking.js")
TITLE, ACCESSIBLE, FOLDERS, WAKING = ((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
# Whether a run still trains here, where it changes: an estimate has to wait for its end, and then only the first time.
ENDED = """(line) => {
  const was = window.nanogptTraining;
  window.nanogptTraining = Boolean((line || {}).here);
  return was && !window.nanogptTraining ? String(performance.now()) : { __type__: "update" };
}"""
# What trains, without how far it is: it changes when a run begins, is stopped or ends.
DOING = "(line) => (line || {}).spoken || ''"
NOW = "() => String(performance.now())"
WAKE = "() => ({ __type__: 'update', active: true })"
# Selects the tab that the server names, unless you have chosen one while its answer was on the way.
SELECT = """(tab) => ({ __type__: "update", ...(tab && !window.nanogptChoseTab ? { selected: tab } : {}) })"""


@dataclass
class Page:
    """The parts of the page that update each other, and what the browser remembers for the next visit."""

    tabs: gr.Tabs
    tab: gr.Textbox  # the tab to select when the page opens, never shown
    terms: gr.Textbox
    asked: gr.HTML
    texts: corpus_tab.CorpusTab
    training: train_tab.TrainTab
    writing: sample_tab.SampleTab
    kept_text: gr.BrowserState
    kept_run: gr.BrowserState
    entered: list  # what is entered outside the form


def build_app() -> gr.Blocks:
    """Draw and wire the page. Nothing is trained, downloaded or read until a browser opens it."""
    with api.Page(title="nanogpt", analytics_enabled=False, delete_cache=(3600, 86400)) as demo:
        set_up_queue(demo)
        with gr.Row(elem_id="header"):
            gr.Markdown("# nanogpt", container=False, elem_id="title")
            line = drawn("status_line", drawn_line(""), elem_id="page-status")
            if can_sign_in():
                gr.LoginButton(size="sm", elem_id="sign-in")
        terms = gr.Textbox(
            show_label=False, container=False, interactive=False, visible=False, max_lines=20, elem_id="page-terms"
        )
        asked = said("page-asked")
        first_tab = gr.Textbox(visible=False)
        # in the browser: the server forgets the values of gr.State some time after a connection was lost
        corpus_id = gr.HTML(html_template="", visible="hidden", elem_id="corpus-id")
        timer = gr.Timer(1.0, active=False)
        kept_text = gr.BrowserState(storage_key="nanogpt-text", secret=NO_SECRET)
        kept_run = gr.BrowserState(storage_key="nanogpt-run", secret=NO_SECRET)
        with gr.Tabs() as tabs:
            with gr.Tab("Text", id="corpus"):
                texts = corpus_tab.build(corpus_id, kept_text)
            with gr.Tab("Train", id="train") as train:
                training = train_tab.build(corpus_id, line, timer)
            with gr.Tab("Sample", id="sample") as sample:
                writing = sample_tab.build()
            with gr.Tab("Understand", id="understand") as understand:
                understanding = understand_tab.build()
            with gr.Tab("Runs", id="runs") as runs:
                listed = runs_tab.build(runs_tab.Train(training.run, watching.view, training.shown, tabs))
            with gr.Tab("Share", id="share") as share:
                sharing = share_tab.build()
        scripts = f"{ACCESSIBLE}\n{FOLDERS}\n{WAKING}"
        gr.HTML(html_template="", js_on_load=scripts, apply_default_css=False, visible="hidden")
        api.build()
        entered = refresh.entered_parts(demo)
        page = Page(tabs, first_tab, terms, asked, texts, training, writing, kept_text, kept_run, entered)

        texts.next.click(lambda: gr.Tabs(selected="train"), None, tabs, **QUIET)
        train_now(page, corpus_id)
        texts.report.change(corpus_tab.about, corpus_id, training.about_text, **QUIET)
        runs_and_models = [training.run, sharing.run], [writing.run, understanding.run]
        follow(training, line, corpus_id, listed, *runs_and_models)
        training.run.change(None, training.run, kept_run, js="(name) => name || { __type__: 'update' }")
        keep_models(page, sample, understand, understanding)
        runs.select(runs_tab.rows, None, listed, **QUIET)
        share.select(sharing.open, [training.run, gr.Textbox(visible=False)], sharing.shown, js=refresh.READ, **QUIET)
        refresh.keep_model("share", sharing.run)
        refresh.keep_all(tabs.children, corpus_id, training.run, [*training.form.inputs, *page.entered])
        on_open(demo, page, corpus_id, train)
    return demo


def set_up_queue(demo: gr.Blocks) -> None:
    """Set the limits of Gradio's queue. Call it before anything is drawn: it describes the page so far, which is slow.

    On a public server, `pending` limits the queue per visitor, so queued functions can't be called past the queue.
    """
    public = limits.is_public()
    demo.queue(max_size=None if public else 64, default_concurrency_limit=4, api_open=False if public else None)
    demo._queue.sleep_when_free = (
        0.02  # Gradio's default polls 1,000 times per second, which uses 4% of a core even when idle
    )


def follow(
    training: train_tab.TrainTab, line: gr.HTML, corpus_id: gr.HTML, table: gr.HTML, of_runs: list[gr.Dropdown],
    of_models: list[gr.Dropdown],
) -> None:  # fmt: skip
    """Wire what follows when runs begin and end, from the line above the tabs, whichever tab and run you look at.

    A page at rest sends no requests. It looks again when you come back to it: a run may have been started elsewhere.
    """
    ended, doing = gr.Textbox(visible=False), gr.Textbox(visible=False)
    line.change(None, line, None, js=TITLE)
    line.change(None, line, ended, js=ENDED)
    ended.change(form.estimate, [corpus_id, *training.form.inputs], training.form.estimate, **QUIET)
    line.change(None, line, doing, js=DOING)

    def listed() -> list:
        runs, models = watching.names(), [run.name for run in trained()]
        return [runs_tab.rows(), *[gr.Dropdown(runs) for _ in of_runs], *[gr.Dropdown(models) for _ in of_models]]

    doing.change(listed, None, [table, *of_runs, *of_models], **QUIET)
    wake = gr.Button(visible="hidden", elem_id="page-wake")  # pressed by waking.js
    wake.click(None, None, training.shown["timer"], js=WAKE)


def train_now(page: Page, corpus_id: gr.HTML) -> None:
    """Wire the button of the first tab: start a run and go to the Train tab, or say why not below the button."""
    top = page.texts.welcome
    outputs = [page.tabs, top.said, *page.training.shown.outputs]

    def updated(updates: dict) -> dict:
        if "run" not in updates:  # refused
            return {top.said: updates["said"]}
        return {page.tabs: gr.Tabs(selected="train"), top.said: told(""), **page.training.shown.put(updates)}

    attempted = lambda id: map(updated, train_tab.attempt(welcome.start, id))
    then = train_tab.on_click(top.train, attempted, corpus_id, outputs, top.said)
    then(None, top.said, None, js=train_tab.SHOW_RESULT).then(place.warm, **QUIET)
    refresh.forget_models(then, top.said)
    refresh.forget_models(page.training.started, page.training.shown["said"])


def keep_models(page: Page, sample: gr.Tab, understand: gr.Tab, understanding: understand_tab.UnderstandTab) -> None:
    """Wire the choice of a model in Sample and Understand: the run in Train's view, unless you choose another one."""
    kept = gr.Textbox(visible=False)

    def list_models(tab: gr.Tab, run: gr.Dropdown) -> Any:
        listed = lambda name, kept: sample_tab.choices(refresh.read(kept).models.get(tab.id), name)
        return tab.select(listed, [page.training.run, kept], run, js=refresh.READ, **QUIET)

    list_models(sample, page.writing.run)
    list_models(understand, understanding.run).then(None, None, understanding.came, js=NOW)
    refresh.keep_model("sample", page.writing.run, *page.writing.pulled)
    refresh.keep_model("understand", understanding.run)


def on_open(demo: gr.Blocks, page: Page, corpus_id: gr.HTML, train: gr.Tab) -> None:
    """Wire what happens when the page and the Train tab are opened. `kept` is what `refresh.READ` reads."""
    kept = gr.Textbox(visible=False, elem_id="page-kept")
    training, runs, top = page.training, page.training.shown.outputs, page.texts.welcome
    again: dict[str, Any] = dict(js=refresh.READ, **QUIET)
    looked = lambda name, before, kept: open_train(page, watching.in_view(name or refresh.read(kept).run, before))
    shown = train.select(looked, [training.run, page.kept_run, kept], runs, **again)
    estimated = shown.then(form.estimate, [corpus_id, *training.form.inputs], training.form.estimate, **QUIET)
    redrawn = training.redrawn(estimated)  # another text may have been chosen
    redrawn.then(place.warm, **QUIET)  # last: importing torch in another process would skew the measurement
    opened = [page.terms, page.asked, page.tab, top.text, top.replay, *page.texts.shown.outputs]
    opened += [training.about_text, *training.form.fields, *page.entered]
    filled = demo.load(lambda before, kept: open_page(page, before, kept), [page.kept_text, kept], opened, **again)
    filled.then(None, page.tab, page.tabs, js=SELECT)
    listed = [*runs, page.writing.run]
    demo.load(lambda before, kept: open_runs(page, before, kept), [page.kept_run, kept], listed, **again)


def open_page(page: Page, before: str | None, kept: str = "") -> dict:
    """Fill in the page: from its URL, or after a refresh as it was. By default, one click trains."""
    wanted, was = link.read(visit.asked()), refresh.read(kept)
    chosen = chosen_text.choose_first(was.text, before)  # another browser tab may have chosen a text since, too
    if wanted.text:
        chosen |= chosen_text.attempt(choosing.choose_builtin, wanted.text, now=chosen.get("corpus_id"))
    linked = form.field_values(wanted.settings) if wanted.settings else None
    values = linked or refresh.form_values(page.training.form, was.values) or form.first_values()
    tab = was.tab or ("train" if wanted.settings or wanted.run else "")  # a new visit has no tab to go back to
    problems = [*filter(None, [home_problem()]), *wanted.said]
    replayed = welcome.replayed()
    return {
        page.terms: visit.terms(),
        page.asked: told(" ".join(problems), "failed"),
        page.texts.welcome.text: welcome.introduction(replayed),
        page.texts.welcome.replay: welcome.replay(replayed),
        page.tab: tab if tab in [one.id for one in page.tabs.children] else "",
        page.training.about_text: corpus_tab.about(chosen.get("corpus_id")),
        **page.texts.shown.put(chosen),
        **dict(zip(page.training.form.fields, values)),
        **refresh.entered(page.entered, was.values),
    }


@queue.one_look()
def open_runs(page: Page, before: str | None, kept: str = "") -> dict:
    """Show the run named in the URL, or after a refresh the same one, or the default. List the runs to sample from."""
    named = link.read(visit.asked()).run
    was = refresh.read(kept)
    shown = watching.in_view(named or was.run, before)
    # nothing has ticked yet, so there is no late answer to correct, and a needless tick might become one
    timer = {page.training.shown["timer"]: gr.Timer(active=watching.is_watching(watching.look(shown)))}
    listed = sample_tab.choices(was.models.get("sample"), named)
    return {**open_train(page, shown), **timer, page.writing.run: listed}


def open_train(page: Page, name: str | None) -> dict:
    """Show a run in the Train tab, and list all of them."""
    return page.training.shown.put(watching.view(name))


def can_sign_in() -> bool:
    """Return True on a Space with sign-in. Anywhere else, Gradio's button would sign in as the machine's owner."""
    installed = find_spec("authlib") and find_spec("itsdangerous")  # both are in a Space's image
    return bool(get_space() and os.environ.get("OAUTH_CLIENT_ID") and installed)


def launch_options(host: str) -> dict[str, Any]:
    """Return the options for `launch`: the theme, and every feature that we don't need turned off."""
    return dict(
        theme=theme.theme(),
        css=theme.CSS,
        footer_links=["api", "gradio", "settings"],
        run_history=False,  # it would store every input in the browser
        enable_monitoring=False,
        show_error=False,  # we show our own messages; everything else goes to the log
        max_file_size=upload_bytes(),
        state_session_capacity=200,
        max_threads=100,  # of handlers: `AT_ONCE` that mostly wait for characters, and Gradio's usual 40
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        app_kwargs={"middleware": middleware(host)},
    )  # fmt: skip
