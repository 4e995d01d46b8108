"""Batches of tokens: the train/validation split, `get_batch`, shuffled epochs, and the windows used for evaluation.

The first nine tenths of the text are the training set, the last tenth is the validation set. Try it:
`python -m nanogpt.data FILE`.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .config import ModelConfig, NanoGPTError, TrainConfig
from .device import Device
from .holdout import train_length, train_tokens

IN_MEMORY = 80_000_000  # bytes: larger texts stay on disk, and the system reads the pages that batches need
AT_A_TIME = 64  # sequences whose pages of a large text may stay in this process's memory, up to 2 MB each
# Tokens per forward pass of an evaluation, and the bytes that they may take there: fast, and light on memory.
AT_ONCE, AT_ONCE_ON_A_GPU = (4096, 2**27), (65_536, 2**30)
PER_TURN = 10_000_000  # sequences that are shuffled at once, which takes 8 bytes each


def split(tokens: np.ndarray, lengths: np.ndarray | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Split a text's ids into the training set (the first 90%) and the validation set: 1-D tensors, uint8 if ids fit.

    The 90% are counted in characters. `lengths` (vocab_size,) is the number of characters per token; None means 1. Both
    are views of one copy in memory, or of the file itself if it is large and `tokens` maps it; then they may be uint16.
    """
    n = train_length(len(tokens)) if lengths is None else train_tokens(tokens, lengths)
    if large_file(tokens):
        data = torch.from_numpy(tokens.view(np.int32) if tokens.dtype == np.uint32 else tokens)
    else:
        # np.array copies a read-only memory-mapped file into memory
        data = torch.from_numpy(np.array(tokens)).to(torch.uint8 if tokens.dtype == np.uint8 else torch.int32)
    return data[:n], data[n:]


def moved(data: torch.Tensor, device: str) -> torch.Tensor:
    """Return ids (N,) from `split` on a device: uint16 as int32 off the CPU, because no GPU can index uint16."""
    return data.to(device, torch.int32 if data.dtype is torch.uint16 and device != "cpu" else data.dtype)


def large_file(tokens: np.ndarray) -> mmap.mmap | None:
    """Return the memory map of ids that are in a file too large to be copied into memory, else None."""
    return tokens.base if isinstance(tokens.base, mmap.mmap) and tokens.nbytes > IN_MEMORY else None


@dataclass(frozen=True)
class Data:
    """A text, ready for the training loop: both splits on the model's device, and the length of the tokens."""

    train: torch.Tensor  # (N,) ids of the training set
    val: torch.Tensor  # (N,) ids of the validation set
    lengths: torch.Tensor  # (vocab_size,) characters per token: all 1 with the character tokenizer
    per_token: float  # average characters per token in the training set: exactly 1.0 with the character tokenizer
    mapped: mmap.mmap | None = None  # the file that both splits are views of, if the text is large


def get_batch(data: torch.Tensor, block_size: int, batch_size: int, generator: torch.Generator):
    """Return `batch_size` random sequences: xb, and yb one token ahead, both (B, T), on the device of `data`.

    The generator is on the CPU, so that a seed gives the same batches on every device.
    """
    ix = torch.randint(len(data) - block_size, (batch_size,), generator=generator)  # (B,)
    return pieces(data, ix, block_size)


def pieces(data: torch.Tensor, ix: torch.Tensor, block_size: int):
    """Return the sequences starting at `ix` (B,): xb, and yb one token ahead, both (B, T), on the device of `data`."""
    if data.is_cuda:
        ix = ix.pin_memory()  # otherwise each batch would wait for the GPU to finish the previous step
    ix = ix.to(data.device, non_blocking=data.is_cuda)
    piece = data[ix[:, None] + torch.arange(block_size + 1, device=data.device)].long()  # (B, T+1)
    return piece[:, :-1], piece[:, 1:]


class Shuffled:
    """Batches in shuffled epochs: each epoch uses every sequence of the text once, in a new order.

    With random sampling, after five epochs' worth of batches, one character in 150 has never been seen while others
    have been seen ten times. Each epoch cuts the text into adjacent sequences from a random offset, so that no
    character is always first in its sequence; the one or two sequences' worth of text left over at the ends differs
    each time. A step's batch depends only on the seed and the step number, so a resumed run needs no extra state.
    """

    def __init__(self, data: torch.Tensor, block_size: int, batch_size: int, seed: int):
        self.data, self.block_size, self.batch_size, self.seed = data, block_size, batch_size, seed
        count = max(1, (len(data) - block_size) // block_size)  # sequences per epoch, whatever its offset
        self.turns = -(-count // PER_TURN)  # per epoch: the first has sequences 0, turns, 2 turns, ... of the text
        self.count = count // self.turns  # sequences per turn
        self.number, self.places = -1, torch.empty(0)  # the latest turn, and where its sequences start

    def __call__(self, step: int):
        """Return the batch of a step: xb, and yb one token ahead, both (B, T), on the device of the data."""
        first, end = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        while first < end:  # a batch may span two turns
            number, at = divmod(first, self.count)
            parts.append(self.starts_of(number)[at : at + end - first])
            first += len(parts[-1])
        return pieces(self.data, torch.cat(parts), self.block_size)

    def starts_of(self, number: int) -> torch.Tensor:
        """Return where the sequences of a turn, counted over all epochs, start, in shuffled order: (count,)."""
        if number != self.number:
            epoch, turn = divmod(number, self.turns)
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            rest = len(self.data) - self.turns * self.count * self.block_size
            start = torch.randint(rest, (1,), generator=generator)
            if turn:
                generator.manual_seed(((self.seed * 1_000_003 + epoch) * 1_000_003 + turn) % 2**63)
            order = torch.randperm(self.count, generator=generator)
            self.places = order.mul_(self.turns).add_(turn).mul_(self.block_size).add_(start)
            self.number = number
        return self.places


def make_get_batch(data: torch.Tensor, block_size: int, config: TrainConfig, generator: torch.Generator) -> Callable:
    """Return the function `get_batch(step)` -> xb, yb, both (B, T), for the kind of batches that `config` asks for."""
    if config.batches == "shuffled":
        return Shuffled(data, block_size, config.batch_size, config.seed)
    return lambda step: get_batch(data, block_size, config.batch_size, generator)


def forgetting(get_batch: Callable, mapped: mmap.mmap, batch_size: int) -> Callable:
    """Return `get_batch`, but let go of the pages of a mapped file now and then, before all of the file is in memory.

    A sequence brings in up to 2 MB around it. The system still keeps them in its cache as long as there is room.
    """
    every = max(1, AT_A_TIME // batch_size)

    def get_batch_and_forget(step: int):
        if step % every == 0:
            mapped.madvise(mmap.MADV_DONTNEED)
        return get_batch(step)

    return get_batch_and_forget if hasattr(mmap, "MADV_DONTNEED") else get_batch  # not on Windows


def fitting_block_size(held_out: int, block_size: int) -> int:
    """Return `block_size`, halved until a validation set of `held_out` tokens holds two windows.

    Raise NanoGPTError if it is too short even for the smallest block size.
    """
    while block_size > 2 and held_out < 2 * block_size + 1:
        block_size = max(2, block_size // 2)
    if held_out < 2 * block_size + 1:
        raise NanoGPTError(
            f"The last tenth of the text has only {held_out:,} tokens, too few for a validation set. Add more text."
        )
    return block_size


def evaluated_at_once(model: ModelConfig, device: Device) -> tuple[int, int]:
    """Return how many tokens an evaluation reads per forward pass, at least one window, and how many bytes they take.

    A large vocabulary takes the most: each token has its logits, their float32 copy and its log-probabilities.
    """
    each = 10 * model.vocab_size + (8 + 8 * device.dtype.itemsize) * model.n_embd  # inside a block: x, norm, 4C twice
    tokens, room = AT_ONCE_ON_A_GPU if device.type == "cuda" else AT_ONCE
    tokens = max(model.block_size, min(tokens, room // each))
    return tokens, tokens * each


def windows(data: torch.Tensor, block_size: int, most: int | None = None, at_once: int = AT_ONCE[0]):
    """Yield (xb, yb) batches that cover `data` in adjacent windows, so that each token is predicted exactly once.

    With `most`, yield only that many windows, evenly spaced and always the same ones. The last window may be shorter.
    A batch has up to `at_once` tokens, and at least one window.
    """
    count = -(-(len(data) - 1) // block_size)
    if most is not None and most < count:
        exact = torch.float32 if count < 2**24 else torch.float64
        starts = torch.linspace(0, count - 2, most, dtype=exact).long() * block_size  # -2: leave out the shorter one
        starts = starts.to(data.device)
    else:
        starts = torch.arange(0, len(data) - 1, block_size, device=data.device)
    full = starts[starts + block_size < len(data)]
    for some in full.split(max(1, at_once // block_size)):
        piece = data[some[:, None] + torch.arange(block_size + 1, device=data.device)].long()  # (B, T+1)
        yield piece[:, :-1], piece[:, 1:]
    for start in starts[len(full) :]:
        piece = data[start:].long()[None]  # (1, rest)
        yield piece[:, :-1], piece[:, 1:]


def scored_characters(data: torch.Tensor, block_size: int, lengths: torch.Tensor, most: int | None = None) -> int:
    """Return how many characters `windows` predicts; `lengths` (vocab_size,) is the number of characters per token."""
    return sum(int(lengths[yb].sum()) for _, yb in windows(data, block_size, most, AT_ONCE_ON_A_GPU[0]))


if __name__ == "__main__":
    from .demo import text_of_argument
    from .tokenizer import make_tokenizer, token_lengths, unit

    with text_of_argument() as text:
        tokenizer = make_tokenizer(text)
        train, val = split(tokenizer.encode_array(text), token_lengths(tokenizer))
        block_size = fitting_block_size(len(val), 8)
        xb, yb = get_batch(train, block_size, batch_size=4, generator=torch.Generator().manual_seed(1337))
        print(f"training set: {len(train):,} {unit(tokenizer)}s, validation set: {len(val):,}")
        print(f"a batch of shape {tuple(xb.shape)}:")
        for x, y in zip(xb, yb):
            print(f"  {tokenizer.decode(x)!r} -> {tokenizer.decode(y)!r}")
