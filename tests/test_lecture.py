"""Test the lecture's program against hand-computed results, counted entropies and the lecture's numbers."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from nanogpt.config import NanoGPTError
from nanogpt.lecture import (
    GPT,
    LADDER,
    STAGES,
    Bigram,
    Block,
    FeedForward,
    Head,
    MultiHeadAttention,
    Residual,
    Stage,
    Vocabulary,
    estimate_loss,
    get_batch,
    ladder,
    print_ladder,
    stages_for,
    train_stage,
)

SMALL_BIG = replace(STAGES[7], batch_size=16, block_size=16, n_embd=24, n_head=6, n_layer=2, learning_rate=3e-3)
SMALL = {**STAGES, 7: SMALL_BIG}  # stage 7, shrunk, with its dropout and its six heads
small_stages = pytest.mark.parametrize("stage", SMALL.values(), ids=lambda stage: f"stage{stage.number}")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def quick(stage, **settings):
    return replace(stage, **{"eval_iters": 4, **settings})


# --- text and batches ----------------------------------------------------------------------------------------------


def test_vocabulary_is_the_sorted_distinct_characters():
    vocabulary = Vocabulary("hello, world")
    assert "".join(vocabulary.chars) == " ,dehlorw"
    assert vocabulary.encode("hold") == [4, 6, 5, 2]
    assert vocabulary.decode([4, 6, 5, 2]) == "hold"
    assert {i: c for c, i in vocabulary.stoi.items()} == vocabulary.itos


def test_a_batch_is_contiguous_windows_and_the_same_one_on():
    data = torch.arange(1000, 1100)
    xb, yb = get_batch(data, batch_size=32, block_size=8)
    assert xb.shape == yb.shape == (32, 8)
    assert xb.dtype == torch.long
    assert torch.equal(xb, xb[:, :1] + torch.arange(8))
    assert torch.equal(yb, xb + 1)
    assert len(xb[:, 0].unique()) > 10


def test_batches_reach_the_first_and_the_last_character():
    data = torch.arange(10)
    xb, yb = get_batch(data, batch_size=200, block_size=8)
    assert xb[:, 0].unique().tolist() == [0, 1]
    assert yb.max() == 9


def test_a_generator_decides_the_batch_and_spares_the_global_one():
    data = torch.arange(1000)
    before = torch.get_rng_state()
    first, _ = get_batch(data, 8, 8, generator=torch.Generator().manual_seed(3))
    again, _ = get_batch(data, 8, 8, generator=torch.Generator().manual_seed(3))
    assert torch.equal(first, again)
    assert torch.equal(before, torch.get_rng_state())


# --- attention -----------------------------------------------------------------------------------------------------


def head_by_hand(head, x):
    """Compute one attention head for one sequence in plain Python: (T, n_embd) -> (T, head_size)."""
    q, k, v = ((x @ w.weight.T).tolist() for w in (head.query, head.key, head.value))
    out = []
    for t in range(len(q)):
        scores = [sum(a * b for a, b in zip(q[t], k[s])) / math.sqrt(len(q[t])) for s in range(t + 1)]
        weights = [math.exp(score) for score in scores]
        total = sum(weights)
        out.append([sum(w / total * v[s][i] for s, w in enumerate(weights)) for i in range(len(v[0]))])
    return torch.tensor(out)


def test_a_head_is_the_loop_written_by_hand():
    head, x = Head(n_embd=12, head_size=5, block_size=7), 2 * torch.randn(3, 7, 12)
    expected = torch.stack([head_by_hand(head, row) for row in x])
    torch.testing.assert_close(head(x), expected, atol=1e-5, rtol=1e-4)


def test_with_equal_scores_a_head_is_the_average_of_the_past():
    head, x = Head(n_embd=6, head_size=6, block_size=8), torch.randn(2, 5, 6)
    torch.nn.init.zeros_(head.query.weight)
    torch.nn.init.eye_(head.value.weight)
    by_loop = torch.stack([x[:, : t + 1].mean(dim=1) for t in range(5)], dim=1)  # (B, T, C)
    tril = torch.tril(torch.ones(5, 5))
    by_matrix = tril / tril.sum(dim=1, keepdim=True) @ x
    by_softmax = F.softmax(torch.zeros(5, 5).masked_fill(tril == 0, float("-inf")), dim=-1) @ x
    torch.testing.assert_close(by_matrix, by_loop)
    torch.testing.assert_close(by_softmax, by_loop)
    torch.testing.assert_close(head(x), by_loop)


def test_multi_head_attention_is_its_heads_side_by_side_and_projected():
    attention, x = MultiHeadAttention(n_embd=12, n_head=3, block_size=6), torch.randn(1, 6, 12)
    side_by_side = torch.cat([head_by_hand(head, x[0]) for head in attention.heads], dim=-1)
    expected = side_by_side @ attention.proj.weight.T + attention.proj.bias
    torch.testing.assert_close(attention(x)[0], expected, atol=1e-5, rtol=1e-4)
    assert [tuple(head.key.weight.shape) for head in attention.heads] == [(4, 12)] * 3


def norm_by_hand(x):
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()


def test_a_block_adds_each_part_to_the_road():
    block, x = Block(n_embd=8, n_head=2, block_size=4), torch.randn(2, 4, 8)
    up, _, down, _ = block.ffwd.net
    after = x + block.sa(norm_by_hand(x))
    inner = (norm_by_hand(after) @ up.weight.T + up.bias).clamp(min=0)
    torch.testing.assert_close(block(x), after + inner @ down.weight.T + down.bias, atol=1e-5, rtol=1e-4)
    assert up.out_features == 4 * 8


@small_stages
def test_no_stage_sees_the_future(stage):
    model = stage.model(stage, vocab_size=20).eval()
    idx = torch.randint(20, (4, stage.block_size))
    other = idx.clone()
    other[:, 5:] = (other[:, 5:] + 1) % 20
    (logits, _), (changed, _) = model(idx), model(other)
    assert torch.equal(logits[:, :5], changed[:, :5])
    assert not torch.allclose(logits[:, 5:], changed[:, 5:])


@pytest.mark.parametrize("number", [2, 3, 4, 5, 6])
def test_from_stage_two_on_the_past_counts(number):
    model = STAGES[number].model(STAGES[number], vocab_size=20)
    idx = torch.randint(20, (4, 8))
    other = idx.clone()
    other[:, 0] = (other[:, 0] + 1) % 20
    assert not torch.allclose(model(idx)[0][:, -1], model(other)[0][:, -1])


@pytest.mark.parametrize("number", [2, 3, 4, 5, 6])
def test_from_stage_two_on_the_place_counts(number):
    logits, _ = STAGES[number].model(STAGES[number], vocab_size=20)(torch.zeros((1, 8), dtype=torch.long))
    assert not torch.allclose(logits[0, 1:], logits[0, :-1], atol=1e-3)  # the same character eight times


def test_stage_four_thinks_over_what_stage_three_heard():
    model, x = STAGES[4].model(STAGES[4], vocab_size=20), torch.randn(1, 8, 32)
    heard = torch.cat([head_by_hand(head, x[0]) for head in model.sa], dim=-1)
    linear = model.ffwd[0]
    expected = (heard @ linear.weight.T + linear.bias).clamp(min=0)
    torch.testing.assert_close(model.middle(x)[0], expected, atol=1e-5, rtol=1e-4)


def test_dropout_is_in_every_part_and_only_while_training():
    x = torch.randn(2, 4, 8)
    for part in Head(8, 4, 4, dropout=1.0), MultiHeadAttention(8, 2, 4, dropout=1.0), FeedForward(8, dropout=1.0):
        assert part(x).abs().max() == 0
        assert part.eval()(x).abs().min() > 0
    drops = [module.p for module in GPT(SMALL_BIG, 5).modules() if isinstance(module, torch.nn.Dropout)]
    assert drops == [0.2] * (2 * (6 + 1 + 1))  # per block: six heads, projection, feed-forward


# --- the models ----------------------------------------------------------------------------------------------------


def test_the_big_one_has_the_lecture_s_parameters_less_the_bias_of_its_head():
    with torch.device("meta"):
        model = GPT(STAGES[7], vocab_size=65)
    assert sum(p.numel() for p in model.parameters()) == 10_788_929 - 65  # the lecture prints 10.788929 M
    assert (model.block_size, model.n_layer, model.n_head, model.n_embd, model.dropout) == (256, 6, 6, 384, 0.2)


def test_sizes_are_free_and_tril_is_not_trained():
    model = GPT(Stage(block_size=5, n_layer=1, n_head=3, n_embd=9), vocab_size=7)
    assert model(torch.zeros((2, 5), dtype=torch.long))[0].shape == (2, 5, 7)
    assert not any(name.endswith("tril") for name, _ in model.named_parameters())
    assert model.lm_head.bias is None


def test_stage_five_is_stage_six_without_its_norms():
    five, six = Residual(STAGES[5], 11), GPT(STAGES[6], 11)
    names = {name for name, _ in six.named_parameters()} - {name for name, _ in five.named_parameters()}
    assert len(names) == 2 * (2 * 3 + 1)
    assert all(".ln" in f".{name}" for name in names)


@small_stages
def test_the_loss_is_the_mean_surprise_in_nats(stage):
    model = stage.model(stage, vocab_size=10).eval()
    idx, targets = torch.randint(10, (3, 6)), torch.randint(10, (3, 6))
    logits, loss = model(idx, targets)
    surprises = [
        math.log(sum(math.exp(z) for z in logits[b, t].tolist())) - logits[b, t, targets[b, t]].item()
        for b in range(3)
        for t in range(6)
    ]
    assert loss.item() == pytest.approx(sum(surprises) / 18, abs=1e-5)
    assert model(idx)[1] is None


@small_stages
def test_an_untrained_model_knows_next_to_nothing(stage):
    # A bigram table of standard normals starts at ln(vocab) + 1/2, which is the 4.7 in the lecture.
    # The other stages start near ln(vocab).
    idx, targets = torch.randint(65, (64, stage.block_size)), torch.randint(65, (64, stage.block_size))
    losses = [stage.model(stage, 65)(idx, targets)[1].item() for _ in range(5)]
    above = sum(losses) / 5 - math.log(65)
    assert above == pytest.approx(0.5, abs=0.15) if stage.number == 1 else 0 < above < 0.5


# --- sampling ------------------------------------------------------------------------------------------------------


@small_stages
def test_writing_goes_on_from_its_start_and_repeats_by_seed(stage):
    model = stage.model(stage, vocab_size=5).eval()
    start = torch.zeros((2, 1), dtype=torch.long)
    write = lambda seed: model.generate(start, 40, torch.Generator().manual_seed(seed))
    assert write(1).shape == (2, 41)
    assert torch.equal(write(1), write(1))
    assert not torch.equal(write(1), write(2))
    assert write(1)[:, 0].tolist() == [0, 0]


def test_writing_draws_what_the_model_says():
    model = Bigram(STAGES[1], vocab_size=4)
    model.token_embedding_table.weight.data = torch.tensor([1, 2, 3, 0]).eq(torch.arange(4)[:, None]) * 0.0
    for now, then in [(0, 2), (2, 1), (1, 3), (3, 0)]:
        model.token_embedding_table.weight.data[now, then] = 100.0
    assert model.generate(torch.zeros((1, 1), dtype=torch.long), 8)[0].tolist() == [0, 2, 1, 3, 0, 2, 1, 3, 0]
    model.token_embedding_table.weight.data[0] = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    drawn = model.generate(torch.zeros((8000, 1), dtype=torch.long), 1, torch.Generator().manual_seed(5))[:, 1]
    shares = drawn.bincount(minlength=4) / 8000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.25, 0.125, 0.125]), atol=0.02, rtol=0)


def test_writing_forgets_what_is_older_than_the_window():
    model = GPT(Stage(block_size=6, n_layer=1, n_head=2, n_embd=8), vocab_size=9).eval()
    model.lm_head.weight.data *= 20  # so that the context affects the output
    idx = torch.randint(9, (1, 20))
    expected, generator = idx, torch.Generator().manual_seed(2)
    for _ in range(10):
        probs = model(expected[:, -6:])[0][:, -1].softmax(dim=-1)
        expected = torch.cat((expected, probs.multinomial(1, generator=generator)), dim=1)
    assert torch.equal(model.generate(idx, 10, torch.Generator().manual_seed(2)), expected)


# --- training ------------------------------------------------------------------------------------------------------


def entropy(counts):
    """Return the entropy of these counts in nats."""
    total = sum(counts.values())
    return -sum(n / total * math.log(n / total) for n in counts.values())


@pytest.mark.parametrize(
    "stage",
    [pytest.param(stage, marks=pytest.mark.slow if n > 2 else (), id=f"stage{n}") for n, stage in SMALL.items()],
)
def test_each_stage_learns(stage, tiny_text):
    events = list(train_stage(tiny_text, quick(stage, eval_interval=80, learning_rate=1e-2), max_iters=100))
    assert [event["step"] for event in events] == [0, 80, 100]
    first, last = events[0], events[-1]
    assert last["train_loss"] < first["train_loss"] - 0.5
    # Better than a unigram model, so it uses the context.
    assert last["val_loss"] < entropy(Counter(tiny_text)) or stage.number == 1


def test_the_bigram_learns_the_frequencies_of_pairs(tiny_text):
    text = tiny_text * 4  # so that the validation set resembles the training set
    pairs = entropy(Counter(zip(text, text[1:]))) - entropy(Counter(text[:-1]))
    stage = quick(STAGES[1], learning_rate=0.1, eval_iters=40)
    *_, last = train_stage(text, stage, max_iters=300)
    assert last["train_loss"] == pytest.approx(pairs, abs=0.05)


def test_events_are_plain_and_the_last_one_says_all(tiny_text):
    first, last = train_stage(tiny_text, quick(STAGES[6]), max_iters=5)
    assert first.keys() == {"stage", "step", "train_loss", "val_loss"}
    assert last.keys() == first.keys() | {"parameters", "seconds", "sample"}
    assert {type(value) for value in last.values()} == {int, float, str}
    assert (last["stage"], last["step"], len(last["sample"])) == (6, 5, 300)
    assert last["seconds"] > 0


def without_time(event):
    return {key: value for key, value in event.items() if key != "seconds"}


@pytest.mark.parametrize("number", [1, 3, pytest.param(7, marks=pytest.mark.slow)])
def test_looking_more_often_changes_nothing(number, tiny_text):
    *_, seldom = train_stage(tiny_text, quick(SMALL[number], eval_interval=20), max_iters=20)
    *_, often = train_stage(tiny_text, quick(SMALL[number], eval_interval=3), max_iters=20)
    assert without_time(seldom) == without_time(often)


@pytest.mark.slow
def test_the_seed_decides_the_run(tiny_text):
    run = lambda seed: without_time(list(train_stage(tiny_text, quick(SMALL[7]), seed=seed, max_iters=10))[-1])
    first = run(1)
    assert first == run(1)
    assert first["train_loss"] != run(2)["train_loss"]


@pytest.mark.slow
def test_the_sample_is_written_without_dropout(tiny_text):
    (wet,) = train_stage(tiny_text, quick(SMALL[7], dropout=0.9), max_iters=0)
    (dry,) = train_stage(tiny_text, quick(SMALL[7], dropout=0.0), max_iters=0)
    assert wet["sample"] == dry["sample"]


@pytest.mark.slow
def test_an_estimate_is_without_dropout_and_of_both_pieces():
    stage = quick(STAGES[6], dropout=0.5)
    model = GPT(stage, vocab_size=4)
    data = {"train": torch.randint(2, (500,)), "val": torch.randint(2, 4, (500,))}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model(*get_batch(data["train"], 8, 32))[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    losses = estimate_loss(model, data, stage)
    assert losses == estimate_loss(model, data, stage)
    assert losses["train"] < 0.8 < 2 < losses["val"]  # trained on coin flips of 0 and 1; never saw 2 or 3
    assert model.training


def test_a_text_needs_a_window_in_its_last_tenth():
    with pytest.raises(NanoGPTError, match=r"The text has only 80 characters. Stage 1 needs at least 81"):
        next(train_stage("ab" * 40, STAGES[1]))
    with pytest.raises(NanoGPTError, match=r"The text has only 0 characters"):
        next(train_stage("", STAGES[6]))
    with pytest.raises(NanoGPTError, match=r"Stage 7 needs at least 2,561"):
        next(train_stage("ab" * 1280, STAGES[7]))
    assert next(train_stage("ab" * 40 + "a", STAGES[1], max_iters=0))["step"] == 0


def test_a_server_may_allow_no_table_of_so_many_characters(tiny_text, monkeypatch):
    characters = len(set(tiny_text))
    monkeypatch.setenv("NANOGPT_MAX_PARAMETERS", str(characters**2))
    assert next(train_stage(tiny_text, quick(STAGES[1]), max_iters=0))["step"] == 0
    monkeypatch.setenv("NANOGPT_MAX_PARAMETERS", str(characters**2 - 1))
    with pytest.raises(NanoGPTError, match=rf"With {characters} different ones, that is {characters**2:,} parameters"):
        next(train_stage(tiny_text, quick(STAGES[1]), max_iters=0))
    assert next(train_stage(tiny_text, quick(STAGES[2]), max_iters=0))["step"] == 0


def test_settings_out_of_range_are_refused(tiny_text):
    with pytest.raises(NanoGPTError, match=r"max_iters was -1; it must be 0 or more"):
        next(train_stage(tiny_text, STAGES[1], max_iters=-1))


# --- the ladder ----------------------------------------------------------------------------------------------------


def test_the_ladder_climbs_in_order_and_leaves_the_big_one_to_a_gpu(tiny_text):
    assert [stage.number for stage in LADDER] == [1, 2, 3, 4, 5, 6, 7]
    assert [stage.number for stage in stages_for("cpu")] == [1, 2, 3, 4, 5, 6]
    assert [stage.number for stage in stages_for("cuda")] == [1, 2, 3, 4, 5, 6, 7]
    short = [quick(STAGES[3]), quick(STAGES[1])]
    assert [(event["stage"], event["step"]) for event in ladder(tiny_text, short, max_iters=2)] == [
        (3, 0),
        (3, 2),
        (1, 0),
        (1, 2),
    ]


def test_each_stage_is_the_one_before_and_something_more(tiny_text):
    parameters = [sum(p.numel() for p in stage.model(stage, 65).parameters()) for stage in LADDER[1:6]]
    assert parameters[0] == parameters[1]  # several heads have as many parameters as one
    assert parameters == sorted(parameters)


def test_the_printed_ladder_has_a_line_an_evaluation_and_a_sample(tiny_text, capsys, monkeypatch):
    monkeypatch.setitem(STAGES, 2, quick(STAGES[2]))
    print_ladder(tiny_text, stage_number=2, max_iters=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "stage 2: one head of self-attention"
    assert lines[1].split() == ["step", "train", "val"]
    (zero, *_), (one, train, val) = lines[2].split(), lines[3].split()
    assert (zero, one) == ("0", "1")
    *_, last = train_stage(tiny_text, STAGES[2], max_iters=1)
    assert (train, val) == (f"{last['train_loss']:.4f}", f"{last['val_loss']:.4f}")
    assert "2.4-2.5" in lines[4]
    assert "\n".join(lines[5:-1]) == last["sample"]
    assert not any("Skipped" in line for line in lines)


@pytest.mark.slow
def test_the_printed_ladder_says_what_it_left_out(tiny_text, capsys, monkeypatch):
    monkeypatch.setattr("nanogpt.lecture.LADDER", tuple(map(quick, LADDER)))
    print_ladder(tiny_text, max_iters=0)
    out = capsys.readouterr().out
    assert [f"stage {n}:" in out for n in range(1, 8)] == [True] * 6 + [False]
    assert "Skipped stage 7 (scaled up, with dropout), which is for a GPU. " in out  # there may be one, unused
    assert "run `python -m nanogpt ladder FILE --stage 7`" in out  # `nanogpt.lecture` itself has no options


@pytest.mark.slow
def test_the_bigram_reaches_the_lecture_s_loss(shakespeare):
    *_, last = train_stage(shakespeare, replace(STAGES[1], eval_interval=3000))
    assert last["val_loss"] == pytest.approx(2.49, abs=0.05)
    assert last["parameters"] == 65 * 65
