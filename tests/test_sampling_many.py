"""Test several samples at once, the stop text, the Sample tab, the command and the benchmark."""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ended_run, until, wait_until_still

from nanogpt import corpus, sample as sample_module
from nanogpt.cli.main import main
from nanogpt.config import DASHES, ModelConfig, NanoGPTError, SampleConfig, unescaped
from nanogpt.disk import write_whole
from nanogpt.fast.cuda_decode import StaticDecoder
from nanogpt.fast.decode import FastDecoder
from nanogpt.formats import load_model
from nanogpt.launch import prepare, serving
from nanogpt.model import GPT
from nanogpt.runs import Run, kept_step
from nanogpt.sample import Text, pick, pick_each, stream, stream_many
from nanogpt.tokenizer import CharTokenizer

TOKENIZER = CharTokenizer("\nabcd")
T = 16
SMALL = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, warmup_iters=0)


@pytest.fixture(scope="module", params=["classic", "modern"])
def model(request) -> GPT:
    torch.manual_seed(0)
    shape = dict(block_size=T, n_layer=2, n_head=2, n_embd=16, layout=request.param)
    made = GPT(ModelConfig(vocab_size=TOKENIZER.vocab_size, **shape)).eval()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return made


def alone(model, prompt="ab", **settings) -> str:
    return "".join(stream(model, TOKENIZER, prompt, SampleConfig(**settings)))


def together(model, prompt="ab", **settings) -> list[str]:
    return ["".join(pieces) for pieces in zip(*stream_many(model, TOKENIZER, prompt, SampleConfig(**settings)))]


# --- several samples at once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_each_text_is_the_one_its_seed_alone_gives(model, count, plain, monkeypatch):
    if plain:
        monkeypatch.setattr(sample_module, "FastDecoder", None)
    texts = together(model, num_samples=count, seed=7, length=4 * T)
    assert texts == [alone(model, seed=7 + i, length=4 * T) for i in range(count)]
    assert len(set(texts)) == count


def test_the_last_seed_there_is_has_neighbours(model):
    assert len(set(together(model, num_samples=3, seed=2**53 - 1, length=40))) == 3


def test_stream_is_one_text_whatever_the_number(model):
    assert alone(model, num_samples=9, length=20) == alone(model, length=20)


# --- the stop text -------------------------------------------------------------------------------------------------


def up_to(text: str, stop: str) -> str:
    return text[: text.index(stop)] if stop and stop in text else text


@pytest.mark.parametrize("stop", ["", "a", "ab", "aa", "aab", "aba", "\n\n", "abcd" * 20, "Z", "aZ"])
@pytest.mark.parametrize("seed", range(4))
def test_a_text_ends_before_the_stop_text(model, stop, seed):
    whole = alone(model, seed=seed, length=100)
    assert alone(model, seed=seed, length=100, stop=stop) == up_to(whole, stop)


def test_texts_side_by_side_end_each_for_itself(model):
    whole = together(model, num_samples=8, length=60)
    stop = next(a + b for a in "abcd" for b in "abcd" if 2 <= sum(a + b in text for text in whole) <= 7)
    assert together(model, num_samples=8, length=60, stop=stop) == [up_to(text, stop) for text in whole]
    lengths = [len(text) for text in together(model, num_samples=8, length=60, stop=stop)]
    assert len(set(lengths)) > 2


def test_nothing_is_shown_that_turns_out_to_be_the_stop_text():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(500):
        drawn, stop = letters(rng, 12), letters(rng, rng.integers(1, 5))
        assert shown_of(Text(0, 12, {0: "a", 1: "b"}, stop), ["ab".index(ch) for ch in drawn]) == up_to(drawn, stop)
        found += stop in drawn
    assert 100 < found < 500


def test_a_text_of_long_tokens_ends_in_the_middle_of_one():
    itos, rng, found = {0: "a", 1: "b", 2: "ab", 3: "bba"}, np.random.default_rng(1), 0
    for _ in range(500):
        ids, stop = rng.integers(0, 4, 12).tolist(), letters(rng, rng.integers(1, 7))
        length = int(rng.integers(1, 12))  # always fewer characters than the 12 tokens have
        drawn = "".join(itos[i] for i in ids)[:length]
        assert shown_of(Text(0, length, itos, stop), ids) == up_to(drawn, stop)
        found += stop in drawn
    assert 50 < found < 450


def letters(rng: np.random.Generator, count: int) -> str:
    return "".join(rng.choice(["a", "b"], count))


def shown_of(text: Text, ids: list[int]) -> str:
    """Feed ids to a text until it ends, and return everything it showed."""
    shown = ""
    for i in ids:
        shown += "".join(text.add(i))
        if text.ended:
            return shown
    raise AssertionError("it never ended")


def test_a_stop_text_in_the_prompt_stops_nothing(model):
    assert alone(model, prompt="cab", length=1, stop="ab") == alone(model, prompt="cab", length=1)


@pytest.mark.parametrize(
    ("typed", "meant"), [(r"\n\n", "\n\n"), (r"a\tb", "a\tb"), (r"\\n", r"\n"), ("\n", "\n"), (r"\x", r"\x"), ("", "")]
)
def test_a_typed_n_after_a_backslash_is_a_new_line(typed, meant):
    assert unescaped(typed) == meant


# --- drawing a token -----------------------------------------------------------------------------------------------


def old_pick(logits, config, rng):
    """Pick a token as the code did before it was optimized: sort everything, and normalize twice."""
    p = np.exp((logits.astype(np.float64) - logits.max()) / config.temperature)
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    keep = min(len(p), config.top_k or len(p))
    if config.top_p < 1:
        keep = min(keep, int(np.searchsorted(np.cumsum(p[order]), config.top_p)) + 1)
    p[order[keep:]] = 0.0
    cumulative = np.cumsum(p / p.sum())
    return min(int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")), len(logits) - 1)


@pytest.mark.parametrize("settings", [{}, dict(top_k=5), dict(top_p=0.8), dict(top_k=9, top_p=0.5, temperature=1.5)])
def test_the_fast_draw_draws_what_the_slow_one_drew(settings):
    config, logits = SampleConfig(**settings), np.random.default_rng(1).normal(0, 3, (2000, 65)).astype(np.float32)
    rngs = [np.random.default_rng(2), np.random.default_rng(2)]
    draws = [(pick(row, config, rngs[0]), old_pick(row, config, rngs[1])) for row in logits]
    assert [a for a, _ in draws] == [b for _, b in draws]
    assert len({a for a, _ in draws}) > 50


@pytest.mark.parametrize("settings", [dict(temperature=0), dict(top_k=5), dict(top_p=0.8)])
def test_only_softmax_as_it_is_is_plain(settings):
    assert SampleConfig(temperature=1.5, length=3, stop="a", seed=2, num_samples=3).plain
    assert not SampleConfig(**settings).plain


def test_a_new_sampling_method_counts_for_several_texts_and_on_a_gpu_too(monkeypatch):
    """As CONTRIBUTING.md says: it changes `weights` and `plain`, and nothing else."""
    gpu, config = SimpleNamespace(block_size=64, length=1), SampleConfig()
    assert StaticDecoder.draws(gpu, config, 32) == 32  # type: ignore[arg-type]
    monkeypatch.setattr(SampleConfig, "plain", False)
    monkeypatch.setattr(sample_module, "weights", lambda logits, config: np.eye(len(logits))[3])
    rngs = [np.random.default_rng(seed) for seed in range(4)]
    assert pick_each(np.zeros((4, 5), np.float32), [config] * 4, rngs) == [3] * 4
    assert StaticDecoder.draws(gpu, config, 32) == 0  # type: ignore[arg-type]


# --- the command and the tab ---------------------------------------------------------------------------------------


@pytest.fixture
def trained(home, tiny_text) -> Run:
    from nanogpt.train import train

    run = prepare.new_run("one", corpus.add(tiny_text), max_iters=4, eval_interval=2, **SMALL)
    train(run)
    return run


def test_the_command_writes_several_with_dashes_between(trained, capfd):
    def printed(*flags: str) -> str:
        assert main(["sample", "one", "--length", "30", *flags]) == 0
        return capfd.readouterr().out

    texts = [printed("--seed", str(1337 + i))[:-1] for i in range(3)]
    assert printed("--num-samples", "1") == texts[0] + "\n"
    assert printed("--num-samples", "3") == DASHES.join(texts) + "\n"
    stop = texts[0][10:12]
    assert printed("--stop", stop.replace("\n", r"\n")) == up_to(texts[0], stop) + "\n"
    assert main(["sample", "one", "--num-samples", "17"]) == 2
    assert "num_samples was 17" in capfd.readouterr().err


def test_the_tab_writes_several_and_says_whose_weights_they_are(trained):
    from nanogpt.ui import sample_tab

    updates = list(sample_tab.on_page("one", "The ", 0.8, 40, 3, 0, 1.0, 5, True, ""))
    texts = [list(sample_tab.write("one", "The ", length=40, seed=5 + i))[-1] for i in range(3)]
    assert updates[-1][0]["state"] == "done"
    assert [updates[-1][0]["prompt"] + text for text in updates[-1][0]["texts"]] == texts
    assert updates[0][2] == 5
    line = updates[0][1]["text"]
    best = trained.history().best
    assert re.search(r"^Using one at step [24]: validation loss \d\.\d{3}\. Seed 5\.$", line)
    assert f"step {best['step']}:" in line
    (trained.folder / "last.safetensors").unlink()  # which knows of no step 70
    write_whole(trained.folder / "metrics.jsonl", '{"event": "started"}\n{"step": 70, "val_loss": 2.5}\n')
    assert "step 70: validation loss 2.500" in sample_tab.whose(trained)
    assert "still training" not in sample_tab.whose(trained)
    with trained.held():
        assert sample_tab.whose(trained).endswith("the best so far; it is still training.")


def test_the_weights_of_the_end_are_called_so_when_they_were_kept(trained):
    from nanogpt.ui import sample_tab

    (trained.folder / "last.safetensors").unlink()  # which knows of none of these steps
    rows = '{"step": 70, "val_loss": 2.5}\n{"step": 90, "val_loss": 2.6}\n'
    for last, step in ((2.4, 90), (2.8, 70)):
        end = f'{{"event": "finished", "step": 90, "val_loss": 2.4, "best_val_loss": 2.5, "last_val_loss": {last}}}\n'
        write_whole(trained.folder / "metrics.jsonl", '{"event": "started"}\n' + rows + end)
        assert f"step {step}: validation loss 2.400." in sample_tab.whose(trained)
        more = '{"event": "started"}\n{"step": 110, "val_loss": 2.7}\n'  # it is extended, which keeps them at first
        write_whole(trained.folder / "metrics.jsonl", '{"event": "started"}\n' + rows + end + more)
        loss = {90: "2.600", 70: "2.500"}[step]  # as that evaluation found, on fewer windows
        assert f"step {step}: validation loss {loss}" in sample_tab.whose(trained)
        assert kept_step(trained.history()) == step
        better = '{"step": 130, "val_loss": 2.3}\n'
        write_whole(trained.folder / "metrics.jsonl", '{"event": "started"}\n' + rows + end + more + better)
        assert kept_step(trained.history()) == 130


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (dict(name=None), "Train one first"), (dict(name="absent"), "no run named absent"),
        (dict(length=10_001), "Length was 10001"), (dict(length=0), "Length was 0"),
        (dict(temperature=2.1), "Temperature was 2.1"),
        (dict(num_samples=17), "Samples was 17"), (dict(seed="x"), "seed was 'x'"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_the_tab_and_the_text_stays(trained, given, said):
    from nanogpt.ui import sample_tab

    fields = dict(name="one", prompt="", temperature=0.8, length=5, num_samples=1, top_k=0, top_p=1.0, seed=1)
    fields |= dict(keep_seed=True, stop="")
    *_, (text, line, _) = sample_tab.on_page(**{**fields, **given})
    assert "texts" not in text
    assert line["state"] == "failed"
    assert said in line["text"]


def test_an_emptied_field_means_its_default(trained):
    from nanogpt.ui import sample_tab

    def written(top_k, top_p, temperature):
        *_, (text, line, _) = sample_tab.on_page("one", "", temperature, 20, 1, top_k, top_p, 3, True, "")
        assert line["state"] == "finished"
        return text

    assert written(None, None, None) == written(0, 1.0, 0.8)


def test_each_generate_draws_a_seed_which_can_be_kept(trained):
    """Another draws a new seed even if the seed is kept. A seed that was shown repeats its text."""
    from nanogpt.ui import sample_tab

    def generated(how, seed, keep):
        updates = list(how("one", "The ", 0.8, 60, 1, 0, 1.0, seed, keep, ""))
        return updates[0][2], updates[-1][0]["texts"]

    drawn = [generated(sample_tab.on_page, 5, False) for _ in range(4)]
    assert len({seed for seed, _ in drawn}) > 1
    assert len({text for _, [text] in drawn}) > 1
    assert generated(sample_tab.on_page, drawn[0][0], True) == drawn[0]
    assert len({generated(sample_tab.again, 5, True)[0] for _ in range(4)}) > 1


def test_openings_are_beginnings_of_the_text(trained, tiny_text):
    from nanogpt.ui.openings import in_text, openings

    found = openings(trained)
    assert set(found) == {"MILLER:\n", "BAKER:\n", "FERRYMAN:\n", "CHILD:\n"}
    counts = [tiny_text.count(f"{one}The ") for one in found]
    assert counts == sorted(counts, reverse=True)
    assert in_text("It was late.\nHe left\n\n" * 9 + "She stayed on, and on, and on.\n") == [
        "It was late.\n",
        "She stayed on,",
    ]
    assert in_text("Blacksmiths remember childhood.\n\n" * 9) == ["Blacksmiths remember"]  # no half of a word
    assert in_text("\u6211\u4eec" * 40) == ["\u6211\u4eec" * 12]
    assert in_text(" \n\n ") == []


def test_openings_come_from_the_samples_where_the_text_may_not_be_read(trained):
    from nanogpt.ui.openings import openings

    write_whole(trained.folder / "samples.jsonl", '{"step": 4, "text": "\\nOf old\\nmills\\n\\nThe fox sleeps now"}\n')
    corpus.delete(trained.settings()["corpus"]["id"])
    assert openings(trained) == ["Of old", "mills", "The fox sleeps"]


def test_the_api_s_sample_is_as_it_was(trained):
    from nanogpt.ui import sample_tab

    *_, last = sample_tab.write("one", "The ", 0.8, 30, 0, 1.0, 3)
    model = load_model(trained.folder)
    tokenizer = CharTokenizer.load(trained.folder)
    assert last == "The " + "".join(stream(model, tokenizer, "The ", SampleConfig(length=30, seed=3)))
    with pytest.raises(NanoGPTError, match="length was 0"):
        list(sample_tab.write("one", length=0))


def test_who_leaves_is_written_for_no_longer(trained):
    from nanogpt.ui import sample_tab

    writing = sample_tab.write("one", length=10_000)
    next(writing)
    model = serving.together(trained)
    assert model.texts == 1
    thread = model.thread
    writing.close()
    thread.join(60)
    assert (model.texts, model.thread) == (0, None)


def test_a_model_is_loaded_once_for_all_and_again_once_it_was_replaced(trained, monkeypatch):
    from nanogpt.ui import sample_tab

    loaded = []
    monkeypatch.setattr(serving, "load_model", lambda folder: loaded.append(folder) or load_model(folder))
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda seed: list(sample_tab.write("one", length=50, seed=seed))[-1], [1, 2, 3, 4] * 2))
    assert texts[:4] == texts[4:]
    assert len(set(texts)) == 4
    assert loaded == [trained.folder]

    first = sample_tab.write("one", length=10_000)
    next(first)
    weights = trained.folder / "model.safetensors"
    os.utime(weights, ns=(0, 1))  # as if it were written again
    assert list(sample_tab.write("one", length=50, seed=1))[-1] == texts[0]
    assert loaded == [trained.folder] * 2
    assert next(first)  # the old model still writes
    first.close()


@pytest.mark.parametrize("where", ["when it is loaded", "when it writes", "when a thread starts"])
def test_too_little_memory_and_too_few_threads_are_a_sentence_in_the_tab(trained, monkeypatch, where):
    from nanogpt.ui import sample_tab

    def fail(*_):
        raise RuntimeError(words)

    words = "can't start new thread" if "thread" in where else "DefaultCPUAllocator: can't allocate memory: 9 bytes"
    generated = lambda: list(sample_tab.on_page("one", "", 0.8, 5, 1, 0, 1.0, 3, True, ""))[-1]
    monkeypatch.setattr(serving, "_loaded", {})
    with monkeypatch.context() as patch:
        if where == "when it is loaded":
            patch.setattr(serving, "load_model", fail)
        elif where == "when it writes":
            patch.setattr(FastDecoder, "read", fail)
        else:
            patch.setattr("threading.Thread.start", fail)
        _, line, _ = generated()
    said = "can't start another process" if "thread" in where else "is short of memory. Try again later"
    assert line["state"] == "failed"
    assert said in line["text"]
    assert generated()[1]["state"] == "finished"  # later, there is enough


def test_few_models_are_in_memory_at_once(trained, monkeypatch):
    from nanogpt.ui import sample_tab

    monkeypatch.setattr(serving, "MODELS", 1)
    monkeypatch.setattr(serving, "PATIENCE", 0.3)
    read = FastDecoder.read  # slowed down, or the first text would end within that time
    monkeypatch.setattr(FastDecoder, "read", lambda *given: time.sleep(0.0005) or read(*given))
    monkeypatch.setattr(serving, "_loaded", {})
    weights = trained.folder / "model.safetensors"
    first = sample_tab.write("one", length=10_000)
    next(first)
    os.utime(weights, ns=(0, 1))  # another model
    with pytest.raises(NanoGPTError, match="busy generating with other models"):
        next(sample_tab.write("one", length=5))
    [model] = serving._loaded.values()
    thread = model.thread
    first.close()
    thread.join(60)
    assert len(list(sample_tab.write("one", length=5))[-1]) == 5
    assert len(serving._loaded) == 1
    assert list(serving._loaded.values()) != [model]


def test_requests_that_overlap_do_not_keep_another_model_out(trained, tiny_text, monkeypatch):
    from nanogpt.ui import sample_tab

    monkeypatch.setattr(serving, "MODELS", 1)
    read = FastDecoder.read  # slowed down, or the first text would end meanwhile
    monkeypatch.setattr(FastDecoder, "read", lambda *given: time.sleep(0.0005) or read(*given))
    monkeypatch.setattr(serving, "_loaded", {})
    ended_run(corpus.add(tiny_text), "two", max_iters=4, **SMALL)
    first, second = (sample_tab.write("one", length=10_000) for _ in range(2))
    next(first)
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(lambda: list(sample_tab.write("two", length=5))[-1])
        until(lambda: serving._asked)
        overlapping = pool.submit(next, second)  # it comes later, so it waits although its model is loaded
        with pytest.raises(TimeoutError):
            overlapping.result(0.5)
        first.close()
        assert len(other.result(20)) == 5
        assert overlapping.result(20)
    second.close()
    assert serving._asked == []


def test_the_benchmark_runs(capsys, monkeypatch):
    from benchmarks import sampling

    monkeypatch.setattr(sampling, "write_result", lambda *_: pytest.fail("--quick writes nothing"))
    measured = sampling.main(["--quick", "--rounds", "1"])
    assert [row["layout"] for row in measured["models"]] == ["classic", "modern"]
    for row in measured["models"]:
        assert row["times_the_peer"] > 0
        assert set(row["characters_per_second"]) == {"peer", "plain cache", "ours", "ours, 16 texts"}
    assert "modern" in capsys.readouterr().out


# --- the page ------------------------------------------------------------------------------------------------------


TEXTS = "[...document.querySelectorAll('#sample-output p:not(.writing-hint)')].map((one) => one.textContent)"
LENGTH = f"{TEXTS}.join('').length"


def said(page, name: str) -> str:
    return page.locator(f"#sample-{name} span[role=status]").first.text_content()


def a_wrong_seed_is_said_and_the_text_stays(page, written: list[str]) -> None:
    page.get_by_role("button", name="Advanced").last.click()
    page.locator("#sample-seed input").press_sequentially("-1")
    page.locator("#sample-seed input").fill("-1")
    page.wait_for_function("document.querySelector('#sample-keep-seed input').checked")  # typing a seed checks the box
    page.locator("#sample-generate").click()
    page.wait_for_function("document.querySelector('#sample-whose span').textContent.includes('seed was')")
    assert page.evaluate(TEXTS) == written
    assert page.locator(".toast-body").count() == 0


def an_opening_and_the_keyboard_generate(page) -> None:
    """Check that the seed shown is the one used, and that New seed draws another one although the seed is kept."""
    page.locator("#sample-seed input").fill("5")
    page.locator("#sample-stop-text input, #sample-stop-text textarea").fill(r"\n\n")
    page.locator("#sample-num-samples input[type=number]").fill("1")
    page.locator("#sample-num-samples input[type=number]").press("Tab")
    page.locator("#sample-openings button").first.click()
    page.wait_for_function("document.querySelector('#sample-prompt textarea').value.endsWith(':\\n')")
    page.locator("#sample-prompt textarea").press("Control+Enter")
    page.wait_for_function("document.querySelector('#sample-output .writing').dataset.state === 'done'")
    [text] = page.evaluate(TEXTS)
    assert text.startswith(page.locator("#sample-prompt textarea").input_value())
    assert "\n\n" not in text
    assert said(page, "whose").endswith("Seed 5.")

    page.locator("#sample-another").click()
    page.wait_for_function("!document.querySelector('#sample-whose span').textContent.endsWith('Seed 5.')")
    page.wait_for_function("document.querySelector('#sample-output .writing').dataset.state === 'done'")
    no_second_text_begins_before_the_answer(page)


def no_second_text_begins_before_the_answer(page) -> None:
    page.route(re.compile("/(queue/join|run/)"), lambda route: None)  # no answer
    page.locator("#sample-generate").click()
    page.wait_for_function("document.querySelector('#sample-another').disabled")
    assert page.locator("#sample-generate").is_disabled()
    assert page.locator("#sample-stop").is_enabled()
    page.unroute_all()  # which lets those on that were held
    page.wait_for_function("!document.querySelector('#sample-another').disabled")
    page.get_by_label("Keep this seed").uncheck()
    page.locator("#sample-another").wait_for(state="hidden")


@pytest.mark.slow
def test_the_page_writes_several_stops_and_saves(trained, page):
    page.get_by_role("tab", name="Sample", exact=True).click()
    page.wait_for_function("document.querySelector('#sample-run input').value === 'one'")

    # unknown characters are reported while you type, in a live region that already exists
    region = page.locator("#sample-note span[role=status]").first.element_handle()
    assert region.text_content() == ""
    page.locator("#sample-prompt textarea").press_sequentially("Th\u00e9 \u6f22", delay=5)
    page.wait_for_function("node => node.textContent.includes('\u6f22')", arg=region)
    assert "\u00e9 \u2192 e" in said(page, "note")
    page.locator("#sample-prompt textarea").fill("The ")
    page.wait_for_function("node => node.textContent === ''", arg=region)

    assert not page.locator("#sample-another").is_visible()  # each Generate draws a new seed
    # stop 16 samples of maximum length: no more text arrives, and what is there stays
    for name, value in (("length", "10000"), ("num-samples", "16")):
        page.locator(f"#sample-{name} input[type=number]").fill(value)
        page.locator(f"#sample-{name} input[type=number]").press("Tab")
    page.locator("#sample-generate").click()
    page.wait_for_function(f"{LENGTH} > 500")
    page.locator("#sample-stop").click()
    wait_until_still(page, LENGTH)
    written = page.evaluate(TEXTS)
    assert len(written) == 16
    assert all(text.startswith("The ") for text in written)
    assert page.locator("#sample-output mark").all_text_contents() == ["The "] * 16
    assert re.match(r"Using one at step \d.* Seed \d+\.$", said(page, "whose"))

    with page.expect_download() as saved:
        page.locator("#sample-download").click()
    assert saved.value.suggested_filename == "one.txt"
    assert saved.value.path().read_text(encoding="utf-8") == DASHES.join(written)

    a_wrong_seed_is_said_and_the_text_stays(page, written)
    an_opening_and_the_keyboard_generate(page)


@pytest.mark.slow
def test_on_a_phone_the_text_is_in_view_as_soon_as_it_is_asked_for(trained, page):
    page.set_viewport_size(dict(width=390, height=844))
    page.get_by_role("tab", name="Sample", exact=True).click()
    page.wait_for_function("document.querySelector('#sample-run input').value === 'one'")
    page.locator("#sample-generate").click()
    page.wait_for_function(f"{LENGTH} > 20")
    box = page.locator("#sample-output").bounding_box()
    assert box["y"] < 700  # at least 140 pixels of it are above the fold
    assert page.locator("#sample-settings").bounding_box()["y"] > box["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.get_by_role("region", name="Generated text").count() == 1
