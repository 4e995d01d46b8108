"""The six endpoints, over a real server with Gradio's own client; and who may call them."""

from __future__ import annotations

import json
import math
import socket
import sys
from dataclasses import dataclass
from urllib.parse import urlsplit

import gradio
import httpx
import pytest
from conftest import Server, ended_run, until

from nanogpt import corpus, disk
from nanogpt.errors import PROBLEMS
from nanogpt.launch import local
from nanogpt.runs import Run, all_runs
from nanogpt.ui import api

SIX = {"/add_corpus", "/start_training", "/run_status", "/stop_training", "/list_runs", "/sample"}
TINY = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, eval_interval=20)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    path = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOGPT_HOME", str(path))
        yield path
        stop_all_but()


def stop_all_but(*names) -> None:
    """Stop any runs that a failed test left behind, except those named."""
    for run in all_runs():
        if run.name not in names and run.status().busy:
            run.request_stop()


@pytest.fixture(scope="module")
def url(home):
    from nanogpt.ui.page import build_app, launch_options

    demo, options = build_app(), launch_options("127.0.0.1")
    demo.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, inbrowser=False, **options)
    yield demo.local_url.rstrip("/")
    demo.close()


@pytest.fixture(scope="module")
def client(url):
    from gradio_client import Client

    connected = Client(url, verbose=False)
    yield connected
    connected.close()


def ask(client, endpoint, *inputs, **named):
    return client.predict(*inputs, api_name=endpoint, **named)


def refused(client, endpoint, *inputs, **named) -> str:
    """Check that a call is refused, and return the message."""
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as error:
        ask(client, endpoint, *inputs, **named)
    sentence = str(error.value)
    assert "upstream Gradio app has raised an exception" not in sentence  # Gradio's message for a bug
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    return sentence


@pytest.fixture(scope="module")
def corpus_id(client, tiny_text) -> str:
    added = ask(client, "/add_corpus", text=tiny_text, name="A play")
    assert added.keys() == {"id", "name", "characters", "distinct", "notes"}
    assert (added["name"], added["characters"], added["distinct"]) == ("A play", len(tiny_text), len(set(tiny_text)))
    return added["id"]


@pytest.fixture(scope="module")
def trained(client, corpus_id):
    """Start a long run over the API, stop it, and return its status."""
    settings = {**TINY, "max_iters": 100_000}
    started = ask(client, "/start_training", corpus_id=corpus_id, name="one", preset="quick", settings=settings)
    assert (started["name"], started["state"], started["max_iters"]) == ("one", "queued", 100_000)
    try:
        status = status_when(client, "one", lambda status: status["step"] >= 40)
        assert status["state"] == "running"
        assert status["val_loss"] > 0
        assert len(status["sample"]) == 300
    finally:
        ask(client, "/stop_training", name="one")
    status = status_when(client, "one", lambda status: status["state"] not in ("running", "stopping"))
    assert status["state"] == "stopped"
    return status


def status_when(client, name, true):
    """Wait until a run's status is as wanted, and return it."""

    def wanted():
        status = ask(client, "/run_status", name=name)
        return status if true(status) else None

    return until(wanted)


# --- listing -------------------------------------------------------------------------------------------------------


def test_there_are_six_endpoints_with_names_and_types(client):
    found = client.view_api(return_format="dict", print_info=False)
    assert set(found["named_endpoints"]) == SIX
    assert found["unnamed_endpoints"] == {}
    kind = lambda p: (p["parameter_has_default"], p["python_type"]["type"].split("(")[0])
    named = found["named_endpoints"].items()
    inputs = {name: {p["parameter_name"]: kind(p) for p in about["parameters"]} for name, about in named}
    assert inputs["/add_corpus"] == {"text": (False, "str"), "name": (True, "str")}
    assert inputs["/run_status"] == inputs["/stop_training"] == {"name": (False, "str")}
    assert inputs["/list_runs"] == {}
    assert list(inputs["/start_training"]) == ["corpus_id", "name", "preset", "settings"]
    assert [has for has, _ in inputs["/start_training"].values()] == [False, True, True, True]
    assert inputs["/sample"] == {
        "name": (False, "str"), "prompt": (True, "str"), "temperature": (True, "float"), "length": (True, "int"),
        "top_k": (True, "int"), "top_p": (True, "float"), "seed": (True, "int"),
    }  # fmt: skip
    assert all(about["returns"] for about in found["named_endpoints"].values())


def test_the_page_s_own_events_are_not_offered(client, url):
    info = httpx.get(f"{url}/gradio_api/info").json()
    assert set(info["named_endpoints"]) == SIX
    for name in ("/shown", "/run_it", "/preset_values", "/open_train", "/lambda"):
        with pytest.raises(ValueError, match="Cannot find a function"):
            ask(client, name)


# --- the life of a run ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_is_started_watched_stopped_and_listed(client, trained, corpus_id):
    assert trained["step"] >= 40
    assert trained["best_val_loss"] <= trained["val_loss"]
    assert trained["message"].startswith("Stopped at step ")
    assert Run("one").settings()["corpus"]["id"] == corpus_id
    assert Run("one").settings()["train"]["batch_size"] == 4
    assert ask(client, "/run_status", name="one") == trained
    assert trained in ask(client, "/list_runs")


@pytest.mark.slow
def test_a_run_without_a_name_is_named_after_its_text(client, corpus_id):
    started = ask(client, "/start_training", corpus_id=corpus_id, settings={**TINY, "max_iters": 2})
    assert started["name"] == "a-play"
    assert status_when(client, "a-play", lambda status: status["state"] == "finished")["step"] == 2
    assert ask(client, "/run_status", name="a-play")["train_loss"] > 0


@pytest.mark.slow
def test_sample_streams_a_growing_text(client, trained):
    job = client.submit(name="one", prompt="The ", length=4000, temperature=0.7, seed=3, api_name="/sample")
    pieces = list(job)
    assert len(pieces) > 2
    assert all(later.startswith(earlier) for earlier, later in zip(pieces, pieces[1:]))
    assert len(set(pieces)) > 2
    assert pieces[0].startswith("The ")
    assert len(pieces[-1]) == 4 + 4000

    from nanogpt.config import SampleConfig
    from nanogpt.formats import load_model
    from nanogpt.sample import stream
    from nanogpt.tokenizer import CharTokenizer

    config, folder = SampleConfig(temperature=0.7, length=4000, seed=3), Run("one").folder
    expected = "".join(stream(load_model(folder), CharTokenizer.load(folder), "The ", config))
    assert pieces[-1] == "The " + expected


@pytest.mark.slow
def test_sample_fits_the_prompt_and_keeps_to_its_settings(client, trained):
    assert ask(client, "/sample", name="one", prompt="thé 漢", length=5).startswith("the ")
    greedy = [ask(client, "/sample", name="one", length=30, **only) for only in (dict(temperature=0), dict(top_k=1))]
    assert greedy[0] == greedy[1]


# --- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["absent", "../one", "", "One"])
def test_a_run_that_is_not_there(client, name):
    for endpoint in ("/run_status", "/stop_training", "/sample"):
        assert refused(client, endpoint, name=name).startswith(
            ("There is no run", "There is no trained model", repr(name) + " can't be used as a name")
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        (dict(corpus_id="x"), "'x' is not the id of a text"),
        (dict(corpus_id="0" * 16), "There is no text 0000000000000000"),
        (dict(corpus_id=["x"]), "is not the id of a text"),
        (dict(name="Not a Name"), "'Not a Name' can't be used as a name"),
        (dict(name="one"), "There is already a run named one"),
        (dict(preset="huge"), "There is no preset 'huge'"),
        (dict(settings=dict(n_layer=0)), "n_layer was 0"),
        (dict(settings=dict(learning_rate="fast")), "learning_rate was 'fast'"),
        (dict(settings=dict(n_layr=3)), "There is no setting 'n_layr'; did you mean n_layer?"),
        (dict(settings=dict(name="two")), "There is no setting 'name'"),
        (dict(settings=dict(self=1)), "There is no setting 'self'"),
        (dict(settings=[1]), "settings"),
    ],
    ids=str,
)
def test_a_run_that_cannot_be_started(client, trained, corpus_id, named, sentence):
    before = [run.name for run in all_runs()]
    try:
        assert sentence in refused(client, "/start_training", **{"corpus_id": corpus_id, **named})
        assert [run.name for run in all_runs()] == before
    finally:
        stop_all_but(*before)


@pytest.mark.parametrize("text", ["", "too short", "\0" * 2000])
def test_a_text_that_is_none(client, text):
    assert refused(client, "/add_corpus", text=text).startswith("The text ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "named", [dict(length=0), dict(temperature=-1), dict(top_p=2), dict(top_k="x"), dict(seed=0.5)], ids=str
)
def test_a_sample_that_cannot_be(client, trained, named):
    assert refused(client, "/sample", name="one", **named).startswith(f"{next(iter(named))} was ")


def raw(url, endpoint, *data) -> str:
    """Return the raw response to these inputs, as seen by a program without Gradio's client."""
    id = httpx.post(f"{url}/gradio_api/call/{endpoint}", json={"data": data}).json()["event_id"]
    return httpx.get(f"{url}/gradio_api/call/{endpoint}/{id}", timeout=30).text


def test_a_raw_call_may_leave_out_what_has_a_default(url, client, tiny_text):
    assert '"name": "pasted text"' in raw(url, "add_corpus", tiny_text + "1")
    assert '"name": "Pasted text"' in raw(url, "add_corpus", tiny_text + "2", None)
    assert "There is no run named absent" in raw(url, "sample", "absent")
    for endpoint, missing in (("add_corpus", "text"), ("sample", "name"), ("start_training", "corpus_id")):
        assert f"The call has no value for '{missing}'. Add it to the data." in raw(url, endpoint)


@pytest.mark.parametrize("name", [{"a": 1}, ["a"], 5])
def test_a_name_that_is_none(client, tiny_text, name):
    assert "must be a string" in refused(client, "/add_corpus", text=tiny_text, name=name)


# --- access --------------------------------------------------------------------------------------------------------

WAYS = ["/gradio_api/call/list_runs", "/gradio_api/run/list_runs", "/gradio_api/queue/join", "/gradio_api/upload"]


def post(url, way, **headers):
    return httpx.post(url + way, json={"data": []}, headers=headers)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "origin",
    ["https://example.org", "http://127.0.0.1:1", "null", "", "file://", "http://127.0.0.1:{port}.example.org"],
)
def test_a_page_of_another_site_is_sent_away(url, way, origin):
    answer = post(url, way, origin=origin.format(port=url.rsplit(":")[-1]))
    assert (answer.status_code, answer.text) == (403, "This request came from another site.")


def test_a_page_of_another_site_does_not_get_in_by_naming_itself_a_proxy(url):
    claimed = {"origin": "https://example.org", "x-forwarded-host": "example.org"}
    assert post(url, WAYS[0], **claimed).status_code == 403


def test_our_own_page_and_programs_are_let_in(url):
    for headers in ({"origin": url}, {}):
        answer = post(url, "/gradio_api/call/list_runs", **headers)
        assert answer.status_code == 200
        assert "event_id" in answer.json()


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1.example.org", "", "169.254.169.254"])
def test_an_unknown_host_name_is_refused(url, host):
    for answer in (httpx.get(url, headers={"host": host}), post(url, WAYS[0], host=host)):
        assert (answer.status_code, answer.text) == (400, "Invalid host header")


def test_our_host_names_are_known(url):
    port = url.rsplit(":")[-1]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
        assert httpx.get(url, headers={"host": host}).status_code == 200


@pytest.fixture(scope="module")
def typed(home, tiny_text) -> corpus.Corpus:
    """Make a run named "typed", and return its text."""
    text = corpus.add(tiny_text, "A play")
    ended_run(text, "typed", **TINY, max_iters=50)
    return text


def doors(text: corpus.Corpus) -> list[tuple[str, dict]]:
    """Return each endpoint with inputs that it accepts."""
    settings = dict(max_iters=4)
    return [
        ("add_corpus", dict(text="A text. " * 200, name="a")),
        ("start_training", dict(corpus_id=text.id, name="", preset="quick", settings=settings)),
        ("run_status", dict(name="typed")),
        ("stop_training", dict(name="typed")),
        ("sample", dict(name="typed", prompt="a", temperature=0.8, length=3, top_k=0, top_p=1.0, seed=1)),
        *(("start_training", dict(corpus_id=text.id, settings={key: 1})) for key in ("budget", "layout", "seed", "x")),
    ]


def answered(function, **inputs) -> str:
    """Return the message with which an endpoint refuses its inputs. Fail at any error but those with a message."""
    try:
        answer = function(**inputs)
        json.dumps(list(answer) if function is api.sample else answer)
    except (*PROBLEMS, gradio.Error) as error:
        return str(error)
    return "it was taken"


ODD = [
    None, 5, True, 1.5, math.nan, math.inf, -1, 2**70, "", "x", "\ud800", "../x", "x" * 9999, [], ["a"], {}, {"a": 1},
    [[]],
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: ascii(odd)[:20])
def test_a_value_of_any_type_is_taken_or_refused_with_a_sentence(typed, monkeypatch, odd):
    monkeypatch.setattr(local, "start", lambda run: None)
    for name, inputs in doors(typed):
        for key, value in inputs.items():
            new = {one: odd for one in value} if isinstance(value, dict) else odd
            assert 10 < len(answered(getattr(api, name), **inputs | {key: new})) < 400


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way", ["/gradio_api/file=", "/gradio_api/file/", "/file=", "/static/", "/assets/", "/theme.css/"]
)
@pytest.mark.parametrize("path", [
    "/etc/passwd", "../../../../../../../../etc/passwd", "..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd", "app.py",
    "{home}/checkpoints/typed/run.json", "{home}/checkpoints/typed/model.safetensors", "{home}/corpora/{text}/text.txt",
])  # fmt: skip
def test_no_file_is_handed_out(url, home, typed, way, path):
    answer = httpx.get(url + way + path.format(home=home, text=typed.id))
    assert answer.status_code in (400, 403, 404)


# --- a server that is killed ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("real_process")
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_a_server_killed_during_training_sampling_and_an_upload_loses_nothing(tmp_path, tiny_text, monkeypatch):
    from gradio_client import Client

    home, folder = tmp_path / "home", tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("NANOGPT_HOME", str(home))
    server = Server(home, TMPDIR=str(folder), GRADIO_TEMP_DIR="")
    try:
        client = Client(server.url, verbose=False)
        text = ask(client, "/add_corpus", text=tiny_text, name="A play")
        ask(client, "/start_training", text["id"], "one", "quick", {**TINY, "max_iters": 1_000_000})
        status_when(client, "one", lambda status: status["step"] >= 40)
        sampling = client.submit("one", length=10_000, api_name="/sample")
        with socket.create_connection((urlsplit(server.url).hostname, urlsplit(server.url).port)) as connection:
            connection.sendall(upload_head(server.url) + b"a" * 1_000_000)
            until(lambda: any(path.stat().st_size > 500_000 for path in folder.rglob("*")))
            until(sampling.outputs)
            server.process.kill()
            server.process.wait()
            server.reader.join(10)
            server.process.stdout.close()
        [killed] = folder.glob("nanogpt-page-*")
        step = Run("one").history().step
        server.start()
        assert not killed.exists()
        client = Client(server.url, verbose=False)
        status_when(client, "one", lambda status: status["state"] == "running" and status["step"] > step)
        ask(client, "/stop_training", name="one")
        status_when(client, "one", lambda status: status["state"] == "stopped")
        assert ask(client, "/add_corpus", text=tiny_text, name="A play")["id"] == text["id"]
        assert [path.name for path in home.rglob("*") if disk.is_temporary(path.name)] == []
        steps = [row["step"] for row in Run("one").history().rows]
        assert steps == sorted(set(steps))
    finally:
        Run("one").request_stop()
        server.stop()


@pytest.fixture(scope="module")
def page(url) -> Page:
    config = httpx.get(f"{url}/config").json()
    return Page(url, {part["id"]: part for part in config["components"]}, config["dependencies"])


@dataclass
class Page:
    """What a browser knows of the page: its components, and the handlers that the server answers at once."""

    url: str
    parts: dict[int, dict]
    wired: list[dict]

    def with_input(self, right) -> list[dict]:
        quick = (one for one in self.wired if one["backend_fn"] and not one["queue"])
        return [one for one in quick if any(right(self.parts[id]) for id in one["inputs"])]

    def post(self, one: dict, right, value) -> httpx.Response:
        """Send a value for the inputs that are `right`, and for the others what they are at the start."""
        parts = [self.parts[id] for id in one["inputs"]]
        data = [value if right(part) else part["props"].get("value") for part in parts]
        selected = dict(index=[0, 0], value=value, row_value=[value, "9"])  # for those that take a row of a table
        call = dict(fn_index=one["id"], data=data, event_data=selected, session_hash="posted")
        return httpx.post(f"{self.url}/gradio_api/run/predict", json=call, timeout=60)


def test_handlers_take_the_name_of_what_was_just_deleted(page):
    lists_runs_or_texts = lambda part: part["type"] == "dropdown" and not part["props"]["choices"]
    wired = page.with_input(lists_runs_or_texts)
    assert len(wired) > 20
    answers = [page.post(one, lists_runs_or_texts, "gone") for one in wired]
    assert [answer.text for answer in answers if answer.status_code != 200] == []


def test_a_dropdown_with_choices_of_its_own_takes_no_others(page):
    optimizer = lambda part: part["props"].get("elem_id") == "train-optimizer"
    estimate = page.with_input(optimizer)[0]
    assert page.post(estimate, optimizer, "adamw").status_code == 200
    assert page.post(estimate, optimizer, "gone").status_code == 500


def upload_head(url: str) -> bytes:
    """Return the start of an upload of 5 MB."""
    return (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Length: 5000000\r\n"
        "Content-Type: multipart/form-data; boundary=edge\r\n\r\n"
        '--edge\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
    ).encode()
