"""After a refresh, show what was shown before: the tab, the text, the run, and what was entered.

The browser keeps these in the session storage of its tab, so two tabs don't disturb each other, a new visit starts
afresh, and the server stores nothing. The text, the run and the settings of a link override them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.components import Component

from ..layout import LAYOUTS
from ..presets import PRESETS
from ..runs import is_number
from .form import Form, field_values, settings_of

# What is kept besides the form: what you write, and how to sample.
ENTERED = (
    "train-name", "sample-prompt", "sample-temperature", "sample-length", "sample-num-samples", "sample-top-k",
    "sample-top-p", "sample-seed", "sample-keep-seed", "sample-stop-text", "compare-prompt", "compare-seed",
    "compare-length",
)  # fmt: skip
MODELS = ("sample", "understand", "share")  # the tabs in which you choose a model

# Takes the inputs of the event and replaces the last one by what is kept, or "". A new visit forgets it.
READ = """(...inputs) => {
  let kept = "";
  try {
    const [visit] = performance.getEntriesByType("navigation");
    if (!window.nanogptOpened && visit && visit.type === "navigate") sessionStorage.removeItem("nanogpt-place");
    kept = sessionStorage.getItem("nanogpt-place") || "";
  } catch {} // storage is blocked
  window.nanogptOpened = true;
  return [...inputs.slice(0, -1), kept];
}"""
# Keeps what KEPT returns. Before READ was called, the page still shows the defaults, which would overwrite it.
KEEP = """(...values) => {
  if (!window.nanogptOpened) return;
  try {
    const place = JSON.parse(sessionStorage.getItem("nanogpt-place") || "{}");
    sessionStorage.setItem("nanogpt-place", JSON.stringify({ ...place, ...(KEPT) }));
  } catch {} // storage is blocked
}"""

# To read the value of a component, Gradio searches the page for it. So when many change at once, all are read once.
SOON = """() => {
  clearTimeout(window.nanogptKeeping);
  if (window.nanogptOpened) {
    window.nanogptKeeping = setTimeout(() => document.getElementById("page-keep")?.click(), 50);
  }
}"""


@dataclass(frozen=True)
class Place:
    """Where a page was: its tab, the run in view, the values of components by elem_id, and the selected text."""

    tab: str | None = None
    run: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)  # tab -> the run that you chose there
    text: str | None = None


def read(kept: Any) -> Place:
    """Parse what the browser kept. Anything invalid is ignored."""
    try:
        place = json.loads(kept) if isinstance(kept, str) and len(kept) < 100_000 else None
    except (ValueError, RecursionError):
        place = None
    if not isinstance(place, dict):
        return Place()
    tab, run, values, text = (place.get(key) for key in ("tab", "run", "values", "text"))
    return Place(
        tab if isinstance(tab, str) else None,
        run if isinstance(run, str) else None,
        values if isinstance(values, dict) else {},
        _models(place.get("models")),
        text if isinstance(text, str) else None,
    )


def _models(kept: Any) -> dict[str, str]:
    """Return the run chosen in each tab of MODELS, from what the browser kept."""
    found = kept if isinstance(kept, dict) else {}
    return {tab: found[tab] for tab in MODELS if isinstance(found.get(tab), str)}


def form_values(form: Form, values: dict[str, Any]) -> list | None:
    """Return updates for `form.fields` with the kept values, or None if no valid preset and layout are among them."""
    chosen, layout = values.get("train-preset"), values.get("train-layout")
    if not isinstance(chosen, str) or chosen not in PRESETS or not isinstance(layout, str) or layout not in LAYOUTS:
        return None
    usual = field_values(settings_of(chosen, layout))
    return [_with(part, update, values) for part, update in zip(form.fields, usual)]


def _with(part: Component, update: Any, values: dict[str, Any]) -> Any:
    """Return an update with the kept value of a component, if there is one. What the update hides stays hidden."""
    if part.elem_id not in values or not fits(part, values[part.elem_id]):
        return update
    visible = update.constructor_args.get("visible", True) if isinstance(update, Component) else True
    return gr.update(value=values[part.elem_id], visible=visible)


def entered(parts: Iterable[Component], values: dict[str, Any]) -> dict[Component, Any]:
    """Return the kept value of each component, or no update."""
    kept = {part: values.get(part.elem_id) for part in parts}
    return {part: value if part.elem_id in values and fits(part, value) else gr.skip() for part, value in kept.items()}


def fits(part: Component, value: Any) -> bool:
    """Return True if a component can have this value. A number that you deleted is None."""
    if isinstance(part, gr.Radio | gr.Dropdown):
        return value in [key for _, key in part.choices]
    if isinstance(part, gr.Checkbox):
        return isinstance(value, bool)
    if isinstance(part, gr.Number):
        return value is None or is_number(value)
    if isinstance(part, gr.Slider):
        return is_number(value) and part.minimum <= value <= part.maximum
    return isinstance(value, str) and len(value) <= 10_000


# ---- the wiring ----------------------------------------------------------------------------------------------------


def keep(events: list, inputs: Any, kept: str) -> None:
    """Keep what the JavaScript expression `kept` makes of the `values` of the inputs. No request is sent for it."""
    gr.on(events, None, inputs, None, js=KEEP.replace("KEPT", kept))


def keep_model(tab: str, run: gr.Dropdown, pulled: Any = None, said: gr.HTML | None = None) -> None:
    """Keep the run that is chosen in a tab of MODELS, until another one is chosen or started.

    So is one that the event `pulled` has selected, unless `said` has its error.
    """
    chosen = f"{{ models: {{ ...place.models, {tab}: values[0] }} }}"
    keep([run.input], run, chosen)
    if pulled:
        loaded = f"(values[1] || {{}}).state === 'finished' ? {chosen} : {{}}"
        pulled.then(None, [run, said], None, js=KEEP.replace("KEPT", loaded))


def forget_models(then: Callable[..., Any], said: gr.HTML) -> None:
    """Forget the runs chosen in the tabs of MODELS once a run has started, unless `said` says why not.

    `then` wires what follows the attempt.
    """
    then(None, said, None, js=KEEP.replace("KEPT", "(values[0] || {}).text ? {} : { models: {} }"))


def keep_all(tabs: list[gr.Tab], corpus_id: gr.HTML, run: gr.Dropdown, parts: list[Component]) -> None:
    """Keep which tab and which text are selected, which run is in view, and the values of `parts`."""
    for tab in tabs:
        keep([tab.select], None, f"{{ tab: {json.dumps(tab.id)} }}")
    keep([corpus_id.change], corpus_id, "{ text: values[0] }")
    keep([run.change], run, "{ run: values[0] }")
    names = json.dumps([part.elem_id for part in parts])
    by_name = f"{{ values: Object.fromEntries({names}.map((name, i) => [name, values[i]])) }}"
    now = gr.Button(visible="hidden", elem_id="page-keep")  # pressed by SOON
    for part in parts:  # an event for each, because one for all would look up all of them each time
        part.change(None, None, None, js=SOON)
    keep([now.click], parts, by_name)


def entered_parts(page: gr.Blocks) -> list[Component]:
    """Return the components of the page that ENTERED names."""
    found = {part.elem_id: part for part in page.blocks.values() if isinstance(part, Component)}
    return [found[name] for name in ENTERED if name in found]
