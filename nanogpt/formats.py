"""Our names and transformers' names: the one place that knows both.

Writes and reads the model part of a run folder (config.json, generation_config.json, model.safetensors) in the form
of transformers' GPT2LMHeadModel, so that `AutoModelForCausalLM.from_pretrained("checkpoints/NAME")` needs no code of
ours. Reading is safetensors and JSON only: nothing in a run folder is ever executed.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from .config import ModelConfig, NanoGPTError
from .model import GPT

# Ours -> GPT-2's, inside a block and outside of it. GPT-2 keeps its matrices the other way round (its Conv1D).
BLOCK = {
    "ln1": "ln_1", "sa.qkv": "attn.c_attn", "sa.proj": "attn.c_proj",
    "ln2": "ln_2", "ffwd.net.0": "mlp.c_fc", "ffwd.net.2": "mlp.c_proj",
}  # fmt: skip
OUTSIDE = {
    "token_embedding_table": "transformer.wte", "position_embedding_table": "transformer.wpe",
    "ln_f": "transformer.ln_f", "lm_head": "lm_head",
}  # fmt: skip


def config_files(config: ModelConfig) -> dict[str, str]:
    """The model's shape as {file name: text}, in transformers' words; run.py writes them."""
    described = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": None,
        "activation_function": "relu",
        "resid_pdrop": config.dropout,
        "embd_pdrop": 0.0,
        "attn_pdrop": config.dropout,
        "layer_norm_epsilon": 1e-5,
        "scale_attn_weights": True,
        "tie_word_embeddings": False,
        "bos_token_id": None,  # left out, transformers would put GPT-2's 50256 here
        "eos_token_id": None,
        "pad_token_id": None,
        "dtype": "float32",
    }
    generation = {"do_sample": True, "temperature": 0.8, "max_length": config.block_size}
    return {
        "config.json": json.dumps(described, indent=1),
        "generation_config.json": json.dumps(generation, indent=1),
    }


def read_config(folder: Path) -> ModelConfig:
    """The shape from `config.json`. NanoGPTError where it is missing, unreadable, or not a model of this kind."""
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if described["model_type"] != "gpt2" or described["activation_function"] != "relu":
            raise NanoGPTError(f"{folder.name} is not a model of this program: its config.json says something else.")
        return ModelConfig(
            vocab_size=described["vocab_size"],
            block_size=described["n_positions"],
            n_layer=described["n_layer"],
            n_head=described["n_head"],
            n_embd=described["n_embd"],
            dropout=described["resid_pdrop"],
        )
    except (OSError, KeyError, TypeError, json.JSONDecodeError):
        raise NanoGPTError(f"{folder.name} has no readable config.json, so the model's shape is not known.") from None


def _renamed(ours: str) -> tuple[str, bool]:
    """transformers' name of one of our tensors, and whether it lies there transposed."""
    parts = ours.split(".")
    kind = parts[-1]
    if parts[0] == "blocks":
        module = ".".join(parts[2:-1])
        return f"transformer.h.{parts[1]}.{BLOCK[module]}.{kind}", kind == "weight" and not module.startswith("ln")
    return f"{OUTSIDE['.'.join(parts[:-1])]}.{kind}", False


def weights_bytes(model: GPT) -> bytes:
    """model.safetensors: the weights under transformers' names, as float32 on the CPU."""
    tensors = {}
    for ours, tensor in model.state_dict().items():
        theirs, transposed = _renamed(ours)
        tensor = tensor.detach().float().cpu()
        tensors[theirs] = (tensor.t() if transposed else tensor).contiguous()
    return save(tensors, metadata={"format": "pt"})  # without "format" transformers refuses the file


def load_model(folder: Path, device: str | torch.device = "cpu") -> GPT:
    """The model of a run folder, ready to write. NanoGPTError where a file is missing, broken or of another shape."""
    config = read_config(folder)
    try:
        tensors = load((folder / "model.safetensors").read_bytes())
    except OSError:
        raise NanoGPTError(
            f"{folder.name} has no weights yet: its first evaluation has not come. Wait a moment."
        ) from None
    except SafetensorError as broken:
        raise NanoGPTError(f"The weights of {folder.name} cannot be read ({broken}).") from None
    with torch.device("meta"):  # shapes only: the numbers come from the file
        model = GPT(config)
    ours = {}
    for name, expected in model.state_dict().items():
        theirs, transposed = _renamed(name)
        if theirs not in tensors:
            raise NanoGPTError(f"The weights of {folder.name} lack {theirs}; they are not those of its config.json.")
        tensor = tensors[theirs].t() if transposed else tensors[theirs]
        if tensor.shape != expected.shape:
            raise NanoGPTError(
                f"In the weights of {folder.name}, {theirs} does not have the shape config.json gives it."
            )
        ours[name] = tensor.contiguous().float()
    model.load_state_dict(ours, assign=True)
    return model.to(device).eval()
