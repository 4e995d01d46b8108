"""Attack a public server for some minutes, while others use it: what it takes in memory and on disk, and how they fare.

    python -m benchmarks.hostile [--minutes 5] [--hostile 100] [--honest 10] [--seed 1] [--quick]

Each visitor has a loopback address of their own. The hostile ones do what could exhaust a server, each one thing from
KINDS again and again; the honest ones add a text, train a tiny model on it and sample from it. Memory is that of the
server's process, disk that of its runs and texts and of its temporary folder. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.machine import write_result

ROOT = Path(__file__).resolve().parent.parent
LIMITS = dict(  # lower than the defaults, so that five minutes reach them
    NANOGPT_MAX_DISK="50000000", NANOGPT_SERVER_DISK="500000000", NANOGPT_SERVER_UPLOADS="200000000",
)  # fmt: skip
API = "/gradio_api"
MB = 1_000_000
AFTERWARD = 10  # seconds for which the server is watched when the attack is over
TINY = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, max_iters=50, eval_interval=25)


class Visitor:
    """One visitor with an address and a cookie, who sends plain HTTP."""

    def __init__(self, port: int, address: str, seed: str):
        self.port, self.address, self.random = port, address, random.Random(seed)
        self.cookie = secrets.token_urlsafe(24)

    async def send(self, method: str, path: str, body: Any = b"", kind: str = "application/json", **how: Any) -> tuple:
        """Send a request. Return the status and the body, or (0, b"") if the connection breaks.

        `cookie` is sent in place of the visitor's own. `claims` is a length to declare, None for a chunked body;
        `pause` is the seconds between two pieces; `read` is the seconds to read the answer for.
        """
        claims, cookie = how.get("claims", len(body)), how.get("cookie", self.cookie)
        length = "Transfer-Encoding: chunked" if claims is None else f"Content-Length: {claims}"
        sent = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", length, "Connection: close"]
        sent += [f"Content-Type: {kind}"] + ([f"Cookie: nanogpt-visitor={cookie}"] if cookie else [])
        writer = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(self.address, 0))
            writer.write("\r\n".join([*sent, "", ""]).encode())
            with suppress(ConnectionError):
                await self.write(writer, body, claims is None, how.get("pause", 0.0))
            answer = b""
            with suppress(TimeoutError):
                async with asyncio.timeout(how.get("read", 120.0)):
                    while piece := await reader.read(MB):
                        answer += piece
            head, _, content = answer.partition(b"\r\n\r\n")
            return (int(head.split()[1]) if head else 0), content
        except OSError:
            return 0, b""
        finally:
            if writer is not None:
                writer.close()

    async def write(self, writer: asyncio.StreamWriter, body: bytes, chunked: bool, pause: float) -> None:
        """Write a body in pieces, one byte at a time if there is a pause between them."""
        step = 1 if pause else 64_000
        for start in range(0, len(body), step):
            piece = body[start : start + step]
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            await writer.drain()
            await asyncio.sleep(pause)
        if chunked:
            writer.write(b"0\r\n\r\n")
            await writer.drain()

    async def call(self, name: str, /, **inputs: Any) -> tuple:
        """Call an endpoint. Return (200, its value), (400, its error), or the status of a refusal and what it says."""
        status, content = await self.send("POST", f"{API}/call/v2/{name}", json.dumps(inputs).encode())
        if status != 200:
            return status, content.decode(errors="replace")
        event = re.search(rb'"event_id": ?"(\w+)"', content)[1].decode()  # type: ignore[index]
        status, stream = await self.send("GET", f"{API}/call/v2/{name}/{event}")
        found = re.findall(r"event: (complete|error)\r?\ndata: (.*)", stream.decode(errors="replace"))
        if not found:
            return status and 502, ""
        return (200 if found[-1][0] == "complete" else 400), json.loads(found[-1][1] or "null")


def form(files: int, size: int) -> tuple[bytes, str]:
    """Return a form with that many files of that many bytes, and its content type."""
    part = b'--edge\r\nContent-Disposition: form-data; name="files"; filename="%d.txt"\r\n\r\n%s\r\n'
    content = b"a line of text\n" * (size // 15 + 1)
    return b"".join(
        part % (at, content[:size]) for at in range(files)
    ) + b"--edge--\r\n", "multipart/form-data; boundary=edge"


# ---- hostile visitors ------------------------------------------------------------------------------------------------


async def big_body(v: Visitor) -> tuple:
    """Send 20 MB of JSON, more than any text may have."""
    return await v.send("POST", f"{API}/call/add_corpus", json.dumps({"data": ["x" * 20 * MB]}).encode())


async def endless_body(v: Visitor) -> tuple:
    """Send 30 MB in pieces, without saying how many there will be."""
    return await v.send("POST", f"{API}/queue/join", b"[" * 30 * MB, claims=None)


async def many_values(v: Visitor) -> tuple:
    """Send JSON that takes 25 times as much memory as the body has bytes."""
    return await v.send("POST", f"{API}/call/add_corpus", b'{"data": [' + b"[]," * 5 * MB + b"[]]}")


async def texts(v: Visitor) -> tuple:
    """Add a text of 4 MB as a new visitor, and don't fetch the answer."""
    text = f"{v.random.random()} is not a word, but it is a line\n" * 80_000
    body = json.dumps({"data": [text, "a text"]}).encode()
    return await v.send("POST", f"{API}/call/add_corpus", body, cookie=secrets.token_urlsafe(24))


async def unfetched(v: Visitor) -> tuple:
    """Have something written, and don't fetch it."""
    name = v.random.choice(["shakespeare", "no-such-run"])
    return await v.send("POST", f"{API}/call/sample", json.dumps({"data": [name, "", 0.8, 10_000, 0, 1.0, 1]}).encode())


async def flood(v: Visitor) -> tuple:
    """Put events into the queue, each from a session of its own."""
    body = dict(data=[], fn_index=v.random.randrange(60), session_hash=secrets.token_hex(8))
    return await v.send("POST", f"{API}/queue/join", json.dumps(body).encode())


async def half_upload(v: Visitor) -> tuple:
    """Break off an upload of 25 MB in the middle."""
    content, kind = form(1, 12 * MB)
    return await v.send("POST", f"{API}/upload", content[:-20], kind, claims=25 * MB, read=0.1)


async def uploads(v: Visitor) -> tuple:
    """Upload 10 MB as a new visitor, and don't use it."""
    content, kind = form(1, 10 * MB)
    return await v.send("POST", f"{API}/upload", content, kind, cookie=secrets.token_urlsafe(24))


async def uploads_without_a_cookie(v: Visitor) -> tuple:
    """Upload 25 MB without a cookie."""
    content, kind = form(1, 25 * MB)
    return await v.send("POST", f"{API}/upload", content, kind, cookie="")


async def many_files(v: Visitor) -> tuple:
    """Upload 1,000 files at once."""
    return await v.send("POST", f"{API}/upload", *form(1000, 100))


async def slow_body(v: Visitor) -> tuple:
    """Send a byte a second."""
    return await v.send("POST", f"{API}/call/list_runs", b" " * 60, claims=100_000, pause=1.0, read=1.0)


async def streams(v: Visitor) -> tuple:
    """Open forty streams, and keep them for ten seconds."""
    one = lambda: v.send("GET", f"{API}/heartbeat/{secrets.token_hex(8)}", read=10.0)
    return (await asyncio.gather(*[one() for _ in range(40)]))[0]


async def pages(v: Visitor) -> tuple:
    """Open the page as a new visitor."""
    return await v.send("GET", "/", cookie="")


KINDS = [
    big_body, endless_body, many_values, texts, unfetched, flood, half_upload, uploads, uploads_without_a_cookie,
    many_files, slow_body, streams, pages,
]  # fmt: skip


async def attack(port: int, count: int, seconds: float, seed: int) -> dict[str, Any]:
    """Run the hostile visitors. Return how often each kind was answered with which status; 0 is a broken connection."""
    answers: dict[str, Counter[int]] = {kind.__name__: Counter() for kind in KINDS}
    deadline = time.monotonic() + seconds

    async def one(at: int) -> None:
        visitor, kind = Visitor(port, f"127.1.0.{at + 1}", f"{seed} {at}"), KINDS[at % len(KINDS)]
        while time.monotonic() < deadline:
            status, _ = await kind(visitor)
            answers[kind.__name__][status] += 1
            await asyncio.sleep(visitor.random.random() / 5)

    tasks = [asyncio.create_task(one(at)) for at in range(count)]
    await asyncio.wait(tasks, timeout=seconds + 5)
    for task in tasks:
        task.cancel()
    failed = [repr(task.exception()) for task in tasks if task.done() and not task.cancelled() and task.exception()]
    return dict(answers={name: dict(sorted(found.items())) for name, found in answers.items()}, failed=failed)


# ---- honest visitors -------------------------------------------------------------------------------------------------


class Honest:
    """An honest visitor, who waits and tries again when the server is busy, and notes how long everything took."""

    def __init__(self, port: int, at: int, deadline: float, seed: int):
        self.visitor = Visitor(port, f"127.2.0.{at + 1}", f"honest {seed} {at}")
        self.deadline = deadline
        self.seconds: dict[str, list[float]] = {"add_corpus": [], "start_training": [], "run_status": [], "sample": []}
        self.failed: list[str] = []
        self.again = 0
        self.trained = 0

    async def call(self, name: str, /, **inputs: Any) -> Any:
        """Call an endpoint until it works. Return its value, or None if there is no time left."""
        began = time.monotonic()
        while time.monotonic() < self.deadline:
            status, value = await self.visitor.call(name, **inputs)
            if status == 200:
                self.seconds[name].append(time.monotonic() - began)
                return value[0]
            if status == 400:
                self.failed.append(f"{name}: {value}")
                return None
            self.again += 1
            await asyncio.sleep(1 + self.visitor.random.random())
        self.failed += [f"{name}: no answer in {time.monotonic() - began:.0f} s"] * (time.monotonic() - began > 60)
        return None

    async def live(self) -> None:
        """Add a text, train on it and sample, as long as there is time."""
        words = ["the", "old", "mill", "by", "river", "turns", "slowly", "under", "a", "grey", "sky", "and", "sleeps"]
        while time.monotonic() < self.deadline:
            text = "".join(" ".join(self.visitor.random.choices(words, k=8)) + ".\n" for _ in range(1000))
            added = await self.call("add_corpus", text=text, name="A text")
            run = added and await self.call("start_training", corpus_id=added["id"], preset="quick", settings=TINY)
            while run and run["state"] in ("queued", "running", "stopping"):
                await asyncio.sleep(2)
                run = await self.call("run_status", name=run["name"])
            if run:
                self.trained += run["state"] == "finished"
                await self.call("sample", name=run["name"], prompt="the ", length=200)
                await asyncio.sleep(2)


# ---- the server ------------------------------------------------------------------------------------------------------


class Watched:
    """The server under attack, in a process and with folders of its own."""

    def __init__(self, folder: Path):
        self.home, self.scratch = folder / "home", folder / "tmp"
        self.scratch.mkdir()
        environment = {**os.environ, **LIMITS, "NANOGPT_HOME": str(self.home), "TMPDIR": str(self.scratch)}
        environment |= {"GRADIO_TEMP_DIR": "", "PYTHONUNBUFFERED": "1"}
        self.log = (folder / "log.txt").open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "app.py", "--public"], cwd=ROOT, env=environment, stdout=self.log, stderr=self.log,
            start_new_session=True,
        )  # fmt: skip
        self.port = self._port()
        self.table: list[dict[str, float]] = []

    def _port(self) -> int:
        for _ in range(600):
            found = re.search(r"http://127\.0\.0\.1:(\d+)", Path(self.log.name).read_text(encoding="utf-8"))
            if found:
                return int(found[1])
            time.sleep(0.1)
        raise RuntimeError("the server did not start")

    def look(self, began: float) -> None:
        """Note the server's memory, its open files and what is on disk."""
        about = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        memory = lambda key: int(re.search(rf"{key}:\s+(\d+)", about)[1]) / 1000  # type: ignore[index]
        self.table.append(dict(
            seconds=round(time.monotonic() - began), memory_mb=round(memory("VmRSS")),
            peak_mb=round(memory("VmHWM")), files=len(os.listdir(f"/proc/{self.process.pid}/fd")),
            stored_mb=round(on_disk(self.home) / MB, 1), scratch_mb=round(on_disk(self.scratch) / MB, 1),
        ))  # fmt: skip

    def stop(self) -> None:
        """End the server, and the trainers that it has started."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        for about in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if f"NANOGPT_HOME={self.home}".encode() in about.read_bytes().split(b"\0"):
                    os.kill(int(about.parent.name), signal.SIGKILL)


def on_disk(folder: Path) -> int:
    """Return the bytes that a folder takes on disk."""
    found = 0
    for above, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                found += os.lstat(os.path.join(above, name)).st_blocks * 512
    return found


async def watch(server: Watched, people: list[Honest], seconds: float) -> None:
    """Look at the server every two seconds until the honest visitors are done."""
    began = time.monotonic()
    tasks = [asyncio.create_task(one.live()) for one in people]
    while time.monotonic() - began < seconds:
        await asyncio.to_thread(server.look, began)
        await asyncio.sleep(2)
    await asyncio.wait(tasks, timeout=60)
    for one, task in zip(people, tasks):
        if task.done():
            task.result()  # raises what went wrong in this program
        else:
            one.failed.append("a call took more than a minute")
            task.cancel()


def summary(server: Watched, people: list[Honest], hostile: dict[str, Any]) -> dict[str, Any]:
    """Return what was measured."""
    times = {name: sorted(t for one in people for t in one.seconds[name]) for name in people[0].seconds}
    latency = {
        name: dict(calls=len(t), median=round(statistics.median(t), 2), p95=round(t[int(0.95 * len(t))], 2))
        for name, t in times.items() if t
    }  # fmt: skip
    most = {key: max(row[key] for row in server.table) for key in server.table[0]}
    honest = dict(
        trained=sum(one.trained for one in people), failed=[text for one in people for text in one.failed],
        tried_again=sum(one.again for one in people), seconds=latency,
    )  # fmt: skip
    idle, over_time = server.table[0]["memory_mb"], server.table[::5]
    return dict(idle_mb=idle, most=most, honest=honest, hostile=hostile, over_time=over_time)


def told(name: str, found: dict[str, Any], quick: bool) -> dict[str, Any]:
    """Print what was measured, without its course over time, and write the result unless it was `quick`. Return it."""
    print(json.dumps({key: value for key, value in found.items() if key != "over_time"}, indent=1))
    if not quick:
        write_result(name, found)
    return found


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--hostile", type=int, default=100)
    parser.add_argument("--honest", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="don't write the result")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)  # be the hostile visitors, in their own process
    args = parser.parse_args(argv)
    seconds = 60 * args.minutes
    if args.port:
        print(json.dumps(asyncio.run(attack(args.port, args.hostile, seconds, args.seed))))
        return {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = Watched(Path(folder))
        command = [sys.executable, "-m", "benchmarks.hostile", "--port", str(server.port), "--minutes"]
        command += [str(args.minutes), "--hostile", str(args.hostile), "--seed", str(args.seed)]
        try:
            server.look(time.monotonic())
            hostile = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            deadline = time.monotonic() + seconds
            people = [Honest(server.port, at, deadline, args.seed) for at in range(args.honest)]
            asyncio.run(watch(server, people, seconds + AFTERWARD))
            answers = json.loads(hostile.communicate(timeout=60)[0])
            server.look(time.monotonic() - seconds)
        finally:
            server.stop()
        found = summary(server, people, answers)
    found = dict(minutes=args.minutes, visitors=[args.hostile, args.honest], seed=args.seed, limits=LIMITS) | found
    return told("load", found, args.quick)


if __name__ == "__main__":
    main()
