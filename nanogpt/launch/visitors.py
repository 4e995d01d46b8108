"""Who looks, and what is theirs: on one's own machine everything, on a public server only what one made oneself.

A visitor is a random word in a cookie; runs and texts keep a hash of it as their owner. What belongs to nobody or to
somebody else is not there for a visitor: it is not listed, and asked for by its name it gets the sentence that a name
gets which does not exist. A run whose run.json says `"public": true` is for everybody to write with.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import corpus, limits
from ..config import NanoGPTError, TrainConfig, duration
from ..durations import in_words
from ..paths import checked_name, is_lasting, slug
from ..runs import Run, all_runs, archive, free_name, queue
from . import place, prepare

COOKIE = "nanogpt-visitor"
COOKIES = (COOKIE, f"{COOKIE}-here")  # the second is for a browser that keeps a framed page's cookies with the frame
WORD = re.compile(r"[A-Za-z0-9_-]{22,64}")
SUFFIX = re.compile(r"-[0-9a-f]{8}$")
NO_COOKIE = (
    "This server keeps its visitors' runs and texts apart by a cookie, and your browser sent none. Allow cookies, or "
    "open the page in a tab of its own; a program sends a word of its own: "
    f'Client(url, headers={{"Cookie": "{COOKIE}=" + secrets.token_urlsafe()}}).'
)


_counting = threading.Lock()  # a visitor who presses Start ten times at once is counted ten times


def new_word() -> str:
    """For the cookie of somebody who has none."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Visitor:
    """Somebody at the page. `id` is None for whoever runs their own machine, and empty for one without a cookie."""

    id: str | None = None

    # ---- runs ------------------------------------------------------------------------------------------------------

    def runs(self) -> list[Run]:
        """Those that may be looked at and written with, the newest first."""
        return [run for run in all_runs() if self.sees(run)]

    def run(self, name: str) -> Run:
        """The run of that name. NanoGPTError where there is none, or it is somebody else's: the same sentence."""
        run = Run(name)
        if not self.sees(run):
            raise run.missing()
        return run

    def own_run(self, name: str) -> Run:
        """A run to train, stop, rename or delete. NanoGPTError where it is not the visitor's."""
        run = self.run(name)
        if not self.owns(run):
            raise NanoGPTError(f"{run.name} is there for everybody to write with; start a run of your own to change.")
        return run

    def sees(self, run: Run) -> bool:
        """Whether the run is theirs or everybody's; on one's own machine everything is, even what is not there."""
        return self.owns(run) or is_for_all(run)

    def owns(self, run: Run) -> bool:
        return self.id is None or (self.id != "" and _owner(run) == self.id)

    def waiting(self) -> list[Run]:
        """Their own runs that a trainer has in hand, or soon will."""
        return [run for run in self.runs() if self.owns(run) and run.glance().busy]

    def start(self, text: str, name: str = "", preset_name: str = "quick", **changes: Any) -> Run:
        """Start a run on a text of theirs by its id, or on a built-in one by its key. Raise NanoGPTError as `new_run`.

        The caller calls `place.attend` next.
        """
        run = self.new_run(name, self.find_text(text), preset_name, **changes)
        place.start(run)
        return run

    def go_on(self, name: str | None, budget: str, max_iters: float) -> Run:
        """Continue a run where it stopped; one that has reached its end goes on to this length. Then as `start`."""
        run = self.to_continue(name, "There is no run to continue yet; press Start.")
        status, train = run.status(), TrainConfig.of(run.settings()["train"])
        longer: dict[str, Any] = {}
        if status.state == "finished" and train.budget:
            longer = dict(budget=duration(budget))
        elif status.state == "finished" and int(max_iters or 0) > status.step:
            longer = dict(max_iters=int(max_iters))
        prepare.to_continue(run, **longer)
        place.start(run)
        return run

    def new_run(self, name: str, text: corpus.Corpus, preset_name: str = "quick", **changes: Any) -> Run:
        """`prepare.new_run` for this visitor, where the server's limits allow one. Without a name, after the text."""
        limits.check_training()
        called = self.name_for(name.strip() if isinstance(name, str) else name, text.name)
        if self.id is None:
            return prepare.new_run(called, text, preset_name, **changes)
        with _counting:
            self.may_train()
            run = prepare.new_run(called, text, preset_name, owner=self.id, **changes)
            queue.draw(run.name)  # so that the next one counts it
        return run

    def to_continue(self, name: str | None, none_yet: str) -> Run:
        """A run of theirs that the server's limits let go on, on a text of theirs. NanoGPTError says why not."""
        if not name:
            raise NanoGPTError(none_yet)
        limits.check_training()
        run = self.own_run(name)
        if self.id is not None:
            self.text(run.settings()["corpus"]["id"])  # not somebody else's, whatever the folder says
            self.may_train()
        return run

    def unpack(self, path: Path) -> Run:
        """Import an archive, as a run of theirs."""
        self.has_room()
        return archive.unpack(path, self.id, self.free_name)

    def rename(self, run: Run, name: str) -> Run:
        """Give a run of theirs another name."""
        end = SUFFIX.search(run.name) if limits.is_public() else None
        return run.rename(self.name_for(name.removesuffix(end[0]) if end else name, run.name))

    def name_for(self, wanted: str, otherwise: str) -> str:
        """A name for a run: the wanted one, or one after `otherwise`."""
        if not wanted:
            return self.free_name(otherwise)
        return checked_name(wanted) if self.id is None else self.free_name(checked_name(wanted))

    def free_name(self, like: str) -> str:
        """A name that nobody has. On a public server it ends by chance: none tells that another visitor has it."""
        if self.id is None:
            return free_name(like)
        return f"{slug(like)[:54].strip('-') or 'run'}-{secrets.token_hex(4)}"

    # ---- texts -----------------------------------------------------------------------------------------------------

    def texts(self) -> list[corpus.Corpus]:
        """Those they gave and the built-in ones, the newest first."""
        return [one for one in corpus.listed() if self.sees_text(one)]

    def text(self, id: str) -> corpus.Corpus:
        """The text of that id. NanoGPTError where there is none, or it is somebody else's: the same sentence."""
        found = corpus.load(id)
        if not self.sees_text(found):
            raise corpus.missing(id)
        return found

    def find_text(self, reference: str) -> corpus.Corpus:
        """A built-in text by its key, or one of theirs by its id."""
        built_in = isinstance(reference, str) and reference in corpus.BUILTINS
        return corpus.find(reference) if built_in else self.text(reference)

    def sees_text(self, one: corpus.Corpus) -> bool:
        return self.id is None or one.source.startswith(corpus.BUILT_IN) or (self.id != "" and one.owner == self.id)

    def own_text(self, id: str) -> corpus.Corpus:
        """A text to rename or delete. NanoGPTError where it is not the visitor's."""
        found = self.text(id)
        if self.id is not None and found.owner != self.id:
            raise NanoGPTError(f"{found.name} is there for everybody; it cannot be changed.")
        return found

    def rename_text(self, id: str, name: str) -> corpus.Corpus:
        """Give a text of theirs another name."""
        return corpus.rename(self.own_text(id).id, name)

    def delete_text(self, id: str) -> None:
        """Delete a text of theirs, whether or not anything still needs it."""
        corpus.delete(self.own_text(id).id)

    def add_text(self, source: corpus.Source, name: str = "", **how: Any) -> corpus.Corpus:
        """`corpus.add` for this visitor, where the server has room for another text of theirs."""
        self.has_room()
        return corpus.add(source, name, **how, owner=self.id)

    # ---- what the server allows ------------------------------------------------------------------------------------

    def may_train(self) -> None:
        """NanoGPTError where the server's limits do not allow a visitor to train now."""
        self.has_room()
        most, most_of_all = limits.limit("NANOGPT_MAX_RUNS"), limits.limit("NANOGPT_MAX_WAITING")
        if most is not None and len(self.waiting()) >= most:
            s = "" if most == 1 else "s"
            raise NanoGPTError(
                f"You have {most} run{s} training or waiting already, the most at a time on this server. "
                "Stop one, or wait until it is done."
            )
        if most_of_all is not None and len(queue.waiting()) >= most_of_all:
            raise NanoGPTError(f"{most_of_all} runs are waiting on this server, the most it takes. Try again later.")

    def has_room(self) -> None:
        """NanoGPTError for a visitor without a cookie, or whose share of the disk is used up."""
        if self.id == "":
            raise NanoGPTError(NO_COOKIE)
        most = limits.limit("NANOGPT_MAX_DISK")
        if most is not None and self.id is not None and self.on_disk() >= most:
            raise NanoGPTError(
                f"Your runs and texts take up {self.on_disk() / 1e6:,.0f} MB; at most {most / 1e6:,.0f} MB are kept "
                "here. Save what you want to keep, then delete some."
            )

    def on_disk(self) -> int:
        """Bytes of all that is theirs."""
        runs = sum(run.size() for run in self.runs() if self.owns(run))
        return runs + sum(corpus.size_on_disk(one) for one in self.texts() if one.owner == self.id)


def visitor_of(word: str | None) -> Visitor:
    """The visitor whose cookie holds that word. On one's own machine that is always its owner."""
    if not limits.is_public():
        return Visitor(None)
    if not word or not WORD.fullmatch(word):
        return Visitor("")
    return Visitor(hashlib.sha256(word.encode()).hexdigest()[:32])  # the word itself is never written down


def terms() -> str:
    """What holds for the visitors of this server, in a few sentences."""
    said = ["Your runs and texts are yours alone here; a cookie tells you from other visitors."]
    if hours := limits.limit("NANOGPT_EXPIRE_HOURS"):
        said.append(f"They are deleted after {hours:,} hours, so save what you want to keep.")
    if not is_lasting():
        said.append("This server forgets everything when it restarts.")
    if limits.training_is_off():
        said.append("Training is switched off; write with the models that are here.")
        return " ".join(said)
    allowed = [f"{corpus.max_bytes() / 1e6:,.3g} MB of text"]
    if parameters := limits.limit("NANOGPT_MAX_PARAMETERS"):
        allowed.append(f"{parameters / 1e6:,.3g} million parameters")
    if seconds := limits.limit("NANOGPT_MAX_SECONDS"):
        allowed.append(f"{in_words(seconds)} at a time")
    if runs := limits.limit("NANOGPT_MAX_RUNS"):
        allowed.append(f"{runs} run{'s' if runs > 1 else ''} at once")
    said.append(f"At most {', '.join(allowed)}.")
    if limits.on_zero_gpu():
        said.append("Start and Continue train on a borrowed GPU, from your own daily quota; Sample writes on the CPU.")
    return " ".join(said)


def is_for_all(run: Run) -> bool:
    """Whether a run is for everybody: its run.json says so, or NANOGPT_PUBLIC_RUNS names it."""
    named = [name.strip() for name in os.environ.get("NANOGPT_PUBLIC_RUNS", "").split(",")]
    return run.name in named or _setting(run, "public") is True


def _owner(run: Run) -> Any:
    return _setting(run, "owner")


def _setting(run: Run, key: str) -> Any:
    try:
        return run.settings().get(key)
    except NanoGPTError:
        return None


# ---- what nobody has touched for long goes -------------------------------------------------------------------------


def expire(now: float | None = None) -> list[str]:
    """Delete visitors' runs and texts that nobody has touched for NANOGPT_EXPIRE_HOURS; what was deleted."""
    hours = limits.limit("NANOGPT_EXPIRE_HOURS")
    if hours is None:
        return []
    before, gone = (now or time.time()) - 3600 * hours, []
    for run in all_runs():
        if _owner(run) is None or is_for_all(run) or _touched(run.folder) > before or run.glance().busy:
            continue
        with contextlib.suppress(NanoGPTError, OSError):  # a trainer took it this very moment
            run.delete()
            gone.append(run.name)
    needed = {_setting(run, "corpus")["id"] for run in all_runs() if _setting(run, "corpus")}
    for one in corpus.listed():
        if one.owner is None or one.id in needed or _touched(one.folder) > before:
            continue
        with contextlib.suppress(NanoGPTError):
            corpus.delete(one.id)
            gone.append(one.id)
    return gone


def _touched(folder: Path) -> float:
    """When the newest file in a folder was written, locks aside; now, where it cannot be seen."""
    try:
        written = [path.stat().st_mtime for path in folder.iterdir() if not path.name.startswith(".")]
        return max(written, default=time.time())
    except OSError:
        return time.time()
