"""Test training, reporting, sampling and sharing with a tokenizer whose tokens are longer than one character.

It replaces `CharTokenizer` in tokenizer.py; everything else must work unchanged.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nanogpt import corpus, tokenizer as tokenizer_module
from nanogpt.cli.main import main
from nanogpt.config import NanoGPTError, SampleConfig, TrainConfig
from nanogpt.data import make_get_batch, split
from nanogpt.formats import load_model, read_config
from nanogpt.holdout import epochs, train_length
from nanogpt.launch import pace, plan, prepare
from nanogpt.model import GPT
from nanogpt.publish import card, code_export, deploy, page_export, push
from nanogpt.publish.run_files import RunFiles
from nanogpt.runs import Run, archive, logs
from nanogpt.sample import stream, stream_many
from nanogpt.tokenizer import CharTokenizer, Fitted, load_tokenizer, token_lengths, unit
from nanogpt.ui import form, sample_tab
from nanogpt.ui.words import tiles

SMALL = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, patience=0, learning_rate=1e-2)
FLAGS = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]


class PairTokenizer:
    """Tokens are pairs of characters, plus single characters for text that no pair matches."""

    def __init__(self, text: str):
        self._number(sorted(set(text)) + sorted({text[i : i + 2] for i in range(0, len(text) - 1, 2)}))

    def _number(self, tokens: list[str]) -> None:
        self.stoi = {token: i for i, token in enumerate(tokens)}
        self.itos = dict(enumerate(tokens))
        self.vocab_size = len(tokens)
        self.chars = sorted(token for token in tokens if len(token) == 1)

    def encode(self, text: str) -> list[int]:
        ids = []
        while text:
            token = text[:2] if text[:2] in self.stoi else text[:1]
            if token not in self.stoi:
                raise NanoGPTError(f"The character {token} is not in this model's alphabet.")
            ids.append(self.stoi[token])
            text = text[len(token) :]
        return ids

    def encode_array(self, text: str) -> np.ndarray:
        return np.array(self.encode(text), dtype=np.uint16)

    def decode(self, ids) -> str:
        return "".join(self.itos[int(i)] for i in ids)

    def fit(self, text: str) -> Fitted:
        return CharTokenizer(self.chars).fit(text)

    def files(self, model_max_length: int) -> dict[str, str]:
        return {"tokenizer.json": json.dumps(dict(pairs=self.stoi)), "tokenizer_config.json": "{}"}

    @classmethod
    def load(cls, folder: Path, content: bytes | None = None) -> PairTokenizer:
        found = cls("")
        found._number(list(json.loads(content or (folder / "tokenizer.json").read_bytes())["pairs"]))
        return found


@pytest.fixture(scope="module", autouse=True)
def pairs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer_module, "CharTokenizer", PairTokenizer)
        yield


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOGPT_HOME", str(path))
        yield path


@pytest.fixture(scope="module")
def run(home, tiny_text) -> Run:
    """Train a run of 60 steps through the command line, in this process, and return it."""
    (home / "play.txt").write_text(tiny_text, encoding="utf-8", newline="")
    flags = ["--max-iters", "60", "--eval-interval", "20", "--name", "one"]
    assert main(["train", str(home / "play.txt"), *flags, *FLAGS]) == 0
    return Run("one")


@pytest.fixture(scope="module")
def text(run) -> corpus.Corpus:
    return corpus.load(run.settings()["corpus"]["id"])


def parts(text: corpus.Corpus) -> tuple[torch.Tensor, torch.Tensor]:
    return split(text.tokens(), token_lengths(text.tokenizer()))


def per_token(text: corpus.Corpus) -> float:
    return train_length(text.characters) / len(parts(text)[0])


# --- the text ------------------------------------------------------------------------------------------------------


def test_the_tokens_are_longer_than_a_character_and_of_several_lengths(text, tiny_text):
    tokenizer = text.tokenizer()
    assert unit(tokenizer) == "token"
    assert set(token_lengths(tokenizer)[text.tokens()]) == {1, 2}
    assert 0.5 * len(tiny_text) <= len(text.tokens()) < 0.6 * len(tiny_text)
    assert tokenizer.decode(text.tokens()) == tiny_text == text.text()
    assert corpus.listed() == [text]


def test_the_same_characters_are_held_out_as_with_any_other_tokenizer(text, tiny_text):
    train, val = parts(text)
    cut, tokenizer = int(0.9 * len(tiny_text)), text.tokenizer()
    assert (tokenizer.decode(train), tokenizer.decode(val)) == (tiny_text[:cut], tiny_text[cut:])
    assert (text.report().train_characters, text.report().val_characters) == (cut, len(tiny_text) - cut)
    assert len(tiny_text[:cut]) % 2 == 1  # encoded as one text, a pair would cross the split


# --- the run -------------------------------------------------------------------------------------------------------


def test_the_run_keeps_its_tokenizer_and_counts_its_text_in_characters(run, text, tiny_text):
    tokenizer = load_tokenizer(run.folder)
    assert isinstance(tokenizer, PairTokenizer)
    assert tokenizer.stoi == text.tokenizer().stoi
    assert read_config(run.folder).vocab_size == tokenizer.vocab_size > len(tokenizer.chars)
    assert run.settings()["corpus"]["characters"] == len(tiny_text)


def loss_by_hand(run: Run, ids: list[int]) -> tuple[float, int]:
    """Compute the loss token by token over adjacent windows. Return nats per character and the character count."""
    model, tokenizer = load_model(run.folder), load_tokenizer(run.folder)
    T, nats, characters = model.config.block_size, 0.0, 0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, T):
            piece = torch.tensor(ids[start : start + T + 1])
            scores = model(piece[None, :-1])[0][0].double().log_softmax(-1)
            nats -= sum(scores[t, piece[t + 1]].item() for t in range(len(piece) - 1))
            characters += len(tokenizer.decode(piece[1:]))
    return nats / characters, characters


def test_the_validation_loss_is_per_character(run, text):
    val = parts(text)[1].tolist()
    loss, characters = loss_by_hand(run, val)
    assert characters == text.report().val_characters - len(text.tokenizer().itos[val[0]])
    last = run.history().events[-1]
    assert last["val_loss"] == pytest.approx(loss, abs=1e-5)
    assert last["val_characters"] == characters
    assert f"validation loss {loss:.4f} nats per character, {loss / math.log(2):.3f} bits" in run.status().message
    untrained = run.history().rows[0]["val_loss"]  # log(V) per token
    assert untrained == pytest.approx(math.log(text.tokenizer().vocab_size) * (len(val) - 1) / characters, rel=0.02)
    assert untrained > loss


def test_the_training_loss_is_per_character(run, text):
    """Compare the first step with the loss of the same initial model on the same batch."""
    config = TrainConfig.of(run.settings()["train"])
    torch.manual_seed(config.seed)
    model, train = GPT(read_config(run.folder)), parts(text)[0]
    get_batch = make_get_batch(train, 16, config, torch.Generator().manual_seed(config.seed))
    loss = model(*get_batch(0))[1].item()  # nats per token
    assert run.history().rows[1]["step"] == 1
    assert run.history().rows[1]["train_loss"] == pytest.approx(loss / per_token(text), rel=1e-4)
    assert 1.7 < per_token(text) <= 2


def test_tokens_and_characters_are_counted_apart(run, text):
    for row in run.history().rows:
        assert row["tokens"] == row["step"] * 4 * 16
        assert row["characters"] == round(row["tokens"] * per_token(text))
    for row in run.history().rows[1:]:
        assert row["characters_per_second"] == pytest.approx(row["tokens_per_second"] * per_token(text), abs=2)
    header, *lines = logs.curves_csv(run).splitlines()
    assert header.startswith("step,seconds,tokens,")
    assert dict(zip(header.split(","), lines[-1].split(",")))["characters"] == str(round(60 * 64 * per_token(text)))


# --- reporting -----------------------------------------------------------------------------------------------------


def test_the_page_tells_speed_and_epochs_in_characters(run, text):
    figures, history = {one["label"]: one for one in tiles(run, run.status())}, run.history()
    assert figures["Mean speed"]["value"] == f"{history.mean_speed:,.0f}"
    row = next(row for row in history.rows if "characters_per_second" in row)
    assert row["characters_per_second"] > 1.5 * row["tokens_per_second"]
    assert figures["Mean speed"]["note"] == "characters per second"
    often = epochs(60 * 4 * 16, len(text.tokens()))
    assert float(figures["Epochs"]["value"]) == pytest.approx(often, abs=0.006)
    assert f"{often:.1f}" != f"{60 * 4 * 16 / train_length(text.characters):.1f}"  # wrong: counts tokens as characters


def test_the_estimate_counts_in_tokens(text, monkeypatch):
    monkeypatch.setattr(pace, "speed", lambda model, train, seconds=1.0: 2e11)
    settings = form.settings_of("timed")
    advanced = [settings[k.name] for k in form.ADVANCED]
    said = form.estimate(text.id, "timed", "modern", "30s", 1, *advanced)
    tokens, chosen = len(text.tokens()), plan.choose(30, text.tokenizer().vocab_size, len(text.tokens()), {}, "token")
    assert f"context {chosen.settings['block_size']} tokens: {chosen.parameters:,} parameters" in said
    read = chosen.settings["max_iters"] * chosen.settings["batch_size"] * chosen.settings["block_size"]
    assert f", {epochs(read, tokens):.1f} epochs." in said
    assert "validation loss" not in said  # the losses that are known are of single characters
    assert 2 * chosen.settings["block_size"] < tokens - train_length(tokens)


def test_the_block_size_fits_the_tokens_that_are_held_out():
    tokenizer = PairTokenizer("aab")
    tokens = tokenizer.encode_array(900 * "b" + 100 * "a")  # 950 of them, of which the last 50 are held out
    text = SimpleNamespace(tokenizer=lambda: tokenizer, tokens=lambda: tokens, characters=1000)
    assert prepare.resolve(text, "quick", dict(block_size=64)).model.block_size == 16


def test_the_command_tells_the_loss_per_character(run, text, home, capfd):
    assert main(["eval", "one"]) == 0
    found = json.loads(capfd.readouterr().out)
    loss, characters = loss_by_hand(run, parts(text)[1].tolist())
    assert found["val_loss"] == pytest.approx(loss, abs=1e-5)
    assert found["characters"] == characters
    (home / "other.txt").write_text(text.text()[101:404], encoding="utf-8", newline="")
    assert main(["eval", "one", str(home / "other.txt")]) == 0
    found = json.loads(capfd.readouterr().out)
    loss, characters = loss_by_hand(run, load_tokenizer(run.folder).encode(text.text()[101:404]))
    assert found["val_loss"] == pytest.approx(loss, abs=1e-5)
    assert found["characters"] == characters


# --- sampling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 7, 100])
def test_a_sample_has_as_many_characters_as_were_asked_for(run, length, capfd):
    model, tokenizer = load_model(run.folder), load_tokenizer(run.folder)
    config = SampleConfig(length=length, num_samples=3, seed=4)
    texts = ["".join(pieces) for pieces in zip(*stream_many(model, tokenizer, "The ", config))]
    assert [len(one) for one in texts] == [length] * 3
    assert main(["sample", "one", "--prompt", "The ", "--length", str(length), "--seed", "4"]) == 0
    assert capfd.readouterr().out == f"The {texts[0]}\n"
    assert list(sample_tab.write("one", "The ", length=length, seed=4))[-1] == f"The {texts[0]}"


def test_the_samples_of_the_run_have_three_hundred_characters(run):
    assert {len(sample["text"]) for sample in run.history().samples} == {300}


def test_a_text_ends_before_the_stop_text_though_it_lies_across_two_tokens(run):
    model, tokenizer = load_model(run.folder), load_tokenizer(run.folder)
    whole = "".join(stream(model, tokenizer, "", SampleConfig(length=200, seed=1)))
    for at in (1, 10, 33, 60):  # at any position, token boundary or not
        stop = whole[at : at + 3]
        written = "".join(stream(model, tokenizer, "", SampleConfig(length=200, seed=1, stop=stop)))
        assert written == whole[: whole.index(stop)]


def test_a_prompt_is_fitted_to_the_alphabet(run, capfd):
    assert sample_tab.note("one", "Thé 漢") == "Not in this model's alphabet: replaced é → e; skipped 漢."
    assert list(sample_tab.write("one", "Thé 漢", length=5))[-1].startswith("The ")
    assert main(["sample", "one", "--prompt", "Thé", "--length", "1"]) == 0
    assert "replaced é → e" in capfd.readouterr().err


# --- sharing and exports -------------------------------------------------------------------------------------------


def test_the_card_speaks_of_tokens_and_compares_characters(run, text, tiny_text):
    compared = card.judged(RunFiles(run))
    assert compared.losses["uniform"] == pytest.approx(math.log(len(set(tiny_text))))
    written = card.card(RunFiles(run), "user/one", compared)
    vocab_size = text.tokenizer().vocab_size
    assert "A small token-level GPT" in written
    assert f"a context length of 16 tokens and a vocabulary of {vocab_size} tokens." in written
    assert f"A prompt can only use the {len(set(tiny_text))} characters that the model was trained on" in written
    assert "token-level" in written
    assert "character-level" not in written
    assert "a small token-level GPT" in deploy.about(RunFiles(run), "user/space")


def test_the_exports_that_know_single_characters_only_refuse_it_by_name(run):
    for export in (page_export.html, code_export.python):
        with pytest.raises(NanoGPTError, match="one has tokens longer than a character"):
            export(run)


def test_it_is_pushed_and_packed_with_its_tokenizer(run, tmp_path):
    assert b"pairs" in push.model_files(RunFiles(run))["tokenizer.json"]
    archive.pack(run, tmp_path / "one.zip")
    there = archive.unpack(tmp_path / "one.zip")
    assert load_tokenizer(there.folder).stoi == load_tokenizer(run.folder).stoi
    assert re.search(r"validation loss \d", sample_tab.whose(there))
