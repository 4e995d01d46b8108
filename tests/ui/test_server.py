"""What `nanogpt serve` prints."""

from __future__ import annotations

import re

import gradio as gr

from nanogpt.ui import server


def test_it_says_where_the_page_is_and_nothing_of_gradio_s_own_parameters(home, monkeypatch, capsys):
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Markdown("a page")
    monkeypatch.setattr(server, "build_app", lambda: page)
    monkeypatch.setattr(server, "launch_options", lambda host: dict(inbrowser=False))
    monkeypatch.setattr(page, "block_thread", lambda: None)
    monkeypatch.setattr(server.disk, "sweep_home", lambda: None)
    server.serve("127.0.0.1", None)
    port = page.server_port
    page.close()
    out, err = capsys.readouterr()
    assert re.sub(r"Closing server running on port: \d+\n", "", out) == (
        f"nanogpt is running at http://127.0.0.1:{port}. Press Ctrl-C to stop it.\n"
    )
    assert err == ""
