"""Test a run folder's model files: transformers must load them, and bad files must raise clear errors."""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from nanogpt.config import ModelConfig, NanoGPTError
from nanogpt.formats import config_files, load_model, read_config, safetensors_parts, weights_bytes
from nanogpt.model import GPT
from nanogpt.tokenizer import CharTokenizer, load_tokenizer

TEXT = "Ünïcode — 漢字 🙂\tand\n\nlines,   spaces; <s> </s> [UNK] 0123 \"quotes\" \\ 'n' Ġ▁"
CONFIG = ModelConfig(
    vocab_size=CharTokenizer(TEXT).vocab_size, block_size=16, n_layer=2, n_head=2, n_embd=8, dropout=0.25
)
LAYOUTS = {"classic": CONFIG, "modern": replace(CONFIG, layout="modern")}
CLASSES = {"classic": "GPT2LMHeadModel", "modern": "NanoChatForCausalLM"}


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(layout) -> GPT:
    torch.manual_seed(0)
    made = GPT(LAYOUTS[layout])
    with torch.no_grad():
        for p in made.parameters():  # biases and norm gains, too
            p.add_(0.3 * torch.randn_like(p))
    return made.eval()


@pytest.fixture
def folder(tmp_path, model):
    """Return a folder with a run's model files."""
    for name, text in {**config_files(model.config), **CharTokenizer(TEXT).files(CONFIG.block_size)}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(weights_bytes(model))
    return tmp_path


def change_config(folder, **changes):
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**described, **changes}), encoding="utf-8")


def change_weights(folder, change):
    tensors = load((folder / "model.safetensors").read_bytes())
    change(tensors)
    (folder / "model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))


def refused(folder) -> str:
    with pytest.raises(NanoGPTError) as error:
        load_model(folder)
    sentence = str(error.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 400
    return sentence


# --- loading in transformers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("auto", [False, True])
def test_transformers_opens_it_and_gives_our_numbers(folder, model, layout, auto):
    import transformers

    their_class = getattr(transformers, CLASSES[layout])
    opened_as = transformers.AutoModelForCausalLM if auto else their_class
    theirs, report = opened_as.from_pretrained(folder, output_loading_info=True)
    assert type(theirs) is their_class
    assert not any(report.values()), report  # no missing, unexpected or mismatched tensors
    assert (theirs.config.bos_token_id, theirs.config.eos_token_id) == (None, None)
    assert sum(p.numel() for p in theirs.parameters()) == model.count_parameters()
    idx = torch.randint(CONFIG.vocab_size, (3, CONFIG.block_size), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for length in (1, 5, CONFIG.block_size):
            ours, expected = model(idx[:, :length])[0], theirs.eval()(idx[:, :length]).logits
            torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_transformers_tokenizer_gives_our_ids_and_our_text(folder):
    from transformers import AutoTokenizer

    theirs, ours = AutoTokenizer.from_pretrained(folder), CharTokenizer.load(folder)
    assert len(theirs) == ours.vocab_size == CONFIG.vocab_size
    for text in (TEXT, TEXT[::-1], "\n", " ", "  \n ", "<s>", "", "".join(ours.chars)):
        ids = theirs(text)["input_ids"]
        assert ids == ours.encode(text)
        assert theirs.decode(ids) == text
    assert theirs.model_max_length == CONFIG.block_size


def test_transformers_writes_with_it_greedily_as_we_do(folder, model):
    from transformers import AutoModelForCausalLM

    from nanogpt.config import SampleConfig
    from nanogpt.sample import generate

    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    ours = generate(model, [3, 1, 4], SampleConfig(temperature=0, length=13))
    written = theirs.generate(
        torch.tensor([[3, 1, 4]]), attention_mask=torch.ones(1, 3), do_sample=False, max_length=16, pad_token_id=0
    )
    assert written[0, 3:].tolist() == ours


# --- round trips ---------------------------------------------------------------------------------------------------


def test_what_is_read_back_is_the_model_to_the_bit(folder, model):
    back = load_model(folder)
    assert back.config == model.config == read_config(folder)
    ours, theirs = model.state_dict(), back.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
        assert theirs[name].is_contiguous()
    assert not back.training
    assert weights_bytes(back) == weights_bytes(model)
    idx = torch.randint(CONFIG.vocab_size, (2, CONFIG.block_size), generator=torch.Generator().manual_seed(1))
    assert torch.equal(back(idx)[0], model(idx)[0])


def test_what_is_read_back_can_be_trained(folder):
    back = load_model(folder).train()
    idx = torch.zeros((1, 4), dtype=torch.long)
    back(idx, idx)[1].backward()
    assert all(p.grad is not None for p in back.parameters())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read_as_float32(folder, model, kind):
    change_weights(folder, lambda tensors: tensors.update({n: t.to(kind) for n, t in tensors.items()}))
    back = load_model(folder)
    assert {p.dtype for p in back.parameters()} == {torch.float32}
    assert torch.equal(back.lm_head.weight, model.lm_head.weight.to(kind).float())


# --- missing, broken, foreign and hostile files --------------------------------------------------------------------


def test_no_weights_yet_is_said_so(folder):
    (folder / "model.safetensors").unlink()
    assert "no weights yet" in refused(folder)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, -1000, -1])
def test_weights_cut_short(folder, length):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:length])
    assert "cannot be read" in refused(folder)


def test_empty_content_is_not_taken_for_none(folder):
    """An empty snapshot must not show the run's weights."""
    with pytest.raises(NanoGPTError, match="cannot be read"):
        load_model(folder, weights=b"")
    with pytest.raises(NanoGPTError, match="no readable config.json"):
        read_config(folder, b"")
    with pytest.raises(NanoGPTError, match="no readable tokenizer.json"):
        load_tokenizer(folder, b"")


def with_header(header, data=b"\0" * 64) -> bytes:
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 1000,
        b"\x80\x04\x95" + b"pickle me" * 50,
        struct.pack("<Q", 2**63) + b"{}",
        with_header([]),
        with_header(b'{"a":' * 20_000),
        with_header(b"not json"),
        with_header({"lm_head.weight": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 64]}}),
        with_header({"lm_head.weight": {"dtype": "F32", "shape": [-4, -4], "data_offsets": [0, 64]}}),
        with_header({"lm_head.weight": {"dtype": "F32", "shape": [16], "data_offsets": [2**50, 2**50 + 64]}}),
        with_header({"lm_head.weight": {"dtype": "F99", "shape": [16], "data_offsets": [0, 64]}}),
        with_header({"lm_head.weight": {"dtype": "F4", "shape": [128], "data_offsets": [0, 64]}}),
        with_header({"lm_head.weight": {"dtype": "F8_E8M0", "shape": [64], "data_offsets": [0, 64]}}),
    ],
    ids=[
        "noise", "pickle", "huge header", "list", "nested", "no json", "huge shape", "negative shape", "far away",
        "unknown type", "four-bit floats", "exponents only",
    ],
)  # fmt: skip
def test_hostile_weights(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    assert folder.name in refused(folder)


IN_A_BLOCK = {"classic": "transformer.h.1.attn.c_attn.weight", "modern": "model.layers.1.self_attn.k_proj.weight"}


@pytest.mark.parametrize(
    "change",
    [
        lambda t: torch.cat([t, t], dim=1),
        lambda t: t[:-1],
        lambda t: t[None],
        lambda t: t[..., None],
        lambda t: t.flatten(),
        lambda t: torch.tensor(0.0),
        lambda t: t[:0],
    ],
    ids=["wide", "short", "three dimensions", "three the other way", "flat", "a number", "empty"],
)
@pytest.mark.parametrize("name", ["a block's", "the head's"])
def test_weights_of_another_shape(folder, layout, name, change):
    name = "lm_head.weight" if name == "the head's" else IN_A_BLOCK[layout]
    change_weights(folder, lambda tensors: tensors.update({name: change(tensors[name])}))
    assert (name if layout == "classic" or "head" in name else "model.layers.1.self_attn.") in refused(folder)


def test_a_number_in_the_place_of_a_bias(folder, layout):
    if layout == "modern":
        pytest.skip("it has no biases")
    name = "transformer.h.1.attn.c_attn.bias"
    change_weights(folder, lambda tensors: tensors.update({name: torch.tensor(0.0)}))
    assert name in refused(folder)


def test_a_missing_weight_is_named(folder, layout):
    change_weights(folder, lambda tensors: tensors.pop(IN_A_BLOCK[layout]))
    assert IN_A_BLOCK[layout] in refused(folder)


def test_weights_with_a_layer_too_many_are_not_those_of_the_config(folder, layout):
    extra = IN_A_BLOCK[layout].replace(".1.", ".2.")
    change_weights(folder, lambda tensors: tensors.update({extra: tensors[IN_A_BLOCK[layout]].clone()}))
    assert extra in refused(folder)


def test_queries_keys_and_values_are_of_one_size_each(folder, layout):
    if layout == "classic":
        pytest.skip("there they are one matrix")
    q, k = (f"model.layers.1.self_attn.{part}_proj.weight" for part in "qk")

    def move_a_row(tensors):
        tensors[q], tensors[k] = torch.cat([tensors[q], tensors[k][:1]]), tensors[k][1:].clone()

    change_weights(folder, move_a_row)
    assert q in refused(folder)


@pytest.mark.parametrize("kind", [torch.complex64, torch.int64, torch.bool])
def test_weights_that_are_no_fractions(folder, kind):
    change_weights(folder, lambda tensors: tensors.update({"lm_head.weight": tensors["lm_head.weight"].to(kind)}))
    assert "lm_head.weight" in refused(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"5", b'"gpt2"', b"{}", b"\xff\xfe\x00", b"[" * 100_000,
        b'{"model_type": "gpt2", "n_layer": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "cut", "list", "null", "number", "string", "nothing in it", "no utf-8", "nested", "endless number"],
)  # fmt: skip
def test_a_config_that_is_none(folder, content):
    (folder / "config.json").write_bytes(content)
    assert "config.json" in refused(folder)


def test_no_config(folder):
    (folder / "config.json").unlink()
    assert "config.json" in refused(folder)
    (folder / "config.json").mkdir()
    assert "config.json" in refused(folder)


FOREIGN = {
    "classic": [
        dict(activation_function="gelu_new"), dict(tie_word_embeddings=True), dict(n_inner=99),
        dict(layer_norm_epsilon=0.1),
    ],
    "modern": [
        dict(hidden_act="silu"), dict(final_logit_softcapping=15.0), dict(num_key_value_heads=1),
        dict(rms_norm_eps=0.1),
    ],
}  # fmt: skip


def test_dropout_is_where_transformers_reads_it(folder, layout):
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key in {"classic": ("resid_pdrop", "attn_pdrop"), "modern": ("attention_dropout",)}[layout]:
        assert described[key] == 0.25
    assert read_config(folder).dropout == 0.25


@pytest.mark.parametrize("number", range(7))
def test_a_model_whose_numbers_would_differ_is_called_foreign(folder, layout, number):
    everywhere = [dict(model_type="llama"), dict(model_type=[]), dict(model_type=None)]
    change_config(folder, **(everywhere + FOREIGN[layout])[number])
    assert "can't be loaded here" in refused(folder)


SIZES = {
    "classic": ["vocab_size", "n_positions", "n_layer", "n_head", "n_embd", "resid_pdrop"],
    "modern": [
        "vocab_size", "max_position_embeddings", "num_hidden_layers", "num_attention_heads", "hidden_size", "dropout",
    ],
}  # fmt: skip


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("value", [-1, None, "many", [], {}, 2**62, 10**30, float("nan"), float("inf"), 0.5**0.5 * 3])
def test_sizes_that_cannot_be(folder, layout, place, value):
    change_config(folder, **{SIZES[layout][place]: value})
    refused(folder)


@pytest.mark.parametrize("place", [0, 1, 2, 4])  # tensor shapes don't reveal the number of heads
def test_sizes_other_than_the_weights(folder, layout, place):
    if layout == "modern" and place == 1:
        pytest.skip("rotary positions have no weights")
    key = SIZES[layout][place]
    before = json.loads((folder / "config.json").read_text(encoding="utf-8"))[key]
    change_config(folder, **{key: before + 2})
    refused(folder)


@pytest.mark.parametrize("place", range(7))
def test_a_size_left_out(folder, layout, place):
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del described[[*SIZES[layout], "model_type"][place]]
    (folder / "config.json").write_text(json.dumps(described), encoding="utf-8")
    assert "config.json" in refused(folder)


def test_a_giant_of_a_config_takes_no_memory_before_it_is_refused(folder, layout):
    resource = pytest.importorskip("resource")  # not available on Windows
    vocab_size, block_size, layers, heads, width, _ = SIZES[layout]
    giant = {vocab_size: 100_000, block_size: 4096, layers: 48, heads: 1, width: 4096, "num_key_value_heads": 1}
    change_config(folder, **giant)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(folder)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 500e6  # bytes; the claimed weights need 40 GB


@pytest.mark.parametrize("kinds", [(torch.float32,), (torch.float32, torch.uint8), (torch.float16, torch.float32)])
def test_a_safetensors_file_in_parts_has_the_bytes_of_the_library(kinds):
    torch.manual_seed(0)
    tensors = {f"z{i}ü": (9 * torch.rand(3, i + 1)).to(kind) for i, kind in enumerate(kinds)}
    tensors |= {"a": torch.tensor(2.0), "none": torch.zeros(0, 4), "turned": torch.rand(3, 5).t()}
    metadata = {"said": 'ü"\n'}  # one entry: the library writes several in any order
    whole = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    assert b"".join(safetensors_parts(tensors, metadata)) == whole


def test_a_safetensors_file_is_written_from_the_memory_of_its_tensors():
    tensors = {"a": torch.zeros(100)}
    _, part = safetensors_parts(tensors, {})
    tensors["a"][0] = 1.0
    assert load(b"".join(safetensors_parts(tensors, {})))["a"][0] == 1.0
    assert np.frombuffer(part, np.float32)[0] == 1.0
