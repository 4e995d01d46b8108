"""Our names and transformers' names: the one place that knows both.

Writes and reads the model part of a run folder (config.json, generation_config.json, model.safetensors) in the form
of transformers' GPT2LMHeadModel (classic) or NanoChatForCausalLM (modern), so that
`AutoModelForCausalLM.from_pretrained("checkpoints/NAME")` needs no code of ours. A layout that neither of them computes
cannot be saved. Reading is safetensors and JSON only: nothing in a run folder is ever executed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from .config import ModelConfig, NanoGPTError
from .layout import LAYOUTS, Layout
from .model import GPT, ROPE_THETA, ShapesOnly, rotary_table

NO_TOKENS = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)  # left out, transformers would put its own


# ---- The layout: transformers' model_type ----------------------------------------------------------------------------

# What each of transformers' models computes. How weights start is not in config.json: it follows from `LAYOUTS`.
FEATURES = {
    "gpt2": dict(rotary=False, plain_norms=False, qk_norm=False, relu_squared=False, biases=True),
    "nanochat": dict(rotary=True, plain_norms=True, qk_norm=True, relu_squared=True, biases=False),
}


def layout_of(kind: str) -> str:
    """Return the name of the layout that a config.json of this model_type stands for: the first with its features."""
    return next(name for name, layout in LAYOUTS.items() if layout.has(**FEATURES[kind]))


def kind_of(layout: Layout) -> str:
    """Return the model_type a layout is saved as, and read back from. NanoGPTError where there is none."""
    for kind in FEATURES:
        if LAYOUTS[layout_of(kind)] == layout:
            return kind
    name = next((f"{name} " for name, value in LAYOUTS.items() if value == layout), "")
    others = " and ".join(f"{layout_of(kind)} ({LAYOUTS[layout_of(kind)]})" for kind in FEATURES)
    raise NanoGPTError(
        f"The layout {name}({layout}) can't be saved: transformers only has models for {others}. Choose one of those."
    )


# ---- The shape: config.json ------------------------------------------------------------------------------------------


def config_files(config: ModelConfig) -> dict[str, str]:
    """The model's shape as {file name: text}, in transformers' words; runs/run.py writes them."""
    described = {"gpt2": _gpt2, "nanochat": _nanochat}[kind_of(config.features)](config)
    described = {**described, "vocab_size": config.vocab_size, "tie_word_embeddings": False, "dtype": "float32"}
    generation = {"do_sample": True, "temperature": 0.8, "max_length": config.block_size}
    return {
        "config.json": json.dumps({**described, **NO_TOKENS}, indent=1),
        "generation_config.json": json.dumps(generation, indent=1),
    }


def _gpt2(config: ModelConfig) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
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
    }


def _nanochat(config: ModelConfig) -> dict[str, Any]:
    return {
        "architectures": ["NanoChatForCausalLM"],
        "model_type": "nanochat",
        "max_position_embeddings": config.block_size,
        "hidden_size": config.n_embd,
        "intermediate_size": 4 * config.n_embd,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_head,
        "hidden_act": "relu2",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dropout": config.dropout,  # ours; transformers' class has none outside of attention
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA},
        "rms_norm_eps": 1e-6,
        "final_logit_softcapping": None,  # left out, transformers would cap at 15
    }


def read_config(folder: Path, content: bytes | None = None) -> ModelConfig:
    """Return the shape from `config.json`, whose `content` may have been read already.

    Raise NanoGPTError if it is missing, unreadable, or not a model of this kind.
    """
    try:
        described = json.loads((content or (folder / "config.json").read_bytes()).decode("utf-8"))
        kind = described["model_type"]
        if kind not in tuple(FEATURES):  # it may be anything that JSON can say
            raise NanoGPTError(f"{folder.name} is not a model of this program, but one of the kind {str(kind)[:40]!r}.")
        wanted = _fixed(described)
        if wrong := [name for name, value in wanted.items() if name not in described or described[name] != value]:
            raise NanoGPTError(
                f"{folder.name} is not a model of this program: in its config.json {wrong[0]} is "
                f"{str(described.get(wrong[0], 'missing'))[:40]}, where we need {wanted[wrong[0]]}."
            )
        if kind == "nanochat":
            names = ("max_position_embeddings", "num_hidden_layers", "num_attention_heads", "hidden_size", "dropout")
        else:
            names = ("n_positions", "n_layer", "n_head", "n_embd", "resid_pdrop")
        block_size, n_layer, n_head, n_embd, dropout = (described[name] for name in names)
        vocab_size = described["vocab_size"]
        if not isinstance(vocab_size, int) or not 0 < vocab_size < 2**21:
            raise NanoGPTError(f"The config.json of {folder.name} names {vocab_size!r} characters, which cannot be.")
        return ModelConfig(vocab_size, layout_of(kind), block_size, n_layer, n_head, n_embd, dropout)
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        if isinstance(error, NanoGPTError):
            raise
        raise NanoGPTError(f"{folder.name} has no readable config.json, so the model's shape is not known.") from None


def _fixed(described: dict[str, Any]) -> dict[str, Any]:
    """What config.json must say for our forward pass to be the right one."""
    if described["model_type"] == "gpt2":
        return dict(activation_function="relu", tie_word_embeddings=False, n_inner=None, layer_norm_epsilon=1e-5)
    rope = {"rope_type": "default", "rope_theta": ROPE_THETA}
    fixed = dict(hidden_act="relu2", tie_word_embeddings=False, final_logit_softcapping=None, rms_norm_eps=1e-6)
    heads = described["num_attention_heads"]
    return dict(**fixed, attention_bias=False, rope_parameters=rope, num_key_value_heads=heads)


# ---- The weights: model.safetensors ----------------------------------------------------------------------------------

# Ours -> GPT-2's and nanochat's, inside a block and outside of it. GPT-2 keeps its matrices the other way round (its
# Conv1D); nanochat keeps query, key and value apart.
GPT2 = {
    "ln1": "ln_1", "sa.qkv": "attn.c_attn", "sa.proj": "attn.c_proj",
    "ln2": "ln_2", "ffwd.net.0": "mlp.c_fc", "ffwd.net.2": "mlp.c_proj",
    "token_embedding_table": "transformer.wte", "position_embedding_table": "transformer.wpe",
    "ln_f": "transformer.ln_f", "lm_head": "lm_head", "blocks": "transformer.h",
}  # fmt: skip
NANOCHAT = {
    "sa.q": "self_attn.q_proj", "sa.k": "self_attn.k_proj", "sa.v": "self_attn.v_proj", "sa.proj": "self_attn.o_proj",
    "ffwd.net.0": "mlp.fc1", "ffwd.net.2": "mlp.fc2",
    "token_embedding_table": "model.embed_tokens", "lm_head": "lm_head", "blocks": "model.layers",
}  # fmt: skip


NAMES = {"gpt2": GPT2, "nanochat": NANOCHAT}


def _places(name: str, kind: str) -> list[str]:
    """transformers' names for one of our tensors: one, or for nanochat's query, key and value three."""
    module, end = name.rsplit(".", 1)
    names = NAMES[kind]
    if not module.startswith("blocks."):
        return [f"{names[module]}.{end}"]
    _, number, inside = module.split(".", 2)
    insides = [inside] if inside in names else ["sa.q", "sa.k", "sa.v"]
    return [f"{names['blocks']}.{number}.{names[one]}.{end}" for one in insides]


def _transposed(name: str, kind: str) -> bool:
    return kind == "gpt2" and name.startswith("blocks.") and name.endswith("weight") and ".ln" not in name


def weights_bytes(model: GPT, weights: dict[str, torch.Tensor] | None = None) -> bytes:
    """Return model.safetensors: the weights under transformers' names, as float32 on the CPU.

    `weights` is a state dict of the model's from an earlier step; without it, those it has now.
    """
    kind, tensors = kind_of(model.config.features), {}
    for name, tensor in (weights or model.state_dict()).items():
        tensor = tensor.detach().float().cpu()
        places = _places(name, kind)
        for place, part in zip(places, tensor.chunk(len(places))):
            tensors[place] = (part.t() if _transposed(name, kind) else part).contiguous().clone()
    return save(tensors, metadata={"format": "pt"})  # without "format" transformers refuses the file


def load_model(
    folder: Path, device: str | torch.device = "cpu", kind: type[GPT] = GPT, config: ModelConfig | None = None,
    weights: bytes | None = None,
) -> GPT:  # fmt: skip
    """Return the model of a run folder, ready to write. `config` and `weights` are given if they were read already.

    Raise NanoGPTError if a file is missing, broken or of another shape.
    """
    config = config or read_config(folder)
    form = kind_of(config.features)
    try:
        tensors = load(weights or (folder / "model.safetensors").read_bytes())
    except OSError:
        raise NanoGPTError(f"{folder.name} has no weights yet; they come with its first evaluation.") from None
    except (SafetensorError, KeyError) as broken:  # KeyError: a type of number that torch has not
        raise NanoGPTError(f"The weights of {folder.name} cannot be read ({broken}).") from None
    with ShapesOnly():  # shapes only: the numbers come from the file
        model = kind(config)
    ours = {}
    for name, expected in model.state_dict().items():
        places = _places(name, form)
        if missing := [place for place in places if place not in tensors]:
            raise NanoGPTError(
                f"The weights of {folder.name} lack {missing[0]}; they are not those of its config.json."
            )
        size = (len(expected) // len(places), *expected.shape[1:])
        size = size[::-1] if _transposed(name, form) else size
        parts = [tensors.pop(place) for place in places]
        for place, part in zip(places, parts):
            if part.shape != size or not part.is_floating_point():
                raise NanoGPTError(f"In the weights of {folder.name}, {place} has not the shape its config.json says.")
        ours[name] = torch.cat([p.t() if _transposed(name, form) else p for p in parts]).contiguous().float()
    if tensors:
        raise NanoGPTError(f"The weights of {folder.name} have {min(tensors)}, which its config.json knows nothing of.")
    model.load_state_dict(ours, assign=True)
    if config.features.rotary:
        model.rotary = rotary_table(config)  # follows from the config and is not in the file
    return model.to(device).eval()
