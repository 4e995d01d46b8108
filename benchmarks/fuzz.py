"""Feed the doors of the program what nobody would: texts, run folders, archives and repositories, made by hypothesis.

    python -m benchmarks.fuzz [DOOR…] [--cases 10000] [--seed 1] [--quick]

A door may refuse with a sentence, and nothing else: any other exception fails, and hypothesis makes it small. Each case
must be answered within two seconds, nothing may be written outside of the home folder, and the process may take at most
1 GB above what it takes when idle. DOOR is one of the functions in DOORS; results/fuzz.json has the counts.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from benchmarks.machine import write_result
from nanogpt import corpus
from nanogpt.config import NanoGPTError, SampleConfig
from nanogpt.errors import PROBLEMS
from nanogpt.formats import load_model
from nanogpt.launch import prepare
from nanogpt.publish import hub
from nanogpt.runs import Run, all_runs, archive
from nanogpt.sample import stream
from nanogpt.tokenizer import load_tokenizer
from nanogpt.train import train

PROSE = "“It’s a truth,” she said — “that a café closes.” Grüße! Был день. 春眠不覺曉。\n"
CODECS = (
    "utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252", "cp1251", "cp932", "gb18030", "koi8-r", "latin-1",
)  # fmt: skip
ODD = (
    "\0", "\ufeff", "\u202e", "\u2066", "\x1b[31m", "\x1b]0;", "\x9b", "\b", "\r", "\v", "\f", "\x85", "\u2028",
    "\ud800", "Ã©", "<html>", "*** START OF THE PROJECT GUTENBERG EBOOK", "00:00:01,000 --> 00:00:02,000", "\U0010ffff",
)  # fmt: skip
SECONDS = 2.0
counts: dict[str, Counter] = {}
slowest: dict[str, float] = {}
written: list[str] = []  # paths outside of the folders that may be written to
allowed: list[str] = []


def watch(event: str, arguments: tuple) -> None:
    """Record files that are opened for writing outside of `allowed`."""
    if event == "open" and isinstance(arguments[0], str | bytes) and isinstance(arguments[2], int):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        writing = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writing and allowed and not path.startswith((*allowed, "/dev/", "/proc/")) and "__pycache__" not in path:
            written.append(path)


# ---- texts -----------------------------------------------------------------------------------------------------------

pieces = st.one_of(
    st.just(PROSE), st.sampled_from(ODD), st.text(max_size=30), st.text(st.characters(codec=None), max_size=10),
)  # fmt: skip


@st.composite
def texts(draw: Any) -> str:
    """Draw a text: pieces of all kinds, each repeated, so that it reaches the least length."""
    return "".join(one * draw(st.integers(1, 300)) for one in draw(st.lists(pieces, min_size=1, max_size=6)))


@st.composite
def files(draw: Any) -> bytes:
    """Draw the bytes of a file: encoded texts, joined, cut and damaged."""
    parts = []
    for text in draw(st.lists(texts(), min_size=1, max_size=3)):
        with suppress(UnicodeError):
            parts.append(
                text.encode(draw(st.sampled_from(CODECS)), draw(st.sampled_from(["replace", "surrogatepass"])))
            )
    data = b"".join(parts) or draw(st.binary(max_size=2000))
    for place, new in draw(st.lists(st.tuples(st.integers(0, 1000), st.binary(max_size=6)), max_size=4)):
        at = place * len(data) // 1000
        data = data[:at] + new + data[at + len(new) :]
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


names = st.one_of(
    st.sampled_from(["a.txt", "con.txt", "-", "..", " ", "é\udce9.txt", "a\nb.txt", "x" * 250]), st.text(max_size=40)
)
repairs = st.lists(st.sampled_from(sorted(corpus.REPAIRS)), max_size=3)


def read_text(data: bytes, name: str, encoding: str | None, decline: list[str], accept: list[str]) -> None:
    """Add a file, and read the report."""
    folder = Path(tempfile.mkdtemp(dir=allowed[0]))
    try:
        path = folder / (name.replace("/", "_").replace("\0", "_") or "_")
        try:
            path.write_bytes(data)
        except (OSError, ValueError):  # no such name is possible
            path = folder / "a.txt"
            path.write_bytes(data)
        added = corpus.add([path], encoding=encoding, decline=decline, accept=accept)
        json.dumps([str(added.report()), added.name]).encode()
        corpus.delete(added.id)
    finally:
        shutil.rmtree(folder)


def door_file(cases: Callable) -> Callable:
    """Texts as files, in every encoding."""
    encodings = st.one_of(st.none(), st.sampled_from([*corpus.ENCODINGS, "utf-7", "rot13", ""]))
    return cases(read_text, data=files(), name=names, encoding=encodings, decline=repairs, accept=repairs)


def door_paste(cases: Callable) -> Callable:
    """Texts as pasted."""

    def paste(text: str, decline: list[str], accept: list[str]) -> None:
        added = corpus.add(text, decline=decline, accept=accept)
        json.dumps(str(added.report())).encode()
        corpus.delete(added.id)

    return cases(paste, text=texts(), decline=repairs, accept=repairs)


# ---- run folders -----------------------------------------------------------------------------------------------------

leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-3, 3), st.floats(allow_subnormal=False), st.text(max_size=20),
    st.sampled_from([10**9, 2**63, -1, 1e308, "", "..", "/etc/passwd", "a" * 5000, "\ud800", float("nan")]),
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
whole: dict[str, bytes] = {}  # the files of a good run


def inside(thing: Any, draw: Any) -> Any:
    """Replace a value somewhere within a JSON value, delete it, or add one."""
    if isinstance(thing, dict) and thing and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(thing)))
        how = draw(st.integers(0, 5))
        if how == 0:
            del thing[key]
        elif how == 1:
            thing[draw(st.text(max_size=10))] = draw(values)
        else:
            thing[key] = inside(thing[key], draw)
        return thing
    if isinstance(thing, list) and thing and draw(st.booleans()):
        at = draw(st.integers(0, len(thing) - 1))
        thing[at] = inside(thing[at], draw)
        return thing
    return draw(values)


def damaged_json(data: bytes, draw: Any) -> bytes:
    """Change a JSON file, or the last line of a JSON Lines file."""
    *before, last = data.rstrip(b"\n").split(b"\n") if data.count(b"\n{") else [data]
    changed = inside(copy.deepcopy(json.loads(last)), draw)
    deep = draw(st.sampled_from([0, 0, 0, 0, 3000]))
    text = "[" * deep + json.dumps(changed) + "]" * deep
    return b"\n".join([*before, text.encode("utf-8", "replace"), b""])


def damaged_weights(data: bytes, draw: Any) -> bytes:
    """Change the header of a safetensors file: its length, a tensor's type, shape or place, its metadata."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if draw(st.booleans()):
        header = inside(header, draw)
    new = json.dumps(header).encode()
    claimed = draw(st.sampled_from([len(new)] * 4 + [0, 1, 2**31, 2**63, len(new) + 1]))
    return claimed.to_bytes(8, "little") + new + data[8 + length :]


@st.composite
def folders(draw: Any) -> dict[str, bytes]:
    """Draw the files of a run, some of them damaged."""
    run = dict(whole)
    for name in draw(st.lists(st.sampled_from(sorted(run)), min_size=1, max_size=2, unique=True)):
        how, data = draw(st.integers(0, 9)), run[name]
        if how == 0:
            del run[name]
        elif how == 1:
            run[name] = data[: draw(st.integers(0, len(data)))]
        elif how == 2:
            at = draw(st.integers(0, len(data)))
            run[name] = data[:at] + draw(st.binary(max_size=9)) + data[at:]
        elif how == 3:
            run[name] = draw(st.binary(max_size=50))
        else:
            run[name] = (damaged_weights if name.endswith("safetensors") else damaged_json)(data, draw)
    return run


def use(run: Run) -> None:
    """Do with a run what the page does, each on its own: one refusal must not hide the next."""
    actions: list[Callable[[], object]] = [
        run.glance, run.status, run.settings, run.history, run.size, lambda: [one.name for one in all_runs()],
        lambda: prepare.to_continue(run, max_iters=9),
        lambda: list(stream(load_model(run.folder), load_tokenizer(run.folder), "a", SampleConfig(length=3))),
    ]  # fmt: skip
    refusals = []
    for action in actions:
        try:
            action()
        except PROBLEMS as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def use_and_delete(run: Run) -> None:
    """Use an imported run, then delete it."""
    try:
        use(run)
    finally:
        run.delete()


def door_folder(cases: Callable) -> Callable:
    """Run folders that something else has written into."""

    def open_folder(files: dict[str, bytes]) -> None:
        folder = Path(allowed[0], "checkpoints", "fuzzed")
        folder.mkdir(parents=True)
        try:
            for name, data in files.items():
                (folder / name).write_bytes(data)
            use(Run("fuzzed"))
        finally:
            shutil.rmtree(folder)

    return cases(open_folder, files=folders())


@st.composite
def archives(draw: Any) -> bytes:
    """Draw an archive: of a damaged run, with odd names, or damaged itself."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as out:
        for name, data in draw(folders()).items():
            odd = draw(
                st.sampled_from([name] * 100 + ["../" + name, "/etc/x", name + "/", "a\\b", "", "con", name.upper()])
            )
            info = zipfile.ZipInfo(odd or "x")
            info.external_attr = draw(st.sampled_from([0o100644] * 60 + [0o120777, 0o40755, 0])) << 16
            out.writestr(
                info, data, draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED] * 30 + [zipfile.ZIP_BZIP2]))
            )
    data = packed.getvalue()
    for place, new in draw(st.just([]) | st.lists(st.tuples(st.integers(0, 1000), st.binary(max_size=6)), max_size=2)):
        at = place * len(data) // 1000
        data = data[:at] + new + data[at + len(new) :]
    return data


def door_archive(cases: Callable) -> Callable:
    """Archives to import."""

    def unpack(data: bytes) -> None:
        path = Path(allowed[0], "in.zip")
        path.write_bytes(data)
        use_and_delete(archive.unpack(path))

    return cases(unpack, data=archives())


def door_repository(cases: Callable) -> Callable:
    """Repositories of the Hub, after the download."""

    def adopt(files: dict[str, bytes]) -> None:
        with archive.scratch("repo") as folder:
            for name, data in files.items():
                (folder / name).write_bytes(data)
            try:
                hub._rewrite(folder, "maya/repo")
                run = archive.adopt(folder, pulled=dict(repo="maya/repo", commit="0"))
            except (ValueError, OSError) as error:  # as `pull` does
                raise NanoGPTError(str(error)) from None
        use_and_delete(run)

    return cases(adopt, files=folders())


DOORS = {
    one.__name__.removeprefix("door_"): one
    for one in (door_file, door_paste, door_folder, door_archive, door_repository)
}


def cases(door: str, number: int, given_seed: int) -> Callable:
    """Return a function that runs `number` cases of a handler, whose arguments hypothesis draws."""
    counts[door], slowest[door] = Counter(), 0.0

    def run(handler: Callable, **strategies: Any) -> None:
        @seed(given_seed)
        @settings(max_examples=number, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(**strategies)
        def one(**arguments: Any) -> None:
            began, before = time.perf_counter(), len(written)
            try:
                handler(**arguments)
                counts[door]["accepted"] += 1
            except PROBLEMS as error:
                if not str(error).strip():
                    raise AssertionError("refused without a word") from error
                counts[door]["refused"] += 1
            took = time.perf_counter() - began
            slowest[door] = max(slowest[door], took)
            assert took < SECONDS, f"answered after {took:.1f} s"
            assert len(written) == before, f"wrote to {written[-1]}"

        one()

    return run


def a_good_run(home: Path) -> None:
    """Train a tiny run, and keep its files in `whole`."""
    text = corpus.add(PROSE * 50)
    sizes = dict(n_layer=1, n_head=2, n_embd=8, block_size=8, batch_size=2, max_iters=4, eval_interval=2)
    run = prepare.new_run("good", text, "quick", layout="modern", **sizes)
    train(run)
    whole.update(
        {
            path.name: path.read_bytes()
            for path in run.folder.iterdir()
            if path.suffix in (".json", ".jsonl", ".safetensors")
        }
    )
    run.delete()


def check_what_is_left(home: Path) -> None:
    """Raise AssertionError if a door has left files other than those that every home folder has."""
    for path in home.rglob("*"):
        name = path.relative_to(home).as_posix()
        ours = path.name in (".lock", "machine.json", "in.zip", "built-in.json") or name.startswith("corpora/")
        assert ours or path.is_dir() or ".queue" in name, f"{name} was left"


def memory() -> int:
    """Return the most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("doors", nargs="*", default=list(DOORS), metavar="DOOR", help=", ".join(DOORS))
    parser.add_argument("--cases", type=int, default=10_000, help="per door [10000]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="12 cases per door, and no result")
    args = parser.parse_args(argv)
    before = os.environ.get("NANOGPT_HOME")
    table = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder).resolve()
        os.environ["NANOGPT_HOME"] = str(home)
        try:
            a_good_run(home)
            idle = memory()
            allowed.append(str(home))
            sys.addaudithook(watch)
            for door in args.doors:
                corpus.add(PROSE * 50)  # the good run's; a case before may have deleted it
                began = time.perf_counter()
                DOORS[door](cases(door, min(args.cases, 12) if args.quick else args.cases, args.seed))
                seconds, above = time.perf_counter() - began, (memory() - idle) // 10**6
                table[door] = dict(
                    **counts[door], slowest=round(slowest[door], 2), seconds=round(seconds), MB_above_idle=above
                )
                print(door, table[door], flush=True)
                check_what_is_left(home)
        finally:
            allowed.clear()
            os.environ.pop("NANOGPT_HOME")
            os.environ.update({"NANOGPT_HOME": before} if before else {})
    if not args.quick and args.cases >= 1000:
        write_result("fuzz", dict(seed=args.seed, cases=args.cases, doors=table))
    return table


if __name__ == "__main__":
    main()
