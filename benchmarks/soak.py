"""Use a public server in many ways for an hour: whether its memory, files and processes grow.

    python -m benchmarks.soak [--minutes 60] [--people 3] [--seed 1] [--quick]

Each person has a loopback address and does one thing after another, with pauses: open the page, add a text, train a
tiny model on it, watch it, sample from it and from the model that ships, leave while it writes, list the runs, upload a
file, and ask for what doesn't exist. Every ten runs, a person becomes a new visitor. The server's memory and files are
recorded twice a minute, and its median memory in the last five minutes is compared with minutes 10 to 15. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import statistics
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.hostile import API, TINY, Visitor, Watched, form, told

WORDS = ["the", "old", "mill", "by", "river", "turns", "slowly", "under", "a", "grey", "sky", "and", "sleeps"]
RUNS_EACH = 10
EVERY = 30  # seconds between two looks at the server
WARM = 600  # seconds after which memory should hardly grow
PART = 300  # seconds whose median is compared
QUIET = 90  # seconds at the end in which the server is left idle


class Person(Visitor):
    """A visitor who uses everything that a public server offers."""

    def __init__(self, port: int, at: int, seed: int):
        super().__init__(port, f"127.3.0.{at + 1}", f"soak {seed} {at}")
        self.done: Counter[str] = Counter()
        self.failed: list[str] = []

    async def ask(self, name: str, /, **inputs: Any) -> Any:
        """Call an endpoint. Return its value, or None; anything but an answer counts as a failure."""
        for _ in range(60):
            status, value = await self.call(name, **inputs)
            if status != 429:
                break
            await asyncio.sleep(2)  # too many requests at this moment
        self.done[name] += 1
        if status == 200:
            return value[0]
        self.failed.append(f"{name}: {status} {value}"[:300])
        return None

    async def live(self, until: float) -> None:
        """Do one thing after another until the clock says `until`."""
        runs = 0
        while time.monotonic() < until:
            runs += 1
            if runs % RUNS_EACH == 0:
                self.cookie = secrets.token_urlsafe(24)
            await self.open_page()
            await self.train()
            await self.write_verse()
            await self.break_off()
            await self.upload()
            await self.ask_for_nonsense()
            await asyncio.sleep(5 + 10 * self.random.random())

    async def open_page(self) -> None:
        """Load what a browser loads first."""
        for path in ("/", "/config", "/theme.css"):
            status, _ = await self.send("GET", path)
            self.failed += [f"{path}: {status}"] * (status != 200)
            self.done[path] += 1

    async def train(self) -> None:
        """Add a text and train on it; stop every third run."""
        text = "".join(" ".join(self.random.choices(WORDS, k=8)) + ".\n" for _ in range(1000))
        added = await self.ask("add_corpus", text=text, name="A text")
        run = added and await self.ask("start_training", corpus_id=added["id"], preset="quick", settings=TINY)
        if run and self.random.random() < 1 / 3:
            run = await self.ask("stop_training", name=run["name"])
        while run and run["state"] in ("queued", "running", "stopping"):
            await asyncio.sleep(2)
            run = await self.ask("run_status", name=run["name"])
        self.failed += [f"a run failed: {run['message']}"] * bool(run and run["state"] not in ("finished", "stopped"))
        if run and run["state"] == "finished":
            await self.ask("sample", name=run["name"], prompt="the ", length=200)
        await self.ask("list_runs")

    async def write_verse(self) -> None:
        """Sample from the model that ships."""
        await self.ask("sample", name="shakespeare", length=self.random.choice([50, 200, 1000]))

    async def break_off(self) -> None:
        """Ask for a long text and leave after a second."""
        asked = json.dumps(dict(name="shakespeare", length=10_000)).encode()
        status, content = await self.send("POST", f"{API}/call/v2/sample", asked)
        if status == 200:
            event = json.loads(content)["event_id"]
            await self.send("GET", f"{API}/call/v2/sample/{event}", read=1.0)
        self.done["left"] += 1

    async def upload(self) -> None:
        """Upload a file of 100 kB, and don't use it."""
        content, kind = form(1, 100_000)
        status, _ = await self.send("POST", f"{API}/upload", content, kind)
        self.failed += [f"upload: {status}"] * (status not in (200, 413, 429))
        self.done["upload"] += 1

    async def ask_for_nonsense(self) -> None:
        """Ask for what isn't there: each is refused with a sentence."""
        for name, inputs in (("run_status", dict(name="no-such-run")), ("sample", dict(name="../x"))):
            status, _ = await self.call(name, **inputs)
            self.failed += [f"{name} of nonsense: {status}"] * (status not in (400, 429))
            self.done["nonsense"] += 1


def zombies(pid: int) -> int:
    """Return the number of a process's children that have ended without anybody looking at how."""
    found = 0
    for about in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = about.read_text(encoding="utf-8").rpartition(")")[2].split()[:2]
            found += state == "Z" and parent == str(pid)
    return found


async def use(server: Watched, people: list[Person], seconds: float) -> None:
    """Use the server for some seconds, then leave it alone for a while. Look at it all the time."""
    began = time.monotonic()
    tasks = [asyncio.create_task(one.live(began + seconds)) for one in people]
    while time.monotonic() < began + seconds + min(QUIET, seconds) or not all(task.done() for task in tasks):
        await asyncio.to_thread(server.look, began)
        server.table[-1]["zombies"] = zombies(server.process.pid)
        await asyncio.sleep(min(EVERY, seconds / 10))
        if time.monotonic() > began + seconds + 300:
            raise RuntimeError("a visitor was still waiting after five minutes")
    for task in tasks:
        task.result()  # raises what went wrong in this program


def left_over(server: Watched) -> list[str]:
    """Return the temporary files that are left, relative to their folder."""
    folders = [server.scratch, server.home]
    files = [path.relative_to(folder) for folder in folders for path in folder.rglob("*") if path.is_file()]
    return sorted({str(path) for path in files if path.name.endswith((".tmp", ".part")) or ".tmp-" in path.name})


def summary(server: Watched, people: list[Person], seconds: float) -> dict[str, Any]:
    """Return what was measured."""
    warm = min(WARM, seconds / 6)
    part = min(PART, seconds / 4)
    median = lambda key, since: statistics.median(
        row[key] for row in server.table if since <= row["seconds"] <= since + part
    )
    before, after = median("memory_mb", warm), median("memory_mb", seconds - part)
    done = sum((one.done for one in people), Counter())
    return dict(
        memory_mb=dict(idle=server.table[0]["memory_mb"], after_ten_minutes=before, at_the_end=after),
        growth=round(after / before - 1, 4),
        open_files=dict(idle=server.table[0]["files"], after_ten_minutes=median("files", warm),
                        quiet=server.table[-1]["files"]),
        zombies=max(row["zombies"] for row in server.table[-2:]), temporary_files=left_over(server),
        done=dict(done), failed=[text for one in people for text in one.failed], over_time=server.table[::4],
    )  # fmt: skip


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="don't write the result")
    args = parser.parse_args(argv)
    seconds = 60 * args.minutes
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = Watched(Path(folder))
        people = [Person(server.port, at, args.seed) for at in range(args.people)]
        try:
            asyncio.run(use(server, people, seconds))
            found = summary(server, people, seconds)
        finally:
            server.stop()
    found = dict(minutes=args.minutes, people=args.people, seed=args.seed, load=os.getloadavg()[0]) | found
    return told("soak", found, args.quick)


if __name__ == "__main__":
    main()
