"""The project as a Hugging Face Space: its settings, signing in, and ZeroGPU without a GPU.

The `spaces` package (which forks, pickles and schedules) and Gradio's sign-in are real. The GPU is missing, and a
server on the loopback address stands in for the GPU scheduler and the login provider.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
import yaml
from conftest import ROOT, Server

from nanogpt import corpus, device, limits, memory
from nanogpt.launch import pace, prepare, rules, visitors, zero
from nanogpt.runs import Run, queue
from nanogpt.ui.web import guard, visit

TINY = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, eval_interval=20)
WORD = "z" * 32


# --- its settings --------------------------------------------------------------------------------------------------


def test_the_readme_begins_with_a_space_s_settings():
    front = yaml.safe_load((ROOT / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    needed = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert front["sdk"] == "gradio"
    assert front["sdk_version"] == re.search(r"^gradio>=([\d.]+)", needed, re.M)[1] + ".0"
    assert isinstance(front["python_version"], str)
    assert (ROOT / front["app_file"]).is_file()
    assert len(front["short_description"]) <= 60
    assert (front["colorFrom"], front["colorTo"]) == ("blue", "gray")  # two of the eight colors the Hub accepts
    assert front["hf_oauth"] is True
    assert front["hf_oauth_scopes"] == ["contribute-repos"]  # the minimum scope for publishing
    assert "spaces" not in needed  # Spaces install it themselves


def test_the_table_of_limits_is_the_program_s():
    table = (ROOT / "docs" / "space.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| (NANOGPT_\w+) \| (\w*) *\|", table, re.M))
    assert {name: told.get(name) for name in limits.LIMITS} == {k: str(v.public) for k, v in limits.LIMITS.items()}
    code = "".join(path.read_text(encoding="utf-8") for path in [ROOT / "app.py", *(ROOT / "nanogpt").rglob("*.py")])
    internal = {"NANOGPT_TINYSHAKESPEARE", "NANOGPT_JOB_BEGAN"}  # a job sets the second for itself
    read = set(re.findall(r'"(NANOGPT_[A-Z_]+)"', code)) - internal
    assert read - told.keys() == set()


def test_a_framed_page_s_cookie_is_sent_from_the_frame(monkeypatch):
    assert all("SameSite=Lax" in one for one in guard.new_cookies(WORD))
    monkeypatch.setenv("SPACE_HOST", "user-space.hf.space")
    open_to_all, in_frame = guard.new_cookies(WORD)
    for one in (open_to_all, in_frame):
        assert f"={WORD}; Path=/" in one
        assert "HttpOnly; SameSite=None; Secure" in one
    assert in_frame.endswith("; Partitioned")
    assert visit.words(f"x=1; {in_frame.split(';')[0]}") == visit.words(open_to_all.split(";")[0]) == WORD


# --- ZeroGPU on its own --------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(home, monkeypatch) -> Path:
    """Simulate the process of a ZeroGPU Space that has no GPU."""
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setenv("SPACE_ID", "user/space")
    return home


def test_the_process_without_the_card_asks_torch_nothing_about_it(elsewhere, monkeypatch, tiny_text):
    monkeypatch.setattr("torch.cuda.is_available", lambda: pytest.fail("asked"))
    found = device.pick_device()
    assert (found.type, found.elsewhere, str(found)) == ("cuda", True, "ZeroGPU, bfloat16")
    assert memory.free_now(found) == 0
    monkeypatch.setattr(pace, "trial", lambda *_: pytest.fail("measured"))
    run = prepare.new_run("one", corpus.add(tiny_text), "timed", budget=45)
    assert run.settings()["train"]["budget"] == 45
    monkeypatch.setattr(device, "lent", True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device.pick_device().type == "cpu"


def test_a_call_is_a_minute_at_most(elsewhere, monkeypatch, tiny_text):
    assert limits.limit("NANOGPT_MAX_SECONDS") == limits.ZERO_SECONDS
    monkeypatch.setenv("NANOGPT_MAX_SECONDS", "3600")
    assert limits.limit("NANOGPT_MAX_SECONDS") == limits.ZERO_SECONDS
    text = corpus.add(tiny_text)
    prepare.new_run("long", text, "quick", **TINY)
    assert zero.seconds_wanted("long") == zero.CALL
    run = prepare.new_run("short", text, "timed", budget=20)
    assert zero.seconds_wanted("short") == 20 + zero.AROUND
    run.log(step=5, seconds=15.0, tokens=1)
    assert zero.seconds_wanted("short") == 5 + zero.AROUND
    assert "counts against your daily quota" in rules.terms()


def test_what_the_card_s_lender_says_is_the_run_s_message(home, monkeypatch, tiny_text):
    class Refusal(Exception):
        message = 'You have <a href="x">exceeded</a>\n your quota.'

    def refuse(name):
        raise Refusal

    run = prepare.new_run("one", corpus.add(tiny_text), "quick", **TINY)
    zero.announce(run)
    assert run.status().state == "queued"
    monkeypatch.setattr(zero, "_train", refuse)
    zero.train_now("one")
    assert run.status().state == "failed"
    assert run.status().message == "ZeroGPU could not train this run: You have exceeded your quota."
    assert queue.waiting() == []


def test_a_run_alone_on_its_device_waits_for_nobody(home):
    with queue.turn("one", "cuda"):
        queue.draw("two")
        with queue.turn("three", "cuda", alone=True):
            assert set(queue.running()) == {"one", "three"}
        assert queue.running() == ["one"]
    assert queue.waiting() == ["two"]


# --- as a Space ----------------------------------------------------------------------------------------------------


class Lender:
    """A stand-in for the GPU scheduler that grants every call, or refuses it as if the quota were used up."""

    def __init__(self):
        self.scheduled: list[dict[str, str]] = []
        self.released: list[str] = []
        self.exhausted = False
        self.ready = threading.Event()  # until it is set, calls wait for their GPU
        self.ready.set()
        lender = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                way = urlsplit(self.path)
                self.say(*lender.answer(way.path, dict(parse_qsl(way.query))))

            def do_GET(self):  # the login provider
                ways = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "issuer")
                self.say(200, {way: f"{lender.url}/{way}" for way in ways})

            def say(self, status, answer):
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, way: str, asked: dict[str, str]) -> tuple[int, dict]:
        if way == "/schedule":
            self.ready.wait(60)
        if way == "/schedule" and self.exhausted:
            return 429, dict(left=3, wait=3600)
        if way == "/schedule":
            self.scheduled.append(asked)
            idle = len(self.scheduled) > 1  # later calls reuse the first call's process
            return 200, dict(idle=idle, nvidiaIndex=0, nvidiaUUID="GPU-0", allowToken=f"t{len(self.scheduled)}")
        if way == "/release":
            self.released.append(asked["allowToken"])
        return 200, {}


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Iterator[tuple[Server, Lender, Path]]:
    if sys.platform != "linux":
        pytest.skip("ZeroGPU is Linux")
    pytest.importorskip("spaces")
    home, lender = tmp_path_factory.mktemp("zero"), Lender()
    environment = dict(
        SPACES_ZERO_GPU="true", SPACES_ZERO_DEVICE_API_URL=lender.url, SPACE_ID="user/space", NO_PROXY="127.0.0.1",
        NANOGPT_MAX_SECONDS="1", SYSTEM="spaces", OAUTH_CLIENT_ID="ours", OAUTH_CLIENT_SECRET="secret",
        OAUTH_SCOPES="openid profile contribute-repos", OPENID_PROVIDER_URL=lender.url,
    )  # fmt: skip
    server = Server(home, "--host", "127.0.0.1", program="tests/zero_space.py", **environment)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOGPT_HOME", str(home))
        yield server, lender, home
    server.stop()
    lender.server.shutdown()
    lender.server.server_close()


@pytest.mark.slow
def test_a_program_trains_within_its_own_request(space, tiny_text):
    from gradio_client import Client

    server, lender, _ = space
    client = Client(server.url, verbose=False, headers={"cookie": f"{visitors.COOKIE}={WORD}"})
    try:
        text = client.predict(text=tiny_text, name="A play", api_name="/add_corpus")
        train = lambda **settings: client.predict(
            corpus_id=text["id"], settings={**TINY, **settings}, api_name="/start_training"
        )
        short = train(max_iters=1)  # which every run takes, even if a second is too short for more
        assert (short["state"], short["step"]) == ("finished", 1)
        long = train(max_iters=1_000_000)  # in the same process as the previous run
        assert long["state"] == "stopped"
        assert "for at most 1 second at a time" in long["message"]
        assert long["step"] > 0
        assert lender.released == ["t1", "t2"]
        assert {asked["durationSeconds"] for asked in lender.scheduled} == {str(1 + zero.AROUND)}
        assert len(client.predict(name=long["name"], length=20, api_name="/sample")) == 20
        lender.exhausted = True
        assert train(max_iters=30)["message"].startswith("ZeroGPU could not train this run: ")
    finally:
        lender.exhausted = False
        client.close()


@pytest.mark.slow
def test_a_visitor_is_sent_to_the_hub_to_sign_in(space):
    server, lender, _ = space
    config = httpx.get(f"{server.url}/config").json()
    assert "sign-in" in [part["props"].get("elem_id") for part in config["components"]]
    sent = urlsplit(httpx.get(f"{server.url}/login/huggingface").headers["location"])
    assert f"{sent.scheme}://{sent.netloc}" == lender.url
    asked = dict(parse_qsl(sent.query))
    assert (asked["client_id"], asked["scope"]) == ("ours", "openid profile contribute-repos")
    assert "secret" not in sent.query


@pytest.mark.slow
def test_a_click_trains_and_continue_goes_on(space, browser, tiny_text):
    server, lender, home = space
    asked = len(lender.scheduled)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    try:
        page.set_default_timeout(60_000)
        page.goto(f"{server.url}/?preset=quick&max_iters=1000000&n_layer=1&n_head=2&n_embd=16&block_size=16")
        page.locator("#train-start").click()
        state = "document.querySelector('#train-status .status-line')?.dataset.state === '{}'"
        page.wait_for_function(f"{state.format('queued')} || {state.format('running')}")  # during the click
        page.wait_for_function(state.format("stopped"))
        assert "Resume it to continue" in page.locator("#train-status").inner_text()
        step = "Number(document.querySelector('#train-plot svg')?.dataset.step || 0)"
        before = page.evaluate(step)
        assert before > 0
        page.locator("#train-continue").click()
        page.wait_for_function(f"{step} > {before}")
        page.wait_for_function(state.format("stopped"))
        [name] = [path.parent.name for path in home.glob("checkpoints/python-reference*/run.json")]
        events = [row["event"] for row in Run(name).history().events]
        assert events == ["started", "stopped"] * 2
        assert len(lender.scheduled) == asked + 2
        assert "shared GPU" in page.locator("#page-terms textarea").input_value()
    finally:
        page.close()


@pytest.mark.slow
def test_when_training_ends_the_page_stays_where_you_are(space, browser):
    server, lender, _ = space
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    selected = lambda name: page.locator(f"[role=tab][aria-selected=true]:text-is('{name}')")
    lender.ready.clear()
    try:
        page.set_default_timeout(60_000)
        page.goto(server.url)
        page.locator("#welcome-train:not([disabled])").click()
        selected("Train").wait_for()
        page.get_by_role("tab", name="Sample", exact=True).click()
        lender.ready.set()
        page.wait_for_function("/^(Ready|Idle)/.test(document.querySelector('#page-status').innerText)")
        page.wait_for_timeout(1000)  # in which the end of the request would have been answered
        assert selected("Sample").is_visible()
    finally:
        lender.ready.set()
        page.close()
