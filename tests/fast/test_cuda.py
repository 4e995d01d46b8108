"""The recorded training step without a GPU: a stand-in for CUDA graphs records operations and replays them."""

from __future__ import annotations

import contextlib
import copy
from types import SimpleNamespace

import pytest
import torch

from nanogpt.config import ModelConfig, TrainConfig
from nanogpt.device import Device
from nanogpt.fast import cuda
from nanogpt.model import GPT
from nanogpt.step import Step


class Recorder:
    """A stand-in for torch.cuda.CUDAGraph: `replay` reruns the operations that were dispatched during recording."""

    def __init__(self):
        self.operations: list = []

    @torch.no_grad()
    def replay(self) -> None:
        for function, args, kwargs, outputs in self.operations:
            found = function(*args, **kwargs)
            for place, value in zip(leaves(outputs), leaves(found)):
                if place is not value and place.data_ptr() != value.data_ptr():
                    place.copy_(value)  # results live at fixed addresses, as on a GPU


def leaves(values) -> list[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        return [values]
    return [x for part in values for x in leaves(part)] if isinstance(values, tuple | list) else []


class Listening(torch.utils._python_dispatch.TorchDispatchMode):
    """Record every operation, then undo its effects, because capturing a real CUDA graph computes nothing."""

    def __init__(self, recorder: Recorder):
        super().__init__()
        self.recorder = recorder
        self.before: dict[int, tuple[torch.Tensor, torch.Tensor] | None] = {}  # by storage; None if newly allocated

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        for x in leaves([*args, *(kwargs or {}).values()]):
            self.before.setdefault(x.untyped_storage().data_ptr(), (x, x.clone()))
        found = function(*args, **(kwargs or {}))
        for x in leaves(found):
            self.before.setdefault(x.untyped_storage().data_ptr(), None)
        self.recorder.operations.append((function, args, kwargs or {}, found))
        return found

    @torch.no_grad()
    def undo(self) -> None:
        for kept in self.before.values():
            if kept:
                kept[0].copy_(kept[1])


class Stream:
    def wait_stream(self, other) -> None:
        pass


class Event:
    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        pass


class Generator:
    def clone_state(self):
        return self

    def graphsafe_set_state(self, state) -> None:
        self.state = state


@pytest.fixture
def recorder(monkeypatch) -> None:
    """Make torch.cuda record on the CPU."""

    @contextlib.contextmanager
    def graph(recorder, stream, capture_error_mode):
        listening = Listening(recorder)
        with listening:
            yield
        listening.undo()

    stand_ins = dict(
        CUDAGraph=Recorder, graph=graph, Stream=Stream, Event=Event, current_stream=Stream,
        stream=lambda stream: contextlib.nullcontext(), set_stream=lambda stream: None, current_device=lambda: 0,
        default_generators=[Generator()], empty_cache=lambda: None,
        get_rng_state=torch.get_rng_state, set_rng_state=torch.set_rng_state,
    )  # fmt: skip
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(cuda, "recording_stream", lambda use, gpu: Stream())
    monkeypatch.setattr(cuda, "cuda_block", None)  # Triton, where it is installed, needs a GPU


def a_model(layout: str, dropout: float = 0.0) -> GPT:
    torch.manual_seed(0)
    sizes = dict(vocab_size=19, n_layer=2, n_head=2, n_embd=32, block_size=16)
    return GPT(ModelConfig(layout=layout, dropout=dropout, **sizes))


def batches(number: int):
    for seed in range(number):
        piece = torch.randint(19, (4, 17), generator=torch.Generator().manual_seed(seed))
        yield piece[:, :-1], piece[:, 1:]


def test_each_use_has_a_stream_of_its_own_on_each_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Stream", object)
    cuda.recording_stream.cache_clear()
    step, decoder, other = (cuda.recording_stream(*key) for key in (("step", 0), ("decoder", 0), ("decoder", 1)))
    assert len({step, decoder, other}) == 3
    assert cuda.recording_stream("decoder", 1) is other
    cuda.recording_stream.cache_clear()


HERE = Device("cpu", torch.bfloat16, "a recorder")
both = pytest.mark.parametrize(("layout", "optimizer"), [("classic", "adamw"), ("modern", "muon")])


@both
def test_a_recorded_step_gives_the_plain_steps_losses(recorder, layout, optimizer):
    plain = a_model(layout)
    recorded = copy.deepcopy(plain)
    config = TrainConfig(optimizer=optimizer, weight_decay=0.1)
    one, other = Step(plain, config, HERE), cuda.GraphStep(recorded, config, HERE)
    for step, batch in enumerate(batches(12)):
        lr = 1e-2 * (1 - step / 12)
        (loss, norm), (found, found_norm) = one(*batch, lr), other(*batch, lr)
        assert float(found) == pytest.approx(float(loss), abs=0.03)
        assert float(found_norm) == pytest.approx(float(norm), rel=0.1)
    assert other.graph is not None
    assert not other.note


@both
def test_after_a_recording_that_fails_the_plain_step_runs_and_says_so(recorder, layout, optimizer):
    plain = a_model(layout)
    failing = copy.deepcopy(plain)
    config = TrainConfig(optimizer=optimizer)
    one, other = Step(plain, config, HERE), cuda.GraphStep(failing, config, HERE)
    whole_step, calls = other.whole_step, []

    def third_one_fails():
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 48.00 MiB.\nmore")
        return whole_step()

    other.whole_step = third_one_fails
    for batch in batches(5):
        (loss, _), (found, _) = one(*batch, 1e-3), other(*batch, 1e-3)
        assert float(found) == pytest.approx(float(loss), abs=1e-3)
    assert other.refused
    assert other.note.endswith("(OutOfMemoryError: CUDA out of memory. Tried to allocate 48.00 MiB.)")
    assert not hasattr(other, "low")  # the memory held by the recording is released


def test_a_replay_that_gives_another_loss_is_not_used(recorder, monkeypatch):
    monkeypatch.setattr(Recorder, "replay", lambda self: None)  # the loss stays at its recorded value
    model = a_model("modern")
    step = cuda.GraphStep(model, TrainConfig(optimizer="muon", learning_rate=0.1), HERE)
    before = [p.detach().clone() for p in model.parameters()]
    step.xb, step.yb = next(batches(1))
    step.prepare()
    step.low_loss = lambda loss=step.low_loss: loss() + step.counter.add_(1)  # a different loss at each step
    step.counter = torch.zeros(())
    step(*next(batches(1)), 1e-3)
    assert step.refused
    assert "the replay's loss was" in step.note
    assert any((p - q).abs().max() > 0 for p, q in zip(before, model.parameters()))  # the plain step was used


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("wrong", ["", "frozen", "NaN", "much higher"])
def test_with_dropout_a_replay_must_give_a_similar_loss(recorder, monkeypatch, dropout, wrong):
    """Each replay drops other numbers, so the losses aren't the same."""
    step = cuda.GraphStep(a_model("modern", dropout), TrainConfig(optimizer="muon"), HERE)
    replay, more = Recorder.replay, {"NaN": torch.nan, "much higher": 9.0}.get(wrong, 0.0)
    if wrong == "frozen":
        replay = lambda recorder: None
    monkeypatch.setattr(Recorder, "replay", lambda recorder: [replay(recorder), step.loss.add_(more)])
    step.ready(*next(batches(1)))
    assert step.refused is bool(wrong)
    assert ("the replay's loss was" in step.note) is bool(wrong)


def flipped(low, xb, yb):
    return low(xb.flip(1), yb)[1]


def steeper(low, xb, yb):
    """Return the right loss, with gradients that are twice as large."""
    loss = low(xb, yb)[1]
    return 2 * loss - loss.detach()


def right(low, xb, yb):
    return low(xb, yb)[1]


@pytest.mark.parametrize("loss_of", [flipped, steeper, right])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_fused_kernels_that_compute_something_else_are_not_used(recorder, monkeypatch, loss_of, dropout):
    """Simulated. The model is a new one, whose logits are all 0."""
    given = lambda low, rotary, xb, yb, p, seed: loss_of(low, xb, yb)
    monkeypatch.setattr(cuda, "cuda_block", SimpleNamespace(fits=lambda *_: True, loss_of=given))
    model = a_model("modern", dropout=dropout)
    step = cuda.GraphStep(model, TrainConfig(), HERE)
    before = copy.deepcopy(model.state_dict())
    step.xb, step.yb = next(batches(1))
    step.prepare()
    assert step.low_loss == (step.fused_loss if loss_of is right else step.plain_loss)
    assert ("Fused kernels don't work here" in step.note) is (loss_of is not right)
    assert step.low.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    expected = float(Step(copy.deepcopy(model), TrainConfig(), HERE)(step.xb, step.yb, 1e-3)[0])
    assert float(step.whole_step()[0]) == pytest.approx(expected, abs=0.03)  # of the model's own weights


@pytest.mark.parametrize(("dtype", "tried"), [(torch.float16, 1), (torch.bfloat16, 0)])
def test_where_no_step_is_recorded_a_plain_one_is_tried_before_a_timed_run(recorder, monkeypatch, dtype, tried):
    seen: list = []
    forward_backward = Step.forward_backward
    monkeypatch.setattr(Step, "forward_backward", lambda *given: seen.append(1) or forward_backward(*given))
    step = cuda.GraphStep(a_model("classic"), TrainConfig(budget=10.0), Device("cpu", dtype, "a GPU"))
    step.ready(*next(batches(1)))
    assert (len(seen), step.refused) == (tried, bool(tried))


def test_dropout_goes_on_after_a_resume_as_if_there_had_been_none(monkeypatch):
    seeds = []
    monkeypatch.setattr(cuda, "cuda_block", SimpleNamespace(loss_of=lambda *given: seeds.append(int(given[-1]))))

    def take_steps(number: int) -> list[int]:
        seeds.clear()
        step = cuda.GraphStep(a_model("modern"), TrainConfig(), HERE)
        step.low, step.xb, step.yb, step.dropout = step.model, None, None, 0.1
        step.seed = torch.zeros(1, dtype=torch.int64)
        torch.set_rng_state(state)
        for _ in range(number):
            step.fused_loss()
        return list(seeds)

    state = torch.get_rng_state()
    whole = take_steps(5)
    assert len(set(whole)) == 5
    first = take_steps(3)
    state = torch.get_rng_state()  # as in a checkpoint
    assert first + take_steps(2) == whole


def test_float16_trains_plainly_with_a_scaled_loss(recorder):
    model = a_model("classic")
    here = Device("cpu", torch.float16, "a T4")
    step = cuda.GraphStep(model, TrainConfig(), here)
    assert step.refused
    assert step.scaler.is_enabled()
    batch = next(batches(1))
    losses = [float(step(*batch, 1e-2)[0]) for _ in range(10)]
    assert losses[-1] < losses[0] - 0.1
