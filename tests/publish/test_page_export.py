"""The one-file page against PyTorch and the tokenizer, in a real Chromium without a network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import home_for_all
from judges import probabilities

from nanogpt.cli.main import main
from nanogpt.config import ModelConfig, NanoGPTError, SampleConfig
from nanogpt.disk import write_whole
from nanogpt.formats import config_files, load_model, weights_bytes
from nanogpt.model import GPT
from nanogpt.publish import page_export
from nanogpt.runs import Run
from nanogpt.sample import Decoder, generate_many
from nanogpt.tokenizer import CharTokenizer

LAYOUTS = ["classic", "modern"]
LATIN = "\n !\"',-.:;?" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + "abcdefghijklmnopqrstuvwxyz"
ODD = "\n </script>&\"'`${}\\\u2028\u2029\u0301\ufeff\x7f‮é漢🙂👩\U0010fffd"
HOSTILE = "</script><img src=x onerror=document.title='broken'> {{weights}} \"' &amp; 🙂"
SMALL = dict(n_layer=2, n_head=3, n_embd=18, block_size=16)
QUICK = dict(n_layer=4, n_head=4, n_embd=128, block_size=64)


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory) -> Iterator[Path]:
    with home_for_all(tmp_path_factory, "pages") as path:
        yield path


def made(
    name: str, layout: str = "classic", chars: str = LATIN, corpus: str = "A Play", noise=0.3, loudness=1.0, **shape
) -> Run:
    """Create a run with random, nonzero weights; `loudness` scales those of queries, keys and values."""
    tokenizer = CharTokenizer(chars)
    config = ModelConfig(tokenizer.vocab_size, layout, **(shape or SMALL))
    about = dict(id="0123456789abcdef", name=corpus, sha256="", characters=5000)
    settings = dict(preset="quick", plan=None, corpus=about, train={})
    run = Run.create(name, settings, {**config_files(config), **tokenizer.files(config.block_size)})
    torch.manual_seed(len(name))
    model = GPT(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(noise * torch.randn_like(p))
        for block in model.blocks:
            block.sa.qkv.weight.mul_(loudness)
    write_whole(run.folder / "model.safetensors", weights_bytes(model))
    run.log(step=100, seconds=3.0, tokens=1, val_loss=1.8)
    return run


@pytest.fixture
def opened(browser, tmp_path):
    """Yield a function that opens a run's page from disk, offline; then check that the page requested nothing else."""
    context = browser.new_context(viewport={"width": 390, "height": 844})
    context.set_offline(True)
    page, complaints, requests = context.new_page(), [], []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: requests.append(request.url))

    def open_page(run: Run):
        path = tmp_path / "page.html"
        path.write_text(page_export.html(run), encoding="utf-8", newline="")
        page.goto(path.as_uri())
        still(page)
        return page

    open_page.complaints = complaints
    yield open_page
    context.close()
    assert complaints == []
    assert [url for url in requests if not re.fullmatch(r"file://.*/page\.html", url)] == []


def still(page) -> str:
    """Wait until the page has stopped generating, and return the text on it."""
    page.wait_for_selector("#text[aria-busy=false]")
    return page.locator("#written").evaluate("element => element.textContent")


def write(page, **fields) -> str:
    for name, value in fields.items():
        page.locator(f"#{name}").fill(str(value))
    page.locator("#go").click()
    return still(page)


class Recorder(Decoder):
    """A plain decoder that records all the scores it returns."""

    def restart(self) -> None:
        super().restart()
        self.seen: list[np.ndarray] = getattr(self, "seen", [])

    def read(self, ids: np.ndarray) -> np.ndarray:
        self.seen.append(super().read(ids)[0])
        return self.seen[-1][None]


# --- the model -----------------------------------------------------------------------------------------------------

WRITE = """([start, settings]) => {
    const ids = [], scores = [];
    for (const id of write(gpt, start, settings)) {
        if (id === null) continue;
        ids.push(id);
        scores.push(Array.from(gpt.logits));
    }
    return [ids, scores];
}"""


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [SMALL, dict(n_layer=1, n_head=1, n_embd=6, block_size=5), QUICK], ids=str)
def test_scores_are_pytorch_s_inside_the_window_and_beyond(opened, layout, size):
    run = made(f"{layout}-{size['n_embd']}", layout, noise=0.05 if size is QUICK else 0.3, **size)
    page, decoder, start = opened(run), Recorder(load_model(run.folder)), [3, 0, 7]
    config = SampleConfig(temperature=0, length=2 * size["block_size"] + 9)
    expected = [i for [piece] in generate_many(decoder, start, config) for i in piece]
    ids, scores = page.evaluate(WRITE, [start, dict(temperature=0, length=config.length, seed=1)])
    assert ids == expected
    assert np.abs(decoder.seen).max() > 1
    worst = np.abs(np.array(scores) - np.array(decoder.seen)).max()
    assert worst < 1e-3
    assert worst < 2e-4  # the usual size of the error


@pytest.mark.slow
def test_scores_of_attention_too_large_for_a_plain_exponential(opened):
    """In float32 exp(89) is infinite. Normalized q and k never get near that, so the test uses the classic layout."""
    run = made("loud", loudness=8.0)
    page, model = opened(run), load_model(run.folder)
    ids = np.random.default_rng(3).integers(0, model.config.vocab_size, 16).tolist()
    loudest = []
    for block in model.blocks:

        def listen(_, __, qkv, hs=6):
            q, k, _ = (z.view(16, 3, hs).transpose(0, 1) for z in qkv[0].chunk(3, dim=-1))  # (nh, T, hs)
            loudest.append((q @ k.mT).tril().max().item() / hs**0.5)

        block.sa.qkv.register_forward_hook(listen)
    with torch.no_grad():
        expected = model(torch.tensor([ids]))[0][0, -1].numpy()
    assert max(loudest) > 89
    _, scores = page.evaluate(WRITE, [ids, dict(temperature=0, length=1, seed=1)])
    assert np.abs(np.array(scores[0]) - expected).max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_prompt_longer_than_the_window_is_cut_to_it(opened, layout):
    run = made(f"long-{layout}", layout)
    page, model = opened(run), load_model(run.folder)
    ids = np.random.default_rng(1).integers(0, model.config.vocab_size, 40).tolist()
    _, scores = page.evaluate(WRITE, [ids, dict(temperature=0, length=1, seed=1)])
    with torch.no_grad():
        expected = model(torch.tensor([ids[-model.config.block_size :]]))[0][0, -1].numpy()
    assert np.abs(np.array(scores[0]) - expected).max() < 1e-3


@pytest.mark.slow
def test_far_places_are_turned_as_pytorch_turns_them(opened):
    run = made("far", "modern", n_layer=1, n_head=1, n_embd=8, block_size=1024)
    page, model = opened(run), load_model(run.folder)
    ids = np.random.default_rng(2).integers(0, model.config.vocab_size, 1024).tolist()
    _, scores = page.evaluate(WRITE, [ids, dict(temperature=0, length=1, seed=1)])
    with torch.no_grad():
        expected = model(torch.tensor([ids]))[0][0, -1].numpy()
    assert np.abs(np.array(scores[0]) - expected).max() < 1e-3


@pytest.mark.slow
def test_characters_are_drawn_as_often_as_they_are_likely(opened):
    page, logits = opened(made("draws")), [0.3, -1.0, 2.0, 1.9]
    draw = "([logits, t]) => { const u = random(1); return Array.from({length: 20000}, () => pick(logits, t, u())); }"
    for temperature in (0.7, 1.0, 2.0):
        drawn = page.evaluate(draw, [logits, temperature])
        expected = probabilities(np.array(logits), SampleConfig(temperature=temperature))
        np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 20000, expected, atol=0.012)
    assert set(page.evaluate(draw, [logits, 0])) == {2}


@pytest.mark.slow
def test_a_seed_fixes_the_text_and_another_gives_another(opened):
    page = opened(made("seeds", noise=0.1))
    first = write(page, seed=5, length=100)
    assert len(first) == 100
    assert write(page, seed=5) == first
    assert write(page, seed=6) != first
    greedy = write(page, seed=6, temperature=0)
    assert write(page, seed=5) == greedy


# --- characters ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_unknown_characters_of_a_prompt_are_treated_as_everywhere_else(opened):
    run = made("letters", chars=LATIN + "äöß1→")
    page, tokenizer = opened(run), CharTokenizer(LATIN + "äöß1→")
    several = ["".join(map(chr, range(a, a + 32))) for a in [*range(0x20, 0x250, 32), 0x2010, 0x2020, 0xFB00, 0xFF21]]
    several += ["“Déjà vu” — naïve…", "漢字🙂", "\t\r\x00", "ẞ", ""]
    ours = page.evaluate("all => all.map((text) => encode(text, chars, about.lookalikes))", several)
    for text, found in zip(several, ours):
        fitted = tokenizer.fit(text)
        assert (found["text"], found["note"]) == (fitted.text, str(fitted))
        assert found["ids"] == tokenizer.encode(fitted.text)


@pytest.mark.slow
def test_whatever_is_in_a_text_or_a_name_stays_text(opened):
    run = made("odd", chars=ODD, corpus=HOSTILE)
    page = opened(run)
    assert page.title() == "odd, a small GPT"
    assert page.evaluate("chars") == CharTokenizer(ODD).chars
    assert page.locator("img").count() == 0
    assert page.locator("bdi").evaluate("element => element.textContent") == HOSTILE
    written = write(page, prompt="</script>🙂<script>x", length=300)
    assert page.locator("#given").evaluate("element => element.textContent") == "</script>🙂<script>"
    assert page.locator("#note").inner_text() == "Not in this model's alphabet: skipped x."
    assert len(written) == 300  # counted as Python counts: no character was cut in two
    assert set(written) <= set(ODD)
    assert len(set(written)) > 10


# --- the page ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_writes_by_itself_when_opened_and_says_what_it_is(opened):
    page = opened(made("opened", corpus="Diary"))
    assert len(page.locator("#written").evaluate("element => element.textContent")) == 500
    assert re.fullmatch(r"500 characters \([\d,]+ per second\)\.", page.locator("#status").inner_text())
    said = page.locator("main").inner_text()
    for fact in (
        "opened",
        "Diary",
        "1.80 nats (2.60 bits) per character",
        "100 steps in 3 seconds",
        "as in the lecture",
    ):
        assert fact in said


@pytest.mark.slow
def test_it_can_be_stopped_begun_anew_and_copied(opened):
    page = opened(made("buttons", **{**QUICK, "block_size": 128}))
    page.locator("#length").fill("99999")
    page.locator("#go").click()
    page.wait_for_selector("#go.stop")
    page.locator("#go").click()
    stopped = still(page)
    assert page.locator("#length").input_value() == "10000"  # the maximum
    assert len(stopped) < 10000
    assert re.fullmatch(
        r"Stopped after [\d,]+ characters \([\d,]+ per second\)\.", page.locator("#status").inner_text()
    )
    page.locator("#length").fill("50")
    page.locator("#prompt").fill("O ")
    seed = int(page.locator("#seed").input_value())
    page.locator("#another").click()
    another = still(page)
    assert page.locator("#seed").input_value() == str(seed + 1)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#copy").click()
    page.get_by_text("Copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "O " + another


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (320, "dark")])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(opened, width, scheme):
    page = opened(made(f"{'w' * 55}-{width}", corpus="W" * 100))
    page.set_viewport_size({"width": width, "height": 700})
    page.emulate_media(color_scheme=scheme)
    write(page, prompt="w" * 300, length=200)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 19, 21)"
    assert dark == (scheme == "dark")


@pytest.mark.slow
def test_the_page_forbids_itself_to_ask_anybody(opened):
    page = opened(made("closed"))
    refused = page.evaluate(
        """() => new Promise((done) => {
            document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
            fetch("https://example.org/").catch(() => {});
        })"""
    )
    assert refused == "connect-src"
    assert all("Content Security Policy" in said for said in opened.complaints)
    opened.complaints.clear()


def test_a_name_that_no_file_can_hold_is_shown_without_it():
    run = made("half")
    settings = run.settings()
    settings["corpus"]["name"] = "A Pl\ud800ay"  # an unpaired surrogate, which JSON from elsewhere may contain
    (run.folder / "run.json").write_text(json.dumps(settings), encoding="utf-8")
    assert "<bdi>A Pl?ay</bdi>" in page_export.html(run).encode("utf-8").decode()


def test_a_number_takes_four_letters():
    run = made("letters-a-number", **QUICK)
    size = len(page_export.html(run)) - 4 * load_model(run.folder).count_parameters()
    assert 0 < size < 40_000  # everything except the weights


# --- runs that can't be exported as a page -------------------------------------------------------------------------


def test_a_run_that_cannot_be_a_page_says_why(monkeypatch):
    run = made("unfit", "modern")
    monkeypatch.setattr(page_export, "MAX_MB", 0.01)
    with pytest.raises(NanoGPTError, match=r"unfit has 0\.0 million parameters, .* up to 0\.01 MB"):
        page_export.html(run)
    monkeypatch.undo()
    (run.folder / "model.safetensors").unlink()
    with pytest.raises(NanoGPTError, match="unfit has no weights yet"):
        page_export.html(run)


def test_the_command_writes_the_page(tmp_path, capsys):
    run, path = made("told"), tmp_path / "told.html"
    for _ in range(2):  # the second call overwrites the first file
        assert main(["export", "told", "--html", str(path)]) == 0
    assert path.read_text(encoding="utf-8") == page_export.html(run)
    assert re.fullmatch(rf"({re.escape(str(path))}: 0\.\d\d MB\n){{2}}", capsys.readouterr().out)
    for wrong, said in [
        (["told"], "Choose an output: --html FILE, --code FILE, --gif FILE or --text FILE."),
        (["nobody", "--html", str(path)], "There is no run named nobody"),
        (["told", "--html", str(tmp_path)], f"Couldn't write {tmp_path}: "),
        (["told", "--html", str(tmp_path / "no" / "x.html")], "x.html: No such file"),
    ]:
        assert main(["export", *wrong]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
