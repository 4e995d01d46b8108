"""The Share tab: publish a run on the Hub, or with its panels as a Space or as one file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from .. import errors, explain
from ..disk import size
from ..publish import card, push as to_hub
from ..publish.account import repository
from ..runs import Run
from . import export_panel, refresh, sign_in, space_panel
from .drawn import drawn, line, said
from .export_panel import NO_RUN, text_of
from .following import following, lines
from .parts import HIDDEN, QUIET
from .view import LATEST, opened as opened_run
from .web.visit import existing, visitor
from .words import final_loss

ABOUT_PUBLISHING = """### Publish to the Hugging Face Hub
If you make the repository public, anyone can load the model with `transformers` (the modern architecture
needs version 5 or newer) or this app. Uploads the weights, tokenizer, settings, losses and a model card. Your text, the
log and the checkpoint are never uploaded, but a model can repeat passages it memorized. Preview upload shows exactly
what would be uploaded."""
# Publish and Create need a login: enable them while there is one, or a token in the field. It stays in the browser.
HAS_TOKEN = """(account, typed) => {
  const update = { interactive: account?.state === "finished" || typed.trim() !== "", __type__: "update" };
  return [update, update];
}"""
PREVIEWED = "Nothing was uploaded. This is what Publish would upload."
WRITING = "Writing the model card …"
# Hides a preview that is no longer what Publish would upload, and what the line above says of it.
OUTDATED = f"""(said) => [{{ visible: false, __type__: "update" }},
  ["{PREVIEWED}", "{WRITING}"].includes(said?.text) ? {{ text: "", state: "idle" }} : {{ __type__: "update" }}]"""
# Shows what was found in a sample, unless another run has been chosen since: that takes seconds.
OF_THIS_RUN = "(name, found) => found?.run === name ? found.line : { __type__: 'update' }"
LICENSES = [("No license yet", ""), *((words, key) for key, words in card.LICENSES.items())]


# ---- handlers: plain functions of names and settings -----------------------------------------------------------------


def about(name: str | None) -> dict[str, Any]:
    """Return a line that says what would be published."""
    try:
        run = existing(name, NO_RUN)
        weights = run.folder / "model.safetensors"
        if not weights.exists():
            return line(f"{run.name} has no weights yet. Train it until its first checkpoint.", "failed")
        text = run.settings()["corpus"]["name"]
        parts = [run.name, f"validation loss {final_loss(run)}", f"{size(weights.stat().st_size)} of weights"]
        return line(" · ".join([*parts, f"trained on {text} (the text itself is never uploaded)"]), "finished")
    except errors.PROBLEMS as error:
        return line(errors.explain(error), "failed")


def copied_words(name: str | None) -> dict[str, Any]:
    """Return a line that says how much a sample copies from the text, "" if that can't be told."""
    try:
        found = explain.copies.verdict(explain.copies.of_a_sample(opened_run(name)))
        return line(f"Checked a sample for copying: {found[0].lower()}{found[1:]}")
    except errors.PROBLEMS:  # the text isn't here, or the run's own line says what is wrong with it
        return line("")


def offer(name: str | None, repo: str, license: str, quote: bool) -> tuple[list[list[str]], str]:
    """Return what a push would upload: name and size of each file, and the card."""
    run = shareable(name, quote)
    files = to_hub.offered(run, repository(repo or run.name, "you"), license or None, quote)
    rows = [[file, f"{len(content):,}"] for file, content in files.items()]
    return [*rows, ["Total", f"{sum(map(len, files.values())):,}"]], files["README.md"].decode()


def preview(name: str | None, repo: str, license: str, quote: bool) -> Iterator[list]:
    """Yield updates of the preview, its two parts, and the line above it, while `offer` works, and once it is done."""
    yield [gr.skip(), gr.skip(), gr.skip(), line(WRITING, "running")]  # a long text's baselines take seconds
    try:
        rows, text = offer(name, repo, license, quote)
        yield [gr.Column(visible=True), rows, text, line(PREVIEWED)]
    except errors.PROBLEMS as error:
        yield [gr.Column(visible=False), gr.skip(), gr.skip(), line(errors.explain(error), "failed")]


def shareable(name: str | None, quote: bool) -> Run:
    """Return a run. Raise NanoGPTError if its text is to be quoted, but the visitor has no access to it."""
    run = existing(name, NO_RUN)
    if quote:
        text_of(run)
    return run


def push(name, repo, private, license, quote, token: str | None) -> Iterator[dict[str, Any]]:
    """Run `push.push` and yield status lines."""
    run = shareable(name, quote)
    sign_in.check(token)
    wish = dict(private=private, license=license or None, quote=quote)
    yield from following(lambda tell: to_hub.push(run, repo or run.name, token, **wish, tell=tell))


# ---- the tab ---------------------------------------------------------------------------------------------------------


@dataclass
class ShareTab:
    """The components that the rest of the page uses.

    `open` returns updates for `shown`, given the run in Train's view, what the browser kept, and a login.
    """

    run: gr.Dropdown
    open: Callable[..., list]
    shown: list


def choices(*wanted: str | None) -> tuple[list[str], str | None]:
    """Return every run that the visitor can see, and the first one of `wanted`, or the newest."""
    names = [run.name for run in visitor().runs()]
    return names, next((name for name in [*wanted, *names] if name in names), None)


def build() -> ShareTab:
    """Draw the tab and wire it."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            run = gr.Dropdown(label="Run", choices=[], value=None, elem_id="share-run")
        with gr.Column(scale=3, min_width=320):
            account = sign_in.build()
    shared = drawn("status_line", line(""), elem_id="share-about")
    copied = said("share-copied")
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            license, publish = build_push(run, account)
        with gr.Column(scale=1, min_width=320):
            export_panel.build(run)
            create = space_panel.build(run, license, account)
    came, checked = gr.Textbox(visible=False), gr.HTML(html_template="", visible="hidden")
    run.change(lambda name: [about(name), line("")], run, [shared, copied], **QUIET)
    check = lambda name: dict(run=name, line=copied_words(name))
    # also when you come back to the tab: the run may have trained on, or its text may be here now
    found = gr.on([run.change, came.change], check, run, checked, **LATEST)
    found.then(None, [run, checked], copied, js=OF_THIS_RUN)

    def opened(name, kept, oauth: gr.OAuthToken | None):
        names, chosen = choices(refresh.read(kept).models.get("share"), name)
        signed_in = sign_in.token(account.page, None, oauth) is not None
        login = line(sign_in.told(account.page, oauth), "finished" if signed_in else "")
        return [gr.Dropdown(names, value=chosen), str(time.monotonic()), about(chosen), login]

    login = [account.said, account.typed]
    gr.on([part.change for part in login], None, login, [publish, create], js=HAS_TOKEN)
    return ShareTab(run, opened, [run, came, shared, account.said])


def build_push(run: gr.Dropdown, account: sign_in.Account) -> tuple[gr.Dropdown, gr.Button]:
    """Draw and wire publishing a model on the Hub. Return the license dropdown, which Spaces also use, and Publish."""
    gr.Markdown(ABOUT_PUBLISHING, elem_classes="share-head")
    with gr.Group():
        repo = gr.Textbox(
            label="Repository", placeholder="user/name", max_lines=1, elem_id="share-repo",
            info="Without \"user/\", it goes to your own account. Empty: the run's name.",
        )  # fmt: skip
        private = gr.Checkbox(
            True, label="Private", elem_id="share-private",
            info="Only you can see it until you change that on the Hub.",
        )  # fmt: skip
        license = gr.Dropdown(
            LICENSES,
            value="",
            label="License",
            elem_id="share-license",
            info="What others may do with the model. Without one, all rights are reserved.",
        )
        quote = gr.Checkbox(
            False, label="Quote the text on the model card", elem_id="share-quote",
            info=f"Its first {card.QUOTED} characters. The card always shows the text's name, size and hash.",
        )  # fmt: skip
    with gr.Row():
        dry = gr.Button("Preview upload", elem_id="share-dry", min_width=150)
        button = gr.Button("Publish", variant="primary", interactive=False, elem_id="share-push", min_width=150)
    progress = said("share-push-said")
    with gr.Column(visible=False, elem_id="share-offer") as offered:
        files = gr.Dataframe(
            headers=["File", "Bytes"], datatype="str", interactive=False, label="Files to upload",
            column_widths=["70%", "30%"], max_height=460, buttons=[], elem_id="share-files",
        )  # fmt: skip
        shown = gr.Textbox(
            label="Model card (README.md)", lines=12, max_lines=22, interactive=False, buttons=["copy"],
            elem_id="share-card",
        )  # fmt: skip

    def send(name, where, private, license, quote, typed, oauth: gr.OAuthToken | None):
        token = sign_in.token(account.page, typed, oauth)
        cleared = ""  # the token field is cleared with the first update; what is typed later is for something else
        for shown in lines(lambda: push(name, where, private, license, quote, token)):
            yield [shown, cleared]
            cleared = gr.skip()

    wish = [run, repo, license, quote]
    previewed = dry.click(preview, wish, [offered, files, shown, progress], **HIDDEN)
    changes = [part.change for part in wish]
    gr.on(changes, None, progress, [offered, progress], js=OUTDATED)
    gr.on(changes, None, None, None, cancels=[previewed])
    button.click(send, [run, repo, private, license, quote, account.typed], [progress, account.typed], **HIDDEN)
    return license, button
