"""The fastest way to train a model on a device: which step, and in which precision. Without `fast/`, the plain one."""

from __future__ import annotations

from dataclasses import replace

import torch

from .config import ModelConfig, TrainConfig
from .device import Device
from .model import GPT
from .ranks import Ranks, SharedStep
from .step import Step


def make_step(model: GPT, config: TrainConfig, device: Device, ranks: Ranks | None = None) -> Step | SharedStep:
    """Return the fastest training step for this device, shared with other `ranks` if there are any."""
    if not ranks:
        return fastest_step(model, config, device)
    # a step that is recorded as a CUDA graph can't stop for the other ranks' gradients
    step = Step(model, config, device) if device.type == "cuda" else fastest_step(model, config, device)
    return SharedStep(step, ranks)


def fastest_step(model: GPT, config: TrainConfig, device: Device) -> Step:
    """Return the fastest training step for this device; the plain one, with a note, if its file can't be imported."""
    try:
        if device.type == "cpu":
            from .fast.cpu import CrewStep

            return CrewStep(model, config, device)
        if device.type == "cuda":
            from .fast.cuda import GraphStep

            return GraphStep(model, config, device)
    except ImportError as error:
        step = Step(model, config, device)
        step.note = f"The faster training step is missing here, so each step takes longer ({error})"
        return step
    return Step(model, config, device)


def dtype_by_hand(config: ModelConfig, device: Device) -> torch.dtype | None:
    """Return the dtype of products if fast/gradients.py trains a model of this shape, or None if autograd does."""
    try:
        from .fast.cpu import product_dtype
    except ImportError:
        return None
    return product_dtype(config, device.type)


def described(device: Device, config: ModelConfig) -> str:
    """Return the device's name and the precision that a model of this shape trains in."""
    return str(replace(device, dtype=dtype_by_hand(config, device) or device.dtype))
