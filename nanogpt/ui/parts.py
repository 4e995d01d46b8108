"""Components by name, so that handlers can be plain functions that return updates without importing components."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import gradio as gr

# Options for a handler that reads a text, which takes 100 MB and a core for a moment: two at once, API included.
READING: dict[str, Any] = dict(concurrency_id="read-texts", concurrency_limit=2)
# Options for a handler without a progress display, which isn't in the API. A hidden display has its price, too: unless
# it is on nothing, Gradio updates that of each output whenever any handler answers, a tenth of a core during a run.
HIDDEN: dict[str, Any] = dict(show_progress="hidden", show_progress_on=[], api_visibility="private")
QUIET = HIDDEN | dict(queue=False)  # for a handler that answers at once
# A function for handlers in the browser: copies a text and returns whether that worked. Browsers offer the clipboard
# only to pages from https or from this machine, which a class's server isn't: there, copy as a selection is copied.
COPIED = """const copied = async (text) => {
  try { await navigator.clipboard.writeText(text); return true; } catch { /* try the other way */ }
  const field = Object.assign(document.createElement("textarea"), { value: text }), before = document.activeElement;
  document.body.append(field);
  field.select();
  try { return document.execCommand("copy"); } finally { field.remove(); before?.focus({ preventScroll: true }); }
};"""
# For a handler in the browser: downloads the file that another handler has written.
DOWNLOAD = """(file) => {
  if (!file) return;
  const link = document.createElement("a");
  link.href = file.url;
  link.download = file.orig_name || "";
  document.body.append(link);
  link.click();
  link.remove();
}"""
REFUSED = "That didn't work: the server is too busy, or something went wrong there. Wait a moment, then try again."
NO_SECRET = "nanogpt"  # Gradio's default is random, so a restarted server couldn't read what browsers have stored


def afterward(event: Any, handler: Any, inputs: Any, outputs: Any, **options: Any) -> Any:
    """Wire what follows an event, whether it worked or not. Return the event that follows if it worked.

    If the request was refused, Gradio calls `failure` only. If the event was canceled, it calls both.
    """
    event.failure(handler, inputs, outputs, **options)
    return event.then(handler, inputs, outputs, **options)


# Reports typing after a pause, so that what is half typed isn't answered. Fields also change when a handler fills them
# in; Gradio's own event for typing leaves out Backspace in text fields.
TYPED = """() => new Promise((resolve) => {
  if (!document.activeElement?.matches("input[type=number], input[type=text], textarea")) {
    return resolve({ __type__: "update" });
  }
  clearTimeout(window.nanogptTyping?.timer);
  window.nanogptTyping?.resolve({ __type__: "update" }); // of several inputs, the last one counts
  document.getElementById("MARKS")?.classList.add("old");
  window.nanogptTyping = { resolve, timer: setTimeout(() => resolve(String(performance.now())), PAUSE) };
})""".replace("PAUSE", "400")


def typed(fields: list[Any], marks: str = "") -> gr.Textbox:
    """Draw an invisible field that changes once something was typed into `fields`, after a pause. Return it.

    Meanwhile the element with the id `marks` has the class `old`, which it keeps until the answer removes it.
    """
    settled = gr.Textbox(visible=False)
    js = TYPED.replace("MARKS", marks)
    gr.on([one.change for one in fields], None, None, settled, js=js, trigger_mode="multiple")
    return settled


# For what begins to write into a drawing: its last text, which may have been stopped, isn't being written any more.
BEGINS = """(drawing) => ({
  ...drawing, state: "", columns: drawing?.columns?.map((one) => ({ ...one, state: "" })), stopped: false,
})"""


def begun(button: Any, drawing: Any, starts: list[Any], stop: Any) -> Any:
    """Wire a button that begins to write into a drawing. Return the event after which it is written.

    The buttons are disabled in the browser: before the server had answered, another of `starts` could begin a second
    text in the same drawing.
    """
    js = f"""(drawing) => {{
      const button = (interactive) => ({{ __type__: "update", interactive }});
      return [({BEGINS})(drawing), ...Array({len(starts)}).fill(button(false)), button(true)];
    }}"""
    return button.click(None, drawing, [drawing, *starts, stop], js=js)


def stoppable(events: list[Any], drawing: Any, starts: list[Any], stop: Any) -> None:
    """Wire the button Stop, and what follows when one of the events that write into a drawing has ended.

    After Stop, the buttons that start an event stay disabled until the canceled one has ended. Otherwise, its end could
    be mistaken for the end of the next one: for a canceled event, Gradio calls `failure` twice and then `then`.
    """
    outputs = [drawing, *starts, stop]

    def ends(enable: bool, unless: str = "false") -> str:
        return f"""(drawing) => {{
          const button = (interactive) => ({{ __type__: "update", ...({unless} ? {{}} : {{ interactive }}) }});
          const starts = Array({len(starts)}).fill(button({str(enable).lower()}));
          return [{{ ...drawing, stopped: true }}, ...starts, button(false)];
        }}"""

    for event in events:
        event.then(None, drawing, outputs, js=ends(True))
        event.failure(None, drawing, outputs, js=ends(True, unless="drawing?.stopped"))
    stop.click(None, drawing, outputs, js=ends(False))
    stop.click(None, cancels=events)


class Parts(dict[str, Any]):
    """The components that a tab's handlers update, by name."""

    @property
    def outputs(self) -> list:
        """The components, as a list for Gradio."""
        return list(self.values())

    def some(self, names: Iterable[str]) -> list:
        """Return the components of these names, as a list for Gradio."""
        return [self[name] for name in names]

    def put(self, updates: Mapping[str, Any]) -> dict:
        """Turn updates by name into updates by component, as Gradio expects. Other components stay as they are."""
        return {self[name]: update for name, update in updates.items()}
