"""Visitors: who is asking, and which runs and texts they own. On your own machine you own everything.

On a public server, a visitor is identified by a random word in a cookie, and runs and texts store its hash as their
owner. Other people's runs and texts are hidden: they are not listed, and asking for one by name gives the same error as
a name that does not exist. A run whose run.json says `"public": true` can be sampled from by all visitors.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from .. import corpus, disk, limits
from ..config import NanoGPTError, TrainConfig
from ..paths import checked_name, slug
from ..runs import Run, Status, all_runs, archive, free_name, queue
from . import place, room, waiting

COOKIE = "nanogpt-visitor"
COOKIES = (COOKIE, f"{COOKIE}-here")  # the second one is partitioned: browsers keep it per embedding site
WORD = re.compile(r"[A-Za-z0-9_-]{22,64}")
SUFFIX = re.compile(r"-[0-9a-f]{8}$")
BYTES_EACH = 20  # per parameter, that a run takes on disk once it has been saved
NOTED_EACH = 600.0  # seconds between two notes that a run is used
NO_COOKIE = (
    "This server tells visitors apart by a cookie, and your browser sent none. Allow cookies, or open the page in its "
    "own tab. From a program, send a random one: "
    f'Client(url, headers={{"Cookie": "{COOKIE}=" + secrets.token_urlsafe()}}).'
)


_counting = threading.Lock()  # so that ten clicks on Start or Resume at the same moment count as ten runs
_taking = threading.Lock()  # so that ten imports at the same moment share the visitor's disk space


def new_word() -> str:
    """Return a random word for a new visitor's cookie."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Visitor:
    """A visitor to the page. `id` is None for the owner of the machine, and empty for a visitor without a cookie."""

    id: str | None = None
    address: str = field(
        default="", compare=False
    )  # on the network: the server shares its disk and its queue among addresses

    # ---- runs ------------------------------------------------------------------------------------------------------

    def runs(self) -> list[Run]:
        """Return the runs the visitor may open and sample from, newest first."""
        return [run for run in all_runs() if self.sees(run)]

    def run(self, name: str) -> Run:
        """Return a run by name. Raise the same NanoGPTError if it does not exist or belongs to another visitor."""
        run = Run(name)
        if not self.sees(run):
            raise run.missing()
        return run

    def own_run(self, name: str) -> Run:
        """Return a run to train, stop, rename or delete. Raise NanoGPTError if the visitor does not own it."""
        run = self.run(name)
        if not self.owns(run):
            raise NanoGPTError(
                f"{run.name} is shared by all visitors, so you can only sample from it. Start a run of your own."
            )
        return run

    def sees(self, run: Run) -> bool:
        """Return True if the visitor owns the run or it is public. The machine's owner sees every name."""
        return self.owns(run) or is_for_all(run)

    def owns(self, run: Run) -> bool:
        """Return True if the run belongs to the visitor."""
        return self.id is None or (self.id != "" and setting(run, "owner") == self.id)

    def uses(self, run: Run) -> None:
        """Note that the visitor uses the run, if it is theirs, so that it doesn't expire soon."""
        about = run.folder / "run.json"
        with suppress(OSError):
            if self.id is not None and self.owns(run) and time.time() > about.stat().st_mtime + NOTED_EACH:
                os.utime(about)

    @queue.one_look()
    def waiting(self) -> list[Run]:
        """Return the visitor's runs that are queued or training."""
        return [run for run in self.runs() if self.owns(run) and run.glance().busy]

    def start(self, text: str, name: str = "", preset_name: str | None = None, **changes: Any) -> Run:
        """Start a run on one of the visitor's texts (by id) or a built-in one (by key). Call `place.attend` next.

        Raise NanoGPTError like `new_run`.
        """
        run = self.new_run(name, self.find_text(text), preset_name, **changes)
        place.start(run)
        return run

    def go_on(self, name: str | None, more: str = "") -> Run:
        """Resume a run where it stopped; train a finished one for `more`, a time or a number of steps.

        Call `place.attend` next.
        """
        from . import prepare  # here and below, because it imports torch, which the page can be drawn without

        with _counting:
            run = self.to_continue(name, "There is no run to resume yet. Press Start.")
            prepare.to_continue(run, **prepare.extension(run.status(), TrainConfig.of(run.settings()["train"]), more))
            self._queue(run)
        place.start(run)
        return run

    def may_resume(self, run: Run, status: Status) -> bool:
        """Return True if the visitor may resume the run, which isn't training and has what it takes."""
        if not status.can_continue or not self.owns(run) or limits.training_is_off():
            return False
        from . import prepare

        return not prepare.refusal(run, status, TrainConfig.of(run.settings()["train"]))

    def new_run(self, name: str, text: corpus.Corpus, preset_name: str | None = None, **changes: Any) -> Run:
        """Create a run for this visitor, if the server's limits allow. Its name defaults to the text's."""
        from ..model import count_parameters
        from . import prepare

        limits.check_training()
        wanted = name.strip() if isinstance(name, str) else name
        if self.id is None:
            return prepare.new_run(checked_name(wanted) if wanted else "", text, preset_name, **changes)
        called = self.name_for(wanted, text.name)
        with _counting:
            self.may_train()
            recipe = prepare.checked(text, preset_name, changes)
            size = BYTES_EACH * count_parameters(recipe.model)
            self.has_room(new=size)
            run = prepare.write(called, text, recipe, self.id)
            room.note(self.address, run.folder, size)
            self._queue(run)
        return run

    def _queue(self, run: Run) -> None:
        """Put a run into the queue, so that the next call counts it."""
        queue.draw(run.name)
        waiting.note(run.name, self.address)

    def to_continue(self, name: str | None, none_yet: str) -> Run:
        """Return one of the visitor's runs, if it may be resumed now. Raise NanoGPTError if not.

        `none_yet` is the message if no name is given.
        """
        if not name:
            raise NanoGPTError(none_yet)
        limits.check_training()
        run = self.own_run(name)
        if self.id is not None:
            text = run.settings()["corpus"]
            self.text(text["id"], text["name"])  # fails on another visitor's text, whatever run.json says
            self.may_train()
        return run

    def unpack(self, path: Path) -> Run:
        """Import an archive as one of the visitor's runs, if they have disk space left for it."""
        with self.storing() as check_room:
            return self.imported(archive.unpack(path, self.id, self.free_name, check_room))

    def imported(self, run: Run) -> Run:
        """Count a run that was imported against its address's share of the disk, and return it."""
        if self.id is not None:
            room.note(self.address, run.folder, run.size())
        return run

    def rename(self, run: Run, name: str) -> Run:
        """Rename one of the visitor's runs."""
        end = SUFFIX.search(run.name) if limits.is_public() else None
        renamed = run.rename(self.name_for(name.removesuffix(end[0]) if end else name, run.name))
        room.move(run.folder, renamed.folder)
        return renamed

    def delete(self, run: Run) -> None:
        """Delete one of the visitor's runs. Its text, if theirs, counts as used: the run has needed it until now."""
        text = setting(run, "corpus")
        run.delete()
        if self.id is not None:
            with suppress(NanoGPTError, OSError):  # a built-in text, or deleted already
                os.utime(self.own_text(text["id"]).folder / "corpus.json")

    def name_for(self, wanted: str, default: str) -> str:
        """Return the wanted name for a run, or a free one like `default` if none is wanted."""
        if not wanted:
            return self.free_name(default)
        return checked_name(wanted) if self.id is None else self.free_name(checked_name(wanted))

    def free_name(self, like: str) -> str:
        """Return a name no run has. A public server adds a random suffix, so names do not reveal other visitors'."""
        if self.id is None:
            return free_name(like)
        return f"{slug(like)[:54].strip('-') or 'run'}-{secrets.token_hex(4)}"

    # ---- texts -----------------------------------------------------------------------------------------------------

    def texts(self) -> list[corpus.Corpus]:
        """Return the visitor's texts and the built-in ones, newest first."""
        return [one for one in corpus.listed() if self.sees_text(one)]

    def text(self, id: str, name: str = "") -> corpus.Corpus:
        """Return a text by id. Raise the same NanoGPTError if it does not exist or belongs to another visitor.

        `name` is what the error calls it, by default its id.
        """
        found = corpus.load(id, name)
        if not self.sees_text(found):
            raise corpus.missing(id, name)
        return found

    def find_text(self, reference: str) -> corpus.Corpus:
        """Return a built-in text by its key, or one of the visitor's by its id."""
        built_in = isinstance(reference, str) and reference in corpus.BUILTINS
        return corpus.find(reference) if built_in else self.text(reference)

    def sees_text(self, one: corpus.Corpus) -> bool:
        """Return True if the text belongs to the visitor or is built in."""
        return self.id is None or one.source.startswith(corpus.BUILT_IN) or (self.id != "" and one.owner == self.id)

    def own_text(self, id: str) -> corpus.Corpus:
        """Return a text to rename or delete. Raise NanoGPTError if the visitor does not own it."""
        found = self.text(id)
        if self.id is not None and found.owner != self.id:
            raise NanoGPTError(f"{found.name} is shared by all visitors, so it can't be changed.")
        return found

    def rename_text(self, id: str, name: str) -> corpus.Corpus:
        """Rename one of the visitor's texts."""
        return corpus.rename(self.own_text(id).id, name)

    def delete_text(self, id: str) -> None:
        """Delete one of the visitor's texts, even if a run still needs it."""
        corpus.delete(self.own_text(id).id)

    def add_text(self, source: corpus.Source, name: str = "", **how: Any) -> corpus.Corpus:
        """Store a text for this visitor as `corpus.add` does, if they have disk space left."""
        return corpus.finished(self.adding_text(source, name, **how))

    def adding_text(self, source: corpus.Source, name: str = "", **how: Any) -> Generator[float, None, corpus.Corpus]:
        """Do what `add_text` does. Yield how much of a large text is done, from 0 to 1."""
        with self.storing() as check_room:
            check_room(3 * corpus.size_of(source))  # as text and as tokens
            added = yield from corpus.adding(source, name, **how, owner=self.id)
            if self.id is not None:
                room.note(self.address, added.folder, corpus.size_on_disk(added))
            return added

    # ---- what the server allows ------------------------------------------------------------------------------------

    def may_train(self) -> None:
        """Raise NanoGPTError if the server's limits do not let the visitor start training now."""
        limits.check_training()
        self.has_room()
        most = limits.limit("NANOGPT_MAX_RUNS")
        if most is not None and len(self.waiting()) >= most:
            s = "" if most == 1 else "s"
            raise NanoGPTError(
                f"You already have {most} run{s} training or queued, the most this server allows. "
                "Stop one, or wait until it is done."
            )
        waiting.check_share(self.address)

    def has_room(self, uploads: int = 0, new: int = 1_000_000) -> None:
        """Raise NanoGPTError if the visitor has no cookie, or no disk space left for `new` bytes.

        `uploads` are the bytes of files that they have uploaded and not stored yet.
        """
        if self.id == "":
            raise NanoGPTError(NO_COOKIE)
        most = limits.limit("NANOGPT_MAX_DISK")
        if most is None or self.id is None:
            return
        used = self.on_disk() + room.coming_from(self.id) + uploads
        if used + new > most:
            raise NanoGPTError(
                f"Your runs, texts and uploads take up {disk.size(used)}, and this may need {disk.size(new)} more; "
                f"this server allows {disk.size(most)}. Export what you want to keep, then delete some."
            )
        room.check_share(used, self.address, new)

    @contextmanager
    def storing(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that does what `has_room` does for so many bytes, and counts them until the block ends.

        By then, what was stored counts instead.
        """
        taken: list[room.Coming] = []

        def take(new: int) -> None:
            with _taking:
                self.has_room(new=new)
                taken.append(room.Coming(self.id, self.address, new))
                room.coming.append(taken[-1])

        try:
            yield take
        finally:
            for one in taken:
                room.coming.remove(one)

    def on_disk(self) -> int:
        """Return the size of the visitor's runs and texts in bytes."""
        runs = sum(run.size() for run in self.runs() if self.owns(run))
        return runs + sum(corpus.size_on_disk(one) for one in self.texts() if one.owner == self.id)


def visitor_of(word: str | None) -> Visitor:
    """Return the visitor whose cookie holds this word; unless the server is public, the machine's owner."""
    if not limits.is_public():
        return Visitor(None)
    if not word or not WORD.fullmatch(word):
        return Visitor("")
    return Visitor(hashlib.sha256(word.encode()).hexdigest()[:32])  # the word itself is never stored


def is_for_all(run: Run) -> bool:
    """Return True if all visitors may sample from the run: run.json says so, or NANOGPT_PUBLIC_RUNS names it."""
    named = [name.strip() for name in os.environ.get("NANOGPT_PUBLIC_RUNS", "").split(",")]
    return run.name in named or setting(run, "public") is True


def setting(run: Run, key: str) -> Any:
    """Return "owner", "public" or "corpus" from run.json, or None if it stores nothing there or can't be read."""
    try:
        return _settings(run.name, run.folder, disk.version(run.folder / "run.json"))[key]
    except NanoGPTError:
        return None


@lru_cache(maxsize=4096)
def _settings(name: str, folder: Path, version: tuple[int, ...] | None) -> dict[str, Any]:
    """Return what `setting` needs of this version of a file, because each page asks whose every run is."""
    settings = Run(name).settings()
    return {key: settings.get(key) for key in ("owner", "public", "corpus")}
