"""Test every part of the project with an architecture it doesn't ship: each must support it or reject it clearly.

Computations are tested for all combinations of features, against a forward pass written out in this file.
"""

from __future__ import annotations

import ast
import base64
import io
import itertools
import re
import runpy
import sys
from contextlib import redirect_stdout
from dataclasses import fields, replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nanogpt import corpus, memory
from nanogpt.cli.main import main
from nanogpt.config import ModelConfig, NanoGPTError, SampleConfig, TrainConfig
from nanogpt.data import make_get_batch, split
from nanogpt.device import pick_device
from nanogpt.evaluate import estimate_loss
from nanogpt.fast.cpu import CrewStep
from nanogpt.fast.cuda_decode import StaticDecoder
from nanogpt.fast.decode import FastDecoder
from nanogpt.fast.gradients import ByHand, product_dtype
from nanogpt.fast.rows import Rows
from nanogpt.fastest import described
from nanogpt.formats import config_files, load_model, read_config, weights_bytes
from nanogpt.launch import pace, plan, prepare
from nanogpt.layout import LAYOUTS, Layout
from nanogpt.model import GPT, attention_by_hand, rotate
from nanogpt.optim import make_optimizers
from nanogpt.presets import preset
from nanogpt.publish import card, code_export, page_export, run_files
from nanogpt.runs import Run, all_runs
from nanogpt.runs.settings import settings_json
from nanogpt.sample import Decoder, decoder_for, generate, generate_many
from nanogpt.schedule import get_lr, settled
from nanogpt.step import Step
from nanogpt.ui import form

ROOT = Path(__file__).resolve().parent.parent
THIRD = Layout(rotary=True)  # rotary positions with LayerNorm
WORDS = r"rotary positions, LayerNorm, ReLU, biases"
SIZES = dict(vocab_size=13, block_size=12, n_layer=2, n_head=2, n_embd=16)
FEATURES = [field.name for field in fields(Layout)]
ALL = [Layout(*on) for on in itertools.product((False, True), repeat=len(FEATURES))]
every_layout = pytest.mark.parametrize("layout", ALL, ids=str)
# All that compute something different: zero_init only affects the initial weights, which `stirred` changes.
every_computation = pytest.mark.parametrize("layout", [one for one in ALL if not one.zero_init], ids=str)
CPU = pick_device("cpu")


@pytest.fixture
def third(monkeypatch) -> str:
    """Register a third architecture and return its name."""
    monkeypatch.setitem(LAYOUTS, "third", THIRD)
    return "third"


def stirred(layout: Layout | str, **sizes) -> GPT:
    """Return a model whose parameters are all random, so that each affects the output (none is 0 or 1)."""
    torch.manual_seed(0)
    model = GPT(ModelConfig(layout=layout, **{**SIZES, **sizes}))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model.eval()


def ids(texts: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, SIZES["vocab_size"], (texts, SIZES["block_size"]))


def written_out(model: GPT, idx):
    """Compute logits from an architecture's definition and a model's weights: (B, T) -> (B, T, vocab_size)."""
    layout, w = model.config.features, dict(model.named_parameters())
    (B, T), C, nh = idx.shape, SIZES["n_embd"], SIZES["n_head"]

    def rms(x):
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def norm(x, name):
        if layout.plain_norms:
            return rms(x)
        centred = x - x.mean(-1, keepdim=True)
        spread = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return centred / spread * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + (w[f"{name}.bias"] if layout.biases else 0)

    x = w["token_embedding_table.weight"][idx]
    x = x if layout.rotary else x + w["position_embedding_table.weight"][:T]
    x = rms(x) if layout.plain_norms else x
    for i in range(SIZES["n_layer"]):
        block = f"blocks.{i}"
        z = linear(norm(x, f"{block}.ln1"), f"{block}.sa.qkv")  # (B, T, 3C)
        q, k, v = z.view(B, T, 3, nh, C // nh).permute(2, 0, 3, 1, 4)  # three of (B, nh, T, hs)
        if layout.rotary:
            q, k = rotate(q, *model.rotary[:, :T]), rotate(k, *model.rotary[:, :T])
        if layout.qk_norm:
            q, k = rms(q), rms(k)
        heard, _ = attention_by_hand(q, k, v)
        x = x + linear(heard.transpose(1, 2).reshape(B, T, C), f"{block}.sa.proj")
        hidden = linear(norm(x, f"{block}.ln2"), f"{block}.ffwd.net.0").clamp(min=0)
        x = x + linear(hidden**2 if layout.relu_squared else hidden, f"{block}.ffwd.net.2")
    return norm(x, "ln_f") @ w["lm_head.weight"].T


# --- Layout as a value ---------------------------------------------------------------------------------------------


def test_a_layout_cannot_be_changed_and_says_what_it_is():
    with pytest.raises(AttributeError):
        THIRD.rotary = False  # type: ignore[misc]
    assert str(THIRD) == WORDS
    assert str(LAYOUTS["modern"]) == "rotary positions, RMS norm, QK norm, ReLU squared, no biases, zero init"
    assert len({str(layout) for layout in ALL}) == 2 ** len(FEATURES)  # every feature is in its name
    assert THIRD.has(rotary=True, biases=True)
    assert not THIRD.has(rotary=True, biases=False)


def test_a_config_takes_a_name_or_a_layout(third):
    named, unnamed = ModelConfig(layout=third), ModelConfig(layout=THIRD)
    assert (named.layout, named.features, unnamed.features) == ("third", THIRD, THIRD)
    assert ModelConfig.of(unnamed.as_dict()) == replace(unnamed) == unnamed
    with pytest.raises(NanoGPTError, match=r"layout was 'fourth'; it must be one of classic, modern, third\."):
        ModelConfig(layout="fourth")
    with pytest.raises(NanoGPTError, match=r"n_embd \(\d+\) / n_head \(\d+\) must be even in the third architecture"):
        ModelConfig(layout=third, n_embd=9, n_head=3)
    with pytest.raises(
        NanoGPTError, match=rf"n_embd \(\d+\) / n_head \(\d+\) must be even in the {WORDS} architecture"
    ):
        ModelConfig(layout=THIRD, n_embd=9, n_head=3)


def test_a_layout_without_a_recipe_keeps_the_preset_s(third):
    (_, ours), (_, classic) = (preset("quick").configs(layout=layout) for layout in (third, "classic"))
    assert ours == classic != preset("quick").configs(layout="modern")[1]


# --- the model -----------------------------------------------------------------------------------------------------


@every_computation
def test_the_model_computes_what_its_layout_says(layout):
    model, idx = stirred(layout), torch.from_numpy(ids())
    torch.testing.assert_close(model(idx)[0], written_out(model, idx), atol=1e-4, rtol=1e-4)


@every_layout
def test_the_first_weights_are_those_of_the_layout(layout):
    torch.manual_seed(0)
    model = GPT(ModelConfig(layout=layout, **{**SIZES, "n_embd": 64}))
    spread = {name: p.std().item() for name, p in model.named_parameters() if p.dim() == 2}
    if layout.zero_init:
        zero = {name for name, std in spread.items() if std == 0}
        assert zero == {name for name in spread if name.endswith(("proj.weight", "net.2.weight", "lm_head.weight"))}
        assert spread["token_embedding_table.weight"] == pytest.approx(1, rel=0.1)
        assert spread["blocks.0.sa.qkv.weight"] == pytest.approx(1 / 8, rel=0.1)
    else:
        assert spread["lm_head.weight"] == pytest.approx(0.02, rel=0.1)
        assert spread["blocks.1.sa.proj.weight"] == pytest.approx(0.01, rel=0.1)
    gains = {name for name, p in model.named_parameters() if p.dim() == 1 and (p == 1).all()}
    zeros = {name for name, p in model.named_parameters() if p.dim() == 1 and (p == 0).all()}
    assert gains == {name for name, _ in model.named_parameters() if "ln" in name and name.endswith("weight")}
    assert zeros == {name for name, _ in model.named_parameters() if name.endswith("bias")}
    assert model.count_parameters() == sum(p.numel() for p in stirred(layout, n_embd=64).parameters())


# --- training ------------------------------------------------------------------------------------------------------


def losses_of(model: GPT, text: str, kind: type[Step], config: TrainConfig) -> list[float]:
    """Train for `max_iters` steps in a plain loop. Return the validation losses before and after."""
    chars = sorted(set(text))
    train, val = split(np.array([chars.index(ch) for ch in text], np.uint16))
    get_batch = make_get_batch(train, model.config.block_size, config, torch.Generator().manual_seed(config.seed))
    step = kind(model, config, CPU)
    before = estimate_loss(model, val, CPU)
    for i in range(config.max_iters):
        step(*get_batch(i), get_lr(i, config))
    return [before, estimate_loss(model, val, CPU)]


def model_for(text: str, layout: Layout | str, seed: int = 1337) -> GPT:
    torch.manual_seed(seed)
    return GPT(ModelConfig(layout=layout, **{**SIZES, "vocab_size": len(set(text))}))


# Muon makes all directions of an update equally long, so it amplifies rounding, and on some CPUs more than on others.
@pytest.mark.parametrize(("optimizer", "apart"), [("adamw", 1e-3), ("muon", 1e-2)])
def test_a_third_layout_learns_in_the_plain_step_and_in_the_fast_one_alike(
    third, tiny_text, optimizer, apart, monkeypatch
):
    monkeypatch.setattr("nanogpt.fast.gradients.native_bfloat16", lambda: False)
    config = TrainConfig(max_iters=60, batch_size=8, learning_rate=1e-2, optimizer=optimizer, warmup_iters=10)
    plain, fast = (losses_of(model_for(tiny_text, third), tiny_text, kind, config) for kind in (Step, CrewStep))
    assert plain[1] < 2.9 < plain[0]  # 2.9: loss of a unigram model
    assert fast == pytest.approx(plain, abs=apart)


@every_layout
def test_a_step_by_hand_gives_the_loss_and_gradients_of_autograd(layout):
    model, idx = stirred(layout), torch.from_numpy(ids())
    loss = F.cross_entropy(written_out(model, idx[:, :-1]).flatten(0, 1), idx[:, 1:].flatten())
    expected = torch.autograd.grad(loss, list(model.parameters()))
    found, grads = ByHand(model, torch.float32, rows=5)(idx[:, :-1], idx[:, 1:])
    assert found.item() == pytest.approx(loss.item(), abs=1e-5)
    for grad, other in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-3, atol=1e-5)
    loss = CrewStep(model, TrainConfig(), CPU).forward_backward(idx, idx)  # perhaps in bfloat16
    assert loss.item() == pytest.approx(model(idx, idx)[1].item(), rel=0.02)
    assert all(p.grad is not None for p in model.parameters())


def test_the_device_line_names_the_precision_of_training(third):
    for dropout, dtype in ((0.0, product_dtype(ModelConfig(), "cpu")), (0.1, torch.float32)):
        named = described(CPU, ModelConfig(layout=third, dropout=dropout, **SIZES))
        assert named == str(replace(CPU, dtype=dtype))


@every_computation
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_parameter_has_its_optimizer_and_only_matrices_decay(layout, optimizer):
    model = stirred(layout)
    optimizers = make_optimizers(model, TrainConfig(optimizer=optimizer, weight_decay=0.1))
    groups = [(type(one).__name__, group) for one in optimizers for group in one.param_groups]
    held = [id(p) for _, group in groups for p in group["params"]]
    assert sorted(held) == sorted(map(id, model.parameters()))  # each exactly once
    for kind, group in groups:
        for p in group["params"]:
            assert group["weight_decay"] == (0.1 if p.dim() == 2 else 0)
            assert kind == "AdamW" or p.dim() == 2
    matrices = [p for name, p in model.named_parameters() if name.startswith("blocks") and p.dim() == 2]
    by_muon = [p for kind, group in groups if kind == "Muon" for p in group["params"]]
    assert len(by_muon) == (len(matrices) if optimizer == "muon" else 0)


def test_weight_decay_by_epochs_counts_the_layout_s_own_parameters(third):
    by_size = TrainConfig(weight_decay=-1.0, max_iters=4000)
    decays = [
        settled(by_size, ModelConfig(layout=layout, **SIZES), 40_000).weight_decay for layout in (third, "modern")
    ]
    assert decays[0] > decays[1] > 0  # biases and norm gains count as parameters, too


def test_memory_is_estimated_by_features(third):
    def needed(layout, **sizes):
        return memory.needed(ModelConfig(layout=layout, **{**SIZES, "block_size": 512, **sizes}), train, CPU)

    train = TrainConfig(batch_size=8)
    classic, ours, modern = (needed(layout, dropout=0.1) for layout in ("classic", third, "modern"))
    assert classic < ours + 4 * 6 * 512 * 16  # the position table it doesn't have, with all its copies
    assert ours < modern
    # with dropout it is torch's attention, which doesn't store the attention matrix
    assert needed(third, n_head=8, dropout=0.1) == needed(third, dropout=0.1)
    size = product_dtype(ModelConfig(), "cpu").itemsize
    for layout in ("classic", third, "modern"):
        eight, four = (needed(layout, n_head=heads, n_embd=64) for heads in (8, 4))
        assert eight - four == 8 * 2 * 4 * 512 * (512 + 128) // 2 * size  # the one by hand does
    assert needed(third, n_head=8, block_size=513) == needed(third, block_size=513)  # but not for long contexts


def test_a_time_budget_is_planned_for_a_third_layout(third, monkeypatch):
    monkeypatch.setattr(pace, "TRIAL_SECONDS", 0.05)
    chosen = plan.choose(20, 13, 1_000_000, {"layout": third})
    assert chosen.settings["layout"] == third
    assert "from the modern architecture on English like" in str(chosen)  # doesn't promise a loss for it


# --- sampling ------------------------------------------------------------------------------------------------------


@every_computation
@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("texts", [1, 3])
def test_every_decoder_gives_the_scores_of_the_whole_model(layout, length, texts):
    model, idx = stirred(layout), ids(texts)
    expected = written_out(model, torch.from_numpy(idx)).detach().numpy()  # (B, T, vocab_size)
    fast = decoder_for(model, texts)
    assert isinstance(fast, FastDecoder if texts == 1 else Rows)
    for decoder in (fast, Decoder(model, texts), StaticDecoder(model, texts)):
        np.testing.assert_allclose(decoder.read(idx[:, :length]), expected[:, length - 1], atol=1e-3, rtol=1e-3)
        for t in range(length, idx.shape[1]):
            np.testing.assert_allclose(decoder.read(idx[:, t : t + 1]), expected[:, t], atol=1e-3, rtol=1e-3)


def test_a_third_layout_writes_the_lecture_s_text_from_every_decoder(third):
    model, config = stirred(third), SampleConfig(length=11, seed=4)
    text = generate(model, [3], config)
    for decoder in (decoder_for(model, 1), Decoder(model), StaticDecoder(model)):
        assert [i for [piece] in generate_many(decoder, [3], config) for i in piece] == text


# --- saving --------------------------------------------------------------------------------------------------------

REFUSED = (
    r"The architecture {}\({}\) can't be saved: transformers only has models for classic \(learned positions, "
    r"LayerNorm, ReLU, biases\) and modern \(rotary positions, RMS norm, QK norm, ReLU squared, no biases, "
    r"zero init\)\."
)


@every_layout
def test_what_transformers_has_no_model_for_is_not_saved(layout, tmp_path):
    model = stirred(layout)
    if layout in LAYOUTS.values():
        for name, text in config_files(model.config).items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / "model.safetensors").write_bytes(weights_bytes(model))
        assert LAYOUTS[read_config(tmp_path).layout] == layout
        idx = torch.from_numpy(ids())
        torch.testing.assert_close(load_model(tmp_path)(idx)[0], model(idx)[0])
        return
    for save in (lambda: config_files(model.config), lambda: weights_bytes(model)):
        with pytest.raises(NanoGPTError, match=REFUSED.format("", layout)):
            save()


def test_a_layout_s_name_is_in_the_refusal(third):
    for save in (lambda: config_files(stirred(third).config), lambda: weights_bytes(stirred(third))):
        with pytest.raises(NanoGPTError, match=REFUSED.format("third ", WORDS)):
            save()


def test_a_run_of_a_third_layout_is_refused_before_anything_is_measured_or_written(
    home, third, tiny_text, tmp_path, capsys, monkeypatch
):
    text = corpus.add(tiny_text, "A Play")
    monkeypatch.setattr(prepare, "choose_by_time", None)
    for given in (dict(preset_name="quick"), dict(preset_name="timed", budget=20)):
        with pytest.raises(NanoGPTError, match=REFUSED.format("third ", WORDS)):
            prepare.new_run("ours", text, layout=third, **given)
    file = tmp_path / "play.txt"
    file.write_text(tiny_text, encoding="utf-8")
    assert main(["train", str(file), "--layout", third, "--name", "ours"]) == 2
    assert "can't be saved" in capsys.readouterr().err
    assert all_runs() == []


def test_a_saved_layout_goes_by_the_first_name_that_has_its_features(monkeypatch, tmp_path):
    monkeypatch.setitem(LAYOUTS, "twin", LAYOUTS["modern"])
    for name, text in config_files(ModelConfig(layout="twin", **SIZES)).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_config(tmp_path).layout == "modern"


# --- exports and other uses of a run -------------------------------------------------------------------------------


@pytest.fixture
def run(home, tiny_text) -> Run:
    """Return a finished run with the classic architecture; the tests below read it as another architecture."""
    made = prepare.new_run(
        "ours", corpus.add(tiny_text, "A Play"), "quick", n_layer=2, n_head=2, n_embd=16, block_size=12, batch_size=8,
        max_iters=20, eval_interval=20, learning_rate=1e-2, warmup_iters=5, device="cpu",
    )  # fmt: skip
    made.log(step=20, seconds=1.0, tokens=1, val_loss=2.0)
    made.event("finished", step=20, val_loss=2.0, val_characters=len(tiny_text) // 10)  # the whole validation set
    return made


def taken_for(run: Run, layout: Layout | str, monkeypatch) -> ModelConfig:
    config = replace(read_config(run.folder), layout=layout)
    for part in (run_files, code_export):
        monkeypatch.setattr(part, "read_config", lambda *files: config)
    return config


def program_of(run: Run, folder: Path) -> Path:
    """Export the run as a program, with its text in the same folder, and return the program's path."""
    (folder / "a-play.txt").write_text(corpus.load(run.settings()["corpus"]["id"]).text(), encoding="utf-8", newline="")
    path = folder / "program.py"
    path.write_text(code_export.python(run), encoding="utf-8")
    return path


@pytest.mark.slow
def test_the_exported_program_has_the_model_of_every_layout(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["program.py"])
    for layout in ALL:
        config = taken_for(run, layout, monkeypatch)
        source = program_of(run, tmp_path).read_text(encoding="utf-8")
        compile(source, "program.py", "exec")
        assert "{{" not in source
        assert "#:" not in source
        until_the_optimizer, _, _ = source.partition("# ---- the optimizer")
        names: dict = {}
        with redirect_stdout(io.StringIO()):
            exec(until_the_optimizer, names)
        theirs = names["model"]
        torch.manual_seed(TrainConfig().seed)
        ours = GPT(config)
        assert dict(ours.named_parameters()).keys() == dict(theirs.named_parameters()).keys()
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters()))
        for model in (ours, theirs):
            for i, p in enumerate(model.parameters()):
                p.data.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(i)), alpha=0.3)
        idx = torch.from_numpy(ids())
        torch.testing.assert_close(theirs(idx)[0], ours(idx)[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_exported_program_of_a_third_layout_comes_to_the_plain_loop_s_loss(
    run, third, tiny_text, monkeypatch, tmp_path, optimizer
):
    run.change(train={**run.settings()["train"], "optimizer": optimizer})
    config = taken_for(run, third, monkeypatch)
    program = program_of(run, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["program.py"])
    printed = io.StringIO()
    with redirect_stdout(printed):
        runpy.run_path(str(program))
    train = TrainConfig.of(run.settings()["train"])
    torch.manual_seed(train.seed)
    expected = losses_of(GPT(config), tiny_text, Step, train)
    [found] = re.findall(r"^validation loss (\d+\.\d{4}) nats", printed.getvalue(), re.M)
    assert float(found) == pytest.approx(expected[1], abs=2e-3)
    assert expected[1] < expected[0] - 0.3


@pytest.mark.slow
def test_the_exported_page_gives_the_scores_of_every_layout(browser):
    page = browser.new_page()
    exported = ROOT / "nanogpt/publish/exported"
    for script in ("math.js", "gpt.js"):
        page.add_script_tag(path=str(exported / script))
    module = base64.b64encode((exported / "math.wasm").read_bytes()).decode()
    scores_of = """async ([config, tensors, ids, module]) => {
        const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
        const w = {};
        for (const [name, text] of Object.entries(tensors)) {
            w[name] = new Float32Array(bytes(text).buffer);
        }
        return [plainMath, await simdMath(bytes(module))].map((math) => {
            const gpt = new GPT(config, (name) => w[name], math);
            return ids.map((id) => { gpt.read([id]); return Array.from(gpt.scores()); });
        });
    }"""
    for layout in (one for one in ALL if not one.zero_init):
        model, [text] = stirred(layout), ids(1)
        tensors = {n: base64.b64encode(p.detach().numpy().tobytes()).decode() for n, p in model.named_parameters()}
        found = page.evaluate(scores_of, [page_export._config(model.config), tensors, text.tolist(), module])
        expected = written_out(model, torch.from_numpy(text[None]))[0].detach().numpy()  # (T, vocab_size)
        for scores in found:  # in JavaScript, and in WebAssembly
            np.testing.assert_allclose(scores, expected, atol=1e-3, rtol=1e-3, err_msg=str(layout))
    page.close()


def test_the_exported_page_names_a_third_layout(run, third, monkeypatch):
    config = taken_for(run, third, monkeypatch)
    monkeypatch.setattr(run_files, "load_model", lambda folder, **files: GPT(config))
    assert "<dt>Architecture</dt><dd>third</dd>" in page_export.html(run)


def test_the_model_card_is_refused_where_its_sentences_would_not_be_true(run, third, monkeypatch):
    taken_for(run, third, monkeypatch)
    with pytest.raises(NanoGPTError, match=REFUSED.format("third ", WORDS)):
        card.introduction(run_files.RunFiles(run))


def test_the_settings_of_a_run_have_its_layout_s_name(run):
    assert '"layout": "classic"' in settings_json(run)


def test_the_form_and_the_command_line_offer_a_third_layout(third, capsys):
    with gr.Blocks():
        choices = form.build().layout.choices
    assert choices == [("Modern (faster)", "modern"), ("Classic (as in the lecture)", "classic"), ("third", "third")]
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "{classic,modern,third}" in capsys.readouterr().out


# --- no code depends on an architecture's name ---------------------------------------------------------------------


def names_compared(source: str) -> list[str]:
    """Return the architecture names that a module's code compares with or looks up."""
    found = []
    for node in ast.walk(ast.parse(source)):
        inside = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        inside += node.keys if isinstance(node, ast.Dict) else []
        found += [one.value for one in inside if isinstance(one, ast.Constant) and one.value in ("classic", "modern")]
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "nanogpt").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_code_reads_features_and_not_names(path):
    allowed = {
        "layout.py": ["classic", "modern"],  # defines the names
        "presets.py": ["modern"],  # RECIPES: training recipes aren't features
        "form.py": ["modern", "classic"],  # labels on the page
        "page_export.py": ["classic"],  # a label on the page
    }
    assert names_compared(path.read_text(encoding="utf-8")) == allowed.get(path.name, [])


@pytest.mark.parametrize("name", ["gpt.js", "train.txt"])
def test_the_exports_read_features_and_not_names(name):
    source = (ROOT / "nanogpt/publish/exported" / name).read_text(encoding="utf-8")
    assert "classic" not in source
    assert "modern" not in source


def test_a_name_that_is_compared_would_be_seen():
    assert names_compared("x = config.layout == 'classic'\ny = {'modern': 1}[z]\nlayout='modern'") == [
        "classic",
        "modern",
    ]
