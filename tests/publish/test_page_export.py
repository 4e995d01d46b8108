"""The one-file page against PyTorch and the tokenizer, in a real Chromium without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from assemble import MODULE, SOURCE, assembled
from conftest import CONTRAST, home_for_all
from judges import probabilities

from benchmarks import rounding
from nanogpt.cli.main import main
from nanogpt.config import ModelConfig, NanoGPTError, SampleConfig
from nanogpt.disk import write_whole
from nanogpt.explain import characters
from nanogpt.formats import config_files, load_model, read_config, weights_bytes
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

    def open_page(run: Run, change=lambda source: source, int8: bool = False):
        path = tmp_path / "page.html"
        path.write_text(change(page_export.html(run, int8)), encoding="utf-8", newline="")
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
    page.wait_for_selector("#text[aria-busy=false]", state="attached")  # hidden while the colored text is shown
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
        scores.push(Array.from(gpt.scores()));
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


# ways in which a browser or a server can keep a page from using WebAssembly, as changes of the page's source
WITHOUT = {
    "no permission": lambda source: source.replace("'wasm-unsafe-eval' ", ""),
    "no SIMD": lambda source: re.sub('(id="wasm">)[^<]+', r"\1AGFzbQEAAAD/", source),  # a module it can't compile
    "no WebAssembly": lambda source: re.sub("'sha256-[^;]*", "'unsafe-inline'", source, count=1).replace(
        "<script>", "<script>delete window.WebAssembly;", 1
    ),
}


@pytest.mark.slow
def test_without_webassembly_the_scores_are_the_same(opened, monkeypatch):
    run = made("plain", "modern", **SMALL)
    decoder, config = Recorder(load_model(run.folder)), SampleConfig(temperature=0, length=40)
    expected = [i for [piece] in generate_many(decoder, [3], config) for i in piece]
    assert opened(run).evaluate("gpt.math !== plainMath")
    for name, change in WITHOUT.items():
        page = opened(run, change)
        assert page.evaluate("gpt.math === plainMath"), name
        ids, scores = page.evaluate(WRITE, [[3], dict(temperature=0, length=40, seed=1)])
        assert ids == expected
        assert np.abs(np.array(scores) - np.array(decoder.seen)).max() < 1e-3
    assert all("WebAssembly" in said for said in opened.complaints)  # the browser's own words, and nothing of ours
    opened.complaints.clear()


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "way"), [("classic", ""), ("modern", ""), ("modern", "no permission")])
def test_scores_of_a_rounded_page_are_those_of_pytorch_with_rounded_weights(opened, layout, way):
    run = made(f"int8-{layout}-{len(way)}", layout, noise=0.05, **QUICK)
    page, model = opened(run, WITHOUT.get(way, lambda source: source), int8=True), load_model(run.folder)
    exact, model = model, rounding.rounded(load_model(run.folder))
    ids = np.random.default_rng(5).integers(0, model.config.vocab_size, 64).tolist()
    with torch.no_grad():
        expected, before = (one(torch.tensor([ids]))[0][0, -1].numpy() for one in (model, exact))
    _, scores = page.evaluate(WRITE, [ids, dict(temperature=0, length=1, seed=1)])
    assert np.abs(expected - before).max() > 5e-3  # rounding weights changes scores; what the page rounds doesn't
    assert np.abs(np.array(scores[0]) - expected).max() < (1e-3 if way else 3e-3)
    size = lambda int8: len(page_export.html(run, int8)) - 52_000  # the weights, with the least that else is in a page
    assert size(True) < 0.37 * size(False)
    opened.complaints.clear()


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
    run = made("letters", chars=LATIN + "äöß1→\u0301")
    page, tokenizer = opened(run), CharTokenizer(LATIN + "äöß1→\u0301")
    several = ["".join(map(chr, range(a, a + 32))) for a in [*range(0x20, 0x250, 32), 0x2010, 0x2020, 0xFB00, 0xFF21]]
    several += ["“Déjà vu” — naïve…", "Deja\u0300 vu o\u0308 e\u0301 \u1112\u1161\u11ab", "漢字🙂", "\t\r\x00", "ẞ", ""]
    ours = page.evaluate("all => all.map((text) => encode(text, chars, about.lookalikes))", several)
    for text, found in zip(several, ours):
        fitted = tokenizer.fit(text)
        assert (found["text"], found["note"]) == (fitted.text, str(fitted))
        assert found["ids"] == tokenizer.encode(fitted.text)
    chinese = "".join(map(chr, range(0x4E00, 0x4E00 + 3000)))
    note = page.evaluate("(text) => encode(text, chars, {}).note", chinese)
    assert note.endswith("skipped 一 丁 丂 七 丄 丅 丆 万 丈 三 and 2,990 more.")


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


# In one go: a model this small has written 10,000 characters when a second click arrives.
BEGIN_AND_STOP = """async () => {
  const go = document.querySelector("#go");
  go.click();
  while (!go.classList.contains("stop")) await new Promise(requestAnimationFrame);
  go.click();
}"""


@pytest.mark.slow
def test_it_can_be_stopped_begun_anew_and_copied(opened):
    page = opened(made("buttons", **{**QUICK, "block_size": 128}))
    page.locator("#length").fill("99999")
    page.evaluate(BEGIN_AND_STOP)
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
    prompt, text = (
        page.locator(name).evaluate("one => getComputedStyle(one).backgroundColor") for name in ("#given", "#text")
    )
    assert prompt != text  # not only its letters have a color of their own
    assert page.evaluate(CONTRAST) == []
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


def test_a_number_takes_four_letters():
    run = made("letters-a-number", **QUICK)
    source = page_export.html(run)
    letters = sum(map(len, re.findall(r'data-tensor="[^"]+">([^<]*)<', source)))
    assert letters == 4 * load_model(run.folder).count_parameters()
    assert len(source) - letters < 58_000  # everything except the weights: scripts, styles and the module


def test_the_page_states_the_facts_of_its_model():
    run = made("facts", **QUICK)
    config, parameters = read_config(run.folder), load_model(run.folder).count_parameters()
    facts = dict(re.findall(r"<div><dt>(.*?)</dt><dd>(.*?)</dd></div>", page_export.html(run)))
    assert facts["Parameters"] == f"{parameters:,}"
    assert facts["Alphabet"] == f"{config.vocab_size:,} characters"
    assert facts["Context length"] == f"{config.block_size:,} characters"
    assert facts["Size"] == f"{config.n_layer} layers, {config.n_head} heads, width {config.n_embd}"
    assert "Precision" not in facts
    small = page_export.html(made("small-facts", n_layer=1, n_head=1, n_embd=6, block_size=5))
    assert "<dd>1 layer, 1 head, width 6</dd>" in small


def test_the_module_is_made_from_its_text():
    assert MODULE.read_bytes() == assembled(SOURCE.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_too_little_memory_is_explained(browser, tmp_path):
    page, path = browser.new_page(), tmp_path / "page.html"
    path.write_text(page_export.html(made("large")), encoding="utf-8", newline="")
    page.add_init_script("WebAssembly.Memory.prototype.grow = () => { throw new RangeError('no'); }")
    page.goto(path.as_uri())
    page.get_by_text("There isn't enough free memory for this model.").wait_for()
    assert page.locator("button:enabled").count() == 0
    page.close()


@pytest.mark.slow
def test_a_page_that_cannot_be_loaded_says_so(opened, tmp_path):
    source = page_export.html(made("broken"))
    inline = re.sub("'sha256-[^;]*", "'unsafe-inline'", source, count=1)
    weights, script = source.index("data-tensor"), source.index("The form around the model")
    broken = {
        "the file ends in the weights": source[: (weights + len(source)) // 2],
        "the file ends in a script": source[: script + 500],
        "the weights are missing": re.sub("<script[^>]*data-tensor.*?</script>", "", source),
        "a script can't be parsed": inline.replace("// The form around the model", "async async /"),
        "a function is missing": inline.replace("<script>", "<script>delete Array.prototype.entries;", 1),
    }
    page = opened(made("whole"))
    for what, cut in broken.items():
        (tmp_path / "page.html").write_text(cut, encoding="utf-8", newline="")
        page.reload()
        page.get_by_text("This page is incomplete, or your browser is too old for it.").wait_for()
        assert page.locator("button:enabled").count() == 0, what
    opened.complaints.clear()


@pytest.mark.slow
def test_a_page_that_was_saved_by_the_browser_still_works(opened, tmp_path):
    """Chrome saves a "complete" page as it is when it is saved, not as it was loaded."""
    page = opened(made("kept"))
    first = still(page)
    (tmp_path / "page.html").write_text(page.content(), encoding="utf-8", newline="")
    page.reload()
    assert still(page) == first


@pytest.mark.slow
def test_the_page_says_copied_only_if_it_did(opened):
    page = opened(made("refused"))
    page.evaluate("void (navigator.clipboard.writeText = () => { throw new Error('no'); })")
    for done, said in [(True, "Copied."), (False, "Your browser didn't copy the text. Select it and copy it by hand.")]:
        page.evaluate("(done) => { document.execCommand = () => done; }", done)
        page.locator("#copy").click()
        page.get_by_text(said, exact=True).wait_for()


# --- the text colored by surprise ----------------------------------------------------------------------------------

JUDGE = """(ids) => {
    const reading = judge(gpt, ids, before);
    let step = reading.next();
    while (!step.done) step = reading.next();
    return step.value;
}"""


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_probabilities_of_a_text_are_pytorch_s(opened, layout):
    run = made(f"judged-{layout}", layout)
    page, model, tokenizer = opened(run), load_model(run.folder), CharTokenizer(LATIN)
    text = "".join(np.random.default_rng(4).choice(list(LATIN), 77))  # almost five windows
    places = page.evaluate(JUDGE, tokenizer.encode(text))
    read = characters.read(model, tokenizer, text)
    assert len(places) == 78
    np.testing.assert_allclose([place["bits"] for place in places[:-1]], read.bits, atol=1e-3)
    apart = np.abs([place["rank"] for place in places[:-1]] - read.ranks)
    assert apart.max() <= 1  # two characters may be as likely as each other but for rounding
    assert apart.mean() < 0.05
    for i, place in enumerate(places):
        logits = characters.logits_at(model, tokenizer, text, i)
        expected = characters.likeliest(logits, tokenizer, SampleConfig())
        assert [tokenizer.itos[id] for id, _ in place["likeliest"]] == [bar["token"] for bar in expected]
        np.testing.assert_allclose([p for _, p in place["likeliest"]], [bar["p"] for bar in expected], atol=1e-4)


@pytest.mark.slow
def test_a_text_is_colored_and_read_with_the_keyboard(opened):
    run = made("colored")
    page, model, tokenizer = opened(run), load_model(run.folder), CharTokenizer(LATIN)
    toggle = page.get_by_role("button", name="Color by surprise")
    toggle.click()
    page.locator("#another").click()  # the colors follow the text
    write(page, prompt="O\n", length=40)
    page.wait_for_selector("#colored .cell:nth-child(43)")
    text = page.locator("#text").evaluate("element => element.textContent")
    read = characters.read(model, tokenizer, text)
    strength = "all => all.map((cell) => parseFloat(cell.style.getPropertyValue('--strength') || 0))"
    expected = [*(8 * np.minimum(read.bits, 8)), 0]  # percent; the last cell is the place after the text
    assert page.locator(".cell").evaluate_all(strength) == pytest.approx(expected, abs=0.01)
    assert f"42 characters, {read.bits.mean():.2f} bits each on average." in page.locator("#explained").inner_text()
    page.locator("#copy").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "surprise"  # the colored text is one tab stop
    page.keyboard.press("Shift+Tab")
    for i in range(3):
        label = f"{'line break' if text[i] == chr(10) else text[i]}, {read.bits[i]:.2f} bits, choice {read.ranks[i]}"
        assert page.locator("[role=option][aria-selected]").get_attribute("aria-label") == label
        bars = characters.likeliest(characters.logits_at(model, tokenizer, text, i), tokenizer, SampleConfig())
        percent = page.locator(".expected .percent").all_inner_texts()
        assert percent == [f"{100 * bar['p']:.1f}%" for bar in bars]
        names = page.locator(".expected code + .spoken").all_text_contents()
        assert names == [{"\n": "line break", " ": "space"}.get(bar["token"], bar["token"]) for bar in bars]
        page.keyboard.press("ArrowRight")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(CONTRAST) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    toggle.click()
    assert page.locator("#text").is_visible()
    assert page.locator("#colored").is_hidden()
    page.evaluate("void (gpt.read = () => { throw new Error('it was read before'); })")
    toggle.click()
    assert page.locator("#colored").is_visible()


SAID = """() => {
    const lines = window.lines = [];
    new MutationObserver(() => lines.push(part("status").textContent)).observe(part("status"), { childList: true });
}"""
JUDGED_ALL = """(ids) => {
    let steps = 0;
    const sort = Array.prototype.sort;
    Array.prototype.sort = () => { throw new Error("that takes long for a large alphabet"); };
    for (const _ of judge(gpt, ids, before)) steps++;
    Array.prototype.sort = sort;
    return steps;
}"""


@pytest.mark.slow
def test_reading_a_text_leaves_the_page_responsive_and_says_what_it_does(opened):
    page = opened(made("reading"))
    assert page.evaluate(JUDGED_ALL, [1] * 30) == 31  # the page can redraw after each character
    outcome = page.locator("#status").inner_text()
    page.evaluate(SAID)
    page.locator("#surprise").click()
    page.locator("#colored .cell").first.wait_for()
    assert page.evaluate("lines") == ["Reading the text …", outcome]


@pytest.mark.slow
def test_the_five_likeliest_are_those_of_a_sort(opened):
    page = opened(made("five"))
    rng = np.random.default_rng(6)
    for n in (3, 5, 6, 400):
        logits = rng.integers(-4, 5, n).tolist()  # many are equal
        found = page.evaluate("(logits) => judged(Float32Array.from(logits), 0).likeliest", logits)
        assert [id for id, _ in found] == np.argsort(-np.array(logits), kind="stable")[:5].tolist()


@pytest.mark.slow
def test_a_text_that_was_stopped_before_its_first_character_is_not_colored(opened):
    page = opened(made("nothing"))
    page.evaluate("part('text').hidden = false; part('given').textContent = part('written').textContent = ''")
    page.locator("#surprise").click()
    assert page.locator("#text").is_visible()
    assert "NaN" not in page.locator("main").inner_text()


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
    assert main(["export", "told", "--html", str(path), "--int8"]) == 0
    assert path.read_text(encoding="utf-8") == page_export.html(run, int8=True) != page_export.html(run)
    capsys.readouterr()
    for wrong, said in [
        (["told"], "Choose an output: --html FILE, --code FILE, --gif FILE or --text FILE."),
        (["told", "--int8"], "--int8 makes a web page smaller. Add --html FILE."),
        (["absent", "--html", str(path)], "There is no run named absent"),
        (["told", "--html", str(tmp_path)], f"Couldn't write {tmp_path}: "),
        (["told", "--html", str(tmp_path / "no" / "x.html")], "x.html: No such file"),
    ]:
        assert main(["export", *wrong]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
