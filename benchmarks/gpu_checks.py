"""The checks that gpu_day.py runs, one function each. A check prints its results, one JSON object per line."""

from __future__ import annotations

import copy
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from nanogpt import corpus, memory, processes, ranks as group
from nanogpt.config import ModelConfig, SampleConfig, TrainConfig
from nanogpt.data import get_batch
from nanogpt.device import pick_device
from nanogpt.fastest import make_step
from nanogpt.launch import gpu_plan, local, pace, prepare
from nanogpt.model import GPT
from nanogpt.presets import PRESETS
from nanogpt.ranks import Ranks
from nanogpt.runs import Run
from nanogpt.sample import Decoder, decoder_for, generate, generate_many
from nanogpt.step import Step
from nanogpt.train import train

ROOT = Path(__file__).resolve().parent.parent
VOCAB = 65
FILE = DEVICE = ""
QUICK, LIMIT = False, 300.0
BEGAN = time.monotonic()


def say(**row: Any) -> None:
    """Print one result as a line of JSON."""
    sys.stdout.write(json.dumps(row, default=str) + "\n")  # at once, since several processes may print
    sys.stdout.flush()


def size(**other: Any) -> dict[str, Any]:
    """Return the lecture's model size, or a tiny one with QUICK, plus other settings."""
    return {**(dict(n_layer=1, n_head=2, n_embd=16, block_size=16) if QUICK else
               dict(n_layer=6, n_head=6, n_embd=384, block_size=256)), **other}  # fmt: skip


def configs(layout: str, **other: Any) -> tuple[ModelConfig, TrainConfig]:
    preset = "timed" if layout == "modern" else "lecture"
    batch_size = 2 if QUICK else 64
    shape, recipe = PRESETS[preset].configs(
        **size(layout=layout, budget=0.0, dropout=0.0, batch_size=batch_size, device=DEVICE, **other)
    )
    return replace(shape, vocab_size=VOCAB), recipe


def synchronize() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def text_ids() -> torch.Tensor:
    text = Path(FILE).read_text(encoding="utf-8")[:300_000]
    ids = {c: i for i, c in enumerate(sorted(set(text)))}
    return torch.tensor([ids[c] for c in text], device=DEVICE).to(torch.uint8)


def milliseconds(work: Callable[[], Any], times: int, rounds: int = 5) -> float:
    found = []
    for _ in range(rounds):
        synchronize()
        began = time.perf_counter()
        for _ in range(times):
            work()
        synchronize()
        found.append(1e3 * (time.perf_counter() - began) / times)
    return statistics.median(found)


# --- correctness ------------------------------------------------------------------------------------------------------


def tests() -> None:
    """Run the tests that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider", "-rA"]
    files = ["tests/fast", "tests/test_device.py", "tests/test_train.py"]
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    say(rc=done.returncode, last=lines[-1:], outcomes=[x for x in lines if x.startswith(("PASSED", "FAILED", "ERROR"))],
        errors=[x for x in lines if x.startswith("E  ")][:40])  # fmt: skip


def failed(kind: str) -> None:
    """Make a recording fail, by a wait inside it or by running out of memory, then train with the plain step."""
    device = pick_device(DEVICE)
    shape, recipe = configs("classic")
    shape = replace(shape, dropout=0.2)
    step: Any = make_step(GPT(shape).to(DEVICE), recipe, device)
    x = torch.randint(VOCAB, (recipe.batch_size, shape.block_size), device=DEVICE)
    if kind == "memory" and DEVICE == "cuda":  # leave room for the plain step, but not for a recording
        limit_memory(shape, recipe, device, x)
    elif DEVICE == "cuda":
        inner, calls = step.whole_step, [0]

        def broken():
            calls[0] += 1
            if calls[0] == 4:  # the recorded one
                torch.cuda.synchronize()
            return inner()

        step.whole_step = broken
    losses: list[Any] = []
    for _ in range(5):
        try:
            losses.append(float(step(x, x, 1e-3)[0]))
        except Exception as error:
            losses.append(f"{type(error).__name__}: {str(error)[:300]}")
    held, reserved = (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) if DEVICE == "cuda" else (0, 0)
    say(refused=getattr(step, "refused", None), note=step.note, losses=losses, allocated_GB=held / 1e9,
        reserved_GB=reserved / 1e9)  # fmt: skip


def limit_memory(shape: ModelConfig, recipe: TrainConfig, device: Any, x: torch.Tensor) -> None:
    """Limit the GPU memory of this process to the least, in steps of a tenth, with which the plain step runs."""
    torch.cuda.reset_peak_memory_stats()
    Step(GPT(shape).to(DEVICE), recipe, device)(x, x, 1e-3)
    peak, total = torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties(0).total_memory
    for tenths in range(10, 20):
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(tenths / 10 * peak / total)
        plain = Step(GPT(shape).to(DEVICE), recipe, device)
        try:
            for _ in range(3):
                plain(x, x, 1e-3)
            break
        except torch.OutOfMemoryError:
            pass
    del plain
    torch.cuda.empty_cache()
    say(plain_step_peak_GB=peak / 1e9, limit_GB=tenths / 10 * peak / 1e9)


def failed_wait() -> None:
    failed("wait")


def failed_memory() -> None:
    failed("memory")


def evaluations() -> None:
    """Generate samples between replays, as evaluations do (pytorch#193402), and compare losses with the plain step."""
    device = pick_device(DEVICE)
    shape, recipe = configs("modern")
    data = text_ids()
    torch.manual_seed(1)
    one = GPT(shape).to(DEVICE)
    two = copy.deepcopy(one)
    plain, graph = Step(one, recipe, device), make_step(two, recipe, device)
    generator, worst, took = torch.Generator().manual_seed(1), 0.0, []
    for _ in range(2 if QUICK else 8):
        two.eval()
        began = time.perf_counter()
        list(generate_many(decoder_for(two, 1), [0], SampleConfig(length=30 if QUICK else 300)))
        took.append(time.perf_counter() - began)
        two.train()
        for _ in range(5):
            batch = get_batch(data, shape.block_size, recipe.batch_size, generator)
            worst = max(worst, abs(float(plain(*batch, 3e-3)[0]) - float(graph(*batch, 3e-3)[0])))
        if DEVICE == "cuda":
            filler = torch.randn(64 << 20, device=DEVICE)  # overwrite any freed memory
            del filler
            torch.cuda.empty_cache()
    say(worst_loss_difference=worst, sample_seconds=took)


def resume() -> None:
    """Compare the validation losses of an uninterrupted run and one that is stopped halfway and resumed."""
    text, steps = corpus.add([FILE]), 6 if QUICK else 200
    how = size(layout="modern", dropout=0.1, batch_size=2 if QUICK else 64, max_iters=steps, device=DEVICE, patience=0,
               eval_interval=steps // 2)  # fmt: skip
    for name in ("whole", "halves"):
        run = prepare.new_run(name, text, "quick", **how)
        if name == "halves":
            train(run, seconds=0.001)  # evaluates, saves and stops at once
            train(run, seconds=1.0)
        train(run)
        rows = [(row["step"], row["val_loss"]) for row in run.history().rows if "val_loss" in row]
        say(name=name, val_losses=rows, end=run.history().events[-1]["val_loss"], notes=run.history().notes)


def ranks() -> None:
    """Compare the step of a single rank, whose gradients travel by NCCL, with the plain one; then two by gloo.

    Two ranks can't share a GPU by NCCL, so this shows everything but the messages between two GPUs.
    """
    store = distributed.TCPStore("127.0.0.1", 0, 1, is_master=True, wait_for_workers=False)
    compare_ranks(Ranks(0, 1, store, pick_device(DEVICE)))
    master = distributed.TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
    command = [sys.executable, "-m", "benchmarks.gpu_checks", "rank", FILE, DEVICE, str(int(QUICK)), "60"]
    where = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(master.port)}
    both = [subprocess.Popen(command, cwd=ROOT, env={**where, "RANK": str(number)}) for number in range(2)]
    if any([process.wait() for process in both]):
        raise RuntimeError("one of two ranks failed")


def rank() -> None:
    """Be one of two ranks on the same device."""
    group.by_nccl = lambda: distributed.group.WORLD
    number, size = processes.number()
    store = distributed.TCPStore("127.0.0.1", int(os.environ["MASTER_PORT"]), size)
    compare_ranks(Ranks(number, size, store, pick_device(DEVICE)))


def compare_ranks(met: Ranks) -> None:
    """Take steps with the ranks that have met and without. Report the losses that differ most."""
    device, data = pick_device(DEVICE), text_ids()
    for layout in ("modern", "classic"):
        shape, recipe = configs(layout)
        recipe = replace(recipe, batch_size=recipe.batch_size + 1)  # the ranks' shares differ
        losses = []
        for ranks in (None, met):
            generator = torch.Generator().manual_seed(1)
            torch.manual_seed(1)
            model = GPT(replace(shape, dropout=0.0)).to(DEVICE)
            step = make_step(model, recipe, device, ranks) if ranks else Step(model, recipe, device)
            found = []
            for _ in range(3 if QUICK else 20):
                lr = met.hear() if ranks and met.rank else 1e-3  # rank 0 tells the others
                found.append(float(step(*get_batch(data, shape.block_size, recipe.batch_size, generator), lr)[0]))
            losses.append(found)
        say(layout=layout, rank=met.rank, of=met.size, worst=max(abs(a - b) for a, b in zip(*losses)), last=found[-1])


# --- speed ------------------------------------------------------------------------------------------------------------


def ceilings() -> None:
    """Measure the GPU's limits: the speed of a large product and of a copy."""
    n = 256 if QUICK else 8192
    a, b = (torch.randn(n, n, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    x = torch.empty(n * n, device=DEVICE)
    y = torch.empty_like(x)
    product, copied = milliseconds(lambda: a @ b, 3), milliseconds(lambda: y.copy_(x), 3)
    row = dict(TFLOPs=2 * n**3 / product / 1e9, copy_TBs=2 * x.nbytes / copied / 1e9)
    if DEVICE == "cuda":
        began = time.perf_counter()
        row["planned_by_TFLOPs"] = gpu_plan.product_speed(pick_device(DEVICE)) / 1e12
        row["planning_seconds"] = time.perf_counter() - began
    say(**row)


def one_form(name: str, layout: str, dropout: float, change: Callable[[Any], None] | None, plain: bool = False) -> None:
    """Take 30 steps on real batches from the same weights, then time more. Report losses, milliseconds and memory."""
    device, (shape, recipe), data = pick_device(DEVICE), configs(layout), text_ids()
    torch.manual_seed(1337)
    model = GPT(replace(shape, dropout=dropout)).to(DEVICE)
    step: Any = Step(model, recipe, device) if plain else make_step(model, recipe, device)
    if change and DEVICE == "cuda":
        change(step)
    generator, losses = torch.Generator().manual_seed(1), []
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    batch = get_batch(data, shape.block_size, recipe.batch_size, generator)
    synchronize()
    began = time.perf_counter()
    losses.append(float(step(*batch, recipe.learning_rate)[0]))
    first = time.perf_counter() - began
    for _ in range(3 if QUICK else 30):
        batch = get_batch(data, shape.block_size, recipe.batch_size, generator)
        losses.append(float(step(*batch, recipe.learning_rate)[0]))
    each = milliseconds(lambda: step(*batch, recipe.learning_rate), 2 if QUICK else 20)
    batches = milliseconds(lambda: get_batch(data, shape.block_size, recipe.batch_size, generator), 20)
    synchronize()
    began = time.perf_counter()
    step(*batch, recipe.learning_rate)
    host = 1e3 * (time.perf_counter() - began)
    flops = pace.step_flops(shape, recipe.batch_size)
    reserved = torch.cuda.max_memory_reserved() / 1e9 if DEVICE == "cuda" else None
    estimate = memory.needed(replace(shape, dropout=dropout), recipe, device) / 1e9
    say(form=name, ms=each, batch_ms=batches, host_ms=host, first_seconds=first, TFLOPs=flops / each / 1e9,
        loss_first=losses[0], loss_last=losses[-1], reserved_GB=reserved, estimated_GB=estimate,
        graph=getattr(step, "graph", None) is not None, note=step.note)  # fmt: skip


def without_fusion(step: Any) -> None:
    """Make a step use the plain forward pass."""
    from nanogpt.fast import cuda

    cuda.cuda_block = None  # type: ignore[assignment]


def compiled(kind: str = "default") -> Callable[[Any], None]:
    """Return a function that makes a step use torch.compile, for the whole model or block by block."""

    def change(step: Any) -> None:
        from nanogpt.fast import cuda

        cuda.cuda_block = None  # type: ignore[assignment]
        prepare = step.prepare

        def and_compile() -> None:
            prepare()
            if kind == "blocks":
                for block in step.low.blocks:
                    block.compile()
            else:
                step.low.compile()

        step.prepare = and_compile

    return change


def residual_in_float32(step: Any) -> None:
    """Keep the residual path in float32."""
    from nanogpt.fast import cuda_block

    cuda_block.RESIDUAL = torch.float32


def step() -> None:
    """Time every version of the training step."""
    one_form("modern, fused", "modern", 0.0, None)
    one_form("modern, fused, warm", "modern", 0.0, None)
    profile()
    one_form("modern, fused, dropout", "modern", 0.2, None)
    one_form("modern, fused, float32 residual", "modern", 0.0, residual_in_float32)
    one_form("modern, plain", "modern", 0.0, None, plain=True)
    one_form("classic, plain", "classic", 0.2, None, plain=True)
    one_form("classic, recorded", "classic", 0.2, None)
    one_form("modern, recorded", "modern", 0.0, without_fusion)


def profile() -> None:
    """Report which kernels a fused step spends its time in."""
    if DEVICE != "cuda":
        return
    device, (shape, recipe) = pick_device(DEVICE), configs("modern")
    step: Any = make_step(GPT(shape).to(DEVICE), recipe, device)
    batch = get_batch(text_ids(), shape.block_size, recipe.batch_size, torch.Generator().manual_seed(1))
    step(*batch, 1e-3)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(3):
            step(*batch, 1e-3)
        synchronize()
    rows = sorted(profiler.key_averages(), key=lambda row: -row.self_device_time_total)[:45]
    total = sum(row.self_device_time_total for row in profiler.key_averages()) / 3000
    say(profile=[[row.key[:110], row.count // 3, round(row.self_device_time_total / 3)] for row in rows], ms=total)


def compiled_step() -> None:
    """Time the step with torch.compile."""
    one_form("modern, compiled by blocks", "modern", 0.0, compiled("blocks"))
    one_form("classic, compiled by blocks", "classic", 0.2, compiled("blocks"))
    one_form("modern, compiled", "modern", 0.0, compiled())


def sampling() -> None:
    """Measure characters per second for 1 and 16 texts, with our kernels, recorded operations and the plain decoder."""
    for layout in ("modern", "classic"):
        for other in ({}, dict(n_layer=4, n_head=4, n_embd=128)):
            shape, _ = configs(layout)
            shape = replace(shape, **({} if QUICK else other))
            torch.manual_seed(1)
            net = GPT(shape).to(DEVICE).eval()
            with torch.no_grad():
                net.lm_head.weight.normal_(std=0.05)
            row: dict[str, Any] = dict(layout=layout, n_layer=shape.n_layer, n_embd=shape.n_embd)
            for kind in ("kernels", "operations", "plain"):
                for texts in (1, 16):
                    decoder: Any = Decoder(net, texts) if kind == "plain" else decoder_for(net, texts)
                    if kind == "operations":
                        decoder.character = None
                    length = 20 if QUICK else 300 if kind == "plain" else 2000
                    began = time.perf_counter()
                    list(generate_many(decoder, [0], SampleConfig(length=40, num_samples=texts)))
                    row[f"{kind}_{texts}_first_seconds"] = round(time.perf_counter() - began, 3)
                    decoder.restart()
                    synchronize()
                    began = time.perf_counter()
                    list(generate_many(decoder, [0], SampleConfig(length=length, num_samples=texts)))
                    row[f"{kind}_{texts}"] = round(texts * length / (time.perf_counter() - began))
            same = [i for [piece] in generate_many(decoder_for(net, 1), [0], SampleConfig(length=200)) for i in piece]
            row["as_the_lecture"] = sum(a == b for a, b in zip(same, generate(net, [0], SampleConfig(length=200))))
            say(**row)


def commands(*budgets: int) -> None:
    """Run whole commands with a time budget. Report when each line, steps, evaluations and the loss appear."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch; torch.zeros(1, device='" + DEVICE + "')"])
    say(seconds_to_load_torch=time.perf_counter() - began)
    for number, budget in enumerate((1,) if QUICK else budgets or (5, 5, 5)):
        name, began = f"timed-{budget}-{time.time_ns()}", time.perf_counter()
        command = [sys.executable, "-m", "nanogpt", "train", FILE, "--name", name, "--budget", f"{budget}s",
                   "--seed", str(1337 + number)]  # fmt: skip
        said = []
        with subprocess.Popen(
            [*command, "--device", DEVICE], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for line in process.stdout or ():
                said.append([round(time.perf_counter() - began, 1), line.strip()[:100]])
                if len(said) < 4:
                    say(said=said[-1])  # if the check is cut off, this shows how far it came
        seconds = time.perf_counter() - began
        history = Run(name).history()
        rows = history.rows
        say(budget=budget, seconds=seconds, rc=process.returncode, said=said[:4] + said[-4:],
            first_point=rows and rows[0]["seconds"], steps=history.step, last_point=rows and rows[-1],
            evaluations=[(r["step"], r["seconds"], round(r["val_loss"], 4)) for r in rows if "val_loss" in r],
            end=history.events[-1], notes=history.notes)  # fmt: skip


def character_profile() -> None:
    """Report how long each kernel takes per character, and the speed for a text of 3,000 characters."""
    for layout in ("modern", "classic"):
        shape, _ = configs(layout)
        torch.manual_seed(1)
        net = GPT(shape).to(DEVICE).eval()
        with torch.no_grad():
            net.lm_head.weight.normal_(std=0.05)
        decoder: Any = decoder_for(net, 1)
        write = lambda length, decoder=decoder: list(generate_many(decoder, [0], SampleConfig(length=length)))
        began = time.perf_counter()
        write(40 if QUICK else 300)
        row: dict[str, Any] = dict(
            layout=layout, first_seconds=time.perf_counter() - began, length=100 if QUICK else 3000
        )
        rounds = []
        for _ in range(3):
            decoder.restart()
            began = time.perf_counter()
            write(row["length"])
            rounds.append(row["length"] / (time.perf_counter() - began))
        row["characters_per_second"] = statistics.median(rounds)
        if DEVICE == "cuda":
            n = max(key for key in decoder.graphs if isinstance(key, int))
            decoder.at.fill_(shape.block_size - 2 * n)
            row["characters_per_replay"], row["replay_ms"] = n, milliseconds(decoder.graphs[n].replay, 20)
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
                decoder.graphs[n].replay()
                synchronize()
            row["kernels_us"] = [
                [r.key[:60], r.count, round(r.self_device_time_total / r.count, 2)]
                for r in profiler.key_averages()
                if r.self_device_time_total
            ]
        say(**row)


def small_batches() -> None:
    """Time the step with dropout for smaller batches, longer contexts and a wider model."""
    global QUICK
    device = pick_device(DEVICE)
    for other in ({}, dict(n_layer=8, n_head=8, n_embd=512)):
        for batch_size, block_size in ((64, 256), (32, 256), (16, 256), (8, 256), (32, 512), (16, 512), (8, 512)):
            shape, recipe = configs("modern")
            shape = replace(shape, dropout=0.2, **({} if QUICK else dict(block_size=block_size, **other)))
            recipe = replace(recipe, batch_size=2 if QUICK else batch_size, weight_decay=0.1)
            take_step: Any = make_step(GPT(shape).to(DEVICE), recipe, device)
            x = torch.randint(VOCAB, (recipe.batch_size, shape.block_size), device=DEVICE)
            take_step(x, x, 1e-3)
            each = milliseconds(lambda: take_step(x, x, 1e-3), 2 if QUICK else 30, 3)  # noqa: B023
            say(n_embd=shape.n_embd, batch_size=batch_size, block_size=block_size, ms=round(each, 3),
                tokens_per_second=round(1e3 * recipe.batch_size * shape.block_size / each))  # fmt: skip
            if (batch_size, block_size) == (16, 256) and not other and DEVICE == "cuda":
                with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
                    take_step(x, x, 1e-3)
                    synchronize()
                rows = sorted(profiler.key_averages(), key=lambda row: -row.self_device_time_total)
                say(total_ms=sum(r.self_device_time_total for r in rows) / 1000, kernels=sum(r.count for r in rows),
                    rows=[[r.key[:90], r.count, round(r.self_device_time_total)] for r in rows[:40]])  # fmt: skip


def longer_command() -> None:
    commands(30)


# --- recipes ----------------------------------------------------------------------------------------------------------


def try_recipes(rows: list[dict[str, Any]]) -> None:
    """Train each recipe and report its best and last loss on the whole validation set. Skip what takes too long."""
    text = corpus.add([FILE])
    longest = 0.0
    for number, given in enumerate(rows[: 2 if QUICK else None]):
        how = {**size(), **dict(layout="modern", batch_size=64, patience=0), **given}
        passes = how.pop("passes")
        per_step = how["batch_size"] * how["block_size"]
        how["max_iters"] = 4 if QUICK else max(1, round(passes * 0.9 * text.characters / per_step))
        if QUICK:
            how |= dict(size(), batch_size=2)
        if time.monotonic() - BEGAN + 1.3 * longest * passes > LIMIT:
            say(skipped=given)
            continue
        began = time.perf_counter()
        run = prepare.new_run(
            f"r{number}", text, "quick", device=DEVICE, eval_interval=max(1, -(-how["max_iters"] // 3)), **how
        )
        train(run)
        seconds = time.perf_counter() - began
        end = run.history().events[-1]
        curve = [
            (r["step"], round(r["val_loss"], 4), round(r.get("train_loss", 0), 3))
            for r in run.history().rows
            if "val_loss" in r
        ]
        rate = max((r.get("tokens_per_second", 0) for r in run.history().rows), default=0)
        say(given=given, steps=how["max_iters"], seconds=round(seconds, 2), tokens_per_second=rate, curve=curve,
            best=end.get("best_val_loss"), last=end.get("last_val_loss"))  # fmt: skip


def long_runs() -> None:
    """Train as long as three minutes allow, with one seed each."""
    how = dict(passes=40, block_size=512, batch_size=8, weight_decay=0.2)
    wide = dict(how, n_layer=8, n_head=8, n_embd=512)
    try_recipes([dict(wide, dropout=0.3), dict(how, dropout=0.25), dict(wide, dropout=0.4, weight_decay=0.3)])


def race() -> None:
    """Compare seconds and loss of nanoGPT's recipe, compiled as published, with our 5-second runs (three seeds)."""
    from benchmarks import time_to_loss
    from nanogpt.data import split

    text, device = corpus.add([FILE]), pick_device(DEVICE)
    train_data, val_data = (part.to(device.type) for part in split(text.tokens()))
    tiny = time_to_loss.TINY if QUICK else {}
    for seed in (1337, 1338, 1339):
        seconds, model = time_to_loss.run_ours(text, seed, dict(budget=5.0) | tiny, device)
        loss = time_to_loss.whole_loss(model, val_data, model.config.block_size)
        say(name="ours, 5 s", seed=seed, seconds=seconds, val_loss=loss, shape=model.config.as_dict())
    how: dict[str, Any] = {**time_to_loss.PEERS["cuda"], **tiny}
    how.pop("budget", None)
    how.pop("layout", None)
    seconds, model = time_to_loss.run_peer(train_data, val_data, len(text.chars), 1337, how, device)
    loss = time_to_loss.whole_loss(model, val_data, model.block_size)
    say(name="nanoGPT's recipe, compiled", seed=1337, seconds=seconds, val_loss=loss)


def page_training() -> None:
    """Start a run as the page does, with a pre-warmed trainer. Report the seconds from Start to the first point."""
    text = corpus.add([FILE])
    local.warm()
    time.sleep(2 if QUICK else 9)
    run = prepare.new_run("page", text, "timed", budget=1.0 if QUICK else 5.0, device=DEVICE)
    began = time.perf_counter()
    local.start(run)
    first = 0.0
    while time.perf_counter() - began < 30:
        first = first or (time.perf_counter() - began if run.history().rows else 0.0)
        if run.history().events and run.history().events[-1]["event"] in ("finished", "failed"):
            break
        time.sleep(0.05)
    say(first_point=first, seconds=time.perf_counter() - began, end=run.history().events[-1:], log=run.log_tail(3))


def recipes() -> None:
    try_recipes([
        dict(passes=10, dropout=0.0),
        dict(passes=10, dropout=0.1),
        dict(passes=20, dropout=0.2, weight_decay=0.8),
        dict(passes=20, dropout=0.2, weight_decay=0.3),
        dict(passes=20, dropout=0.3, weight_decay=1.5),
        dict(passes=20, dropout=0.3, weight_decay=1.0, n_layer=8, n_head=8, n_embd=512),
        dict(passes=8, dropout=0.0),
        dict(passes=40, dropout=0.3, weight_decay=1.0),
        dict(passes=10, dropout=0.1, batch_size=32),
        dict(passes=10, dropout=0.1, matrix_lr=0.02, learning_rate=0.008),
        dict(passes=20, dropout=0.2, weight_decay=0.8, block_size=512, batch_size=32),
        dict(passes=40, dropout=0.4, weight_decay=1.0, n_layer=8, n_head=8, n_embd=512),
    ])  # fmt: skip


CHECKS = (
    tests, failed_wait, failed_memory, evaluations, resume, ranks, rank, ceilings, step, compiled_step, sampling,
    commands, longer_command, page_training, character_profile, small_batches, race, long_runs, recipes,
)  # fmt: skip


if __name__ == "__main__":
    name, FILE, DEVICE, quick, limit = sys.argv[1:6]
    QUICK, LIMIT = quick == "1", float(limit)
    {check.__name__: check for check in CHECKS}[name]()
