"""Save and load models in transformers' format.

Writes and reads the model files of a run folder (config.json, generation_config.json, model.safetensors) as
transformers' GPT2LMHeadModel (classic) or NanoChatForCausalLM (modern), so that
`AutoModelForCausalLM.from_pretrained("checkpoints/NAME")` works without this package. This is the only module that
knows both sets of names. A layout that neither model can compute can't be saved. Loading reads safetensors and JSON
only: nothing in a run folder is ever executed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from .config import ModelConfig, NanoGPTError
from .disk import from_json, read
from .errors import explain
from .layout import LAYOUTS, ROPE_THETA, Layout

if TYPE_CHECKING:  # the functions for weights import torch, so that reading a config is instant
    import torch

    from .model import GPT

KINDS = {"torch.float32": "F32", "torch.float16": "F16", "torch.uint8": "U8"}  # as safetensors names them
MAX_HEADER = 2_000_000  # bytes; that of a checkpoint with 48 blocks has 0.2 MB
NO_TOKENS = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)  # without these, transformers adds defaults


# ---- The layout: transformers' model_type ----------------------------------------------------------------------------

# The features of each of transformers' models. config.json doesn't store how weights are initialized; `LAYOUTS` does.
FEATURES = {
    "gpt2": dict(rotary=False, plain_norms=False, qk_norm=False, relu_squared=False, biases=True),
    "nanochat": dict(rotary=True, plain_norms=True, qk_norm=True, relu_squared=True, biases=False),
}


def layout_of(kind: str) -> str:
    """Return the name of the layout for this model_type: the first in `LAYOUTS` with its features."""
    return next(name for name, layout in LAYOUTS.items() if layout.has(**FEATURES[kind]))


def kind_of(layout: Layout) -> str:
    """Return the model_type that a layout is saved as. Raise NanoGPTError if there is none."""
    for kind in FEATURES:
        if LAYOUTS[layout_of(kind)] == layout:
            return kind
    name = next((f"{name} " for name, value in LAYOUTS.items() if value == layout), "")
    others = " and ".join(f"{layout_of(kind)} ({LAYOUTS[layout_of(kind)]})" for kind in FEATURES)
    raise NanoGPTError(
        f"The architecture {name}({layout}) can't be saved: transformers only has models for {others}. "
        "Choose one of those."
    )


# ---- The shape: config.json ------------------------------------------------------------------------------------------


def config_files(config: ModelConfig) -> dict[str, str]:
    """Return config.json and generation_config.json as {file name: text}. runs/run.py writes them."""
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
        "attention_dropout": config.dropout,
        "dropout": config.dropout,  # our own key: transformers' class has dropout in attention only
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA},
        "rms_norm_eps": 1e-6,
        "final_logit_softcapping": None,  # without this, transformers caps logits at 15
    }


# Where each model_type keeps block_size, n_layer, n_head, n_embd and dropout.
SHAPE = {
    "gpt2": ("n_positions", "n_layer", "n_head", "n_embd", "resid_pdrop"),
    "nanochat": ("max_position_embeddings", "num_hidden_layers", "num_attention_heads", "hidden_size", "dropout"),
}


# How a GPT-2 scales its attention if its config.json doesn't say.
UNSAID = dict(scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False)


def read_config(folder: Path, content: bytes | None = None) -> ModelConfig:
    """Return the model config from `config.json`, or from its `content` if it has already been read.

    Raise NanoGPTError if it is missing, unreadable, or describes a model we can't load.
    """
    try:
        described = from_json(read(folder / "config.json") if content is None else content)
        _check_described(described, folder.name)
        kind = described["model_type"]
        block_size, n_layer, n_head, n_embd, dropout = (described[name] for name in SHAPE[kind])
        return ModelConfig(described["vocab_size"], layout_of(kind), block_size, n_layer, n_head, n_embd, dropout)
    except NanoGPTError:
        raise
    except (OSError, KeyError, TypeError, AttributeError, ValueError):
        raise NanoGPTError(f"{folder.name} has no readable config.json. Restore the file to load the model.") from None


def _check_described(described: dict[str, Any], name: str) -> None:
    """Raise NanoGPTError if a config.json describes a model that our forward pass would compute wrongly."""
    kind = described["model_type"]
    if kind not in tuple(FEATURES):  # a tuple, because `kind` may be any JSON value, even an unhashable one
        raise NanoGPTError(
            f"{name} is a {str(kind)[:40]!r} model, which can't be loaded here. "
            f"Only {' and '.join(FEATURES)} models work."
        )
    described, wanted = {**UNSAID, **described}, _fixed(described)
    if wrong := [key for key, value in wanted.items() if key not in described or described[key] != value]:
        raise NanoGPTError(
            f"{name} can't be loaded here: its config.json has {wrong[0]}="
            f"{str(described.get(wrong[0], 'missing'))[:40]}; expected {wanted[wrong[0]]}."
        )
    vocab_size = described["vocab_size"]
    if not isinstance(vocab_size, int) or isinstance(vocab_size, bool) or not 0 < vocab_size < 2**21:
        raise NanoGPTError(
            f"The config.json of {name} has vocab_size={str(vocab_size)[:40]}; expected 1 to {2**21 - 1:,}."
        )


def _fixed(described: dict[str, Any]) -> dict[str, Any]:
    """Return the config.json entries that must have these values for our forward pass to be correct."""
    if described["model_type"] == "gpt2":
        fixed = dict(activation_function="relu", tie_word_embeddings=False, n_inner=None, layer_norm_epsilon=1e-5)
        return {**fixed, **UNSAID}
    rope = {"rope_type": "default", "rope_theta": ROPE_THETA}
    fixed = dict(hidden_act="relu2", tie_word_embeddings=False, final_logit_softcapping=None, rms_norm_eps=1e-6)
    heads = described["num_attention_heads"]
    return dict(**fixed, attention_bias=False, rope_parameters=rope, num_key_value_heads=heads)


# ---- The weights: model.safetensors ----------------------------------------------------------------------------------

# Our names -> GPT-2's and nanochat's, inside and outside of blocks. GPT-2 stores its matrices transposed (Conv1D);
# nanochat stores query, key and value separately.
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
    """Return transformers' names for one of our tensors: three for nanochat's query, key and value, else one."""
    module, end = name.rsplit(".", 1)
    names = NAMES[kind]
    if not module.startswith("blocks."):
        return [f"{names[module]}.{end}"]
    _, number, inside = module.split(".", 2)
    insides = [inside] if inside in names else ["sa.q", "sa.k", "sa.v"]
    return [f"{names['blocks']}.{number}.{names[one]}.{end}" for one in insides]


def _transposed(name: str, kind: str) -> bool:
    return kind == "gpt2" and name.startswith("blocks.") and name.endswith("weight") and ".ln" not in name


def weights_bytes(model: GPT) -> bytes:
    """Return `weights_parts` in one piece."""
    return b"".join(weights_parts(model))


def weights_parts(
    model: GPT, weights: dict[str, torch.Tensor] | None = None, half: bool = False
) -> Iterator[bytes | memoryview]:
    """Yield the parts of model.safetensors: the weights under transformers' names, in float32.

    `weights` is a state dict from an earlier step; by default use the model's current weights. `half` means float16.
    """
    import torch

    kind, tensors = kind_of(model.config.features), {}
    for name, tensor in (weights or model.state_dict()).items():
        tensor = tensor.detach().to(torch.float16 if half else torch.float32)
        places = _places(name, kind)
        for place, part in zip(places, tensor.chunk(len(places))):
            tensors[place] = part.t() if _transposed(name, kind) else part
    return safetensors_parts(tensors, {"format": "pt"})  # without "format" transformers refuses the file


def safetensors_parts(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """Yield the parts of a safetensors file: its header, then each tensor. They must not change meanwhile.

    The bytes are those of the library's `save`, which needs twice the memory of all tensors.
    """
    import torch

    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))  # so that each is aligned
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in order:
        begin, end = end, end + tensors[name].nbytes
        shape, kind = list(tensors[name].shape), KINDS[str(tensors[name].dtype)]
        header[name] = dict(dtype=kind, shape=shape, data_offsets=[begin, end])
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        yield memoryview(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def load_model(
    folder: Path, device: str | torch.device = "cpu", kind: type[GPT] | None = None,
    config: ModelConfig | None = None, weights: bytes | None = None,
) -> GPT:  # fmt: skip
    """Load the model of a run folder, ready to sample from. Pass `config` and `weights` if they have already been read.

    Raise NanoGPTError if a file is missing or broken, or doesn't match the config.
    """
    from .model import GPT, ShapesOnly, rotary_table

    config = config or read_config(folder)
    form = kind_of(config.features)
    tensors = _tensors(folder, weights)
    with ShapesOnly():  # the weights come from the file
        model = (kind or GPT)(config)
    try:
        ours = {name: _ours(tensors, name, shape.shape, form) for name, shape in model.state_dict().items()}
        if tensors:
            raise NanoGPTError(f"unexpected tensor {min(tensors)}.")
    except NanoGPTError as problem:
        raise NanoGPTError(f"The model.safetensors of {folder.name} doesn't match its config.json: {problem}") from None
    model.load_state_dict(ours, assign=True)
    if config.features.rotary:
        model.rotary = rotary_table(config)  # computed from the config, not stored in the file
    return model.to(device).eval()


def _tensors(folder: Path, weights: bytes | None) -> dict[str, torch.Tensor]:
    """Return the tensors in a run's model.safetensors, whose bytes may have been read already."""
    from safetensors.torch import load

    try:
        data = read(folder / "model.safetensors") if weights is None else weights
        check_header(data, f"The model.safetensors of {folder.name}")
        return load(data)
    except FileNotFoundError:
        raise NanoGPTError(f"{folder.name} has no weights yet. Train it until its first checkpoint.") from None
    except OSError as error:
        raise NanoGPTError(f"The weights of {folder.name} can't be read. {explain(error)}") from None
    except (SafetensorError, KeyError) as broken:  # KeyError: a dtype that torch doesn't have
        raise NanoGPTError(f"The model.safetensors of {folder.name} cannot be read ({broken}). Restore it.") from None


def check_header(start: bytes, name: str) -> None:
    """Raise NanoGPTError if a safetensors file, given its first 8 bytes, lists more tensors than any run has.

    Reading a list of a million empty ones would take 8 seconds and 1 GB.
    """
    if int.from_bytes(start[:8], "little") > MAX_HEADER:
        raise NanoGPTError(f"{name} cannot be read (its header is too large). Restore it.")


def _ours(tensors: dict[str, torch.Tensor], name: str, shape: torch.Size, form: str) -> torch.Tensor:
    """Take what belongs to one of our parameters out of a file's tensors. Raise NanoGPTError if it doesn't fit."""
    import torch

    places, transposed = _places(name, form), _transposed(name, form)
    size = (shape[0] // len(places), *shape[1:])
    parts = [_taken(tensors, place, size[::-1] if transposed else size) for place in places]
    return torch.cat([part.t() if transposed else part for part in parts]).contiguous().float()


def _taken(tensors: dict[str, torch.Tensor], place: str, size: tuple[int, ...]) -> torch.Tensor:
    """Take one tensor of this size out of a file's. Raise NanoGPTError if it isn't there or doesn't fit."""
    if place not in tensors:
        raise NanoGPTError(f"{place} is missing.")
    part = tensors.pop(place)
    if part.shape != size or not part.is_floating_point():
        raise NanoGPTError(f"{place} has the wrong shape or type.")
    return part
