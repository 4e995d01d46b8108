"""Links to settings: ?text=python-reference&preset=laptop&n_layer=3 fills in the form, and ?run=NAME opens a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from .. import corpus, durations, limits
from ..errors import PROBLEMS, explain
from ..presets import preset_key
from ..runs import settings
from . import form
from .choosing import builtin_key
from .drawn import said, told
from .parts import COPIED, QUIET
from .web.visit import seen

OTHERS = ("view", "deep_link", "session_hash", "fn_index", "logs")  # query parameters that Gradio and Spaces add
COPY = f"""async (query, said) => {{
  {COPIED}
  if (!query.startsWith("?")) return [query, said];
  const link = location.origin + location.pathname + query;
  return [link, {{ ...said, text: (await copied(link) ? "Copied. " : "") + said.text }}];
}}"""
HIDE = """() => [{ __type__: "update", visible: false }, { text: "", state: "idle" }]"""


@dataclass
class Asked:
    """What a URL asks for, and messages on what in it is invalid."""

    text: str | None = None
    run: str | None = None
    settings: dict[str, Any] | None = None
    said: list[str] = field(default_factory=list)


# ---- handlers: plain functions of names and numbers ----------------------------------------------------------------


def query(corpus_id: str | None, *fields) -> str:
    """Return the form as a query string: the built-in text, the preset, and every setting that differs from it."""
    chosen = preset_key(fields[0])
    usual = form.settings_of(chosen)
    always = ("layout", "budget")  # always in `changes`, even if they equal the preset's
    changed = {k: value for k, value in form.changes(*fields).items() if k not in always or value != usual[k]}
    if "budget" in changed:
        changed["budget"] = durations.short(changed["budget"])
    text = builtin_key(corpus_id)
    return "?" + urlencode({**({"text": text} if text else {}), "preset": chosen, **changed})


def offered(corpus_id: str | None, *fields) -> list:
    """Return updates for the link's field and the note below it."""
    try:
        found = query(corpus_id, *fields)
    except PROBLEMS as error:
        return [gr.Textbox(visible=False), told(explain(error), "failed")]
    sentence = "Anyone who opens this link gets these settings"
    sentence += (
        " and this text."
        if builtin_key(corpus_id)
        else ". The link can't include your own text, so share that separately."
    )
    return [gr.Textbox(found, visible=True), told(sentence)]


def read(address: Mapping[str, str]) -> Asked:
    """Parse the page's URL. Invalid parts become messages in `said` and are ignored."""
    given = {key: value for key, value in address.items() if not key.startswith("_") and key not in OTHERS}
    asked = Asked()
    if (name := given.pop("run", None)) is not None:
        asked.run = _run(name, asked.said)
    if (text := given.pop("text", None)) is not None:
        asked.text = _text(text, asked.said)
    asked.settings = _settings(given, asked.said)
    return asked


def _run(name: str, said: list[str]) -> str | None:
    try:
        run = seen(name)
    except PROBLEMS as error:
        said.append(explain(error))
        return None
    if run is None:
        others = ", or it is another visitor's" if limits.is_public() else ""
        said.append(f"There is no run named {name} here{others}.")
    return run.name if run else None


def _text(key: str, said: list[str]) -> str | None:
    if key in corpus.BUILTINS:
        return key
    said.append(f"The link's text was {key[:40]!r}; a link can name {', '.join(corpus.BUILTINS)}.")
    return None


def _settings(given: dict[str, str], said: list[str]) -> dict[str, Any] | None:
    unknown = [key for key in given if key not in form.KNOB and key != "preset"]
    if unknown:
        said.append(f"The link has {unknown[0][:40]!r} in it, which is not a setting, so it was ignored.")
    known = {key: value for key, value in given.items() if key not in unknown}
    try:
        return settings.complete(known) if known else None
    except PROBLEMS as error:
        said.append(f"{explain(error)[:300]} The link's settings were ignored.")
        return None


# ---- the control ---------------------------------------------------------------------------------------------------


def build(corpus_id: gr.HTML, inputs: list) -> None:
    """Draw and wire the button and the field for the link, hidden once the text or the form's `inputs` change."""
    copy = gr.Button("Copy link to these settings", size="sm", elem_id="link-copy")
    address = gr.Textbox(
        label="Link to these settings", interactive=False, visible=False, buttons=["copy"], max_lines=3,
        elem_id="link-address",
    )  # fmt: skip
    note = said("link-said")
    made = copy.click(offered, [corpus_id, *inputs], [address, note], **QUIET)
    made.then(None, [address, note], [address, note], js=COPY)
    gr.on([part.change for part in (corpus_id, *inputs)], None, None, [address, note], js=HIDE)  # it would be outdated
