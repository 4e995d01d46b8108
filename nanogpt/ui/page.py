"""The whole page: the status line, the tabs, and what one tab tells another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from .. import archive, corpus, jobs
from . import api, corpus_tab, form, sample_tab, train_tab
from .drawn import drawn
from .drawn import line as drawn_line
from .guard import middleware

CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
NO_SECRET = "nanogpt"  # Gradio wants one; with a random one a restarted server could not read what it had kept


def build_app() -> gr.Blocks:
    """Draw and wire the page. Nothing is trained, downloaded or read before somebody opens it."""
    with gr.Blocks(title="nanogpt", analytics_enabled=False, delete_cache=(3600, 86400)) as demo:
        with gr.Row(elem_id="header"):
            gr.Markdown("# nanogpt", container=False, elem_id="title")
            line = drawn("status_line", drawn_line(""), elem_id="page-status")
        corpus_id, timer = gr.State(), gr.Timer(1.0, active=False)
        # which text and which run were looked at, for when the page is opened again
        kept_text = gr.BrowserState(storage_key="nanogpt-text", secret=NO_SECRET)
        kept_run = gr.BrowserState(storage_key="nanogpt-run", secret=NO_SECRET)
        with gr.Tabs() as tabs:
            with gr.Tab("Corpus", id="corpus"):
                texts = corpus_tab.build(corpus_id, kept_text)
            with gr.Tab("Train", id="train") as train:
                training = train_tab.build(corpus_id, line, timer)
            with gr.Tab("Sample", id="sample") as sample:
                writing = sample_tab.build()
        api.build()

        def open_page(before):
            """On first open a text and a preset are chosen already, so that one click trains."""
            chosen = corpus_tab.choose_first(before)
            about = corpus_tab.about(chosen.get("corpus_id"))
            fields = dict(zip(training.form.fields, form.first_values()))
            return {**texts.shown.put(chosen), training.about_text: about, **fields}

        def open_train(name):
            """The runs there are, and one of them."""
            return training.shown.put(train_tab.view(name))

        quiet: dict[str, Any] = dict(queue=False, show_progress="hidden", api_visibility="private")
        runs, opened = training.shown.outputs, [*texts.shown.outputs, training.about_text, *training.form.fields]
        texts.next.click(lambda: gr.Tabs(selected="train"), None, tabs, **quiet)
        texts.report.change(corpus_tab.about, corpus_id, training.about_text, **quiet)
        training.run.change(lambda name: name or gr.skip(), training.run, kept_run, **quiet)
        sample.select(sample_tab.choices, training.run, writing.run, **quiet)
        looked = lambda name, before: open_train(train_tab.in_view(name, before))
        shown = train.select(looked, [training.run, kept_run], runs, **quiet)
        estimated = shown.then(form.estimate, [corpus_id, *training.form.inputs], training.form.estimate, **quiet)
        estimated.then(jobs.warm, **quiet)  # only now: a process that imports torch would spoil what is measured
        demo.load(open_page, kept_text, opened, **quiet)
        demo.load(lambda name: open_train(train_tab.newest(name)), kept_run, runs, **quiet)
        demo.load(lambda: sample_tab.choices(None), None, writing.run, **quiet)
    return demo.queue(max_size=64, default_concurrency_limit=4)


def launch_options(host: str) -> dict[str, Any]:
    """For `launch`: the theme, and doors that are shut unless there is a reason to open them."""
    return dict(
        theme=gr.themes.Default(
            primary_hue="blue", neutral_hue="slate", font=["ui-sans-serif", "system-ui", "sans-serif"],
            font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
        ),
        css=CSS,
        footer_links=["api", "gradio", "settings"],
        run_history=False,  # would keep every input in the browser's storage
        enable_monitoring=False,
        show_error=False,  # our own sentences are shown; anything else belongs in the log
        # a little above our own limits, so that ours are the sentences seen
        max_file_size=max(corpus.max_bytes(), archive.MAX_BYTES) + 1_000_000,
        state_session_capacity=200,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        app_kwargs={"middleware": middleware(host)},
    )  # fmt: skip
