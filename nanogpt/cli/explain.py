"""`explain`: look into a trained model from the command line, as in the Understand tab."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from ..config import NanoGPTError
from ..explain.features import FEATURES
from ..runs import Run
from .flags import Command


def parts(opened: Any) -> tuple[dict[str, Any], str]:
    """Measure by how much the loss on held-out text rises without each head, attention and feed-forward layer."""
    from ..explain import ablation

    *_, found = ablation.measured(opened)
    rises, config = found["rises"], opened.model.config
    columns = [*(f"head.{h}" for h in range(config.n_head)), "attention", "mlp"]
    named = [*(f"head {h + 1}" for h in range(config.n_head)), "attention", "feed-fwd"]
    heading = " " * 8 + "".join(f"{name:>10}" for name in named)
    rows = [
        f"block {i + 1:<2}" + "".join(f"{rises[f'{i}.{name}']:>+10.3f}" for name in columns)
        for i in range(config.n_layer)
    ]
    words = ablation.summary(opened.model, rises)
    words.append(f"Measured on {ablation.measured_on(found)}; its loss is {found['loss']:.4f}.")
    return found, "\n".join([heading, *rows, *words])


def copies(opened: Any) -> tuple[dict[str, Any], str]:
    """Find what a sample of 2,000 characters copies from the training text, word for word."""
    from ..explain import copies

    found = copies.of_a_sample(opened)
    return found, copies.verdict(found)


def attention(opened: Any) -> tuple[dict[str, Any], str]:
    """Say what each head attends to."""
    from ..explain import attention

    found = attention.of_heads(opened)
    lines = [
        f"block {i + 1}, head {h + 1}: {fact['says']}"
        for i, heads in enumerate(found["heads"])
        for h, fact in enumerate(heads)
    ]
    return found, "\n".join([*lines, attention.copying_words(found["copying"]), f"Measured on {found['on']}."])


def readout(opened: Any) -> tuple[dict[str, Any], str]:
    """Measure how well the next character can be predicted from what the model has computed after each block."""
    from ..explain import readout

    *_, found = readout.measured(opened)
    rows = [f"{name:<14}{loss:.4f}" for name, loss in zip(readout.depths(opened.model), found["losses"])]
    return found, "\n".join([*rows, *readout.summary(found["losses"])])


def unit(opened: Any, feature: str) -> tuple[dict[str, Any], str]:
    """Find the unit that best predicts a feature of the text, chosen with --feature."""
    from ..explain import units

    found = units.of_feature(opened, feature)
    rows = [f"{place['before']}[{place['here']}]{place['after']}".replace("\n", "↵") for place in found["strongest"]]
    return found, "\n".join([f"{FEATURES[feature][0]}: {units.words(found)}", "It is strongest here:", *rows])


def doctor(run: Run) -> tuple[dict[str, Any], str]:
    """Say what a run's losses show: overfitting, a wrong learning rate, too little text, and what to do."""
    from dataclasses import asdict

    from ..explain import doctor

    found = doctor.examine(run, run.status(), count=True)
    few = len(run.history().evaluations) < doctor.LEAST
    nothing = "Too few evaluations to say anything yet." if few else "Nothing wrong so far."
    return dict(findings=[asdict(one) for one in found]), "\n".join(f"{one.says} {one.do}" for one in found) or nothing


VIEWS: dict[str, Callable[..., tuple[dict[str, Any], str]]] = {
    "doctor": doctor,
    "parts": parts,
    "attention": attention,
    "readout": readout,
    "unit": unit,
    "copies": copies,
}  # each returns the result as data and as text; all but the first need the model


def explain_command(arguments: argparse.Namespace) -> int:
    """Explain a run's model: print one view of it."""
    from ..explain.opened import open_run

    run = Run(arguments.name)
    if arguments.feature and arguments.view != "unit":
        raise NanoGPTError("--feature is for the view unit. Leave it out.")
    more = [arguments.feature or "capitals"] if arguments.view == "unit" else []
    found, text = VIEWS[arguments.view](run if arguments.view == "doctor" else open_run(run), *more)
    print(json.dumps(found, ensure_ascii=False) if arguments.json else text)
    return 0


def add_commands(command: Command) -> None:
    """Add `explain` with its flags."""
    explain = command("explain", explain_command)
    lines = "; ".join(f"{name}: {str(view.__doc__)[:-1].lower()}" for name, view in VIEWS.items())
    explain.add_argument("view", metavar="VIEW", choices=VIEWS, help=lines)
    explain.add_argument("name", metavar="NAME", help="the run")
    explain.add_argument("--feature", choices=FEATURES, help="of the text, for the view unit (default: capitals)")
    explain.add_argument("--json", action="store_true", help="print JSON")
