"""The whole page: the status line, the tabs, and what one tab tells another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from .. import archive, corpus, jobs
from ..config import NanoGPTError
from . import api, corpus_tab, form, sample_tab, train_tab
from .drawn import drawn
from .guard import middleware

CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


def build_app() -> gr.Blocks:
    """Draw and wire the page. Nothing is trained, downloaded or read before somebody opens it."""
    with gr.Blocks(title="nanogpt", analytics_enabled=False, delete_cache=(3600, 86400)) as demo:
        with gr.Row(elem_id="header"):
            gr.Markdown("# nanogpt", container=False, elem_id="title")
            line = drawn("status_line", dict(text="", state="idle"), elem_id="page-status")
        corpus_id = gr.State()
        with gr.Tabs() as tabs:
            with gr.Tab("Corpus", id="corpus"):
                texts = corpus_tab.build(corpus_id)
            with gr.Tab("Train", id="train") as train:
                training = train_tab.build(corpus_id, line)
            with gr.Tab("Sample", id="sample") as sample:
                writing = sample_tab.build()
        api.build()

        quiet: dict[str, Any] = dict(queue=False, show_progress="hidden", api_visibility="private")
        texts.next.click(lambda: gr.Tabs(selected="train"), None, tabs, **quiet)
        texts.report.change(corpus_tab.about, corpus_id, training.about_text, **quiet)
        sample.select(sample_tab.choices, training.run, writing.run, **quiet)
        shown = train.select(open_train, training.run, [training.run, *training.refresh], **quiet)
        shown.then(form.estimate, [corpus_id, *training.form.inputs], training.form.estimate, **quiet)
        train.select(jobs.warm, **quiet)
        demo.load(open_page, None, [corpus_id, texts.report, texts.stored, *training.form.fields], **quiet)
        demo.load(open_train, None, [training.run, *training.refresh], **quiet)
        demo.load(lambda: sample_tab.choices(None), None, writing.run, **quiet)
    return demo.queue(max_size=64, default_concurrency_limit=4)


def open_page() -> list:
    """On first open a text and a preset are chosen already, so that one click trains."""
    earlier = corpus_tab.stored_choices()
    try:
        chosen = corpus_tab.choose_builtin(corpus_tab.DEFAULT)
    except NanoGPTError as error:  # a Python without its reference
        return [None, corpus_tab.refused(str(error)), earlier, *form.first_values()]
    return [chosen.corpus_id, chosen.report, earlier, *form.first_values()]


def open_train(name: str | None = None) -> list:
    """The runs there are, and the one to look at: the one in view, else the one being trained, else the newest."""
    return train_tab.view(name if name in train_tab.names() else None)


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
