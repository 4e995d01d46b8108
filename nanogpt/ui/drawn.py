"""What Gradio has no component for: small pictures drawn in the browser from plain data.

Each is one JavaScript file beside this one, a function `draw(root, data)` that puts text into the page only as text.
The template is empty and never changes, so nothing that comes from a text or a name is ever read as HTML.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

HERE = Path(__file__).parent


def drawn(name: str, value: Any = None, **where: Any) -> gr.HTML:
    """A component that shows `value` with `name`.js, redrawn in place whenever the value changes."""
    draw = (HERE / f"{name}.js").read_text(encoding="utf-8")
    on_load = f"{draw}\nconst show = () => draw(element, props.value);\nshow();\nwatch('value', show);"
    return gr.HTML(value, html_template="<div></div>", js_on_load=on_load, apply_default_css=False, **where)


def points(rows: list[dict], key: str, most: int = 500) -> list[list[float]]:
    """[step, value] of the rows that have it, thinned evenly to at most about `most`, the last one always kept."""
    found = [[row["step"], round(row[key], 4)] for row in rows if isinstance(row.get(key), (int, float))]
    stride = -(-len(found) // most) or 1
    return found[::-stride][::-1] if stride > 1 else found


def plot_data(rows: list[dict], max_iters: int) -> dict[str, Any]:
    """What loss_plot.js draws: the two curves, and how far the run is to go."""
    return dict(max_iters=max_iters, train=points(rows, "train_loss"), val=points(rows, "val_loss"))


def said(elem_id: str) -> gr.HTML:
    """Draw the line for what an action did, empty and unseen until there is something to say."""
    return drawn("status_line", line(""), visible=False, elem_id=elem_id)


def told(text: str, state: str = "idle") -> gr.HTML:
    """Return the update of a `said` line: what was done, or why it was not."""
    return gr.HTML(line(text, state), visible=bool(text))


def line(text: str, state: str = "idle", share: float | None = None, link: str = "") -> dict[str, Any]:
    """What status_line.js draws: a sentence, where there is one how far the work is, and an address to open."""
    return dict(text=text, state=state, share=share) | (dict(link=link) if link else {})
