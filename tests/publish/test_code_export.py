"""The exported program against the run it was made from: it must run and reach the same loss."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import re
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import home_for_all, steady_clock
from safetensors.numpy import save_file

from nanogpt import corpus
from nanogpt.cli.main import main
from nanogpt.config import ModelConfig, NanoGPTError, TrainConfig
from nanogpt.launch import prepare, trainer
from nanogpt.publish import code_export
from nanogpt.publish.code_export import filled
from nanogpt.runs import Run, kept_loss
from nanogpt.schedule import get_lr

TINY = dict(n_layer=2, n_head=2, n_embd=24, block_size=16, batch_size=8, max_iters=60, device="cpu")
RECIPES = {
    "lecture": dict(layout="classic", dropout=0.1),
    "modern": dict(layout="modern"),
    "muon": dict(layout="classic", optimizer="muon", schedule="linear", warmup_iters=0, batches="shuffled"),
    "adamw": dict(layout="modern", optimizer="adamw", warmup_iters=20, grad_clip=0.0, schedule="cosine"),
    "clock": dict(budget=5.0, layout="modern"),
}


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory) -> Iterator[Path]:
    with home_for_all(tmp_path_factory, "code") as path:
        yield path


@pytest.fixture(scope="module")
def text(home, tiny_text) -> corpus.Corpus:
    return corpus.add(tiny_text, "A Play")


def made(name: str, text: corpus.Corpus, **changes) -> Run:
    tiny = {key: value for key, value in TINY.items() if key != "max_iters"} if "budget" in changes else TINY
    return prepare.new_run(name, text, **{**tiny, **changes})


def trained(name: str, text: corpus.Corpus, **changes) -> Run:
    run = made(name, text, **changes)
    assert trainer.main(run.name) == 0, run.log_tail(20)
    return run


def export(run: Run, folder: Path) -> Path:
    """Export the program and its text with the command, and return the program's path."""
    program = folder / f"{run.name}.py"
    assert main(["export", run.name, "--code", str(program), "--text", str(folder / "a-play.txt")]) == 0
    return program


def loss_in(printed: str) -> float:
    return float(re.findall(r"^validation loss (\d+\.\d{4}) nats per character$", printed, re.M)[0])


def in_this_process(program: Path, monkeypatch, capsys) -> str:
    monkeypatch.chdir(program.parent)
    monkeypatch.setattr(sys, "argv", [program.name])
    capsys.readouterr()
    runpy.run_path(str(program))
    return capsys.readouterr().out


@pytest.mark.parametrize(("characters", "windows"), [(330, 2), (340, 3)])  # 33 or 34 are held out: one less predicted
def test_the_program_evaluates_as_many_windows_as_the_held_out_text_has(characters, windows):
    model, history = ModelConfig.of(dict(vocab_size=9, block_size=16)), SimpleNamespace(last_trained={})
    found = code_export._eval_windows(characters, model, TrainConfig(max_iters=10_000), history)
    assert found == dict(eval_windows=windows, final_windows=windows)


def test_the_program_evaluates_as_many_windows_as_the_run_did(text):
    run = made("windowed", text, budget=5.0)
    run.log(step=60, seconds=5.0, tokens=1, val_loss=2.0)
    evaluates = lambda: int(re.findall(r"^eval_interval, eval_windows = \d+, (\d+)", code_export.python(run), re.M)[0])
    usual = evaluates()
    save = lambda progress: save_file({}, run.folder / "last.safetensors", {"progress": progress})
    save('{"windows": 5}')
    assert evaluates() == 5 != usual
    for unknown in ('{"windows": 0}', '{"step": 60}', "[]", "{"):
        save(unknown)
        assert evaluates() == usual
    (run.folder / "last.safetensors").write_bytes(b"{}")
    assert evaluates() == usual


@pytest.mark.slow
def test_the_program_alone_comes_to_the_loss_of_the_run(text, tmp_path):
    runs = [trained(f"alone-{recipe}", text, **RECIPES[recipe]) for recipe in ("lecture", "modern")]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-I"]  # -I: the program can't import this package
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    commands = [[*command, export(run, tmp_path).name] for run in runs]
    started = [subprocess.Popen(one, cwd=tmp_path, env=environment, **pipes) for one in commands]
    for run, process in zip(runs, started):
        printed, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
        assert "Note:" not in printed
        assert kept_loss(run.history()) < 3.2  # it has learned something
        assert loss_in(printed) == pytest.approx(kept_loss(run.history()), abs=0.02)
        sample = printed.rpartition("nats per character\n\n")[2]
        assert len(sample) == 502  # a leading newline, 500 characters, and the newline from print
        assert set(sample) <= set(text.chars)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["muon", "adamw", "clock"])
def test_every_recipe_comes_to_its_loss(text, tmp_path, monkeypatch, capsys, recipe):
    if recipe == "clock":  # long enough for the loss to level off: the program's rate decays by step, not by time
        text = corpus.add(text.text() * 3, "A Play")
    with steady_clock(0.005) if recipe == "clock" else nullcontext():  # about 250 steps, however busy the machine is
        run = trained(recipe, text, **RECIPES[recipe])
    printed = in_this_process(export(run, tmp_path), monkeypatch, capsys)
    assert kept_loss(run.history()) < 3.2  # it has learned something
    assert loss_in(printed) == pytest.approx(kept_loss(run.history()), abs=0.02)


@pytest.mark.slow
def test_its_first_steps_are_the_run_s_own(text, tmp_path, monkeypatch, capsys):
    """The initial weights, batches and dropout are the same, so the intermediate losses agree."""
    run = trained("steps", text, **RECIPES["lecture"], max_iters=20, eval_interval=5)
    printed = in_this_process(export(run, tmp_path), monkeypatch, capsys)
    theirs = [float(loss) for loss in re.findall(r"^step .*: val loss (\d+\.\d+)$", printed, re.M)]
    ours = [row["val_loss"] for row in run.history().rows if "val_loss" in row]
    assert len(ours) == 5
    assert theirs == pytest.approx(ours, abs=2e-4)


def test_a_run_that_ended_early_ends_there(text, tmp_path, monkeypatch, capsys):
    run = trained("early", text, max_iters=20, eval_interval=10)
    run.change(train={**run.settings()["train"], "max_iters": 1000})
    program = export(run, tmp_path)
    assert "last_step = 20  # where the run ended\n" in program.read_text(encoding="utf-8")
    printed = in_this_process(program, monkeypatch, capsys)
    assert re.findall(r"^step +(\d+):", printed, re.M) == ["0", "10", "20"]


def test_the_text_takes_four_bytes_a_character(text, tmp_path, monkeypatch, capsys):
    program = export(trained("compact", text, **{**RECIPES["lecture"], "max_iters": 2}), tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [program.name])
    found = runpy.run_path(str(program))
    assert found["data"].nbytes == 4 * text.characters
    assert found["data"].tolist() == text.tokens().tolist()


def test_another_text_is_noticed(text, tiny_text, tmp_path, monkeypatch, capsys):
    run = trained("noticed", text, max_iters=2)
    program = export(run, tmp_path)
    (tmp_path / "a-play.txt").write_text(tiny_text.replace("\n", "\r\n"), encoding="utf-8", newline="")
    printed = in_this_process(program, monkeypatch, capsys)
    assert "Note: a-play.txt is not exactly the text this program was made for" in printed


def test_letters_that_the_output_lacks_are_no_error(text, tiny_text, tmp_path, monkeypatch):
    accented = corpus.add(tiny_text.replace("e", "é"), "A play")
    program = tmp_path / "accented.py"
    program.write_text(code_export.python(trained("accented", accented, max_iters=2)), encoding="utf-8")
    (tmp_path / "a-play.txt").write_text(accented.text(), encoding="utf-8", newline="")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [program.name])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    runpy.run_path(str(program))
    sys.stdout.flush()
    assert b"?" in sys.stdout.buffer.getvalue()


@pytest.mark.slow
def test_its_help_needs_no_text_and_no_torch(text, tmp_path):
    program = tmp_path / "helped.py"
    program.write_text(code_export.python(trained("helped", text, max_iters=2)), encoding="utf-8")
    (tmp_path / "torch.py").write_text("raise ImportError")

    def answer(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, program.name, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=60)
        return done.returncode, done.stdout + done.stderr

    for flag in ("--help", "-h"):
        code, said = answer(flag)
        assert code == 0
        assert said.startswith("usage: helped.py [-h] [file]\n\nTrain a character-level GPT from scratch.")
        assert "the text, in UTF-8 (default: a-play.txt)" in said
    for wrong, problem in ((["--foo"], "--foo"), (["a.txt", "b.txt"], "b.txt")):
        code, said = answer(*wrong)
        assert code == 2
        assert f"error: unrecognized arguments: {problem}" in said


@pytest.mark.parametrize("missing", ["no-such.txt", "."])
def test_a_text_that_is_not_there_is_one_sentence(text, tmp_path, monkeypatch, capsys, missing):
    program = tmp_path / "lost.py"
    program.write_text(code_export.python(trained(f"lost-{len(missing)}", text, max_iters=2)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [program.name, missing])
    with pytest.raises(SystemExit):
        runpy.run_path(str(program))
    advice = "put the text next to this program, or name its file"
    assert capsys.readouterr().err.endswith(f"lost.py: error: there is no file {missing}; {advice}\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_the_text_may_come_from_a_pipe(text, tmp_path, monkeypatch, capsys):
    program, pipe = tmp_path / "piped.py", tmp_path / "pipe"
    program.write_text(code_export.python(trained("piped", text, max_iters=2)), encoding="utf-8")
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=[text.text()], kwargs=dict(newline=""), daemon=True).start()
    monkeypatch.setattr(sys, "argv", [program.name, str(pipe)])
    runpy.run_path(str(program))
    printed = capsys.readouterr().out
    assert "Note:" not in printed
    assert loss_in(printed) > 0


def test_the_program_reads_well(text):
    """Every recipe compiles, is at most 300 lines long, and has no placeholder left."""
    for layout, optimizer, schedule, warmup, clip in itertools.product(
        ("classic", "modern"), ("adamw", "muon"), ("cosine", "linear"), (0, 10), (0.0, 1.0)
    ):
        recipe = dict(optimizer=optimizer, schedule=schedule, warmup_iters=warmup, grad_clip=clip)
        name = f"form-{layout}-{optimizer}-{schedule}-{warmup}-{int(clip)}"
        other = made(name, text, layout=layout, **recipe)
        other.log(step=60, seconds=200.0, tokens=1, val_loss=2.0)
        source = code_export.python(other)
        compile(source, "program.py", "exec")
        lines = source.splitlines()
        assert len(lines) <= 300
        assert max(map(len, lines)) <= 120
        assert "{{" not in source
        assert "#:" not in source
        assert "loss of 2.0000 in 3 minutes." in source
        assert ("muon" in source) == (optimizer == "muon")
        assert ("grad_clip" in source) == (clip > 0)


@pytest.mark.parametrize("native", [True, False])
def test_on_a_gpu_the_program_computes_in_bfloat16_only_if_that_is_not_emulated(text, monkeypatch, native):
    run = made(f"bfloat16-{native}".lower(), text, layout="modern")
    run.log(step=60, seconds=1.0, tokens=1, val_loss=2.0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    found = dict(torch=torch, device="cuda")
    exec("\n".join(re.findall(r"^(?:use_)?bf16 = .*", code_export.python(run), re.M)), found)
    assert found["bf16"] is found["use_bf16"] is native


def test_nothing_from_a_run_s_files_becomes_code(text, tmp_path, monkeypatch, capsys):
    """A run may come from another person's archive."""
    run = trained("foreign", text, max_iters=2)
    evil = '"""\nprint("broken in")\n\'\'\' \\ {{seed}} #\u2028'
    about = {**run.settings()["corpus"], "name": evil, "sha256": evil}
    settings = json.dumps({**run.settings(), "corpus": about})
    (run.folder / "run.json").write_text(settings, encoding="utf-8")
    program = tmp_path / "foreign.py"
    assert main(["export", "foreign", "--code", str(program)]) == 0
    (tmp_path / "print-broken-in-seed.txt").write_text(text.text(), encoding="utf-8")
    assert "\nbroken in" not in in_this_process(program, monkeypatch, capsys)


def test_the_command_does_not_write_over_another_text(text, tmp_path, capsys):
    made("kept", text)
    diary = tmp_path / "diary.txt"
    diary.write_text("not to be lost", encoding="utf-8")
    assert main(["export", "kept", "--text", str(diary)]) == 2
    assert "already exists with different contents. Choose another file name for --text." in capsys.readouterr().err
    assert diary.read_text(encoding="utf-8") == "not to be lost"
    for _ in range(2):  # its own text may be overwritten
        assert main(["export", "kept", "--text", str(tmp_path / "play.txt")]) == 0
    assert (tmp_path / "play.txt").read_bytes() == text.text().encode("utf-8")


def test_the_commands_of_the_readme_go_with_a_text_from_windows(text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = text.text().replace("\n", "\r\n").encode("utf-8")
    Path("diary.txt").write_bytes(before)
    run = made("diary", corpus.add(["diary.txt"]))
    run.log(step=60, seconds=1.0, tokens=1, val_loss=2.0)
    monkeypatch.setattr(corpus.Corpus, "text", None)  # a large one would fill the memory
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for command in ("export diary --code train-diary.py", "export diary --text clean.txt"):
        assert f"nanogpt {command}" in readme
        assert main(command.split()) == 0
    assert "`python train-diary.py clean.txt`" in readme
    cleaned_up = Path("clean.txt").read_bytes()
    assert cleaned_up == before.replace(b"\r\n", b"\n")
    assert f'text_sha256 = "{hashlib.sha256(cleaned_up).hexdigest()}"' in Path("train-diary.py").read_text("utf-8")
    capsys.readouterr()
    assert main(["export", "diary", "--text", "diary.txt"]) == 2
    assert "already exists with different contents" in capsys.readouterr().err
    assert Path("diary.txt").read_bytes() == before


def test_a_template_s_sections():
    template = "a = {{x}}\n#: red\nb\n#: red round\nc\n#:\nd = {{y}}"
    assert filled(template, {"red"}, dict(x="{{y}}", y=2)) == "a = {{y}}\nb\nd = 2\n"
    assert filled(template, {"red", "round"}, dict(x=1, y=2)) == "a = 1\nb\nc\nd = 2\n"


def test_a_run_that_has_learned_nothing_yet_has_no_program(text):
    run = made("untrained", text)
    run.log(step=0, seconds=0.0, tokens=0, val_loss=3.9)
    with pytest.raises(NanoGPTError, match="untrained hasn't been trained yet"):
        code_export.python(run)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_timed_run_takes_the_steps_it_came_to(text, schedule):
    run = made(f"timed-{schedule}", text, budget=60.0, layout="modern", schedule=schedule, warmup_iters=100)
    train = TrainConfig.of(run.settings()["train"])
    rate = lambda share: get_lr(1, train, share)
    run.log(step=437, seconds=59.5, tokens=1, val_loss=2.0, learning_rate=rate(0.999))
    source = code_export.python(run)
    assert "max_iters = 437 " in source
    assert "warmup_iters = 22 " in source  # a twentieth, as in the run
    assert "last_step = max_iters\n" in source
    assert "It had a time budget" in source
    run.log(step=500, seconds=30.0, tokens=1, val_loss=2.1, learning_rate=rate(0.25))  # at a quarter of its budget
    source = code_export.python(run)
    assert "max_iters = 2000 " in source
    assert "warmup_iters = 100 " in source
    assert "last_step = 500 " in source
