"""Test the fast model against the lecture's with the same weights, and for what any GPT must satisfy."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from nanogpt import lecture
from nanogpt.config import ModelConfig
from nanogpt.data import get_batch
from nanogpt.model import GPT, attention_by_hand, rotary_table, rotate
from nanogpt.sample import LayerCache

CLASSIC = [
    ModelConfig(vocab_size=11, block_size=8, n_layer=1, n_head=1, n_embd=8),
    ModelConfig(vocab_size=13, block_size=16, n_layer=3, n_head=4, n_embd=24),
    ModelConfig(vocab_size=2, block_size=5, n_layer=2, n_head=3, n_embd=9, dropout=0.3),
]
MODERN = [
    ModelConfig(vocab_size=11, layout="modern", block_size=8, n_layer=1, n_head=1, n_embd=8),
    ModelConfig(vocab_size=13, layout="modern", block_size=16, n_layer=3, n_head=4, n_embd=24, dropout=0.3),
]
name_of = lambda c: f"{c.layout} {c.n_layer}x{c.n_head}x{c.n_embd}"
classic_shapes = pytest.mark.parametrize("config", CLASSIC, ids=name_of)
shapes = pytest.mark.parametrize("config", CLASSIC + MODERN, ids=name_of)
layouts = pytest.mark.parametrize("layout", ["classic", "modern"])


def a_model(config, seed=0, scale=1.0):
    """Return a model whose weights are all random: initially, biases are 0 and norm gains are 1."""
    torch.manual_seed(seed)
    model = GPT(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.2 * scale)
    return model.eval()


def text_of(config, rows=3, length=None, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (rows, length or config.block_size), generator=generator)


# --- same numbers as in the lecture --------------------------------------------------------------------------------


def copy_into_lecture(model: GPT) -> lecture.GPT:
    """Copy our weights into the lecture's modules, head by head. Its queries, keys and values have no biases."""
    config = model.config
    theirs = lecture.GPT(config, config.vocab_size)
    plain = ("token_embedding_table", "position_embedding_table", "ln_f", "lm_head")
    for name in plain:
        getattr(theirs, name).load_state_dict(getattr(model, name).state_dict())
    for ours, block in zip(model.blocks, theirs.blocks):
        for part in ("ln1", "ln2"):
            getattr(block, part).load_state_dict(getattr(ours, part).state_dict())
        block.ffwd.load_state_dict(ours.ffwd.state_dict())
        block.sa.proj.load_state_dict(ours.sa.proj.state_dict())
        size = config.n_embd // config.n_head
        for h, head in enumerate(block.sa.heads):
            for place, name in enumerate(("query", "key", "value")):
                start = place * config.n_embd + h * size
                linear = getattr(head, name)
                assert linear.weight.shape == (size, config.n_embd)
                linear.weight.data.copy_(ours.sa.qkv.weight[start : start + size])
                if linear.bias is not None:
                    linear.bias.data.copy_(ours.sa.qkv.bias[start : start + size])
    return theirs.eval()


@classic_shapes
def test_with_the_lecture_s_weights_it_gives_the_lecture_s_numbers(config):
    model = a_model(config)
    for block in model.blocks:
        torch.nn.init.zeros_(block.sa.qkv.bias)  # the lecture's heads have no biases
    theirs, idx = copy_into_lecture(model), text_of(config)
    for length in (1, 2, config.block_size):
        ours, _ = model(idx[:, :length])
        expected, _ = theirs(idx[:, :length])
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    targets = text_of(config, seed=2)
    torch.testing.assert_close(model(idx, targets)[1], theirs(idx, targets)[1], atol=1e-5, rtol=1e-5)


def test_the_biases_of_queries_keys_and_values_are_the_linear_layer_s():
    config = CLASSIC[1]
    model = a_model(config)
    attention, x = model.blocks[0].sa, torch.randn(2, 7, config.n_embd)
    size = config.n_embd // config.n_head
    weight, bias = attention.qkv.weight, attention.qkv.bias
    heads = []
    for h in range(config.n_head):
        rows = [slice(part * config.n_embd + h * size, part * config.n_embd + (h + 1) * size) for part in range(3)]
        q, k, v = (x @ weight[row].T + bias[row] for row in rows)
        heads.append(attention_by_hand(q[:, None], k[:, None], v[:, None])[0][:, 0])
    expected = torch.cat(heads, dim=-1) @ attention.proj.weight.T + attention.proj.bias
    torch.testing.assert_close(attention(x), expected, atol=1e-5, rtol=1e-5)


@classic_shapes
def test_with_the_lecture_s_weights_it_learns_the_same_too(config):
    model = a_model(config)
    for block in model.blocks:
        torch.nn.init.zeros_(block.sa.qkv.bias)
    theirs = copy_into_lecture(model)
    idx, targets = text_of(config), text_of(config, seed=2)
    model(idx, targets)[1].backward()
    theirs(idx, targets)[1].backward()
    for name in ("token_embedding_table", "position_embedding_table", "lm_head"):
        ours, expected = getattr(model, name).weight.grad, getattr(theirs, name).weight.grad
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("T", [1, 2, 7, 16])
def test_fused_attention_is_the_lecture_s_four_lines(T):
    torch.manual_seed(0)
    q, k, v = (2 * torch.randn(3, 4, T, 6) for _ in range(3))
    by_hand, wei = attention_by_hand(q, k, v)
    fused = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
    torch.testing.assert_close(by_hand, fused, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(wei.sum(-1), torch.ones(3, 4, T))
    assert (wei.triu(1) == 0).all()


# --- properties of any GPT -----------------------------------------------------------------------------------------


@shapes
def test_a_later_character_never_changes_an_earlier_logit(config):
    model, idx = a_model(config), text_of(config, rows=1)
    logits, _ = model(idx)
    for t in range(1, config.block_size):
        changed = idx.clone()
        changed[0, t] = (changed[0, t] + 1) % config.vocab_size
        other, _ = model(changed)
        torch.testing.assert_close(other[0, :t], logits[0, :t], atol=1e-6, rtol=0)
        assert not torch.allclose(other[0, t:], logits[0, t:], atol=1e-4)


@shapes
def test_every_earlier_character_is_seen(config):
    model, idx = a_model(config), text_of(config, rows=1)
    seen = []
    model.token_embedding_table.register_forward_hook(lambda _, __, out: seen.append(out) or out.retain_grad())
    logits, _ = model(idx)
    (logits[0, -1] * torch.randn(config.vocab_size)).sum().backward()
    assert (seen[0].grad[0].abs().sum(-1) > 1e-8).all()


@shapes
def test_the_order_of_earlier_characters_matters(config):
    model = a_model(config)
    one, other = (torch.tensor([ids]) for ids in ([0, 1, 0, 0, 1], [1, 0, 0, 0, 1]))
    assert not torch.allclose(model(one)[0][0, -1], model(other)[0][0, -1], atol=1e-4)


@layouts
@pytest.mark.parametrize("vocab_size", [2, 65, 1000])
def test_at_the_start_it_knows_nothing(vocab_size, layout):
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=vocab_size, layout=layout, block_size=32, n_layer=4, n_head=4, n_embd=64)
    idx, targets = text_of(config, rows=16), text_of(config, rows=16, seed=2)
    with torch.no_grad():
        _, loss = GPT(config)(idx, targets)
    assert loss.item() == pytest.approx(math.log(vocab_size), abs=0.1)


def test_the_residual_road_does_not_widen_with_depth():
    torch.manual_seed(0)
    spread = {}
    for n_layer in (1, 16):
        model = GPT(ModelConfig(vocab_size=65, block_size=32, n_layer=n_layer, n_head=4, n_embd=64))
        adds = ("proj.weight", "net.2.weight")
        projections = [p.std().item() for n, p in model.named_parameters() if n.endswith(adds)]
        assert projections == pytest.approx([0.02 / math.sqrt(2 * n_layer)] * (2 * n_layer), rel=0.1)
        seen = []
        model.ln_f.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].std().item()))
        model(torch.randint(65, (4, 32)))
        spread[n_layer] = seen[0]
    assert spread[16] < 1.2 * spread[1]


@shapes
def test_the_loss_is_the_mean_cross_entropy_written_out(config):
    model, idx, targets = a_model(config), text_of(config), text_of(config, seed=2)
    logits, loss = model(idx, targets)
    p = torch.softmax(logits.double(), dim=-1)
    by_hand = -torch.stack([p[b, t, targets[b, t]].log() for b in range(3) for t in range(config.block_size)]).mean()
    assert loss.item() == pytest.approx(by_hand.item(), abs=1e-5)
    assert model.bfloat16()(idx, targets)[1].dtype is torch.float32  # bfloat16 has three digits, too few for a loss
    assert model(idx)[1] is None


@layouts
def test_one_batch_can_be_learned_by_heart(layout):
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab_size=20, layout=layout, block_size=16, n_layer=2, n_head=2, n_embd=32))
    data = torch.randint(20, (100,), generator=torch.Generator().manual_seed(0))
    xb, yb = get_batch(data, 16, 4, torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        _, loss = model(xb, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1  # for the first character of a row, token and position suffice
    assert (model.eval()(xb)[0].argmax(-1) == yb).float().mean() > 0.95


@pytest.mark.parametrize("config", [CLASSIC[2], MODERN[1]], ids=name_of)
def test_dropout_acts_in_training_only(config):
    model, idx = a_model(config), text_of(config)
    assert torch.equal(model(idx)[0], model(idx)[0])
    model.train()
    torch.manual_seed(1)
    first, second = model(idx)[0], model(idx)[0]
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(model(idx)[0], first)


# --- the KV cache --------------------------------------------------------------------------------------------------


@shapes
def test_with_a_cache_the_numbers_are_those_without(config):
    model, idx = a_model(config), text_of(config, rows=2)
    with torch.inference_mode():
        expected, _ = model(idx)
        for prefix in range(1, config.block_size + 1):
            cache = [LayerCache(config.block_size) for _ in model.blocks]
            pieces = [model(idx[:, :prefix], cache=cache)[0]]
            pieces += [model(idx[:, t : t + 1], cache=cache)[0] for t in range(prefix, config.block_size)]
            torch.testing.assert_close(torch.cat(pieces, dim=1), expected, atol=1e-5, rtol=1e-5)
            assert {layer.length for layer in cache} == {config.block_size}


@shapes
@torch.inference_mode()
def test_a_longer_piece_must_meet_an_empty_cache(config):
    model, idx = a_model(config), text_of(config)
    cache = [LayerCache(config.block_size) for _ in model.blocks]
    model(idx[:, :3], cache=cache)
    with pytest.raises(AssertionError, match="the cache must be empty unless T is 1"):
        model(idx[:, 3:5], cache=cache)


@shapes
@torch.inference_mode()
def test_more_tokens_than_the_context_are_refused(config):
    model, idx, T = a_model(config), text_of(config, length=config.block_size + 1), config.block_size
    cache = [LayerCache(T) for _ in model.blocks]
    model(idx[:, :T], cache=cache)
    for piece, full in ((idx, None), (idx[:, T:], cache)):
        with pytest.raises(AssertionError, match=f"^{T + 1} tokens, but block_size is {T}"):
            model(piece, cache=full)


def test_parameters_are_counted_as_worked_out_by_hand():
    V, T, C, L = 65, 64, 128, 4
    block = 2 * 2 * C + (3 * C * C + 3 * C) + (C * C + C) + (4 * C * C + 4 * C) + (4 * C * C + C)
    model = GPT(ModelConfig(vocab_size=V, block_size=T, n_layer=L, n_head=4, n_embd=C))
    assert model.count_parameters() == V * C + T * C + L * block + 2 * C + V * C
    modern = GPT(ModelConfig(vocab_size=V, layout="modern", block_size=T, n_layer=L, n_head=4, n_embd=C))
    assert modern.count_parameters() == V * C + L * 12 * C * C + V * C  # matrices only


# --- features of the modern architecture ---------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "largest"), [(0.5, 3.0), (-7.0, 7.0), (-math.inf, math.inf), (math.nan, math.nan)])
def test_the_largest_weight_tells_whether_all_are_numbers(value, largest):
    model = GPT(ModelConfig(layout="modern", vocab_size=5, n_layer=2, n_head=1, n_embd=4, block_size=4))
    with torch.no_grad():
        model.blocks[0].sa.proj.weight[1, 2] = value
        model.token_embedding_table.weight.clamp_(-1, 1)[0, 0] = -3.0
    assert model.largest_weight() == pytest.approx(largest, nan_ok=True)


def test_rotary_positions_tell_how_far_apart_two_characters_stand_and_not_where():
    table = rotary_table(ModelConfig(layout="modern", block_size=32, n_head=2, n_embd=16))  # (2, T, hs / 2)
    torch.manual_seed(0)
    q, k = torch.randn(8), torch.randn(8)
    turned = lambda x: rotate(x.expand(1, 1, 32, 8), *table)[0, 0]  # the same vector at every position
    scores = turned(q) @ turned(k).T  # (T, T)
    for apart in (0, 1, 5, 20):
        diagonal = scores.diagonal(apart)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=1e-4)
    assert scores[0].std() > 0.1
    torch.testing.assert_close(turned(q).norm(dim=-1), q.norm().expand(32))  # rotation keeps the length


def test_in_the_modern_layout_the_length_of_queries_and_keys_does_not_matter():
    config = MODERN[1]
    model, idx = a_model(config), text_of(config)
    before, _ = model(idx)
    with torch.no_grad():
        for block in model.blocks:
            block.sa.qkv.weight[: 2 * config.n_embd].mul_(1000)
    torch.testing.assert_close(model(idx)[0], before, atol=1e-3, rtol=1e-3)
    with torch.no_grad():
        model.blocks[0].sa.qkv.weight[2 * config.n_embd :].mul_(2)  # scaling the values does change the output
    assert not torch.allclose(model(idx)[0], before, atol=1e-2)
