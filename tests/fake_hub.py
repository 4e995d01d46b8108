"""A fake Hugging Face Hub on the loopback address, with in-memory repositories, plain and LFS uploads, and errors.

It implements only the endpoints that the real huggingface_hub client calls in the tests.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import fake_jobs

MAYA = "hf_" + "MayasTokenOfTheKindWrite0123456789"
READER = "hf_" + "MayasTokenThatMayOnlyRead123456789"
OLGA = "hf_" + "OlgasTokenOfTheKindWrite0123456789"
ACCOUNTS = {
    MAYA: dict(name="maya", orgs=[{"name": "mills"}], role="write"),
    READER: dict(name="maya", orgs=[{"name": "mills"}], role="read"),
    OLGA: dict(name="olga", orgs=[], role="write"),
}


@dataclass
class Repo:
    """A repository: the files of each commit, newest last. As on the real Hub, creating it makes the first commit."""

    private: bool = False
    facts: dict = field(default_factory=dict)
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{".gitattributes": b"*.safetensors filter=lfs\n"}])

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1]

    def sha(self, number: int = -1) -> str:
        number %= len(self.commits)
        names = "".join(f"{name}{hashlib.sha256(data).hexdigest()}" for name, data in self.commits[number].items())
        return hashlib.sha1(f"{number}{names}".encode()).hexdigest()

    def at(self, revision: str) -> dict[str, bytes] | None:
        if revision == "main":
            return self.files
        return next((files for i, files in enumerate(self.commits) if self.sha(i) == revision), None)


class Refusal(Exception):
    """An error response: HTTP status, the Hub's error code, its message, and what else its body says."""

    def __init__(self, status: int, code: str = "", said: str = "", **more: str):
        super().__init__(status)
        self.status, self.code, self.said, self.more = status, code, said, more


def pieces(http: BaseHTTPRequestHandler) -> Iterator[bytes]:
    """Yield the chunks of a request body sent with chunked transfer encoding, as large files are."""
    if http.headers.get("Transfer-Encoding") == "chunked":
        while length := int(http.rfile.readline(), 16):
            yield http.rfile.read(length)
            http.rfile.readline()
        http.rfile.readline()


class Hub:
    """The server. `Hub(port)` starts it, `repos` holds what was uploaded, and `close()` stops it."""

    def __init__(self, port: int = 0):
        self.repos: dict[str, Repo] = {}  # keys: "models/maya/x", "spaces/maya/x"
        self.lfs: dict[str, bytes] = {}
        self.requests: list[str] = []  # such as "POST /api/repos/create"
        self.bodies: list[bytes] = []
        self.refuse: Callable[[str], Refusal | None] = lambda request: None  # may return an error to send
        self.large = False  # if True, treat all binary files as large (LFS) files
        self.jobs = fake_jobs.Jobs()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do(self):
                hub.answer(self)

            do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.jobs.close()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def asked(self, pattern: str) -> list[str]:
        return [request for request in self.requests if re.search(pattern, request)]

    # ---- HTTP ---------------------------------------------------------------------------------------------------

    def answer(self, http: BaseHTTPRequestHandler) -> None:
        address = urlsplit(http.path)
        request = f"{http.command} {unquote(address.path)}"
        body = http.rfile.read(int(http.headers.get("Content-Length") or 0)) or b"".join(pieces(http))
        self.requests.append(request)
        self.bodies.append(body)
        token = (http.headers.get("Authorization") or "").removeprefix("Bearer ")
        headers: dict[str, str] = {}
        try:
            if refused := self.refuse(request):
                raise refused
            found = self.route(request, body, token, parse_qs(address.query), headers)
            if isinstance(found, Iterator):  # lines of a job's log, as they come
                return self.stream(http, found)
            status, content = 200, found if isinstance(found, bytes) else json.dumps(found).encode()
        except Refusal as no:
            status, content = no.status, json.dumps({"error": no.said, **no.more}).encode()
            headers = {"X-Error-Code": no.code, "X-Error-Message": no.said or no.code}
        http.send_response(status)
        for name, value in headers.items():
            http.send_header(name, value)
        http.send_header("Content-Length", str(len(content)))
        http.send_header("Connection", "close")  # so that no client reuses a connection after close()
        http.close_connection = True
        http.end_headers()
        if http.command != "HEAD":
            with contextlib.suppress(BrokenPipeError):  # a client that was killed
                http.wfile.write(content)

    def stream(self, http: BaseHTTPRequestHandler, events: Iterator[bytes]) -> None:
        http.send_response(200)
        http.send_header("Content-Type", "text/event-stream")
        http.send_header("Connection", "close")
        http.close_connection = True
        http.end_headers()
        with contextlib.suppress(OSError):  # the client is gone
            for event in events:
                http.wfile.write(event)

    def route(self, request: str, body: bytes, token: str, query: dict, headers: dict):
        for pattern, handler in self.ROUTES:
            if found := re.fullmatch(pattern, request):
                return handler(self, dict(found.groupdict(), body=body, token=token, query=query, headers=headers))
        raise Refusal(404, "", f"the Hub of the tests has no {request}")

    # ---- accounts and permissions -------------------------------------------------------------------------------

    def account(self, token: str) -> dict:
        if token not in ACCOUNTS:
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        return ACCOUNTS[token]

    def may_write(self, owner: str, token: str) -> None:
        who = self.account(token)
        if owner not in (who["name"], *(org["name"] for org in who["orgs"])) or who["role"] != "write":
            raise Refusal(403, "", f"You don't have the rights to write to the namespace {owner}")

    def repo(self, ask: dict) -> Repo:
        found = self.repos.get(f"{ask.get('kind') or 'models'}/{ask['id']}")
        names = [ACCOUNTS[ask["token"]]["name"]] if ask["token"] in ACCOUNTS else []
        if found is None or (found.private and ask["id"].split("/")[0] not in names):
            raise Refusal(404 if ask["token"] in ACCOUNTS else 401, "RepoNotFound", "Repository not found")
        return found

    # ---- endpoints ----------------------------------------------------------------------------------------------

    def whoami(self, ask):
        who = self.account(ask["token"])
        return {
            "type": "user",
            "name": who["name"],
            "orgs": who["orgs"],
            "auth": {"accessToken": {"role": who["role"]}},
        }

    def create(self, ask):
        wish = json.loads(ask["body"])
        who = self.account(ask["token"])
        owner = wish.get("organization") or who["name"]
        self.may_write(owner, ask["token"])
        kind = wish.get("type", "model") + "s"
        if kind == "spaces" and wish["sdk"] != "static" and wish.get("hardware") != "zero-a10g":
            raise Refusal(402, "", "Gradio and Docker Spaces require a paid plan")
        key = f"{kind}/{owner}/{wish['name']}"
        url = f"{self.url}/{'spaces/' if kind == 'spaces' else ''}{owner}/{wish['name']}"
        if key in self.repos:
            raise Refusal(409, "", "You already created this repo", url=url)
        self.repos[key] = Repo(wish.get("visibility") == "private" or wish.get("private", False), wish)
        return {"url": url}

    def info(self, ask):
        repo = self.repo(ask)
        siblings = [{"rfilename": name} for name in repo.files]
        return {"id": ask["id"], "sha": repo.sha(), "private": repo.private, "siblings": siblings, "tags": []}

    def may(self, ask):
        self.repo(ask)
        self.may_write(ask["id"].split("/")[0], ask["token"])
        return {}

    def commits(self, ask):
        repo = self.repo(ask)
        return [
            {"id": repo.sha(i), "title": "", "message": "", "authors": [], "date": "2026-01-01T00:00:00.000Z"}
            for i in reversed(range(len(repo.commits)))
        ]

    def described(self, name: str, data: bytes) -> dict:
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        found = {"type": "file", "path": name, "size": len(data), "oid": git}
        if self.is_large(name):
            found["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return found

    def is_large(self, name: str) -> bool:
        return self.large and name.endswith((".safetensors", ".png"))

    def content(self, ask) -> dict[str, bytes]:
        files = self.repo(ask).at(ask["revision"])
        if files is None:
            raise Refusal(404, "RevisionNotFound", "no such revision")
        return files

    def paths_info(self, ask):
        wanted = parse_qs(ask["body"].decode())["paths"]
        return [self.described(name, data) for name, data in self.content(ask).items() if name in wanted]

    def tree(self, ask):
        return [self.described(name, data) for name, data in self.content(ask).items()]

    def validate(self, ask):
        card = json.loads(ask["body"])["content"]
        if not card.startswith("---\n"):
            raise Refusal(400, "", "no metadata")
        return {"errors": [], "warnings": []}

    def preupload(self, ask):
        self.may(ask)
        files = []
        for file in json.loads(ask["body"])["files"]:
            mode = "lfs" if self.is_large(file["path"]) else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False})
        return {"files": files}

    def batch(self, ask):
        objects = []
        for one in json.loads(ask["body"])["objects"]:
            action = {"upload": {"href": f"{self.url}/lfs/{one['oid']}"}, "verify": {"href": f"{self.url}/lfs-verify"}}
            objects.append({**one, **({} if one["oid"] in self.lfs else {"actions": action})})
        return {"transfer": "basic", "objects": objects}

    def put(self, ask):
        if hashlib.sha256(ask["body"]).hexdigest() != ask["oid"]:
            raise Refusal(400, "", "the content is not that of its name")
        self.lfs[ask["oid"]] = ask["body"]
        return {}

    def commit(self, ask):
        self.may(ask)
        repo = self.repo(ask)
        files = dict(repo.files)
        for line in ask["body"].splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header" and value.get("parentCommit") not in (None, repo.sha()):
                raise Refusal(412, "", "the parent is not the newest commit")
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.lfs[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        repo.commits.append(files)  # atomic: all files in one commit
        return {"commitOid": repo.sha(), "commitUrl": f"{self.url}/{ask['id']}/commit/{repo.sha()}"}

    def resolve(self, ask):
        files, repo = self.content(ask), self.repo(ask)
        if ask["path"] not in files:
            raise Refusal(404, "EntryNotFound", "no such file")
        data = files[ask["path"]]
        sha = repo.sha() if ask["revision"] == "main" else ask["revision"]
        ask["headers"].update({"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'})
        return data

    def delete(self, ask):
        wish = json.loads(ask["body"])
        owner = wish.get("organization") or self.account(ask["token"])["name"]
        self.may_write(owner, ask["token"])
        if self.repos.pop(f"{wish.get('type') or 'model'}s/{owner}/{wish['name']}", None) is None:
            raise Refusal(404, "RepoNotFound", "Repository not found")
        return {}

    # ---- jobs: fake_jobs.py runs them ---------------------------------------------------------------------------

    def job(self, ask):
        self.may_write(ask["owner"], ask["token"])
        if ask["job"] not in self.jobs.made:
            raise Refusal(404, "", "Job not found")
        return self.jobs.made[ask["job"]]

    def hardware(self, ask):
        return fake_jobs.HARDWARE

    def new_job(self, ask):
        self.may_write(ask["owner"], ask["token"])
        spec = json.loads(ask["body"])
        if spec["flavor"] not in [one["name"] for one in fake_jobs.HARDWARE]:
            raise Refusal(400, "", f"Invalid flavor {spec['flavor']}")
        return self.jobs.new(spec, ask["owner"]).facts()

    def list_jobs(self, ask):
        self.may_write(ask["owner"], ask["token"])
        wanted = dict(label.split("=", 1) for label in ask["query"].get("label", []))
        return [job.facts() for job in self.jobs.made.values() if wanted.items() <= job.spec["labels"].items()]

    def cancel(self, ask):
        self.job(ask).end("CANCELED")
        return {}

    ID = r"(?P<id>[^/]+/[^/]+)"
    KIND = r"/api/(?P<kind>models|spaces)/"
    REVISION = r"(?P<revision>[^/]+)"
    ROUTES = (
        ("GET /api/whoami-v2", whoami),
        ("POST /api/repos/create", create),
        ("POST /api/validate-yaml", validate),
        (f"GET {KIND}{ID}/auth-check/write", may),
        (f"GET {KIND}{ID}/commits/main", commits),
        (f"GET {KIND}{ID}/tree/{REVISION}", tree),
        (f"GET {KIND}{ID}(/revision/[^/]+)?", info),
        (f"POST {KIND}{ID}/paths-info/{REVISION}", paths_info),
        (f"POST {KIND}{ID}/preupload/main", preupload),
        (f"POST {KIND}{ID}/commit/main", commit),
        (f"POST /((?P<kind>spaces)/)?{ID}[.]git/info/lfs/objects/batch", batch),
        (r"PUT /lfs/(?P<oid>[0-9a-f]{64})", put),
        ("POST /lfs-verify", lambda self, ask: {}),
        ("DELETE /api/repos/delete", delete),
        ("GET /api/jobs/hardware", hardware),
        ("POST /api/jobs/(?P<owner>[^/]+)", new_job),
        ("GET /api/jobs/(?P<owner>[^/]+)", list_jobs),
        ("GET /api/jobs/(?P<owner>[^/]+)/(?P<job>[^/]+)", lambda self, ask: self.job(ask).facts()),
        ("GET /api/jobs/(?P<owner>[^/]+)/(?P<job>[^/]+)/logs", lambda self, ask: self.job(ask).events()),
        ("POST /api/jobs/(?P<owner>[^/]+)/(?P<job>[^/]+)/cancel", cancel),
        (f"(GET|HEAD) /((?P<kind>spaces)/)?{ID}/resolve/{REVISION}/(?P<path>.+)", resolve),
    )
