"""Custom components that Gradio doesn't have, drawn in the browser from plain data.

Each is a JavaScript file in this folder or in views/: the body of a function `draw(root, data)` that inserts text only
as text. The HTML template is empty and never changes, so nothing in a text or a name is ever parsed as HTML.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from ..runs import History

HERE = Path(__file__).parent
FOLDERS = (HERE, HERE / "views", HERE.parent / "publish" / "exported")  # the last: what exported pages have, too


def drawn(name: str, value: Any = None, uses: tuple[str, ...] = (), **where: Any) -> gr.HTML:
    """Return a component that draws `value` with `name`.js, and redraws it whenever the value changes.

    `uses` names other JavaScript files, whose functions the drawing calls. They may be those of an exported page.
    """
    draw = "\n".join(script(one) for one in (*uses, name))
    on_load = f"{draw}\nconst show = () => draw(element, props.value);\nshow();\nwatch('value', show);"
    return gr.HTML(value, html_template="<div></div>", js_on_load=on_load, apply_default_css=False, **where)


def script(name: str) -> str:
    """Return the JavaScript of `name`.js."""
    return next(path for folder in FOLDERS if (path := folder / f"{name}.js").exists()).read_text(encoding="utf-8")


def points(rows: list[dict], key: str, axis: str = "step", most: int = 500) -> list[list[float]]:
    """Return [x, value, step] for the rows that have `key`, evenly thinned to about `most`, always with the last."""
    rows = thinned(rows, 8 * most)  # 100,000, of a run evaluated at each step, would take a tenth of a second each time
    found = [
        [row.get(axis) or 0, round(row[key], 4), row["step"]] for row in rows if isinstance(row.get(key), (int, float))
    ]
    return thinned(found, most)


def thinned(rows: list, most: int) -> list:
    """Return about `most` rows at even distances, always with the last."""
    stride = -(-len(rows) // most) or 1
    return rows[::-stride][::-1] if stride > 1 else rows


def plot_data(history: History, end: float, axis: str = "step", **more: Any) -> dict[str, Any]:
    """Return the data for loss_plot.js: both curves over steps or seconds (`axis`), up to `end`."""
    rows = history.rows
    most = max([end, *(row.get(axis) or 0 for row in rows[-1:])])  # a run may train a little longer than its budget
    curves = dict(train=points(rows, "train_loss", axis), val=points(history.evaluations, "val_loss", axis))
    return dict(axis=axis, end=most, **curves, **more)


def said(elem_id: str | None = None) -> gr.HTML:
    """Draw the line that shows the result of an action. Until there is one, it takes no room.

    It is in the page all the same, because screen readers announce only what changes in a region they know.
    """
    return drawn("status_line", line(""), elem_id=elem_id, elem_classes="quiet-line")


def told(text: str, state: str = "idle", spoken: str | None = None) -> gr.HTML:
    """Return the update for a `said` line: what was done, or why it failed. See `line` for `spoken`."""
    return gr.HTML(line(text, state, spoken=spoken))


def is_failure(update: Any) -> bool:
    """Return True for the update of a `said` line that says why something failed.

    In a handler, Gradio creates no component, so it has no `value`, only the arguments.
    """
    value = update.constructor_args.get("value") if isinstance(update, gr.HTML) else None
    return isinstance(value, dict) and value.get("state") == "failed"


def line(
    text: str, state: str = "idle", share: float | None = None, link: str = "", spoken: str | None = None
) -> dict[str, Any]:
    """Return the data for status_line.js: a message, and optionally the progress (0 to 1) and a link.

    `spoken` is what screen readers announce instead of a message that changes each second.
    """
    more = (dict(link=link) if link else {}) | (dict(spoken=spoken) if spoken is not None else {})
    return dict(text=text, state=state, share=share) | more
