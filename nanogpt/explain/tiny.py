"""Tiny models that answer a question in seconds: what does the causal mask prevent, and what does AdamW do?

They are the lecture's GPT, small, trained on a text with plain PyTorch. `python -m nanogpt.explain.tiny QUESTION FILE`
prints the events as JSON lines; `asked` runs that in a process of its own, which can be paused and ends with its
reader.
"""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .. import corpus, disk
from ..config import NanoGPTError
from . import replay
from .opened import Opened

SEED = 1337
MASK = dict(block_size=32, n_embd=64, n_head=4, n_layer=2, max_iters=400, eval_interval=25)
RATES = (0.3, 1.0, 3.0)  # of plain SGD; the best one is compared with AdamW
RATE = 3e-3  # of AdamW
STEPS = 200  # of the comparison of optimizers
SHOWN = 12  # steps of which everything is shown
BUILT_IN = "python-reference"  # in place of a text that isn't here
MOST = 1_000_000  # characters of a text that are trained on
KINDS = 500  # different characters that are trained on: with thousands, a step takes several times as long


# ---- the mask --------------------------------------------------------------------------------------------------------


def mask(text: str, **sizes: Any) -> Iterator[dict[str, Any]]:
    """Train two models on the same batches, from the same weights: one with the mask, and one that looks ahead.

    Yield {"step", "with": {"held_out"}, "without": {"held_out"}}: losses on held-out text, in nats per character. The
    last one also has "writing", the loss when nothing stands after the last character yet, and a "sample" of each.
    """
    import torch

    from .. import lecture

    stage = lecture.Stage(**(MASK | sizes))
    vocabulary, data = lecture.read(text, stage)
    models = {name: made(stage, len(vocabulary.chars)) for name in ("with", "without")}
    look_ahead(models["without"])
    optimizers = {name: torch.optim.AdamW(model.parameters(), lr=RATE) for name, model in models.items()}
    held_out = lecture.get_batch(data["val"], stage.block_size, 64, torch.Generator().manual_seed(SEED))  # (B, T)
    for step in range(stage.max_iters + 1):
        if step % stage.eval_interval == 0 or step == stage.max_iters:
            losses = {name: dict(held_out=loss_of(model, *held_out)) for name, model in models.items()}
            if step == stage.max_iters:
                break
            yield dict(step=step, **losses)
        xb, yb = lecture.get_batch(data["train"], stage.block_size, stage.batch_size)
        for name, model in models.items():
            optimizers[name].zero_grad(set_to_none=True)
            model(xb, yb)[1].backward()
            optimizers[name].step()
    for name, model in models.items():
        idx = model.generate(torch.zeros((1, 1), dtype=torch.long), 200, torch.Generator().manual_seed(SEED))
        sample = vocabulary.decode(idx[0, 1:].tolist())
        losses[name] |= dict(writing=loss_when_writing(model, *held_out), sample=sample)
    yield dict(step=stage.max_iters, **losses)


def made(sizes: Any, vocab_size: int) -> Any:
    """Return a new GPT of the lecture, always with the same weights."""
    import torch

    from .. import lecture

    torch.manual_seed(SEED)
    return lecture.GPT(sizes, vocab_size)


def look_ahead(model: Any) -> None:
    """Take the mask away: fill the triangle of every head with ones, so that every character sees all of them."""
    from .. import lecture

    for head in model.modules():
        if isinstance(head, lecture.Head):
            head.tril.fill_(1)


def loss_of(model: Any, xb: Any, yb: Any) -> float:
    """Return the loss of a model on windows, as in training: every place of each window counts."""
    import torch

    with torch.no_grad():
        return round(float(model(xb, yb)[1]), 4)


def loss_when_writing(model: Any, xb: Any, yb: Any) -> float:
    """Return the loss of predicting what follows the first character of each window, the first two, and so on.

    With the mask this is the same as `loss_of`. Without it, it is what counts: nothing stands behind to be copied.
    """
    import torch
    from torch.nn import functional as F

    with torch.no_grad():
        ends = [F.cross_entropy(model(xb[:, :t])[0][:, -1], yb[:, t - 1]) for t in range(1, xb.shape[1] + 1)]
    return round(float(torch.stack(ends).mean()), 4)


# ---- AdamW -----------------------------------------------------------------------------------------------------------


def adamw(text: str, steps: int = STEPS) -> Iterator[dict[str, Any]]:
    """Train the same model with AdamW and with plain SGD, and record what happens to two of its weights.

    Yield {"adamw": losses of the batches, "sgd": losses, "rate"} as they come: before the first step, after it, and so
    on. The last one has "weights", too: one in the embedding of a frequent character and one in that of a rare one, see
    `compared`.
    """
    import torch

    from .. import lecture

    sizes = lecture.Stage(block_size=32, n_embd=32, n_head=4, n_layer=1)
    vocabulary, data = lecture.read(text, sizes)
    counts = torch.bincount(data["train"], minlength=len(vocabulary.chars))
    two = [int(counts.argmax()), int((counts - len(data["train"]) / 2000).abs().argmin())]
    train = lambda name, rate: trained(made(sizes, len(vocabulary.chars)), sizes, data["train"], name, rate, steps, two)
    found: dict[str, Any] = dict(adamw=[], sgd=[], rate=None)
    traces = {}
    for losses, traces["adamw"] in train("adamw", RATE):
        found["adamw"] = losses
        yield found
    best = float("inf")
    for rate in RATES:
        *_, (losses, trace) = train("sgd", rate)
        if (end := sum(losses[-20:])) < best:  # false for NaN
            best, found["sgd"], found["rate"], traces["sgd"] = end, losses, rate, trace
        yield found
    named = zip(two, traces["adamw"], traces["sgd"])
    share = lambda i: 100 * float(counts[i]) / len(data["train"])
    yield found | dict(weights=[compared(vocabulary.chars[i], share(i), ours, theirs) for i, ours, theirs in named])


Trace = list[dict[str, float]]  # of a weight: what happened at each step


def trained(
    model: Any, sizes: Any, data: Any, name: str, rate: float, steps: int, characters: list[int]
) -> Iterator[tuple[list[float], list[Trace]]]:
    """Train a model. Yield now and then the losses so far, and the traces of the first weight of some embeddings.

    There is one more loss than there are steps: the first one is of the untrained model.
    """
    import torch

    from .. import lecture

    generator, losses = torch.Generator().manual_seed(SEED), list[float]()
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.SGD
    optimizer = kind(model.parameters(), lr=rate)
    weight = model.token_embedding_table.weight  # (vocab_size, C)
    first = lambda tensor: tensor.detach()[characters, 0].tolist()
    traces: list[Trace] = [[] for _ in characters]
    batch = lambda: lecture.get_batch(data, sizes.block_size, sizes.batch_size, generator)
    for step in range(steps):
        _, loss = model(*batch())
        losses.append(round(loss.item(), 4))
        if step % 20 == 0:
            yield losses, traces
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        before = first(weight)
        optimizer.step()
        state = optimizer.state[weight]  # empty for SGD
        values = dict(g=first(weight.grad), value=first(weight))
        if state:  # the averages as AdamW uses them: corrected for having begun at 0
            averages = zip("mv", ("exp_avg", "exp_avg_sq"), optimizer.defaults["betas"])
            values |= {key: first(state[long] / (1 - beta ** (step + 1))) for key, long, beta in averages}
        for i, trace in enumerate(traces):
            row = {key: of[i] for key, of in values.items()}
            trace.append(row | dict(update=row["value"] - before[i]))
    losses.append(loss_of(model, *batch()))
    yield losses, traces


def compared(character: str, share: float, with_adamw: Trace, with_sgd: Trace) -> dict[str, Any]:
    """Return what happened to a weight in the embedding of a character, which is `share` percent of the text.

    {"character", "share", "steps": the first ones, each {"g", "m", "v", "update", "value"}, "path": [g, value, update]
    of all steps, "typical": {"gradient", "adamw", "sgd"}}: the root mean square of its gradients and updates with
    AdamW, and of its updates with SGD.
    """
    size = lambda rows, key: (sum(row[key] ** 2 for row in rows) / len(rows)) ** 0.5
    typical = dict(gradient=size(with_adamw, "g"), adamw=size(with_adamw, "update"), sgd=size(with_sgd, "update"))
    path = [[row["g"], row["value"], row["update"]] for row in with_adamw]
    return dict(character=character, share=share, steps=with_adamw[:SHOWN], path=path, typical=typical)


# ---- in a process of its own -----------------------------------------------------------------------------------------

QUESTIONS: dict[str, Callable[[str], Iterator[dict[str, Any]]]] = dict(mask=mask, adamw=adamw)


def text_for(opened: Opened) -> tuple[Path, str]:
    """Return the file of a text to train on, and its name: the run's own, or a built-in one if that isn't here."""
    found = corpus.load(opened.corpus_id) if opened.corpus_id else corpus.find(BUILT_IN)
    return found.folder / "text.txt", found.name


def read(text: Path) -> str:
    """Return what is trained on of a text file: all or the start of it, and of a large alphabet what is frequent."""
    with io.TextIOWrapper(disk.opened(text), encoding="utf-8") as file:
        start = file.read(MOST)
    counts = Counter(start)
    frequent = {character for character, _ in counts.most_common(KINDS)}
    return start if len(counts) <= KINDS else "".join(filter(frequent.__contains__, start))


def alphabet(opened: Opened) -> int:
    """Return how many different characters tiny models have to learn: those of the text that they are trained on.

    If that text can't be had, return those of the run's model.
    """
    try:
        return len(set(read(text_for(opened)[0])))
    except (NanoGPTError, OSError):  # a Python without its manual, or a full disk: training says so, the rest works
        return opened.tokenizer.vocab_size


def asked(question: str, text: Path, paused: Callable[[], bool] = lambda: False) -> Iterator[dict[str, Any]]:
    """Train the models of a question on a text file, and yield its events, as `replay.events_of` does."""
    command = [sys.executable, "-m", "nanogpt.explain.tiny", question, str(text)]
    return replay.events_of(command, paused)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)  # the models are so small that more threads would wait for each other
    for event in QUESTIONS[sys.argv[1]](read(Path(sys.argv[2]))):
        print(json.dumps(event), flush=True)
