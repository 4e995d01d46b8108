"""From tokens to batches: the split, `get_batch` and `Shuffled`, and the windows a model is judged on.

The first nine tenths of the text are for learning, the last tenth is held out. Try it: `python -m nanogpt.data FILE`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .config import NanoGPTError, TrainConfig
from .holdout import train_length, train_tokens


def split(tokens: np.ndarray, lengths: np.ndarray | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut a text's ids into the training set, its first 90 %, and the validation set: 1-D tensors, uint8 if that fits.

    The share is one of characters: `lengths` (vocab_size,) are those of each token, None if each has one.
    """
    kind = torch.uint8 if tokens.dtype == np.uint8 else torch.int32
    data = torch.from_numpy(np.array(tokens)).to(kind)  # np.array: out of the read-only map of the file, into memory
    n = train_length(len(data)) if lengths is None else train_tokens(tokens, lengths)
    return data[:n], data[n:]


@dataclass(frozen=True)
class Data:
    """A text as the training loop needs it: both parts where the model is, and how long their tokens are."""

    train: torch.Tensor  # (N,) ids of the training set
    val: torch.Tensor  # (N,) ids of the validation set
    lengths: torch.Tensor  # (vocab_size,) characters of each token: all 1 where a token is a character
    per_token: float  # characters of a token of the training set, on average: exactly 1.0 there


def get_batch(data: torch.Tensor, block_size: int, batch_size: int, generator: torch.Generator):
    """`batch_size` pieces of text from random places: xb, and yb one character ahead, both (B, T), where `data` is.

    The places come from a generator on the CPU, so that a seed means the same batches on every device.
    """
    ix = torch.randint(len(data) - block_size, (batch_size,), generator=generator)  # (B,)
    return pieces(data, ix, block_size)


def pieces(data: torch.Tensor, ix: torch.Tensor, block_size: int):
    """The text from each of the places `ix` (B,) on: xb, and yb one character ahead, both (B, T), where `data` is."""
    if data.is_cuda:
        ix = ix.pin_memory()  # or each batch would wait until the card has done the step before
    ix = ix.to(data.device, non_blocking=data.is_cuda)
    piece = data[ix[:, None] + torch.arange(block_size + 1, device=data.device)].long()  # (B, T+1)
    return piece[:, :-1], piece[:, 1:]


class Shuffled:
    """Batches in passes over the text: each pass takes every piece of it once, in another order.

    From random places, after five passes' worth of batches, one character in 150 was never met and another was met ten
    times. The pieces of a pass lie side by side from a start of its own, so that no character is always a piece's
    first; what is left over at both ends, one to two pieces in all, is another part of the text each time. What a step
    gets follows from the seed and its number alone: a resumed run has nothing to remember.
    """

    def __init__(self, data: torch.Tensor, block_size: int, batch_size: int, seed: int):
        self.data, self.block_size, self.batch_size, self.seed = data, block_size, batch_size, seed
        self.count = max(1, (len(data) - block_size) // block_size)  # pieces of a pass, wherever it starts
        self.number, self.places = -1, torch.empty(0)  # the pass that was asked for last, and where its pieces are

    def __call__(self, step: int):
        """The batch of a step: xb, and yb one character ahead, both (B, T), where the data is."""
        first, end = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        while first < end:  # to the end of the batch, or of the pass
            number, at = divmod(first, self.count)
            parts.append(self.pass_over(number)[at : at + end - first])
            first += len(parts[-1])
        return pieces(self.data, torch.cat(parts), self.block_size)

    def pass_over(self, number: int) -> torch.Tensor:
        """Where the pieces of a pass are, in its order: (count,)."""
        if number != self.number:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + number) % 2**63)
            start = torch.randint(len(self.data) - self.count * self.block_size, (1,), generator=generator)
            self.places = start + self.block_size * torch.randperm(self.count, generator=generator)
            self.number = number
        return self.places


def make_get_batch(data: torch.Tensor, block_size: int, config: TrainConfig, generator: torch.Generator) -> Callable:
    """What gives a step its batch, `get_batch(step)` -> xb, yb, both (B, T): as `config.batches` says."""
    if config.batches == "shuffled":
        return Shuffled(data, block_size, config.batch_size, config.seed)
    return lambda step: get_batch(data, block_size, config.batch_size, generator)


def fitting_block_size(tokens: int, block_size: int) -> int:
    """Return `block_size`, halved until the held-out tenth of so many tokens holds two windows of it."""
    tail = tokens - train_length(tokens)
    while block_size > 2 and tail < 2 * block_size + 1:
        block_size = max(2, block_size // 2)
    if tail < 2 * block_size + 1:
        raise NanoGPTError(f"The text has {tokens:,} tokens; that is too short to hold any of it out. Add more text.")
    return block_size


def windows(data: torch.Tensor, block_size: int, most: int | None = None):
    """Yield (xb, yb) batches that cover `data` in windows side by side, so that each character is predicted once.

    With `most`, only so many windows, evenly spaced, always the same ones. The last window may be shorter.
    """
    starts = torch.arange(0, len(data) - 1, block_size, device=data.device)
    if most is not None and most < len(starts):
        starts = starts[
            torch.linspace(0, len(starts) - 2, most).long().to(data.device)
        ]  # -2: leave out the last, shorter window
    full = starts[starts + block_size < len(data)]
    at_once = 65_536 if data.is_cuda else 4096  # characters per pass: fast, and small in memory
    for some in full.split(max(1, at_once // block_size)):
        piece = data[some[:, None] + torch.arange(block_size + 1, device=data.device)].long()  # (B, T+1)
        yield piece[:, :-1], piece[:, 1:]
    for start in starts[len(full) :]:
        piece = data[start:].long()[None]  # (1, what is left)
        yield piece[:, :-1], piece[:, 1:]


def scored_characters(data: torch.Tensor, block_size: int, lengths: torch.Tensor, most: int | None = None) -> int:
    """Return how many characters are predicted in the `windows`; `lengths` (vocab_size,) are those of each token."""
    return sum(int(lengths[yb].sum()) for _, yb in windows(data, block_size, most))


if __name__ == "__main__":
    import sys
    from pathlib import Path

    from .tokenizer import make_tokenizer, token_lengths, unit

    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    tokenizer = make_tokenizer(text)
    train, val = split(tokenizer.encode_array(text), token_lengths(tokenizer))
    xb, yb = get_batch(train, block_size=8, batch_size=4, generator=torch.Generator().manual_seed(1337))
    print(f"{len(train):,} {unit(tokenizer)}s to train on, {len(val):,} held out; a batch of shape {tuple(xb.shape)}:")
    for x, y in zip(xb, yb):
        print(f"  {tokenizer.decode(x)!r} -> {tokenizer.decode(y)!r}")
