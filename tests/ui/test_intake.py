"""Request limits: enforced before the body is read, whatever length it declares, and until the request ends."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from conftest import until
from gradio.utils import get_upload_folder

from nanogpt.ui import server
from nanogpt.ui.web import intake, scratch
from nanogpt.ui.web.intake import Intake
from nanogpt.ui.web.shares import Sender

COOKIE = {"cookie": "nanogpt-visitor=" + "a" * 32}
ME = Sender("me", "10.0.0.1")


@pytest.fixture
def public(monkeypatch) -> None:
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")


class Behind:
    """A stand-in for Gradio behind `Intake`: it reads the body and answers with its length."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, scope, receive, send) -> None:
        body, more = b"", scope["method"] == "POST"
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.bodies.append(body)
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % len(body)})


async def ask(door: Intake, path: str, pieces=(), declared: int | None = None, method="POST", query=b"") -> tuple:
    """Send a request in pieces. Return the status, the message or answer, and how many pieces were read."""
    waiting, sent = list(pieces), []

    async def receive():
        if not waiting:
            return {"type": "http.request", "body": b"", "more_body": False}
        piece = waiting.pop(0)
        if piece is None:
            await asyncio.sleep(3600)  # the rest never arrives
        return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

    async def send(message):
        sent.append(message)

    headers = [(b"content-length", b"%d" % declared)] if declared is not None else []
    scope = dict(type="http", method=method, path=path, headers=headers, query_string=query, client=("10.0.0.1", 1))
    await door(scope, receive, send)
    content = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], content.decode(), len(pieces) - len(waiting)


def asked(path: str, pieces=(), declared: int | None = None, **how) -> tuple:
    """Send one request through a new `Intake`. Return the status, the answer, and the bodies that got through."""

    async def go():
        behind = Behind()
        door = Intake(behind)
        status, said, _ = await ask(door, path, pieces, declared, **how)
        assert (door.memory.used, door.requests.used) == (0, 0)
        return status, said, behind.bodies

    return asyncio.run(go())


# --- size ----------------------------------------------------------------------------------------------------------

ADD, LIST, JOIN = "/gradio_api/call/add_corpus", "/gradio_api/call/list_runs", "/gradio_api/queue/join"


@pytest.mark.parametrize(
    ("path", "most"), [(LIST, 1_000_000), ("/login", 1_000_000), (ADD, 16_000_000), (JOIN, 16_000_000)]
)
def test_a_body_is_limited_whatever_it_declares(public, path, most):
    piece = b" " * 500_000
    for pieces, declared in (
        ([], most + 1),  # declares its length, so nothing is read
        ([piece] * 100, None),  # chunked
        ([piece] * 100, 10),  # declares a false length
    ):
        status, said, bodies = asked(path, pieces, declared)
        assert (status, bodies) == (413, [])
        assert json.loads(said)["detail"].startswith(f"That is more than {most / 1e6:.1f} MB")
    count = most // len(piece)
    assert asked(path, [piece] * count) == (200, str(most), [piece * count])
    assert asked(path, [piece] * count, most)[0] == 200


def test_the_largest_text_fits_however_json_writes_it(public):
    for text in ("é" * 2_500_000, "\n" * 5_000_000, "😀" * 1_250_000):  # 5 MB each
        body = json.dumps({"data": [text]}).encode()
        assert asked(ADD, [body])[0] == 200


def test_a_body_of_too_many_values_is_refused(public):
    for body in (b"[]," * 60_000, b"1," * 100_001, b'{"a":{' * 60_000):
        status, said, bodies = asked(ADD, [body])
        assert (status, bodies) == (413, [])
        assert "more than 100,000 values" in json.loads(said)["detail"]
    for body in (json.dumps(["a, [b], {c}" * 500_000, '"\\"[,"' * 100_000]).encode(), b'"' + b'\\",[' * 300_000):
        assert asked(ADD, [body])[0] == 200  # inside strings, where they cost nothing


def test_a_body_that_does_not_come_is_not_waited_for(public, monkeypatch):
    monkeypatch.setattr(intake, "PATIENCE", 0.01)
    monkeypatch.setattr(intake, "LINGER", 0.01)
    for path in (ADD, LIST):
        status, said, bodies = asked(path, [b"[", None], 100)
        assert (status, bodies) == (408, [])
        assert "too long to arrive" in said


def test_bodies_in_memory_are_limited_over_all_requests(public, monkeypatch):
    monkeypatch.setenv("NANOGPT_SERVER_MEMORY", "4000000")

    async def go():
        behind = Behind()
        door = Intake(behind)
        behind.go.clear()
        first = asyncio.create_task(ask(door, LIST, [b" " * 700_000]))
        while door.memory.used < 700_000:
            await asyncio.sleep(0)
        status, said, _ = await ask(door, LIST, [b" " * 100_000] * 5)
        assert (status, json.loads(said)["detail"]) == (429, intake.BUSY)
        assert door.memory.used == 700_000
        behind.go.set()
        assert (await first)[0] == 200
        assert (await ask(door, LIST, [b" " * 100_000] * 5))[0] == 200

    asyncio.run(asyncio.wait_for(go(), 60))


# --- number of requests --------------------------------------------------------------------------------------------


def test_requests_at_once_are_limited(public, monkeypatch):
    monkeypatch.setenv("NANOGPT_SERVER_REQUESTS", "50")

    async def go():
        behind = Behind()
        door = Intake(behind)
        behind.go.clear()
        tasks = [asyncio.create_task(ask(door, "/", method="GET")) for _ in range(30)]
        while door.requests.used < 10:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        done = [task.result()[0] for task in tasks if task.done()]
        assert (door.requests.used, done) == (10, [429] * 20)  # 50 / 5: one address's share of 50
        behind.go.set()
        await asyncio.gather(*tasks)
        assert (await ask(door, "/", method="GET"))[0] == 200

    asyncio.run(asyncio.wait_for(go(), 60))


def test_what_the_page_does_not_use_is_closed_on_a_public_server(monkeypatch):
    unused = ["deep_link", "process_recording", "proxy=http://x", "stream/a/b", "vibe-edit", "component_server", "runs"]
    for path in [f"/gradio_api/{one}" for one in unused] + ["/monitoring/summary"]:
        monkeypatch.setenv("NANOGPT_PUBLIC", "")
        assert asked(path, method="GET")[0] == 200
        monkeypatch.setenv("NANOGPT_PUBLIC", "1")
        assert asked(path, method="GET")[0] == asked(path)[0] == 404


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_server_may_open_as_many_files_as_the_system_lets_it():
    import resource

    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, most), most))
        server.allow_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def test_an_address_has_a_length():
    assert asked("/", method="GET", query=b"a" * 7000)[0] == 200
    assert asked("/", method="GET", query=b"a" * 8000)[0] == 414


def test_on_one_s_own_machine_only_sizes_are_limited():
    assert asked(JOIN, [b" " * 10_000_000] * 6)[0] == 200
    assert asked(JOIN, [b" " * 10_000_000] * 7)[0] == 413


# --- uploads, over a real server -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def url(public_demo) -> str:
    return public_demo.local_url.rstrip("/")


@pytest.fixture
def folder(url):
    """Empty the folder for uploads, and yield a function that returns the names of new files."""
    found = Path(get_upload_folder())

    def empty() -> bool:
        scratch.expire(now=time.monotonic() + 10**6)
        return scratch.space.used == 0

    until(empty)  # an upload is recorded or released just after its response, so the last test's may still come
    before = set(found.rglob("*")) if found.exists() else set()
    yield lambda: {path.name for path in set(found.rglob("*")) - before if path.is_file()}
    scratch.expire(now=time.monotonic() + 10**6)


def upload(url: str, count: int = 1, field="files", name="a.txt", size=1000, headers=COOKIE) -> httpx.Response:
    files = [(field, (name, f"{one} ".encode() * (size // 2))) for one in range(count)]
    return httpx.post(f"{url}/gradio_api/upload", files=files, headers=headers)


def test_an_upload_needs_a_visitor_and_counts_until_it_expires(url, folder):
    refused = upload(url, headers={})
    assert refused.status_code == 401
    assert "by a cookie" in refused.text
    assert folder() == set()
    taken = upload(url, size=100_000)
    assert taken.status_code == 200
    assert folder() == {"a.txt"}
    until(lambda: scratch._kept)  # the response comes just before the upload is recorded
    assert scratch.space.used == pytest.approx(100_000, abs=10_000)
    assert scratch.expire(now=time.monotonic() + 59 * 60) == []
    assert scratch.expire(now=time.monotonic() + 61 * 60) == [Path(taken.json()[0])]
    assert (folder(), scratch.space.used) == (set(), 0)


def test_an_upload_needs_room(url, folder, monkeypatch):
    monkeypatch.setenv("NANOGPT_MAX_DISK", "1000000")
    assert upload(url, size=600_000).status_code == 200
    until(lambda: scratch._kept)
    refused = upload(url, size=600_000)
    assert refused.status_code == 403
    assert "this server allows 1.0 MB" in refused.text
    monkeypatch.setenv("NANOGPT_MAX_DISK", "1000000000")
    monkeypatch.setenv("NANOGPT_SERVER_UPLOADS", "1000000")
    full = upload(url, size=100_000, headers={"cookie": "nanogpt-visitor=" + "b" * 32})
    assert (full.status_code, full.text) == (429, scratch.FULL)
    assert len(folder()) == 1


@pytest.mark.parametrize(
    ("how", "says"),
    [(dict(count=101), "at most 100 files"), (dict(field="other"), "proper name"), (dict(name=".."), "proper name")],
)
def test_an_upload_that_is_refused_leaves_nothing(url, folder, how, says):
    refused = upload(url, **how)
    assert refused.status_code == 400
    assert says in refused.text
    until(lambda: (folder(), scratch.space.used) == (set(), 0))
    assert upload(url, count=100).status_code == 200


def test_an_upload_to_a_full_disk_is_answered_with_a_sentence(url, folder, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gradio.route_utils.GradioUploadFile.write", full)
    refused = upload(url)
    assert (refused.status_code, refused.text) == (
        507,
        "The server's disk is full. Nothing was saved; try again later.",
    )
    assert (folder(), scratch.space.used) == (set(), 0)


def test_a_full_disk_for_uploads_is_named_on_your_own_machine(home, monkeypatch):
    async def full(scope, receive, send):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.delenv("NANOGPT_PUBLIC", raising=False)  # set for the server that this module shares
    monkeypatch.setenv("GRADIO_TEMP_DIR", "/elsewhere")
    status, said, _ = asyncio.run(ask(Intake(full), intake.UPLOAD, [b"a"]))
    assert (status, said.split(".")[0]) == (507, "There is no space left in /elsewhere")


def test_an_interrupted_upload_leaves_nothing(url, folder):
    where = urlsplit(url)
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {where.netloc}\r\nCookie: {COOKIE['cookie']}\r\n"
        "Content-Type: multipart/form-data; boundary=edge\r\nContent-Length: 5000000\r\n\r\n"
        '--edge\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
    )
    with socket.create_connection((where.hostname, where.port)) as connection:
        connection.sendall(head.encode() + b"a" * 1_000_000)
        until(lambda: folder() and scratch.space.used >= 1_000_000)
    until(lambda: folder() == set() and scratch.space.used == 0)


def test_an_export_counts_and_expires_like_an_upload(url, folder, monkeypatch):
    with scratch.new_folder(1000) as made:
        pass
    assert (made.is_dir(), scratch.space.used) == (True, 1000)
    scratch.expire(now=time.monotonic() + 61 * 60)
    assert (made.exists(), scratch.space.used) == (False, 0)
