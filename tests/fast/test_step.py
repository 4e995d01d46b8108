"""The fast training steps against the plain one: the same loss and gradients, and bitwise reproducible."""

from __future__ import annotations

import copy
import gc
import sys
import threading
import weakref

import pytest
import torch
from conftest import until

from nanogpt.config import ModelConfig, TrainConfig
from nanogpt.device import Device, native_bfloat16, pick_device
from nanogpt.fast.attention import attend, attend_backward
from nanogpt.fast.cpu import Crew, CrewStep, sharing
from nanogpt.fast.gradients import ByHand, by_hand, compiled, loss_and_gradients, loss_only
from nanogpt.fastest import described, fastest_step, make_step
from nanogpt.layout import LAYOUTS
from nanogpt.model import GPT, attention_by_hand
from nanogpt.optim import orthogonalize
from nanogpt.ranks import Ranks, SharedStep
from nanogpt.step import Step

T = 24


@pytest.mark.parametrize("file", ["cpu", "cuda"])
def test_without_its_file_the_plain_step_is_taken(file, monkeypatch):
    monkeypatch.setitem(sys.modules, f"nanogpt.fast.{file}", None)  # importing it raises ImportError
    device = Device(file, torch.float32, "a device")
    step = fastest_step(a_model(), TrainConfig(), device)
    assert type(step) is Step
    assert step.note.startswith("The faster training step is missing here, so each step takes longer (")
    assert described(device, a_model().config) == str(device)


layouts = pytest.mark.parametrize("layout", LAYOUTS)
both = pytest.mark.parametrize(("layout", "optimizer"), [("classic", "adamw"), ("modern", "muon")])


def a_model(layout="modern", dropout=0.0, seed=0, **sizes) -> GPT:
    """Return a small model with noise added to its weights, so that every part affects the loss."""
    torch.manual_seed(seed)
    sizes = {**dict(vocab_size=19, n_layer=2, n_head=2, n_embd=32, block_size=T), **sizes}
    model = GPT(ModelConfig(layout=layout, dropout=dropout, **sizes))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.1)
    return model


def a_batch(B=6, length=T, seed=1):
    piece = torch.randint(19, (B, length + 1), generator=torch.Generator().manual_seed(seed))
    return piece[:, :-1], piece[:, 1:]


def gradients(model: GPT, xb, yb) -> tuple[float, list]:
    _, loss = model(xb, yb)
    return loss.item(), list(torch.autograd.grad(loss, list(model.parameters())))


def check_near(found: tuple, expected: tuple) -> None:
    assert float(found[0]) == pytest.approx(float(expected[0]), abs=1e-5)
    for grad, other in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-3, atol=1e-5)


SIZES: list[dict] = [
    {}, dict(n_head=4), dict(n_head=1, n_embd=16), dict(n_layer=1, block_size=40), dict(n_head=16),
    dict(vocab_size=3000),
]  # fmt: skip


@layouts
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("length", [T, T - 5, 1])
def test_a_model_by_hand_gives_the_plain_models_loss_and_gradients(layout, sizes, length):
    model, batch = a_model(layout, **sizes), a_batch(length=length)
    function = ByHand(model, torch.float32)
    expected = gradients(model, *batch)
    check_near(function(*batch), expected)
    assert float(function.loss(*batch)) == pytest.approx(expected[0], abs=1e-5)


@layouts
@pytest.mark.parametrize("length", [300, 700])  # more than twice ROWS, and more than KEEP
def test_a_long_context_by_hand_gives_the_plain_models_loss_and_gradients(layout, length):
    model, batch = a_model(layout, n_layer=1, block_size=length), a_batch(B=2, length=length)
    check_near(ByHand(model, torch.float32)(*batch), gradients(model, *batch))


@layouts
@pytest.mark.parametrize("rows", [5, 8, 12, 23])
def test_attention_a_few_queries_at_a_time_gives_the_same_gradients(layout, rows):
    model, batch = a_model(layout), a_batch()
    check_near(ByHand(model, torch.float32, rows)(*batch), gradients(model, *batch))


def test_a_part_of_a_batch_gives_its_share():
    model, (xb, yb) = a_model(), a_batch(B=8)
    whole, function = gradients(model, xb, yb), ByHand(model, torch.float32)
    parts = [function(xb[:6], yb[:6], 0.75), function(xb[6:], yb[6:], 0.25)]
    check_near((sum(loss for loss, _ in parts), [p + q for p, q in zip(parts[0][1], parts[1][1])]), whole)


@layouts
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torchs_interpreter_runs_it_with_the_same_bits_as_python(layout, dtype, monkeypatch):
    model, batch = a_model(layout), a_batch()
    script = ByHand(model, dtype)
    # or every step on several cores would take up to twice as long
    assert script.with_gradients is not loss_and_gradients
    assert script.only_loss is not loss_only
    found = [script(*batch) for _ in range(4)]  # torch compiles some functions again after their first call
    monkeypatch.setattr("nanogpt.fast.gradients.COMPILED", ((loss_and_gradients, ""), (loss_only, "")))
    python = ByHand(model, dtype)
    loss, grads = python(*batch)
    assert torch.equal(script.loss(*batch), python.loss(*batch))
    for one, others in found:
        assert torch.equal(one, loss)
        assert all(map(torch.equal, others, grads))


@pytest.mark.parametrize("problem", [AttributeError, OSError, RuntimeError, SyntaxError])
def test_without_torchscript_it_runs_in_python(problem, monkeypatch):
    def script(_):
        raise problem("no TorchScript here")

    monkeypatch.setattr(torch.jit, "script", script)
    function, why = compiled(loss_and_gradients)
    assert function is loss_and_gradients
    monkeypatch.setattr("nanogpt.fast.gradients.COMPILED", ((function, why), (loss_only, why)))
    note = CrewStep(a_model(), TrainConfig(), pick_device("cpu")).note
    assert note == f"TorchScript doesn't work here, so each step takes longer ({problem.__name__}: no TorchScript here)"
    assert not CrewStep(a_model(dropout=0.1), TrainConfig(), pick_device("cpu")).note  # autograd trains it anyway


def test_an_error_in_torchs_interpreter_is_a_line():
    xb, yb = a_batch()
    with pytest.raises(RuntimeError) as error:
        ByHand(a_model(), torch.float32)(xb + 100, yb)
    assert "index" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("B", [1, 2, 5])
def test_an_evaluation_while_training_is_as_good_as_the_plain_one(B):
    xb, yb = a_batch(B)
    for layout, dropout, near in (("modern", 0.0, 0.01), ("classic", 0.0, 0.01), ("classic", 0.1, 1e-5)):
        model = a_model(layout, dropout).eval()
        with torch.inference_mode():
            step = CrewStep(model, TrainConfig(), pick_device("cpu"))
            assert float(step.evaluate(xb, yb)) == pytest.approx(float(model(xb, yb)[1]), abs=near)
    exact = 0.5 * a_model()(xb, yb)[1].item()
    assert ByHand(a_model(), torch.float32).loss(xb, yb, 0.5).item() == pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize("size", [1.0, 30.0, 3000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_of_any_size_are_no_trouble(size, dtype):
    """Those of the classic architecture have no bound: its queries and keys may have any length."""
    x = torch.nn.functional.normalize(torch.randn(2, 9, 16), dim=-1)
    q, k, v = (4 * size * x).to(dtype), (x * torch.tensor([1.0, -1.0, 1.0] * 3)[:, None]).to(dtype), x.to(dtype)
    y, parts = attend(q, k, v, rows=4)
    torch.testing.assert_close(y.float(), attention_by_hand(q.float(), k.float(), v.float())[0], rtol=0.05, atol=0.05)
    assert torch.isfinite(attend_backward(v, q, k, v, parts, rows=4)).all()


@pytest.mark.parametrize("keep", [1, 1000])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_attention_in_several_parts_has_the_gradients_of_the_lectures(dtype, near, keep):
    q, k, v, grad = (torch.randn(4, 300, 32, requires_grad=True) for _ in range(4))  # three parts of 128 queries
    expected, _ = attention_by_hand(q, k, v)
    expected.backward(grad)
    a, b, c, g = (each.detach().to(dtype) for each in (q, k, v, grad))
    y, parts = attend(a, b, c, keep=keep)
    assert len(parts) == (0 if keep == 1 else 3)
    found = [y, *attend_backward(g, a, b, c, parts)]
    for one, other in zip(found, [expected, q.grad, k.grad, v.grad], strict=True):
        assert (one.float() - other).norm() < near * other.norm()


def test_the_keys_bias_has_no_gradient():
    """Softmax cancels it, unless keys are rotated or normalized. Adam would make full steps of the rounding left."""
    model = a_model("classic")
    names = [name for name, _ in model.named_parameters()]
    _, grads = ByHand(model, torch.bfloat16)(*a_batch())
    query, key, value = grads[names.index("blocks.0.sa.qkv.bias")].chunk(3)
    assert query.all()
    assert value.all()
    assert not key.any()


@layouts
def test_in_bfloat16_the_gradients_point_the_same_way(layout):
    model, batch = a_model(layout), a_batch(B=16)
    (loss, expected), (found, grads) = gradients(model, *batch), ByHand(model, torch.bfloat16)(*batch)
    assert float(found) == pytest.approx(loss, abs=0.02)
    for (name, _), grad, other in zip(model.named_parameters(), grads, expected, strict=True):
        assert grad.dtype is torch.float32
        assert torch.cosine_similarity(grad.flatten(), other.flatten(), dim=0) > 0.995, name


@layouts
def test_dropout_is_left_to_autograd(layout):
    assert by_hand(a_model(layout)) is not None
    assert by_hand(a_model(layout, dropout=0.1)) is None


def without_key_bias(name: str, parameter):
    """Leave out the bias of the keys: softmax cancels it, so its gradient is rounding, which Adam amplifies."""
    if not name.endswith("qkv.bias"):
        return parameter
    query, _, value = parameter.chunk(3)
    return torch.cat([query, value])


@both
@pytest.mark.parametrize("cores", [1, 2, 3, 4])
@pytest.mark.parametrize("B", [1, 2, 5, 8])
def test_a_divided_step_is_the_plain_one(layout, optimizer, cores, B, monkeypatch):
    monkeypatch.setattr("nanogpt.fast.gradients.native_bfloat16", lambda: False)
    monkeypatch.setattr("nanogpt.optim.native_bfloat16", lambda: False)
    config, device = TrainConfig(optimizer=optimizer), pick_device("cpu")
    plain = a_model(layout)
    divided, start = copy.deepcopy(plain), copy.deepcopy(plain)
    one, before = Step(plain, config, device), torch.get_num_threads()
    try:
        torch.set_num_threads(cores)
        many = CrewStep(divided, config, device)
        assert many.crew.size == cores
        for seed in range(3):
            batch = a_batch(B, seed=seed)
            (loss, norm), (found, found_norm) = one(*batch, 1e-3), many(*batch, 1e-3)
            assert float(found) == pytest.approx(float(loss), abs=1e-4)
            assert float(found_norm) == pytest.approx(float(norm), rel=1e-3)
            for p, q in zip(plain.parameters(), divided.parameters()):
                torch.testing.assert_close(q.grad, p.grad, rtol=0.02, atol=1e-5)
        assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)
    # Both optimizers amplify tiny gradients, so compare each parameter's total change.
    for (name, begin), p, q in zip(start.named_parameters(), plain.parameters(), divided.parameters()):
        begin, p, q = (without_key_bias(name, each) for each in (begin, p, q))
        way = (p - begin).norm()
        assert way > 0
        assert (p - q).norm() < 0.02 * way, name
        assert (p - q).abs().max() < 0.02 * p.abs().max()


@pytest.mark.parametrize(
    ("cores", "threads"),
    [(1, 1), (2, 2), (3, 3), (4, 4), (5, 4), (6, 3), (7, 3), (8, 4), (10, 4), (11, 4), (12, 4), (16, 4)],
)
def test_six_or_seven_cores_are_divided_among_three(cores, threads):
    assert sharing(cores) == threads


@pytest.mark.parametrize(("B", "expected"), [(1, [4]), (2, [2] * 2), (3, [1] * 3), (4, [1] * 4), (8, [1] * 4)])
def test_the_cores_are_divided_among_few_rows(B, expected):
    device, used, before = pick_device("cpu"), [], torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        step = CrewStep(a_model(), TrainConfig(), device)
        function = step.by_hand
        step.by_hand = lambda *batch: used.append(torch.get_num_threads()) or function(*batch)
        step(*a_batch(B), 1e-3)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert used == expected


def test_gradients_are_cut_to_the_length_they_may_have():
    model = a_model(n_layer=1)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    p = model.lm_head.weight
    for limit, kept in [(1.0, [0.6, 0.8]), (6.0, [3.0, 4.0]), (0.0, [3.0, 4.0])]:  # 0 disables clipping
        p.grad[0, 0], p.grad[5, 2] = 3.0, 4.0
        norm = Step(model, TrainConfig(grad_clip=limit), pick_device("cpu")).clip()
        assert float(norm) == pytest.approx(5.0)  # the norm before clipping
        assert [float(p.grad[0, 0]), float(p.grad[5, 2])] == pytest.approx(kept, rel=1e-5)


@both
@pytest.mark.parametrize("kind", [Step, CrewStep])
def test_a_step_cuts_its_gradients(kind, layout, optimizer):
    model = a_model(layout)
    step = kind(model, TrainConfig(optimizer=optimizer, grad_clip=0.01), pick_device("cpu"))
    sizes = []  # as the first optimizer finds them; Muon overwrites them
    first = step.optimizers[0].step
    step.optimizers[0].step = lambda: sizes.extend(p.grad.norm() for p in model.parameters()) or first()
    _, norm = step(*a_batch(), 1e-3)
    assert norm > 0.1
    assert float(torch.stack(sizes).norm()) == pytest.approx(0.01, rel=1e-3)


@both
def test_a_step_repeats_to_the_bit(layout, optimizer):
    ends = []
    for _ in range(2):
        model = a_model(layout)
        step = make_step(model, TrainConfig(optimizer=optimizer), pick_device("cpu"))
        for seed in range(5):
            step(*a_batch(8, seed=seed), 1e-2)
        ends.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(p, q) for p, q in zip(*ends))


def test_with_dropout_the_batch_is_not_divided():
    """Threads sharing one random generator would draw from it in no fixed order."""
    step = make_step(a_model(dropout=0.2), TrainConfig(), pick_device("cpu"))
    assert isinstance(step, CrewStep)
    assert step.crew.size == 1
    step(*a_batch(), 1e-3)


@pytest.mark.parametrize("kind", [Step, CrewStep])
def test_before_a_timed_run_a_step_is_tried_and_changes_nothing(kind):
    model, seen = a_model(dropout=0.2), []
    model.register_forward_hook(lambda *_: seen.append(1))
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    for budget, expected in ((0.0, 0), (10.0, 1)):
        step = kind(model, TrainConfig(budget=budget), pick_device("cpu"))
        step.ready(*a_batch())
        assert len(seen) == expected
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_shared_step_is_tried_on_this_rank_s_rows_alone(monkeypatch):
    there, sizes = Ranks.__new__(Ranks), []
    there.rank, there.size = 1, 3
    monkeypatch.setattr(Ranks, "add", lambda *_: pytest.fail("the other ranks wait for something else"))
    own = Step.forward_backward
    monkeypatch.setattr(Step, "forward_backward", lambda step, *batch: sizes.append(len(batch[0])) or own(step, *batch))
    step = SharedStep(Step(a_model(), TrainConfig(budget=10.0), pick_device("cpu")), there)
    step.ready(*a_batch(B=8))
    assert sizes == [3]  # the second, the fifth and the eighth


def test_a_shared_step_divides_its_rank_s_matrices_among_threads(monkeypatch):
    there, stacks = Ranks.__new__(Ranks), []
    there.rank, there.size, there.group = 1, 3, None
    gather = lambda shares, mine, group: [share.copy_(mine) for share in shares]
    monkeypatch.setattr("torch.distributed.all_gather", gather)
    monkeypatch.setattr(Crew, "orthogonalize", lambda crew, matrices: stacks.append(len(matrices)) or matrices)
    step = CrewStep(a_model(), TrainConfig(optimizer="muon"), pick_device("cpu"))
    SharedStep(step, there)
    muon = step.optimizers[1]
    assert muon.orthogonalize(torch.ones(5, 8, 20)).shape == (5, 8, 20)
    assert stacks == [2]  # the third and the fourth of five
    assert muon.shares == 3 * step.crew.size


def test_orthogonalizing_is_divided_too():
    step = CrewStep(a_model(), TrainConfig(optimizer="muon"), pick_device("cpu"))
    matrices = torch.randn(5, 8, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(step.crew.orthogonalize(matrices), orthogonalize(matrices), rtol=1e-3, atol=1e-4)


@both
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_step_that_is_dropped_leaves_no_model_and_no_threads(layout, optimizer, dropout):
    """Without the garbage collector: it may come minutes later, and a server tries several large models in a second."""
    threads = lambda: [one for one in threading.enumerate() if one.name.startswith("step")]
    device, before = pick_device("cpu"), torch.get_num_threads()
    gc.collect()
    until(lambda: not threads())  # those of other tests
    gc.disable()
    try:
        torch.set_num_threads(2)
        model = a_model(layout, dropout)
        step, left = CrewStep(model, TrainConfig(optimizer=optimizer), device), weakref.ref(model)
        step(*a_batch(), 1e-3)
        assert len(threads()) == (0 if dropout else 1)
        del step, model
        assert left() is None
        until(lambda: not threads())
    finally:
        gc.enable()
        torch.set_num_threads(before)


def test_what_the_cpu_can_do_is_asked_without_fail(monkeypatch):
    for answer in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda answer=answer: answer, raising=False)
        assert native_bfloat16() is answer
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert native_bfloat16() is False


@pytest.mark.gpu
@both
def test_a_replayed_step_is_the_plain_one(layout, optimizer):
    """Both run in the GPU's native precision, so only the order of additions differs."""
    device = pick_device("cuda")
    config = TrainConfig(optimizer=optimizer, device="cuda")
    plain = a_model(layout).to("cuda")
    recorded = copy.deepcopy(plain)
    one, other = Step(plain, config, device), make_step(recorded, config, device)
    for seed in range(20):
        batch = [part.to("cuda") for part in a_batch(8, seed=seed)]
        (loss, _), (found, _) = one(*batch, 1e-3), other(*batch, 1e-3)
        assert float(found) == pytest.approx(float(loss), abs=0.02)
    assert other.graph is not None
    assert not other.refused
