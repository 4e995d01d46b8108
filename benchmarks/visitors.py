"""Measure what visitors get who sample at the same time, alone and while a run trains on the same machine.

    python -m benchmarks.visitors [--visitors 1 4 16 50] [--seconds 15] [--training] [--before FOLDER]

A server with the model that ships is started. All visitors ask for 200 characters at the same moment over the API, and
when the last one is served, again, for some seconds. A first character is timed from sending the request. Processor
time is that of the server's process, for all characters that it wrote. With `--training`, a run trains all the time;
its speed is counted in steps per second, without visitors and while they sample. `--before` is the folder of another
version, measured in the same way afterward. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import hostile
from benchmarks.machine import write_result

LENGTH = 200
RUN = dict(n_layer=4, n_head=4, n_embd=128, block_size=64, batch_size=12, max_iters=10_000)
WORDS = ["the", "old", "mill", "by", "river", "turns", "slowly", "under", "a", "grey", "sky", "and", "sleeps"]


class Visitor(hostile.Visitor):
    """A visitor who samples and notes when the text begins and ends."""

    async def sample(self, seed: int) -> tuple[float, float, str]:
        """Sample once. Return the seconds to the first character and to the last, and what went wrong, or ""."""
        began = time.monotonic()
        asked = dict(name="shakespeare", length=LENGTH, seed=seed)
        status, content = await self.send("POST", f"{hostile.API}/call/v2/sample", json.dumps(asked).encode())
        if status != 200:
            return 0.0, 0.0, f"{status}: {content.decode(errors='replace')[:200]}"
        event = re.search(rb'"event_id": ?"(\w+)"', content)[1].decode()  # type: ignore[index]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(self.address, 0))
        head = f"GET {hostile.API}/call/v2/sample/{event} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
        writer.write(f"{head}Cookie: nanogpt-visitor={self.cookie}\r\nConnection: close\r\n\r\n".encode())
        first, answer = 0.0, b""
        while piece := await reader.read(100_000):
            answer += piece
            if not first and re.search(rb'data: \[?"[^"]', answer):
                first = time.monotonic() - began
        writer.close()
        found = re.search(rb"event: complete\r?\ndata: (.*)", answer)
        written = json.loads(found[1])[0] if found else ""
        wrong = "" if len(written) == LENGTH else answer[-200:].decode(errors="replace")
        return first, time.monotonic() - began, wrong


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def start_training(port: int) -> None:
    """Start a run on a text of random words."""
    visitor = hostile.Visitor(port, "127.2.1.1", "trains")
    text = "".join(" ".join(visitor.random.choices(WORDS, k=8)) + ".\n" for _ in range(10_000))
    _, [added] = await visitor.call("add_corpus", text=text, name="A text")
    status, run = await visitor.call("start_training", corpus_id=added["id"], preset="quick", settings=RUN)
    assert status == 200, run


def steps_of(home: Path) -> int:
    """Return the newest step that any run in a folder has logged."""
    logs = [path.read_text(encoding="utf-8") for path in home.glob("**/metrics.jsonl")]
    return max([int(step) for log in logs for step in re.findall(r'"step": ?(\d+)', log)], default=0)


async def training_speed(home: Path, seconds: float) -> float:
    """Return the steps per second that are logged within some seconds."""
    before, began = steps_of(home), time.monotonic()
    await asyncio.sleep(seconds)
    return round((steps_of(home) - before) / (time.monotonic() - began), 1)


async def crowd(server: hostile.Watched, count: int, seconds: float) -> dict[str, Any]:
    """Let visitors sample together, again and again. Return what they got and what it took."""
    visitors = [Visitor(server.port, f"127.2.0.{at + 1}", str(at)) for at in range(count)]
    pid, deadline, seed = server.process.pid, time.monotonic() + seconds, 0
    used, began, steps = processor_seconds(pid), time.monotonic(), steps_of(server.home)
    got: list[tuple[float, float, str]] = []
    while time.monotonic() < deadline:
        got += await asyncio.gather(*[one.sample(seed + at) for at, one in enumerate(visitors)])
        seed += count
    took, used = time.monotonic() - began, processor_seconds(pid) - used
    firsts, lasts = (sorted(one[at] for one in got if not one[2]) or [0.0] for at in (0, 1))
    characters = LENGTH * len(lasts)
    return dict(
        visitors=count, texts=len(got), failed=[one[2] for one in got if one[2]],
        first_character=spread(firsts), whole_text=spread(lasts), characters_per_second=round(characters / took),
        processor_microseconds_per_character=round(1e6 * used / characters),
        training_steps_per_second=round((steps_of(server.home) - steps) / took, 1),
    )  # fmt: skip


def spread(times: list[float]) -> dict[str, float]:
    """Return the median and the 95th percentile of sorted seconds."""
    return dict(median=round(statistics.median(times), 2), p95=round(times[int(0.95 * len(times))], 2))


async def measure(server: hostile.Watched, args: argparse.Namespace) -> dict[str, Any]:
    """Measure each number of visitors. Return a row for each, and the speed of training before and afterward."""
    await Visitor(server.port, "127.2.2.1", "first").sample(0)  # loads the model
    speeds = []
    if args.training:
        await start_training(server.port)
        while not steps_of(server.home):
            await asyncio.sleep(0.5)
        speeds.append(await training_speed(server.home, args.seconds))
    rows = []
    for count in args.visitors:
        rows.append(await crowd(server, count, args.seconds))
        print(json.dumps(rows[-1]), flush=True)
        if args.training:
            speeds.append(await training_speed(server.home, args.seconds))
    return dict(rows=rows) | (dict(steps_per_second_without_visitors=speeds) if args.training else {})


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--visitors", type=int, nargs="+", default=[1, 4, 16, 50])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--training", action="store_true", help="while a run trains")
    parser.add_argument("--before", type=Path, help="the folder of another version to measure, too")
    parser.add_argument("--quick", action="store_true", help="don't write the result")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that `finally` stops the server
    found: dict[str, Any] = dict(seconds=args.seconds, load_before=os.getloadavg())
    versions = dict(now=hostile.ROOT) | (dict(before=args.before.resolve()) if args.before else {})
    for name, hostile.ROOT in versions.items():
        print(name, flush=True)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            server = hostile.Watched(Path(folder))
            try:
                found[name] = asyncio.run(measure(server, args))
            finally:
                server.stop()
    found["load_after"] = os.getloadavg()
    if not args.quick:
        write_result("visitors-training" if args.training else "visitors", found)
    return found


if __name__ == "__main__":
    main()
