"""Sampling for several requests at once from one model.

A single request is generated just as `sample.stream` would do it. When more arrive, their texts share one cache
(`fast/rows.py`), a row each: a step that adds a character to every text takes little longer than a step for one. Texts
join and leave between two steps, so no request waits for another to end; this is iteration-level scheduling (Orca: Yu
et al., OSDI 2022). Each text has its own settings and random numbers, and is the text that it would be alone, unless
rounding changes a draw.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np

from .config import SampleConfig, newer_half
from .model import GPT
from .sample import Text, decoder_for, generate_one, keep_ready, pick_each, start_ids
from .tokenizer import Tokenizer

try:
    from .fast.rows import Rows
except ImportError:  # without the file, texts take turns
    Rows = None  # type: ignore[assignment, misc]

MOST = 64  # texts at once
MOST_BYTES = 200_000_000  # of keys and values
TURN = 500  # characters after which a text makes room for one that waits
REST = 0.5  # seconds to rest for each second of work while a run trains on the same cores
LOOK = 1.0  # seconds between two looks at whether one does
READ = 512  # tokens of prompts between two characters, so that the others don't have to wait long


class Writing(Text):
    """A text that is being generated: where its context begins, and what can be shown of it.

    `prompt` has at most `block_size` tokens: the others would be copied for nothing.
    """

    def __init__(self, request: Request, prompt: list[int], seed: int, itos: dict[int, str], block_size: int):
        super().__init__(seed, request.config.length, itos, request.config.stop)
        self.request, self.config, self.block_size = request, request.config, block_size
        self.prompt, self.start = prompt, 0  # the context begins at `start`
        self.pieces: list[str] = []
        self.turn = 0  # characters since it last waited

    def add(self, i: int) -> list:
        """Add the next id. Return the characters to show now."""
        pieces = super().add(i)
        self.pieces += pieces
        self.turn += 1
        if not self.request.begun.is_set():
            self.request.begun.set()
        return pieces

    def context(self) -> list[int]:
        """Return the tokens that the next one depends on. If the context is full, continue with its newer half."""
        tokens = self.prompt + self.new
        if len(tokens) - self.start > self.block_size:
            self.start = len(tokens) - newer_half(self.block_size)
        return tokens[self.start :]

    @property
    def last(self) -> int:
        """Return the newest token."""
        return self.new[-1] if self.new else self.prompt[-1]

    @property
    def over(self) -> bool:
        """Return True if the text has ended or its request was abandoned."""
        return self.ended or self.request.left


class Request:
    """The texts of one request. Use `with`: at its end, texts that aren't finished are dropped."""

    def __init__(self, config: SampleConfig):
        self.config, self.texts = config, list[Writing]()
        self.left = False
        self.problem: Exception | None = None
        self.begun, self.done = threading.Event(), threading.Event()  # the first token, or the end; the end

    def __enter__(self) -> Request:
        return self

    def __exit__(self, *problem: object) -> None:
        self.left = True

    def wait(self, seconds: float) -> bool:
        """Wait until all texts have ended, at most some seconds. Return True if they have. Raise what went wrong."""
        ended = self.done.wait(seconds)
        if self.problem is not None:
            raise self.problem
        return ended

    def end(self, problem: Exception | None = None) -> None:
        """Tell who waits that all texts have ended, or what went wrong."""
        self.problem, self.left = problem, True
        self.begun.set()
        self.done.set()

    def written(self) -> list[str]:
        """Return what has been generated so far, one string per text."""
        return ["".join(text.pieces) for text in self.texts]


class Together:
    """A model, and the texts that are asked of it now. A thread generates them, and ends when there are none."""

    def __init__(self, model: GPT, training: Callable[[], bool] = lambda: False):
        """Prepare a model for sampling. Don't train it afterwards. It works less while a run is `training`."""
        self.training, self.looked, self.rests = training, -LOOK, False
        self.since = time.monotonic()  # when it was loaded, for launch/serving.py
        self.model, c = keep_ready(model), model.config
        row = 8 * c.n_layer * c.block_size * (c.n_embd + c.n_head)  # bytes of a text's keys and values, with their ones
        self.most = max(1, min(MOST, MOST_BYTES // row)) if Rows is not None and model.ready is not None else 1
        self.lock = threading.Lock()  # held to start the thread and to end it
        self.thread: threading.Thread | None = None
        self.waiting: deque[Writing] = deque()
        self.writing: list[Writing] = []  # the text of each row
        self.rows: Any = None

    def ask(self, tokenizer: Tokenizer, prompt: str, config: SampleConfig) -> Request:
        """Ask for what `sample.stream_many` yields. Return the request, whose texts grow from now on."""
        request, block_size = Request(config), self.model.config.block_size
        ids = start_ids(tokenizer, prompt)[-block_size:]
        seeds = range(config.seed, config.seed + config.num_samples)
        request.texts = [Writing(request, ids, seed, tokenizer.itos, block_size) for seed in seeds]
        with self.lock:
            if self.thread is None:
                thread = threading.Thread(target=self.work, name="sampling", daemon=True)
                thread.start()
                self.thread = thread
            self.waiting.extend(request.texts)
        return request

    @property
    def texts(self) -> int:
        """Return how many texts are being generated or wait."""
        return len(self.writing) + len(self.waiting)

    # ---- the thread --------------------------------------------------------------------------------------------------

    def work(self) -> None:
        """Generate until there is nothing left to do."""
        while True:
            with self.lock:
                if not self.texts:
                    self.thread = self.rows = None
                    return
            try:
                if self.texts == 1 or self.most == 1:
                    self.write_alone()
                else:
                    began = time.monotonic()
                    self.let_join()
                    self.write_together()
                    self.rest(time.monotonic() - began)
            except Exception as error:  # torch and NumPy raise many types; `Request.wait` raises it where it is handled
                self.fail(error)

    def write_alone(self) -> None:
        """Generate a text as `sample.stream` does, until it ends or others come."""
        if not self.writing:
            self.writing.append(self.waiting.popleft())
        [text] = self.writing
        if self.rows is not None:
            self.rows.restart()
        text.turn = 0
        if not self.leaves(text):
            for i in generate_one(decoder_for(self.model, 1), text.context, text.config, text.rng):
                text.add(i)
                if self.leaves(text):
                    break
        self.writing.clear()
        if text.over:
            self.finish(text)
        elif self.most > 1:
            self.waiting.appendleft(text)
        else:
            self.waiting.append(text)

    def leaves(self, text: Writing) -> bool:
        """Return True if a text that is generated alone is over, or makes room for others."""
        return text.over or bool(self.waiting and (self.most > 1 or text.turn >= TURN))

    def let_join(self) -> None:
        """Read the contexts of texts that wait, as many as there is room for."""
        if self.rows is None:
            self.rows = Rows(self.model.ready, self.most)
        joining, tokens = list[Writing](), 0
        self.make_room()
        while self.waiting and len(self.writing) + len(joining) < self.most and tokens < READ:
            text = self.waiting.popleft()
            if text.over:
                self.finish(text)
                continue
            joining.append(text)
            tokens += len(text.context())
        joining.sort(key=lambda text: len(text.context()))
        self.writing += joining  # before anything can fail
        for T, several in groupby(joining, lambda text: len(text.context())):
            contexts = np.array([text.context() for text in several])  # (N, T)
            self.rows.join(contexts[:, : T - 1])  # `step` reads the newest

    def rest(self, worked: float) -> None:
        """Rest after some seconds of work if a run trains, or many texts would cost it more than half of its speed."""
        if time.monotonic() > self.looked + LOOK:
            self.rests, self.looked = self.training(), time.monotonic()
        if self.rests:
            time.sleep(REST * worked)

    def make_room(self) -> None:
        """If there is no row left for a text that waits, let the one that has written most wait, after its turn."""
        if self.waiting and len(self.writing) == self.most:
            text = max(self.writing, key=lambda text: text.turn)
            if text.turn >= TURN:
                text.turn = 0
                self.drop([text])
                self.waiting.append(text)

    def write_together(self) -> None:
        """Generate a character of each text that has a row."""
        texts = self.writing
        if not texts:
            return
        scores = self.rows.step(np.array([text.last for text in texts]))  # (B, vocab_size)
        ids = pick_each(scores, [text.config for text in texts], [text.rng for text in texts])
        for text, i in zip(texts, ids):
            text.add(i)
        self.let_leave()

    def let_leave(self) -> None:
        """Let the texts that are over leave, and those whose context is full join again with the newer half of it."""
        over = [text for text in self.writing if text.over]
        full = [text for text, at in zip(self.writing, self.rows.at) if at == self.rows.block_size and text not in over]
        self.drop(over + full)
        self.waiting.extendleft(reversed(full))
        for text in over:
            self.finish(text)

    def drop(self, texts: list[Writing]) -> None:
        """Take texts out of their rows. Later rows fill the gaps."""
        rows = list(range(len(self.writing)))
        for row in sorted(map(self.writing.index, texts), reverse=True):
            last = rows.pop()
            if row < len(rows):
                rows[row] = last
        if texts:
            self.rows.keep(rows)
            self.writing = [self.writing[row] for row in rows]

    def finish(self, text: Writing) -> None:
        """Tell who asked for a text if it was the last of the request."""
        if not text.request.done.is_set() and all(one.over for one in text.request.texts):
            text.request.end()

    def fail(self, error: Exception) -> None:
        """Tell those whose texts were being generated what went wrong. Texts that wait get their turn.

        If there were none, what failed was to let those that wait join. They would fail again and again, so tell them.
        """
        for text in self.writing or [self.waiting.popleft() for _ in range(len(self.waiting))]:
            text.request.end(error)
        self.writing, self.rows = [], None
