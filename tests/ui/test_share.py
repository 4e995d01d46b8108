"""The Share tab: whose token is used, the handlers alone, then everything in a real Chromium."""

from __future__ import annotations

import inspect
import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from conftest import SMALL, Server, ended_run, until
from fake_hub import MAYA, OLGA
from gradio.helpers import special_args

from nanogpt import corpus
from nanogpt.config import NanoGPTError
from nanogpt.launch import prepare
from nanogpt.launch.visitors import Visitor
from nanogpt.publish import account, code_export, page_export
from nanogpt.runs import Run
from nanogpt.ui import export_panel, following, share_tab, sign_in, space_panel
from nanogpt.ui.page import build_app


@pytest.fixture
def run(home, tiny_text) -> Run:
    """Return a finished run that was never trained."""
    return ended_run(corpus.add(tiny_text, "A <b>play</b>"), **SMALL)


# --- whose token ---------------------------------------------------------------------------------------------------


def served(host: str | None = "127.0.0.1", share: bool = False):
    return SimpleNamespace(server_name=host, share=share)


VISITOR = gr.OAuthToken(token=OLGA, scope="contribute-repos", expires_at=0)


def test_the_saved_login_is_for_whoever_sits_at_the_machine(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", MAYA)
    assert sign_in.token(served(), "", None) == MAYA
    assert sign_in.token(served("localhost"), None, None) == MAYA
    for page in (served("0.0.0.0"), served("192.168.1.7"), served(None), served(share=True), None):
        assert sign_in.token(page, "", None) is None
        assert sign_in.told(page, None) == "To publish to your own account, use a token."
    assert "saved on this machine" in sign_in.told(served(), None)


def test_without_a_token_the_page_speaks_of_the_page_and_the_command_line_of_commands(run):
    for work in (
        lambda: share_tab.push("one", "", True, "", False, None),
        lambda: space_panel.create_space("one", "", "static", "", True, "", None),
    ):
        [last] = following.lines(work)
        assert last["state"] == "failed"
        assert last["text"].startswith("You are not signed in to the Hub. Open Use a token and paste one")
        assert "hf auth" not in last["text"]
    with pytest.raises(NanoGPTError, match="Run `hf auth login`") as refused:
        account.signed_in(None)
    assert "page" not in str(refused.value)


@pytest.mark.parametrize("name", ["SPACE_ID", "NANOGPT_PUBLIC", "NANOGPT_HOSTS"])
def test_a_public_server_never_uses_its_owner_s_login(monkeypatch, name):
    monkeypatch.setenv("HF_TOKEN", MAYA)
    monkeypatch.setenv(name, "1")
    assert sign_in.token(served(), "", None) is None
    assert sign_in.token(served(), "", VISITOR) == OLGA


@pytest.mark.parametrize("header", sign_in.FORWARDED)
def test_neither_does_one_behind_a_proxy(monkeypatch, header):
    monkeypatch.setenv("HF_TOKEN", MAYA)
    asked = SimpleNamespace(headers={header: "1.2.3.4"})
    monkeypatch.setattr(sign_in, "request", lambda: asked)
    assert sign_in.token(served(), "", None) is None


def test_what_was_typed_comes_first(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", MAYA)
    assert sign_in.token(served(), f" {OLGA}\n", None) == OLGA
    assert sign_in.token(served(), "", VISITOR) == OLGA
    assert "your own account" in sign_in.told(served(), VISITOR)
    monkeypatch.delenv("HF_TOKEN")
    assert sign_in.token(served(), " ", None) is None
    assert "hf auth login" in sign_in.told(served(), None)


# --- handlers ------------------------------------------------------------------------------------------------------


def test_the_line_about_a_run(run, tiny_text):
    assert "3.0000" in share_tab.about("one")["text"]
    assert "A <b>play</b> (the text itself is never uploaded)" in share_tab.about("one")["text"]
    prepare.new_run("two", corpus.listed()[0], **SMALL)
    assert "no weights yet" in share_tab.about("two")["text"]
    assert share_tab.about(None)["text"] == share_tab.NO_RUN
    assert share_tab.choices(None)[0] == ["two", "one"]
    assert share_tab.choices("one")[1] == "one"


def test_what_was_found_in_a_sample_goes_with_its_run_and_is_found_again_when_you_come_back(run):
    demo = build_app()
    parts = {part.elem_id: part for part in demo.blocks.values()}
    events = lambda part: [one for one in demo.fns.values() if (parts[part]._id, "change") in one.targets]
    [check] = [one for one in events("share-run") if len(one.targets) == 2 and one.fn]
    [came] = [id for id, _ in check.targets if id != parts["share-run"]._id]
    [opened] = [one for one in demo.fns.values() if came in [part._id for part in one.outputs]]
    assert opened.name == "opened"
    assert check.fn("absent")["run"] == "absent"
    [follows] = [one for one in demo.fns.values() if check.outputs[0] in one.inputs]
    assert follows.js == share_tab.OF_THIS_RUN
    assert follows.outputs == [parts["share-copied"]]


@pytest.mark.slow
def test_what_was_found_in_a_sample_is_not_shown_for_another_run(browser):
    page = browser.new_page()
    shown = lambda *inputs: page.evaluate(f"(inputs) => ({share_tab.OF_THIS_RUN})(...inputs)", inputs)
    found = dict(run="one", line=dict(text="Checked a sample"))
    assert shown("one", found) == found["line"]
    for late in (("two", found), (None, found), (None, None), ("one", None)):
        assert shown(*late) == {"__type__": "update"}
    page.close()


def test_one_file_is_what_its_exporter_writes(run):
    assert Path(export_panel.take("one", "page")).read_text(encoding="utf-8") == page_export.html(run)
    assert Path(export_panel.take("one", "code")).read_text(encoding="utf-8") == code_export.python(run)
    assert Path(export_panel.take("one", "page")).name == "one.html"
    program = Path(export_panel.take("one", "code")).name
    assert f"    python {program}\n" in code_export.python(run)
    assert not program.removesuffix(".py").isidentifier()  # so that no `import` finds it in place of a module
    text = Path(export_panel.take("one", "text"))
    assert text.read_text(encoding="utf-8") == corpus.listed()[0].text()
    assert f'default="{text.name}"' in code_export.python(run)  # the program finds it
    (run.folder / "model.safetensors").unlink()
    with pytest.raises(NanoGPTError, match="no weights yet"):
        export_panel.take("one", "page")


def test_work_is_followed_to_its_end_and_goes_on_without_a_reader():
    def work(tell):
        tell("halfway")
        done.append(1)
        return SimpleNamespace(url="https://example.org/x")

    done: list[int] = []
    lines = list(following.following(work))
    assert [one["state"] for one in lines] == ["running"] * (len(lines) - 1) + ["finished"]
    assert any("halfway" in one["text"] for one in lines)
    assert {one["spoken"] for one in lines[:-1]} <= {"Starting.", "halfway"}  # without the seconds
    assert lines[-1]["link"] == "https://example.org/x"
    started = following.following(work)
    next(started)
    started.close()  # the page was closed
    for _ in range(100):
        if len(done) == 2:
            break
        time.sleep(0.02)
    assert len(done) == 2


def test_only_so_many_work_at_once():
    end, begun = threading.Event(), [following.following(lambda tell: end.wait(20)) for _ in range(following.AT_ONCE)]
    for one in begun:
        next(one)
    with pytest.raises(NanoGPTError, match="8 models are being published or loaded already"):
        next(following.following(lambda tell: None))
    end.set()
    assert [list(one)[-1]["state"] for one in begun] == ["finished"] * following.AT_ONCE
    assert list(following.following(lambda tell: "done"))[-1]["text"] == "done"


def test_work_that_gets_no_thread_is_not_counted(monkeypatch):
    def none_left(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        for _ in range(following.AT_ONCE + 1):
            [last] = following.lines(lambda: following.following(lambda tell: None))
            assert "can't start another process at the moment" in last["text"]
    assert list(following.following(lambda tell: "done"))[-1]["text"] == "done"


def test_one_address_does_not_keep_others_from_publishing(monkeypatch):
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    now, end = [Visitor("a" * 32, "10.0.0.1")], threading.Event()
    monkeypatch.setattr(following, "visitor", lambda: now[0])
    begun = [following.following(lambda tell: end.wait(20)) for _ in range(3)]
    for one in begun[:2]:
        next(one)
    now[0] = Visitor("b" * 32, "10.0.0.1")
    with pytest.raises(NanoGPTError, match="2 models are being published or loaded from your network address already"):
        next(following.following(lambda tell: None))
    now[0] = Visitor("b" * 32, "10.0.0.2")
    next(begun[2])
    end.set()
    assert [list(one)[-1]["state"] for one in begun] == ["finished"] * 3
    until(lambda: not following._working)


def test_a_visitor_who_signed_in_shares_with_their_own_token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", MAYA)
    monkeypatch.setenv("SPACE_ID", "maya/space")
    info = dict(access_token=OLGA, scope="contribute-repos", expires_at=time.time() + 60, userinfo={})
    request = SimpleNamespace(scope={"session": {"oauth_info": info}}, headers={})
    asked, demo = set(), build_app()
    for one in demo.fns.values():
        if one.fn and "oauth" in inspect.signature(one.fn).parameters:
            given = special_args(one.fn, [None] * len(one.inputs), request)[0]
            assert given[-1].token == OLGA
            assert special_args(one.fn, [None] * len(one.inputs), SimpleNamespace(scope={}))[0][-1] is None
            assert one.api_visibility == "private"
            asked.add(one.fn.__name__)
    assert asked == {"send", "create", "fetch", "opened"}


def test_what_cannot_be_done_is_the_last_line():
    def refuse(tell):
        raise NanoGPTError("no")

    assert list(following.following(refuse))[-1] == dict(text="no", state="failed", share=None)
    assert list(following.lines(lambda: share_tab.push(None, "", True, "", False, None)))[-1]["state"] == "failed"


def test_slow_work_is_announced_before_it_is_done(run):
    first, last = export_panel.fetch("page", "one", False)
    assert (first[0], first[1].value["text"], first[1].visible) == (None, "Writing the file …", True)
    assert (Path(last[0]).name, last[1].value["text"]) == ("one.html", "")
    assert list(export_panel.fetch("page", "gone", False))[-1][1].value["state"] == "failed"
    *_, said = next(share_tab.preview("one", "", "", False))
    assert said == dict(text=share_tab.WRITING, state="running", share=None)


def test_without_a_login_nothing_can_be_published(run, hub):
    for send in (share_tab.push, space_panel.create_space):
        wish = ("", "static", "", True, "") if send is space_panel.create_space else ("", True, "", False)
        last = list(following.lines(lambda send=send, wish=wish: send("one", *wish, None)))[-1]
        assert (last["state"], "not signed in" in last["text"]) == ("failed", True)
    named = [one.fn for one in build_app().fns.values() if one.fn and getattr(one.fn, "__name__", "") == "opened"]
    [opened] = [function for function in named if "oauth" in inspect.signature(function).parameters]
    for login, state in ((None, ""), (VISITOR, "finished")):
        *_, told = opened("one", "", login)
        assert told["state"] == state  # by which HAS_TOKEN goes
    ended_run(corpus.listed()[0], "two", **SMALL)
    kept = lambda name: json.dumps(dict(models=dict(share=name)))
    chosen = lambda name: opened("one", kept(name), None)[0].value
    assert [chosen("two"), chosen("gone"), chosen("one")] == ["two", "one", "one"]  # the one chosen here, if it exists


# --- in the browser ------------------------------------------------------------------------------------------------


def said(page, elem_id: str) -> str:
    """Wait for the status line's final message, and return it."""
    page.wait_for_function(
        "id => ['finished', 'failed'].includes(document.querySelector(`#${id} .status-line`)?.dataset.state)"
        " && document.querySelector(`#${id} .status-line span`).textContent !== window.before",
        arg=elem_id,
    )
    text = page.locator(f"#{elem_id} .status-line span >> nth=0").inner_text()
    page.evaluate("text => { window.before = text; }", text)
    return text


def type_token(page, token: str) -> None:
    if not page.locator("#share-token input").is_visible():
        page.get_by_role("button", name="Use a token").click()
    page.locator("#share-token input").fill(token)


@pytest.mark.slow
def test_the_share_tab(hub, run, page, server: Server, home: Path):
    prepare.new_run("two", corpus.listed()[0], **SMALL)
    page.get_by_role("tab", name="Share", exact=True).click()
    assert said(page, "share-about")  # of either run: the page may have opened before the second one was there
    for name, told in (("two", "no weights yet"), ("one", "A <b>play</b>")):
        page.locator("#share-run input").click()
        page.get_by_role("option", name=name, exact=True).click()
        assert told in said(page, "share-about")
    a_dry_run_sends_nothing(page, hub)
    a_push_uses_the_token_once(page, hub)
    files_are_saved(page, run)
    a_static_space_is_created(page, hub)
    what_was_pushed_is_pulled(page)
    the_token_is_nowhere(page, server, home)


def a_dry_run_sends_nothing(page, hub) -> None:
    page.locator("#share-repo").get_by_role("textbox").fill("maya/play")
    page.locator("#share-dry").click()
    page.wait_for_function("document.querySelector('#share-card textarea')?.value.includes('# play')")
    assert "A <b>play</b>" in page.locator("#share-card textarea").input_value()
    assert page.locator("#share-offer b, #share-offer img").count() == 0
    assert "model.safetensors" in page.locator("#share-files").inner_text()
    assert hub.requests == []
    shown = page.locator("#share-offer")
    page.get_by_label("Quote the text on the model card").check()
    shown.wait_for(state="hidden")
    assert page.locator("#share-push-said").inner_text() == ""
    page.locator("#share-dry").click()
    shown.wait_for()
    page.locator("#share-repo").get_by_role("textbox").fill("not a name")
    shown.wait_for(state="hidden")
    page.locator("#share-dry").click()
    assert "not a name" in said(page, "share-push-said")
    assert not shown.is_visible()
    page.locator("#share-repo").get_by_role("textbox").fill("maya/play")
    page.get_by_label("Quote the text on the model card").uncheck()


def a_push_uses_the_token_once(page, hub) -> None:
    assert page.locator("#share-push").is_disabled()
    assert page.locator("#share-create").is_disabled()
    type_token(page, OLGA)
    for name in ("Train", "Share"):  # the token still counts when you come back
        page.get_by_role("tab", name=name, exact=True).click()
    page.wait_for_timeout(1000)  # in which they would have been disabled
    assert page.locator("#share-create").is_enabled()
    page.locator("#share-push").click()
    assert "permission to write to maya/play" in said(page, "share-push-said")
    page.wait_for_function("document.querySelector('#share-push').disabled")  # the token was cleared after its only use
    type_token(page, MAYA)
    page.locator("#share-license input").click()
    page.get_by_role("option", name="MIT:").click()
    page.locator("#share-push").click()
    assert f"Published to {hub.url}/maya/play." in said(page, "share-push-said")
    assert page.locator("#share-push-said a").get_attribute("href") == f"{hub.url}/maya/play"
    assert page.locator("#share-token input").input_value() == ""
    assert hub.repos["models/maya/play"].private
    assert b"license: mit" in hub.repos["models/maya/play"].files["README.md"]


def files_are_saved(page, run: Run) -> None:
    for button, name, write in (("page", "one.html", page_export.html), ("code", "train-one.py", code_export.python)):
        with page.expect_download() as download:
            page.locator(f"#share-{button}").click()
        assert download.value.suggested_filename == name
        assert Path(download.value.path()).read_text(encoding="utf-8") == write(run)
    page.get_by_role("checkbox", name="Small web page").check()
    with page.expect_download() as download:
        page.locator("#share-page").click()
    assert Path(download.value.path()).read_text(encoding="utf-8") == page_export.html(run, int8=True)


def a_static_space_is_created(page, hub) -> None:
    type_token(page, MAYA)
    page.locator("#share-create").click()
    assert "/spaces/maya/one." in said(page, "share-space-said")
    assert hub.repos["spaces/maya/one"].facts["sdk"] == "static"
    hub.repos["models/maya/play"].private = False  # its owner can change this on the Hub


def what_was_pushed_is_pulled(page) -> None:
    page.get_by_role("tab", name="Sample", exact=True).click()
    page.get_by_role("button", name="Load a model from the Hub").click()
    page.locator("#pull-repo").get_by_role("textbox").fill("https://huggingface.co/maya/gone")
    page.locator("#pull").click()
    assert "no repository maya/gone" in said(page, "pull-said")
    page.locator("#pull-repo").get_by_role("textbox").fill("maya/play")
    page.locator("#pull").click()
    assert "one-2 was loaded from maya/play" in said(page, "pull-said")
    page.wait_for_function("JSON.parse(sessionStorage.getItem('nanogpt-place')).models?.sample === 'one-2'")
    page.wait_for_function("document.querySelector('#sample-run input').value === 'one-2'")
    page.locator("#sample-generate").click()
    page.wait_for_function("document.querySelector('#sample-output').innerText.length > 100")


def the_token_is_nowhere(page, server: Server, home: Path) -> None:
    shown = page.evaluate(
        "() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, document.body.innerHTML,"
        " [...document.querySelectorAll('input, textarea')].map(field => field.value)])"
    )
    for path in ("/config", "/gradio_api/info"):
        shown += page.request.get(server.url + path).text()
    shown += "".join(path.read_text(errors="replace") for path in home.rglob("*") if path.is_file())
    page.goto("about:blank")  # or the end of the server would break a request of the page
    assert server.process is not None
    server.process.terminate()
    assert server.process.stdout is not None
    shown += server.process.stdout.read()
    for token in (MAYA, OLGA):
        assert token not in shown
