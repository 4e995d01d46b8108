"""How many threads multiply matrices for sampling on a CPU: one, or all, whichever is faster right now."""

from __future__ import annotations

import ctypes
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch

from .packed import has_onednn


class Threads:
    """Chooses between one thread of a library and all of them, whichever is faster right now.

    All threads are up to twice as fast on an idle machine. If other programs are using the CPU too, a library's threads
    wait for each other and can be ten times slower than one. The only way to know is to try both from time to time.
    `get` and `set` are the library's functions, and `most` is the number of all threads.
    """

    def __init__(self, get: Callable[[], int], set: Callable[[int], object], most: int):
        self.get, self.set, self.most = get, set, most
        self.now, self.usual = 1, 1  # threads for the next read, and when no trial is running
        self.times = {n: deque([math.inf], maxlen=3) for n in (1, self.most)}  # seconds of the latest reads
        self.left, self.patience = 4, 8  # reads until the next change, and between trials

    def learn(self, seconds: float) -> None:
        """Record how long a read took and choose the threads for the next one."""
        self.times[self.now].append(seconds)
        self.left -= 1
        better = min(self.times[self.now]) < 0.95 * min(self.times[self.usual])
        if self.now > 1 and seconds > 2 * min(self.times[1]):  # another program is using the CPU
            self.use(1, wait=min(512, 2 * self.patience) if self.usual == 1 else 8)
        elif self.left <= 0 and self.now == self.usual:  # try the other for three reads
            self.now, self.left = self.most + 1 - self.now, 3
            self.times[self.now].clear()
        elif self.left <= 0:
            self.use(self.now if better else self.usual, wait=16 if better else min(512, 2 * self.patience))

    def use(self, threads: int, wait: int) -> None:
        """Use this many threads for the next `wait` reads."""
        self.usual = self.now = threads
        self.patience = self.left = wait

    def chosen(self, size: float = 1.0) -> Chosen:
        """Use the chosen number of threads in a `with` block, and learn from its time, which grows with `size`."""
        return Chosen(self, size)


class Chosen:
    """The `with` block of `Threads.chosen`: a class, because a generator takes as long as two products."""

    __slots__ = ("began", "before", "size", "threads")

    def __init__(self, threads: Threads, size: float):
        self.threads, self.size = threads, size

    def __enter__(self) -> None:
        if self.threads.most > 1:
            self.before = self.threads.get()
            self.threads.set(self.threads.now)
            self.began = time.perf_counter()

    def __exit__(self, *problem: object) -> None:
        if self.threads.most > 1:
            self.threads.set(self.before)
            self.threads.learn((time.perf_counter() - self.began) / self.size)


@cache
def openblas() -> tuple[Callable[[], int], Callable[[int], object]]:
    """Return the functions that get and set the threads of NumPy's OpenBLAS; with another BLAS they do nothing."""
    try:
        library = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]
        return library.scipy_openblas_get_num_threads64_, library.scipy_openblas_set_num_threads64_
    except (AttributeError, OSError):
        return lambda: 1, lambda threads: None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Use one of OpenBLAS's threads in the block, because the products in it are too small for several."""
    switch, before = openblas()[1], usual_blas_threads()
    switch(1)
    try:
        yield
    finally:
        switch(before)


@cache
def all_threads() -> tuple[int, int]:
    """Return how many threads OpenBLAS and torch use by default.

    Read only once: later, another thread may have chosen fewer for a moment, which a new thread of ours would inherit.
    """
    return openblas()[0](), torch.get_num_threads()


def usual_threads() -> int:
    """Return how many threads torch uses here outside our blocks: on the main thread, those that the program has set.

    Another thread may have inherited what was chosen for a moment.
    """
    return torch.get_num_threads() if on_main_thread() else all_threads()[1]


def usual_blas_threads() -> int:
    """Return how many threads OpenBLAS uses outside our blocks, likewise.

    It has one number for the whole process: what another thread sees may have been chosen by a third for a moment.
    """
    return openblas()[0]() if on_main_thread() else all_threads()[0]


def on_main_thread() -> bool:
    """Return True on the main thread of this process."""
    return threading.current_thread() is threading.main_thread()


def blas_threads() -> Threads:
    """Return a choice of OpenBLAS's threads. A single row's products are the same to the bit with any number."""
    return Threads(usual_blas_threads, openblas()[1], all_threads()[0])


def torch_threads() -> Threads:
    """Return a choice of torch's threads, or of one where their number could change a result.

    oneDNN's packed products are the same to the bit with up to 12 threads; torch's own are not.
    """
    usual = all_threads()[1]
    return Threads(usual_threads, torch.set_num_threads, min(usual, 12) if has_onednn() else 1)
