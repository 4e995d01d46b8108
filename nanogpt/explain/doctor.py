"""Run doctor: examine a run, by the rules about its losses (rules.py) and by what switching off its parts has shown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from .. import disk
from ..formats import read_config
from ..holdout import epochs
from ..runs import Run, Status
from . import cache
from .baselines import BASELINES
from .loss import count_for, counted_for
from .opened import hash_of
from .rules import LEAST, Curve, Finding, behind_counting, findings

NAMES = dict(mlp="the feed-forward layer", attention="the attention")  # of parts that may do nothing


def curve_of(run: Run, status: Status, count: bool = False) -> Curve:
    """Return what the rules look at. Raise NanoGPTError if the run can't be read.

    With `count`, fit the counting models to its text if that hasn't been done: a second for each 3 million characters.
    """
    from ..model import count_parameters  # here, because it imports torch

    settings, config, history = run.settings(), read_config(run.folder), run.history()
    train_settings = settings["train"]
    steps, val, train = evaluations(history.rows)
    characters = settings["corpus"]["characters"]
    counts = count_for(run) if count else counted_for(run)
    losses = counts.losses if counts else {}
    return Curve(
        steps=steps,
        val=val,
        train=train,
        ended=not status.busy,
        learning_rate=float(train_settings["learning_rate"]),
        epochs=epochs(history.characters, characters),
        parameters=count_parameters(config) - 2 * config.vocab_size * config.n_embd,
        characters=characters,
        vocab_size=config.vocab_size,
        layout=config.features,
        message=status.message,
        dropout=config.dropout,
        n_layer=config.n_layer,
        finished=status.state == "finished",
        timed=bool(train_settings.get("budget")),
        counted=min((value for key, value in losses.items() if not BASELINES[key].adaptive), default=None),
        unigram=losses.get("unigram"),
        matrix_lr=train_settings.get("matrix_lr") if train_settings.get("optimizer") == "muon" else None,
    )


def evaluations(rows: Iterable[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the step, the validation loss and the latest training loss of each evaluation: three of (N,)."""
    found, train = [], math.nan
    for row in rows:
        train = row.get("train_loss") or train
        if row.get("val_loss") is not None:
            found.append((row["step"], row["val_loss"], train))
    steps, val, trained = np.array(found, dtype=float).reshape(-1, 3).T
    return steps.astype(int), val, trained


def idle_parts(run: Run, curve: Curve) -> Finding | None:
    """Return which parts of the blocks do nothing, if switching them off has been measured for these weights.

    Blocks may begin by adding nothing, so if none adds anything yet, the run was too short.
    """
    path = run.folder / "model.safetensors"
    if not (run.folder / "explain" / "parts.json").exists() or not path.exists():
        return None
    from . import ablation  # here, because it imports torch

    found = cache.load_for(run, hash_of(disk.read(path)), ablation.VIEW)
    rises = found["rises"] if found and found["done"] else {}
    parts = [words for kind in NAMES if (words := ablation.idle_words(rises, kind, NAMES[kind]))]
    if not parts:
        return None
    if len(ablation.idle(rises, *NAMES)) == len(NAMES) * curve.n_layer:
        return Finding("idle parts", "No block of this model does anything yet.", curve.longer())
    says, smaller = f"Parts of this model do nothing: {' and '.join(parts)}.", "one fewer layer (n_layer)"
    if curve.n_layer == 1:
        smaller = "a smaller width (n_embd)"
    return Finding("idle parts", says, f"Try {smaller}: it trains faster, and may reach the same loss.")


def problems(run: Run, curve: Curve) -> list[Finding]:
    """Return what the rules find, and which parts of the model do nothing."""
    found = findings(curve)
    idle = idle_parts(run, curve) if curve.ended else None
    if idle is None:
        return found
    # a model that doesn't use what it has needs no more of it, and one that learned nothing may have another reason
    found = [one for one in found if not one.rule.startswith("plateau")]
    return found if found and idle.do == curve.longer() else [*found, idle]


def marked(found: Finding, curve: Curve) -> Finding:
    """Return a finding that knows whether a time budget hides the setting that it advises to change."""
    return replace(found, hidden=curve.timed and bool(re.search("n_embd|n_layer", found.do)))


def examine(run: Run, status: Status, count: bool = False) -> list[Finding]:
    """Return what can be said about a run, the most serious first; of a run without any problem, one sentence.

    With `count`, see `curve_of`.
    """
    curve = curve_of(run, status, count)
    found = [marked(one, curve) for one in problems(run, curve)]
    if found or not curve.ended or len(curve.val) < LEAST:
        return found
    gap = curve.val[-1] - curve.train[-1]
    if behind := behind_counting(curve, f"The validation loss fell to {curve.val.min():.2f}"):
        return [behind]
    apart = f"{abs(gap):.2f} {'above' if gap >= 0 else 'below'} the training loss"
    says = f"Nothing wrong: the validation loss fell to {curve.val.min():.2f}, and the last one is {apart}."
    return [Finding("healthy", says, "Sample from it.")]
