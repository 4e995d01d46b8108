"""The hardware of Hugging Face Jobs, with prices as the Hub gives them, and what a job can cost at most."""

from __future__ import annotations

import math
from dataclasses import dataclass

from huggingface_hub import HfApi

from ..config import NanoGPTError
from ..durations import in_words
from ..similar import did_you_mean
from .refusals import asked

PER = {"second": 1, "minute": 60, "hour": 3600}  # seconds that a price is for
AROUND = 600  # seconds that a job may need besides training: install PyTorch, choose a model, bring the run back
DEFAULT = 1800  # seconds for a run that has no time budget, as on the Hub
LEAST, MOST = 300, 86_400  # seconds


@dataclass(frozen=True)
class Hardware:
    """A machine to rent: its name at the Hub, what it is, and its price in dollars per `seconds`."""

    name: str
    about: str
    price: float
    seconds: int
    gpu: bool = False

    @property
    def hourly(self) -> str:
        """Return the price per hour, in words."""
        return f"${self.price * 3600 / self.seconds:,.2f} per hour"

    def cost(self, timeout: float) -> float:
        """Return what a job of `timeout` seconds costs, in dollars: every unit of time that has begun counts."""
        return math.ceil(timeout / self.seconds) * self.price


def hardware(api: HfApi) -> list[Hardware]:
    """Return the hardware that one run can use, cheapest first. Raise NanoGPTError if the Hub doesn't say."""
    with asked():
        listed = api.list_jobs_hardware()
    found = []
    for one in listed:
        per, gpu = PER.get(one.unit_label), one.accelerator
        if per is None or (gpu and str(gpu.quantity) != "1"):
            continue  # a run uses one GPU, so several would cost more and bring nothing
        parts = [one.pretty_name, one.cpu, one.ram, *([f"{gpu.vram} of GPU memory"] if gpu else [])]
        found.append(Hardware(one.name, ", ".join(parts), one.unit_cost_usd, per, bool(gpu)))
    return sorted(found, key=lambda one: one.price / one.seconds)


def choose(offered: list[Hardware], name: str) -> Hardware:
    """Return the hardware with this name. Raise NanoGPTError if the Hub doesn't offer it to a single run."""
    for one in offered:
        if one.name == name:
            return one
    names = [one.name for one in offered]
    meant = did_you_mean(name, names) or f"choose one of {', '.join(names)}."
    raise NanoGPTError(f"Hugging Face Jobs has no hardware {name[:40]!r} for a run; {meant}")


def time_limit(budget: float, given: float | None = None) -> int:
    """Return a job's time limit in whole seconds: as given, or the training time and what comes around it.

    `budget` is 0 for a run of a fixed number of steps. Raise NanoGPTError if it is out of range.
    """
    limit = 60 * -int(-(given or (budget + AROUND if budget else DEFAULT)) // 60)
    if not LEAST <= limit <= MOST:
        raise NanoGPTError(f"The job's time limit must be between {in_words(LEAST)} and {MOST // 3600} hours.")
    if budget and limit < budget + LEAST:
        raise NanoGPTError(
            f"The job's time limit must be at least {in_words(LEAST)} longer than the training time, to start and to "
            "bring the run back."
        )
    return limit


def at_most(hardware: Hardware, timeout: int) -> str:
    """Return the highest cost of a job in words: "$0.54"."""
    cost = hardware.cost(timeout)
    return f"${max(cost, 0.01):,.2f}" if cost else "nothing"
