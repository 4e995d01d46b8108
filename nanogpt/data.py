"""Batches of tokens: the train/validation split, `get_batch`, shuffled epochs, and the windows used for evaluation.

The first nine tenths of the text are the training set, the last tenth is the validation set. Try it:
`python -m nanogpt.data FILE`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .config import NanoGPTError, TrainConfig
from .holdout import train_length, train_tokens


def split(tokens: np.ndarray, lengths: np.ndarray | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Split a text's ids into the training set (the first 90%) and the validation set: 1-D tensors, uint8 if ids fit.

    The 90% are counted in characters. `lengths` (vocab_size,) is the number of characters per token; None means 1.
    """
    kind = torch.uint8 if tokens.dtype == np.uint8 else torch.int32
    data = torch.from_numpy(np.array(tokens)).to(kind)  # np.array copies a read-only memory-mapped file into memory
    n = train_length(len(data)) if lengths is None else train_tokens(tokens, lengths)
    return data[:n], data[n:]


@dataclass(frozen=True)
class Data:
    """A text, ready for the training loop: both splits on the model's device, and the length of the tokens."""

    train: torch.Tensor  # (N,) ids of the training set
    val: torch.Tensor  # (N,) ids of the validation set
    lengths: torch.Tensor  # (vocab_size,) characters per token: all 1 with the character tokenizer
    per_token: float  # average characters per token in the training set: exactly 1.0 with the character tokenizer


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
        self.count = max(1, (len(data) - block_size) // block_size)  # sequences per epoch, whatever its offset
        self.number, self.places = -1, torch.empty(0)  # the latest epoch, and where its sequences start

    def __call__(self, step: int):
        """Return the batch of a step: xb, and yb one token ahead, both (B, T), on the device of the data."""
        first, end = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        while first < end:  # a batch may span two epochs
            number, at = divmod(first, self.count)
            parts.append(self.pass_over(number)[at : at + end - first])
            first += len(parts[-1])
        return pieces(self.data, torch.cat(parts), self.block_size)

    def pass_over(self, number: int) -> torch.Tensor:
        """Return the starts of an epoch's sequences, in shuffled order: (count,)."""
        if number != self.number:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + number) % 2**63)
            start = torch.randint(len(self.data) - self.count * self.block_size, (1,), generator=generator)
            self.places = start + self.block_size * torch.randperm(self.count, generator=generator)
            self.number = number
        return self.places


def make_get_batch(data: torch.Tensor, block_size: int, config: TrainConfig, generator: torch.Generator) -> Callable:
    """Return the function `get_batch(step)` -> xb, yb, both (B, T), for the kind of batches that `config` asks for."""
    if config.batches == "shuffled":
        return Shuffled(data, block_size, config.batch_size, config.seed)
    return lambda step: get_batch(data, block_size, config.batch_size, generator)


def fitting_block_size(tokens: int, block_size: int) -> int:
    """Return `block_size`, halved until the validation set of a text of `tokens` tokens holds two windows.

    Raise NanoGPTError if the text is too short even for the smallest block size.
    """
    tail = tokens - train_length(tokens)
    while block_size > 2 and tail < 2 * block_size + 1:
        block_size = max(2, block_size // 2)
    if tail < 2 * block_size + 1:
        raise NanoGPTError(f"The text has only {tokens:,} tokens, too few for a validation set. Add more text.")
    return block_size


def windows(data: torch.Tensor, block_size: int, most: int | None = None):
    """Yield (xb, yb) batches that cover `data` in adjacent windows, so that each token is predicted exactly once.

    With `most`, yield only that many windows, evenly spaced and always the same ones. The last window may be shorter.
    """
    starts = torch.arange(0, len(data) - 1, block_size, device=data.device)
    if most is not None and most < len(starts):
        starts = starts[
            torch.linspace(0, len(starts) - 2, most).long().to(data.device)
        ]  # -2: leave out the last, shorter window
    full = starts[starts + block_size < len(data)]
    at_once = 65_536 if data.is_cuda else 4096  # tokens per forward pass: fast, and light on memory
    for some in full.split(max(1, at_once // block_size)):
        piece = data[some[:, None] + torch.arange(block_size + 1, device=data.device)].long()  # (B, T+1)
        yield piece[:, :-1], piece[:, 1:]
    for start in starts[len(full) :]:
        piece = data[start:].long()[None]  # (1, rest)
        yield piece[:, :-1], piece[:, 1:]


def scored_characters(data: torch.Tensor, block_size: int, lengths: torch.Tensor, most: int | None = None) -> int:
    """Return how many characters `windows` predicts; `lengths` (vocab_size,) is the number of characters per token."""
    return sum(int(lengths[yb].sum()) for _, yb in windows(data, block_size, most))


if __name__ == "__main__":
    import sys
    from pathlib import Path

    from .tokenizer import make_tokenizer, token_lengths, unit

    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    tokenizer = make_tokenizer(text)
    train, val = split(tokenizer.encode_array(text), token_lengths(tokenizer))
    xb, yb = get_batch(train, block_size=8, batch_size=4, generator=torch.Generator().manual_seed(1337))
    print(f"training set: {len(train):,} {unit(tokenizer)}s, validation set: {len(val):,}")
    print(f"a batch of shape {tuple(xb.shape)}:")
    for x, y in zip(xb, yb):
        print(f"  {tokenizer.decode(x)!r} -> {tokenizer.decode(y)!r}")
