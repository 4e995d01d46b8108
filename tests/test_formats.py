"""The run folder's model part: transformers is the judge of what we write, and nothing we read may surprise us."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.torch import load, save

from nanogpt.config import ModelConfig, NanoGPTError
from nanogpt.formats import config_files, load_model, read_config, weights_bytes
from nanogpt.model import GPT
from nanogpt.tokenizer import CharTokenizer

TEXT = "Ünïcode — 漢字 🙂\tand\n\nlines,   spaces; <s> </s> [UNK] 0123 \"quotes\" \\ 'n' Ġ▁"
CONFIG = ModelConfig(
    vocab_size=CharTokenizer(TEXT).vocab_size, block_size=16, n_layer=2, n_head=2, n_embd=8, dropout=0.25
)


@pytest.fixture(scope="module")
def model() -> GPT:
    torch.manual_seed(0)
    made = GPT(CONFIG)
    with torch.no_grad():
        for p in made.parameters():  # biases and gains as well
            p.add_(0.3 * torch.randn_like(p))
    return made.eval()


@pytest.fixture
def folder(tmp_path, model):
    """A folder as a run has it."""
    for name, text in {**config_files(CONFIG), **CharTokenizer(TEXT).files(CONFIG.block_size)}.items():
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


# --- transformers opens it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("opened_as", ["GPT2LMHeadModel", "AutoModelForCausalLM"])
def test_transformers_opens_it_and_gives_our_numbers(folder, model, opened_as):
    import transformers

    theirs, report = getattr(transformers, opened_as).from_pretrained(folder, output_loading_info=True)
    assert type(theirs) is transformers.GPT2LMHeadModel
    assert not any(report.values()), report  # nothing missing, unexpected or of another shape
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
    from transformers import GPT2LMHeadModel

    from nanogpt.config import SampleConfig
    from nanogpt.sample import generate

    theirs = GPT2LMHeadModel.from_pretrained(folder).eval()
    ours = generate(model, [3, 1, 4], SampleConfig(temperature=0, length=13))
    written = theirs.generate(
        torch.tensor([[3, 1, 4]]), attention_mask=torch.ones(1, 3), do_sample=False, max_length=16, pad_token_id=0
    )
    assert written[0, 3:].tolist() == ours


# --- there and back ------------------------------------------------------------------------------------------------


def test_what_is_read_back_is_the_model_to_the_bit(folder, model):
    back = load_model(folder)
    assert back.config == CONFIG == read_config(folder)
    ours, theirs = model.state_dict(), back.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
        assert theirs[name].is_contiguous()
    assert not back.training
    assert weights_bytes(back) == weights_bytes(model)


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


# --- what is missing, broken, foreign or hostile -------------------------------------------------------------------


def test_no_weights_yet_is_said_so(folder):
    (folder / "model.safetensors").unlink()
    assert "no weights yet" in refused(folder)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, -1000, -1])
def test_weights_cut_short(folder, length):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:length])
    assert "cannot be read" in refused(folder)


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


@pytest.mark.parametrize(
    "replace",
    [
        lambda t: t.t().contiguous(),
        lambda t: t[:-1],
        lambda t: t[None],
        lambda t: t[..., None],
        lambda t: t.flatten(),
        lambda t: torch.tensor(0.0),
        lambda t: t[:0],
    ],
    ids=["transposed", "short", "three dimensions", "three the other way", "flat", "a number", "empty"],
)
@pytest.mark.parametrize("name", ["transformer.h.1.attn.c_attn.weight", "lm_head.weight"])
def test_weights_of_another_shape(folder, name, replace):
    change_weights(folder, lambda tensors: tensors.update({name: replace(tensors[name])}))
    assert name in refused(folder)


def test_a_missing_weight_is_named(folder):
    change_weights(folder, lambda tensors: tensors.pop("transformer.h.1.mlp.c_fc.bias"))
    assert "transformer.h.1.mlp.c_fc.bias" in refused(folder)


def test_weights_with_a_layer_too_many_are_not_those_of_the_config(folder):
    layer = {f"transformer.h.2.{name}": torch.zeros(8) for name in ("ln_1.weight", "ln_1.bias")}
    change_weights(folder, lambda tensors: tensors.update(layer))
    assert "transformer.h.2.ln_1" in refused(folder)


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


@pytest.mark.parametrize("changes", [{"model_type": "llama"}, {"activation_function": "gelu_new"}, {"model_type": []}])
def test_a_foreign_model_is_called_one(folder, changes):
    change_config(folder, **changes)
    assert "not a model of this program" in refused(folder)


SIZES = ["vocab_size", "n_positions", "n_layer", "n_head", "n_embd"]


@pytest.mark.parametrize("key", [*SIZES, "resid_pdrop"])
@pytest.mark.parametrize("value", [-1, None, "many", [], {}, 2**62, 10**30, float("nan"), float("inf"), 0.5**0.5 * 3])
def test_sizes_that_cannot_be(folder, key, value):
    change_config(folder, **{key: value})
    refused(folder)


@pytest.mark.parametrize("key", [key for key in SIZES if key != "n_head"])  # which no shape tells
def test_sizes_other_than_the_weights(folder, key):
    before = json.loads((folder / "config.json").read_text(encoding="utf-8"))[key]
    change_config(folder, **{key: before + 2})
    refused(folder)


@pytest.mark.parametrize("key", [*SIZES, "resid_pdrop", "model_type"])
def test_a_size_left_out(folder, key):
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del described[key]
    (folder / "config.json").write_text(json.dumps(described), encoding="utf-8")
    assert "config.json" in refused(folder)


def test_a_giant_of_a_config_takes_no_memory_before_it_is_refused(folder):
    import resource

    change_config(folder, n_embd=4096, n_head=1, n_layer=48, vocab_size=100_000, n_positions=4096)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB; its weights would be 40 GB
