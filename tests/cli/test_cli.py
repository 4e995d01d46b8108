"""The command line, for people and scripts: errors are one line on stderr with exit status 2.

Tests call `main` directly unless they need a real process, because importing torch in each process is slow.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import until

from nanogpt import __version__, corpus
from nanogpt.cli import train
from nanogpt.cli.main import choose_encoding, main
from nanogpt.config import NanoGPTError
from nanogpt.corpus import cutting, pieces, reading
from nanogpt.data import split
from nanogpt.disk import write_whole
from nanogpt.formats import load_model
from nanogpt.launch import prepare
from nanogpt.lecture import SKIPPED, STAGES
from nanogpt.presets import PRESETS
from nanogpt.runs import Run, Status, queue
from nanogpt.tokenizer import CharTokenizer

ROOT = Path(__file__).resolve().parents[2]
ctrl_c = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows sends Ctrl-C to all processes of a console, this one among them"
)
TINY = ["--n-layer", "1", "--n-head", "2", "--n-embd", "16", "--block-size", "16", "--batch-size", "4"]


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOGPT_HOME", str(path))
        yield path


@pytest.fixture(scope="module")
def file(home, tiny_text) -> Path:
    (home / "A Play.txt").write_text(tiny_text, encoding="utf-8")
    return home / "A Play.txt"


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "nanogpt", *map(str, arguments)]


def nanogpt(*arguments, **environment) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONIOENCODING": "utf-8", **environment}
    return subprocess.run(command(*arguments), cwd=ROOT, env=env, capture_output=True, encoding="utf-8", timeout=120)


def popen(*arguments, **environment) -> subprocess.Popen:
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command(*arguments), cwd=ROOT, env={**os.environ, **environment}, **pipes)


def one_line(stderr: str) -> str:
    """Check that an error is a single line with no traceback, and return it."""
    assert stderr.endswith("\n")
    assert stderr.count("\n") == 1, stderr
    return stderr


TWENTY = ["--preset", "quick", "--max-iters", "20", "--eval-interval", "10", *TINY]


def finished(name: str, stdout: str) -> Run:
    """Check what a command that trained for 20 steps printed, and return its run."""
    run = Run(name)
    assert run.status().state == "finished"
    lines = stdout.splitlines()
    assert lines[0].startswith(f"{name}: A Play, 5,")
    assert [int(line.split()[1].rstrip(":")) for line in lines if line.startswith("step ")] == [0, 10, 20]
    assert any(line.startswith("Finished: validation loss ") for line in lines)
    assert run.history().samples[-1]["text"] in stdout
    assert lines[-1].endswith(f"python -m nanogpt sample {name}")
    return run


@pytest.fixture(scope="module")
def first(file) -> Run:
    """Train a run with the command, in this process so that torch isn't imported again."""
    before = signal.getsignal(signal.SIGINT)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = main(["train", str(file), "--name", "first", *TWENTY])
    signal.signal(signal.SIGINT, before)
    assert (status, err.getvalue()) == (0, "")
    return finished("first", out.getvalue())


@pytest.mark.slow
def test_a_process_trains_the_same_run(file, first):
    done = nanogpt("train", file, "--name", "process", *TWENTY)
    assert (done.returncode, done.stderr) == (0, "")
    ours = finished("process", done.stdout).folder
    assert (ours / "model.safetensors").read_bytes() == (first.folder / "model.safetensors").read_bytes()


@pytest.mark.slow
@ctrl_c
def test_reading_a_large_text_can_be_stopped_and_leaves_nothing(home, first, tmp_path, tiny_text):
    large = tmp_path / "large.txt"
    large.write_text(tiny_text * (200_000_000 // len(tiny_text)), encoding="utf-8")
    corpora = home / "corpora"
    before = {path.name for path in corpora.iterdir()}
    training = popen("train", large, "--name", "never", *TWENTY)
    until(lambda: any(path.stat().st_size for path in corpora.glob(".new.*/text.txt")))
    training.send_signal(signal.SIGINT)
    out, err = training.communicate(timeout=60)
    assert (training.returncode, out) == (130, "")
    assert one_line(err) == "Stopped reading; nothing was stored.\n"
    assert {path.name for path in corpora.iterdir()} == before
    assert not Run("never").exists()


# --- errors --------------------------------------------------------------------------------------------------------


def fails(*arguments) -> str:
    """Run a command that must fail, in a process of its own, and return the one line it prints."""
    done = nanogpt(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    return one_line(done.stderr)


@pytest.mark.slow
def test_errors_of_a_real_process(first, file):
    assert "There is no run named absent" in fails("sample", "absent")
    assert "the following arguments are required: NAME" in fails("sample")
    assert "max_iters was 'many'; it must be a whole number" in fails("train", file, "--max-iters", "many")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"Port {port} is in use. Choose another with --port" in fails("serve", "--port", port)
    assert "this machine doesn't have that address" in fails("serve", "--host", "not.a.host.invalid")


def is_refused(capfd, *arguments) -> str:
    """Run a command that must fail, in this process, and return the one line it prints."""
    status = main([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    assert (status, out) == (2, "")
    return one_line(err)


MISTAKES = [
    (["sample", "absent"], "There is no run named absent"),
    (["sample", "../first"], "'../first' can't be used as a name"),
    (["sample", "first", "--temperature", "hot"], "temperature was 'hot'"),
    (["sample", "first", "--temperature", "nan"], "temperature was nan"),
    (["sample", "first", "--length", "0"], "length was 0"),
    (["sample", "first", "--top-k", "-1"], "top_k was -1"),
    (["sample", "first", "--device", "tpu"], "device was 'tpu'"),
    (["sample", "first", "--colour", "red"], "unrecognized arguments: --colour red"),
    (["sample"], "the following arguments are required: NAME"),
    (["eval", "absent"], "There is no run named absent"),
    (["eval", "first", "no-such-file.txt"], "no-such-file.txt can't be read"),
    (["eval", "first", "--device", "tpu"], "device was 'tpu'"),
    (["train", "no-such-file.txt"], "no-such-file.txt can't be read"),
    (["train", "FILE", "--preset", "huge"], f"There is no preset 'huge'. Choose one of {', '.join(PRESETS)}."),
    (["train", "FILE", "--name", "first"], "There is already a run named first. Choose another --name, or resume it: "),
    (["train", "FILE", "--name", "!?"], "'!?' can't be used as a name"),
    (["train", "/dev/zero"], "/dev/zero isn't a regular file. Save the text in one, and choose that."),
    (["train", "FILE", "--keep", "line-endings,quotes"], "There is no clean-up 'quotes'; choose from line-endings, "),
    (["train", "FILE", "--clean", "accent"], "There is no clean-up 'accent'; did you mean accents?"),
    (["train", "FILE", "--clean", "accents", "--keep", "accents"], "accents is in --clean and in --keep. Leave it out"),
    (["eval", "first", "--encoding", "cp1252"], "--encoding says how to read a FILE, so name one, or leave it out."),
    (["train", "--keep", "line-endings"], "--keep says how to read a FILE, so name one, or leave it out."),
    (["train", "--text", "python-reference", "--encoding", "cp1252"], "--encoding says how to read a FILE"),
    (["train", "--column", "text"], "--field says how to read a FILE"),
    (["train", "--resume", "first", "--keep", "gutenberg"], "you can change only --max-iters or --budget"),
    (["train", "FILE", "--field", "text"], "has no fields, because it is not a .jsonl or .csv file"),
    (
        ["train", "FILE", "--layout", "modern", "--n-head", "3", "--n-embd", "128"],
        "must be divisible by n_head (3). Try n_embd 126.",
    ),
    (["serve", "--port", "99999"], "--port was 99999; it must be between 1 and 65535."),
    (["serve", "--port", "0"], "--port was 0; it must be between 1 and 65535."),
    (["train", "FILE", "--max-iters", "many"], "max_iters was 'many'"),
    (["train", "FILE", "--max-iters", "0"], "max_iters was 0"),
    (["train", "FILE", "--budget", "9s", "--max-iters", "5"], "Give either --budget or --max-iters, not both."),
    (["train", "FILE", "--budget", "9", "--preset", "quick"], "--budget chooses the model itself."),
    (["train", "FILE", "--budget", "9", "--preset", "Laptop"], "--budget chooses the model itself."),
    (["train", "FILE", "--budget", "0", "--preset", "TIMED"], "Enter a time budget, such as 60s or 3m, or choose"),
    (["train", "FILE", "--preset", ""], "There is no preset ''. Choose one of"),
    (["train", "FILE", "--budget", "0"], "Enter a time budget, such as 60s or 3m, or choose another preset."),
    (["train", "FILE", "--time-limit", "30m"], "--time-limit is for a job on Hugging Face Jobs. Add --on HARDWARE"),
    (["train", "--resume", "first", "--yes"], "--yes is for a job on Hugging Face Jobs. Add --on HARDWARE"),
    (["train", "FILE", "--batches", "both"], "batches was 'both'; it must be one of random, shuffled"),
    (["train", "FILE", "--learning-rate", "fast"], "learning_rate was 'fast'"),
    (["train", "FILE", "--n-embd", "10", "--n-head", "4"], "n_embd (10) must be divisible by n_head (4)"),
    (["train", "FILE", "--device", "tpu"], "device was 'tpu'"),
    (["train", "FILE", "--no-such-flag"], "unrecognized arguments: --no-such-flag"),
    (["train", "FILE", "--lr", "3"], "unrecognized arguments: --lr 3; did you mean --learning-rate? See"),
    (["train", "FILE", "--batch-siz", "4"], "unrecognized arguments: --batch-siz 4; did you mean --batch-size? See"),
    (["train", "FILE", "--steps", "4"], "unrecognized arguments: --steps 4; did you mean --max-iters? See"),
    (["train", "FILE", "--batch", "4"], "did you mean --batch-size or --batches? See"),
    (["train", "FILE", "-name", "x"], "unrecognized arguments: -name x; did you mean --name? See"),
    (["train", "FILE", "--foo"], "unrecognized arguments: --foo. See python -m nanogpt train --help."),
    (["train", "FILE", "--keep", "gutenburg"], "There is no clean-up 'gutenburg'; did you mean gutenberg?"),
    (["train", "FILE", "--preset", "quik"], "There is no preset 'quik'; did you mean quick?"),
    (["train", "--text", "tinyshakespeare"], "There is no text 'tinyshakespeare'; did you mean shakespeare?"),
    (["train", "--text", "Python Reference"], "There is no text 'Python Reference'; did you mean python-reference?"),
    (["train", "--text", "python"], "did you mean python-reference or python-stdlib?"),
    (["train", "--text", "bogus"], "Choose python-reference, python-stdlib, shakespeare, or the id of a stored text."),
    (["train", "shakespeare"], "There is no file shakespeare. For the built-in text, use --text shakespeare."),
    (["train", "--resume", "frist"], "There is no run named frist; did you mean first? `python -m nanogpt runs` lists"),
    (["push", "frist", "me/repo"], "There is no run named frist; did you mean first?"),
    (["deploy", "frist", "me/space"], "There is no run named frist; did you mean first?"),
    (["deploy", "first", "me/space", "--static", "--hardware", "t4-small"], "Leave out --hardware, or --static."),
    (["export", "first"], "Choose an output: --html FILE, --code FILE, --gif FILE or --text FILE."),
    (["export", "first", "--html", "-", "--code", "-"], "- is given for two outputs. Choose a file for each."),
    (["export", "first", "--html", "out", "--text", "./out"], "out is given for two outputs. Choose a file for each."),
    (["export", "first", "--foo"], "unrecognized arguments: --foo. See python -m nanogpt export --help."),
    (["explain", "units", "first"], "VIEW was 'units'; did you mean unit? See"),
    (["explain", "unit", "first", "--feature", "capital"], "--feature was 'capital'; did you mean capitals? See"),
    (["explain", "attention", "first", "--feature", "capitals"], "--feature is for the view unit. Leave it out."),
    (["runserver"], "COMMAND was 'runserver'; did you mean serve? See"),
    (["resume", "first"], "COMMAND was 'resume'; did you mean train --resume? See"),
    (["train", "--resume", "absent"], "There is no run named absent"),
    (["train", "--resume", "first"], "first has reached its last step, 20. Give a larger max_iters"),
    (["train", "--resume", "first", "--max-iters", "10"], "max_iters must be larger"),
    (["train", "--resume", "first", "--max-iters", "x"], "max_iters was 'x'"),
    (["train", "--resume", "first", "--max-iters", "30", "--budget", "1m"], "either a budget or max_iters, not both"),
    (["train", "--resume", "first", "--n-layer", "2"], "you can change only --max-iters or --budget"),
    (["train", "FILE", "--resume", "first"], "you can change only --max-iters or --budget"),
    (["train", "--resume", "absent", "--name", "second"], "you can change only --max-iters or --budget"),
    (["train", "--resume", "absent", "--preset", "laptop"], "you can change only --max-iters or --budget"),
    (["train", "--resume", "", "--max-iters", "1"], "'' can't be used as a name"),
    (["ladder", "FILE", "--device", "cuda:99"], "device was 'cuda:99'"),
    (["ladder", "FILE", "--stage", "19"], "stage was 19; it must be a whole number from 1 to 18"),
    (["ladder", "FILE", "--stage", "x"], "invalid int value: 'x'"),
    (["ladder", "FILE", "--seed", "99999999999999999999"], "seed was 99999999999999999999; it must be a whole number"),
    (["ladder", "FILE", "--device", "tpu"], "device was 'tpu'"),
    (["ladder", "FILE", "--stage", "1", "--max-iters", "-1"], "max_iters was -1"),
    (["ladder", "no-such-file.txt"], "no-such-file.txt can't be read"),
    (["fly"], "COMMAND was 'fly'; it must be one of serve, train, "),
    (["trian"], "nanogpt: COMMAND was 'trian'; did you mean train? See "),
    (["--no-such-flag"], "unrecognized arguments: --no-such-flag"),
    (["serve", "--port", "x"], "invalid int value: 'x'"),
]


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES, ids=[" ".join(one)[:50] for one, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_status_2(first, file, capfd, arguments, sentence):
    """This calls `main`, to avoid importing torch each time; `test_errors_of_a_real_process` runs real processes."""
    before = set(os.listdir(first.folder.parent)) | {".queue"}
    try:
        status = main([str(file) if argument == "FILE" else argument for argument in arguments])
    except SystemExit as ended:  # raised by argparse
        status = ended.code
    out, err = capfd.readouterr()
    made = set(os.listdir(first.folder.parent)) - before
    for name in made:
        shutil.rmtree(first.folder.parent / name)  # clean up, so that one failure doesn't cause many
    assert (status, out) == (2, "")
    assert sentence in one_line(err)
    assert made == set()
    assert first.settings()["train"]["max_iters"] == 20


def test_the_error_for_the_name_of_a_stored_text_has_its_id(tiny_text, capfd):
    added = corpus.add(tiny_text[1:], "My diary")
    meant = f"There is no text 'my-diary'; did you mean {added.id} (My diary)?"
    assert meant in is_refused(capfd, "train", "--text", "my-diary")
    corpus.delete(added.id)
    assert f"There is no text {added.id}; it was deleted" in is_refused(capfd, "train", "--text", added.id)


def test_visitors_are_not_told_the_names_of_runs(first, monkeypatch):
    assert "did you mean first?" in str(Run("frist").missing())
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    assert str(Run("frist").missing()) == "There is no run named frist."


def test_a_run_that_fails_while_it_trains_is_one_line_too(file, capfd):
    options = ["--learning-rate", 1, "--weight-decay", 10, "--warmup-iters", 0, "--max-iters", 300, *TINY]
    assert main(["train", str(file), "--name", "diverges", *map(str, options)]) == 2
    assert one_line(capfd.readouterr().err).startswith("nanogpt: Training diverged at step ")


@pytest.mark.parametrize("event", ["failed", "started"])
def test_following_a_run_that_fails_elsewhere_is_no_success(file, event):
    run = prepare.new_run("elsewhere", corpus.find("python-reference"), n_layer=1, n_embd=16)

    def follow() -> int:
        queue.drop(run.name)
        run.event(event, message="The job reached its time limit.")
        return 0

    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(NanoGPTError, match="reached its time limit" if event == "failed" else "was killed"):
            train.follow(run, follow, "quit")
    finally:
        signal.signal(signal.SIGINT, before)
        run.delete()


def test_the_doctor_needs_no_weights(file, capfd):
    run = prepare.new_run("diverged", corpus.add(file.read_text(encoding="utf-8")), n_layer=1, n_embd=16)
    run.event("failed", message="Training diverged at step 3.")
    assert main(["explain", "doctor", run.name]) == 0
    assert capfd.readouterr().out.startswith("Training diverged: the loss became NaN. Set learning_rate to ")
    assert main(["explain", "parts", run.name]) == 2
    assert "no weights yet" in capfd.readouterr().err
    run.delete()


def test_a_run_whose_text_is_gone(home, first, tiny_text, capfd):
    added = corpus.add(tiny_text[::-1], "Backwards")
    run = prepare.new_run("no-text", added, n_layer=1, n_embd=16)
    (run.folder / "model.safetensors").write_bytes((first.folder / "model.safetensors").read_bytes())
    corpus.delete(added.id)
    refused = is_refused(capfd, "train", "--resume", "no-text")
    assert "The text 'Backwards' isn't stored here. Add it, then try again" in refused
    assert "The text 'Backwards' isn't stored here" in is_refused(capfd, "eval", "no-text")
    run.delete()


def test_a_home_that_cannot_be_one(file, monkeypatch, capfd):
    monkeypatch.setenv("NANOGPT_HOME", str(file))
    assert main(["train", str(file)]) == 2
    one_line(capfd.readouterr().err)


# --- train ---------------------------------------------------------------------------------------------------------


def test_a_name_that_is_no_slug_becomes_one_and_says_so(file, capfd, home):
    assert main(["train", str(file), "--name", "My Run!", "--max-iters", "2", *map(str, TINY)]) == 0
    assert "The run is named my-run, because names consist of" in capfd.readouterr().out
    assert Run("my-run").status().state == "finished"


def test_a_bare_train_does_what_the_page_does(file, monkeypatch):
    """A bare train uses a time budget; --max-iters alone uses the quick preset with a fixed number of steps."""
    from nanogpt.cli import train
    from nanogpt.ui import form

    asked = []
    monkeypatch.setattr(prepare, "new_run", lambda name, text, chosen, **changes: asked.append(chosen) or sys.exit())
    for flags in ([], ["--n-layer", "2"], ["--budget", "9s"], ["--max-iters", "9"], ["--preset", "laptop"]):
        with pytest.raises(SystemExit):
            main(["train", str(file), *flags])
    assert asked == ["timed", "timed", "timed", "quick", "laptop"]
    for flags in (["--preset", "Laptop"], ["--preset", "Time budget", "--budget", "9s"]):
        with pytest.raises(SystemExit):
            main(["train", str(file), *flags])
    assert asked[5:] == ["laptop", "timed"]
    assert form.settings_of(train.DEFAULT)["preset"] == form.first_values()[0] == "timed"


def test_the_help_shows_the_defaults_of_a_bare_train(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    timed = PRESETS["timed"].configs()
    rates = f"Typical: 3e-4 to 3e-3; 0.012 with Muon. [{timed[1].learning_rate}]"
    assert f"How far each step moves the weights. {rates}" in said
    assert "Number of training steps. Typical: 500 to 5,000. [as many as fit the time]" in said
    assert "Number of Transformer blocks. Typical: 4 to 6. [chosen to fit the time]" in said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_on_a_terminal_a_bar_shows_the_numbers_and_lines_go_above_it(file):
    """When output is piped, only plain lines are printed."""
    import pty

    flags = ["train", str(file), "--name", "bar", "--max-iters", "1000", "--eval-interval", "250", *map(str, TINY)]
    ours, theirs = pty.openpty()  # a terminal that doesn't say how large it is
    pipes = dict(stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
    with subprocess.Popen([sys.executable, "-m", "nanogpt", *flags], **pipes) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # raised once the other end is closed
            while part := os.read(ours, 65536):
                shown += part
    os.close(ours)
    assert process.returncode == 0
    bars = re.findall(r"(\d+)%\|[^|]*\| step ([\d,]+)/1,000 · train (\d\.\d{3}) · val \d\.\d{3}", shown.decode())
    assert bars
    assert [int(share) for share, *_ in bars] == sorted(int(share) for share, *_ in bars)
    lines = [line.split("\r")[-1] for line in shown.decode().replace("\r\n", "\n").split("\n")]
    assert [line.split(":")[0] for line in lines if line.startswith("step ")] == [
        f"step {step:>6,}" for step in (0, 250, 500, 750, 1000)
    ]


def test_the_advice_on_a_text_and_the_clean_ups_it_could_have(file, home, tiny_text, capfd, monkeypatch):
    monkeypatch.setattr(train, "train_here", lambda *_: 2)
    monkeypatch.setattr(queue, "draw", lambda _: None)
    monkeypatch.setattr(Run, "status", lambda self: Status("queued"))  # so that the command ends at once
    (home / "accents.txt").write_text(f"{tiny_text}\nCafe\u0301", encoding="utf-8")
    for more, sentence in ([], "Join 1 accent with their letters"), (["--clean", "accents"], "Joined 1 accent with"):
        assert main(["train", str(home / "accents.txt"), *TWENTY, *more]) == 2
        out, err = capfd.readouterr()
        assert sentence in out + err
        assert ("To do so, add --clean accents." in out) == (not more)
        assert " characters is very little: the model will memorize the text" in out


def test_a_run_says_for_which_others_it_waits(file, home, capfd, monkeypatch):
    monkeypatch.setattr("nanogpt.launch.trainer.main", lambda *_, **__: 0)
    run = prepare.new_run("later", corpus.add(file.read_text(encoding="utf-8"), "later"), device="cpu")
    monkeypatch.setattr(queue, "running", lambda: ["busy"])
    queue.draw("later")
    assert queue.in_words(queue.place_of("later")) == "Queued: next"
    assert queue.in_words(2) == "Queued: number 2"
    train.train_here(run)
    assert capfd.readouterr().out == "Waiting for busy to finish.\n"
    monkeypatch.setattr(queue, "running", list)
    train.train_here(run)
    assert capfd.readouterr().out == queue.in_words(queue.place_of("later")) == ""
    queue.drop("later")


def test_a_lowered_block_size_is_said(file, capfd):
    assert main(["train", str(file), "--name", "lowered", "--max-iters", "1", *TINY[:-4], "--block-size", "4096"]) == 0
    out, err = capfd.readouterr()
    said = out.splitlines()[:3] + err.splitlines()
    assert any("block_size" in line and "128" in line for line in said), said


def test_a_lowered_block_size_is_said_of_a_job_too(file, home, capfd, monkeypatch):
    elsewhere = lambda name, text, chosen, changes, agreed: prepare.for_elsewhere(name, text, chosen, changes, {})
    monkeypatch.setattr("nanogpt.jobs.start.new_run", elsewhere)
    monkeypatch.setattr(train.jobs, "terms", lambda *_: None)
    given = dict(files=[str(file)], text=None, name="away", preset=None, field=None, encoding=None, keep=[], clean=[])
    train.new_run_there(SimpleNamespace(**given), dict(max_iters=1, block_size=4096))
    assert "block_size was lowered to 128" in capfd.readouterr().out


@ctrl_c
@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on_and_it_goes_on(file):
    with popen("train", file, "--name", "stopped", "--max-iters", 100_000, "--eval-interval", 20, *TINY) as process:
        run = Run("stopped")
        until(lambda: run.exists() and run.history().step >= 20)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert "python -m nanogpt train --resume stopped" in err.splitlines()[-1]
    assert run.status().state == "stopped"
    reached = run.status().step
    assert f"Stopped at step {reached:,}" in err

    done = nanogpt("train", "--resume", "stopped", "--max-iters", reached + 30)
    assert (done.returncode, done.stderr) == (0, "")
    assert run.status().state == "finished"
    assert run.status().step == reached + 30
    steps = [row["step"] for row in run.history().rows]
    assert steps == sorted(set(steps))
    assert [event["event"] for event in run.history().events] == ["started", "stopped", "started", "finished"]


@pytest.mark.slow
@pytest.mark.parametrize("by", [pytest.param("Ctrl-C", marks=ctrl_c), "the page"])
def test_a_run_that_still_waits_can_be_called_off(file, by):
    name = f"waits-{by[0].lower()}"
    with queue.turn("busy", "cpu"), popen("train", file, "--name", name, "--max-iters", 50, *TINY) as process:
        try:
            until(lambda: queue.has_trainer(name))
            if by == "Ctrl-C":
                process.send_signal(signal.SIGINT)
            else:
                Run(name).request_stop()
            out, err = process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert name not in queue.waiting()
    assert not (Run(name).folder / "last.safetensors").exists()
    assert Run(name).status().state == "stopped"


# Holds the trainer lock of a run, without queueing or training it, until told to exit.
ANOTHER = """
import sys
from nanogpt import locks
from nanogpt.runs import queue
with locks.held(queue.folder() / f"{sys.argv[1]}.trainer"):
    print("there", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
def test_a_run_that_another_process_trains_is_one_sentence(file, capfd):
    text = corpus.add(file.read_text(encoding="utf-8"), "twice")
    run = prepare.new_run("twice", text, max_iters=5, n_layer=1, n_head=2, n_embd=16, block_size=16)
    run.event("stopped", message="Stopped.")  # what the other process sees when it starts
    queue.folder().mkdir(parents=True, exist_ok=True)
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, "-c", ANOTHER, "twice"], cwd=ROOT, **pipes) as other:
        assert other.stdout.readline() == "there\n"
        assert main(["train", "--resume", "twice"]) == 2
        assert capfd.readouterr().err == "twice is already being trained by another process.\n"
        queue.drop("twice")
        other.communicate("\n")
    assert [event["event"] for event in run.history().events] == ["stopped"]


# --- sample --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sample_writes_the_text_alone_and_the_same_again(first, tiny_text, capfd):
    prompt, letters = tiny_text[:5], set(tiny_text)
    arguments = ["sample", "first", "--prompt", prompt, "--length", "80", "--seed"]
    done = nanogpt(*arguments, 1)
    assert (done.returncode, done.stderr) == (0, "")
    texts = [done.stdout]
    for seed in ("1", "2"):
        assert main([*arguments, seed]) == 0
        texts.append(capfd.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    for text in texts:
        assert len(text) == len(prompt) + 81
        assert text.startswith(prompt)
        assert text.endswith("\n")
        assert set(text) <= letters


def test_a_models_control_characters_are_symbols_on_a_terminal(first, tiny_text, monkeypatch, capsys):
    """Elsewhere they stay, because a file or a pipe should have the text as it is."""
    tokenizer, hostile = first.folder / "tokenizer.json", "\x1b\x9b\x7f"
    was = tokenizer.read_text(encoding="utf-8")
    vocab = json.loads(was)
    letters = sorted(set(vocab["model"]["vocab"]) - set("aeo") | set(hostile))
    vocab["model"]["vocab"] = {letter: i for i, letter in enumerate(letters)}
    write_whole(tokenizer, json.dumps(vocab))
    try:
        assert main(["sample", "first", "--length", "300", "--num-samples", "2"]) == 0
        piped = capsys.readouterr().out
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        assert main(["sample", "first", "--length", "300", "--num-samples", "2"]) == 0
        shown = capsys.readouterr().out
    finally:
        write_whole(tokenizer, was)
    assert set(hostile) <= set(piped)
    assert shown == piped.translate({0x1B: "␛", 0x9B: "\ufffd", 0x7F: "␡"})


def test_a_prompt_in_other_letters_is_fitted_and_said_on_stderr(first, capfd):
    assert main(["sample", "first", "--prompt", "thé 漢", "--length", "20"]) == 0
    fitted, note = capfd.readouterr()
    assert main(["sample", "first", "--prompt", "the ", "--length", "20"]) == 0
    assert (fitted, "") == capfd.readouterr()
    assert note.count("\n") == 1
    assert "é" in note
    assert "漢" in note


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_whoever_reads_only_the_beginning_is_not_complained_to(first, unbuffered):
    with popen("sample", "first", "--length", 10_000, PYTHONUNBUFFERED=unbuffered) as process:
        assert len(process.stdout.read(10)) == 10
        process.stdout.close()  # like `| head -c 10`
        err = process.stderr.read()
    assert err == ""
    assert process.returncode == 0


@contextlib.contextmanager
def unread() -> Iterator[io.TextIOBase]:
    """Open a stream whose reader has exited, like stdout in `... | true`."""
    theirs, ours = os.pipe()
    os.close(theirs)
    with os.fdopen(ours, "w", encoding="utf-8") as stream:
        yield stream


@contextlib.contextmanager
def full() -> Iterator[io.TextIOBase]:
    """Open a file on a full disk."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w", encoding="utf-8") as stream:
        yield stream


@pytest.mark.parametrize("output", [unread, full])
def test_training_goes_on_if_its_output_cannot_be_printed(file, output):
    name = f"after-{output.__name__}"
    with output() as stream, contextlib.redirect_stdout(stream):
        assert main(["train", str(file), "--name", name, *TWENTY]) == 0
    assert Run(name).status().state == "finished"


PRINTING = [
    ["runs"], ["runs", "--json"], ["sample", "first"], ["eval", "first"], ["explain", "doctor", "first"], ["--help"],
    ["export", "first", "--html", "-"], ["export", "first", "--text", "-"], ["runs", "--help"], ["--version"], [],
]  # fmt: skip


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_what_is_not_read_is_no_error(first, capfd, arguments):
    with unread() as stream, contextlib.redirect_stdout(stream):
        assert main(arguments) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_output_that_cannot_be_written_is_one_line(first, capfd, arguments):
    with full() as stream, contextlib.redirect_stdout(stream):  # at its end, it writes what is still buffered
        assert main(arguments) == 2
    assert one_line(capfd.readouterr().err) == "nanogpt: The output can't be written: No space left on device.\n"


def test_an_error_stays_one_if_neither_it_nor_the_output_can_be_written(first):
    with unread() as stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        assert main(["sample", "absent"]) == 2


@pytest.mark.slow
def test_a_process_ends_with_the_status_of_its_command_if_its_output_cannot_be_written(first):
    with full() as stream:
        done = subprocess.run(command("sample", "first"), cwd=ROOT, stdout=stream, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, one_line(done.stderr)) == (
        2,
        "nanogpt: The output can't be written: No space left on device.\n",
    )


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="this system has no /dev/fd")
def test_an_export_reaches_a_pipe(first, capfd):
    theirs, ours = os.pipe()
    with os.fdopen(theirs, "rb") as reader:
        with os.fdopen(ours, "wb") as writer:
            assert main(["export", "first", "--code", f"/dev/fd/{writer.fileno()}"]) == 0  # as /dev/stdout is
        assert b"import torch" in reader.read()
    assert capfd.readouterr().err == ""


def test_an_export_replaces_a_link_to_itself(first, tmp_path):
    try:
        (tmp_path / "loop.py").symlink_to("loop.py")
    except OSError:
        pytest.skip("this system has no links")
    assert main(["export", "first", "--code", str(tmp_path / "loop.py")]) == 0
    assert b"import torch" in (tmp_path / "loop.py").read_bytes()


@contextlib.contextmanager
def no_streams() -> Iterator[None]:
    """Take away the standard streams, as from a daemon."""
    names = ("stdin", "stdout", "stderr")
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(sys, name, None)
        yield
        for name in names:
            getattr(sys, name).close()


def test_without_streams_everything_works(file):
    with no_streams():
        assert main(["train", str(file), "--name", "daemon", *TWENTY]) == 0
        assert main(["runs"]) == 0
        assert main(["sample", "absent"]) == 2
    assert Run("daemon").status().state == "finished"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no sh")
def test_a_process_without_streams_works(first):
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    assert subprocess.run([*closed, *command("eval", "first")], cwd=ROOT).returncode == 0
    assert subprocess.run([*closed, *command("sample", "absent")], cwd=ROOT).returncode == 2


def test_a_budget_of_0_is_none(file, capfd):
    assert main(["train", str(file), "--name", "no-budget", "--budget", "0s", *TWENTY]) == 0
    assert Run("no-budget").status().step == 20


@pytest.mark.parametrize(("wished", "encoding"), [("", "utf-8"), ("cp1252", "cp1252")])
def test_files_and_pipes_are_written_in_utf_8(monkeypatch, wished, encoding):
    monkeypatch.setenv("PYTHONIOENCODING", wished)
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    choose_encoding(stream)
    print("Привет", file=stream, flush=True)
    assert stream.buffer.getvalue() == f"Привет{os.linesep}".encode(encoding, "replace")


@pytest.mark.slow
def test_a_terminal_without_the_letters_gets_no_traceback(home):
    words = "".join(chr(0x4E00 + i) for i in range(30)) * 50 + "\n"
    run = prepare.new_run(
        "far", corpus.add(words), n_layer=1, n_head=1, n_embd=8, block_size=8, max_iters=1, warmup_iters=0
    )
    from nanogpt.train import train

    train(run)
    done = nanogpt("sample", "far", "--length", 20, PYTHONIOENCODING="cp1252", PYTHONUTF8="0")
    assert "Traceback" not in done.stderr
    assert done.returncode == 0


# --- eval, runs, ladder --------------------------------------------------------------------------------------------


def loss_by_hand(run: Run, ids: list[int]) -> float:
    """Return the mean loss over consecutive, non-overlapping windows, computed one character at a time."""
    model = load_model(run.folder)
    T, total = model.config.block_size, 0.0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, T):
            piece = torch.tensor(ids[start : start + T + 1])
            scores = model(piece[None, :-1])[0][0].double().log_softmax(-1)
            total -= sum(scores[t, piece[t + 1]].item() for t in range(len(piece) - 1))
    return total / (len(ids) - 1)


def evaluated(stdout: str) -> dict:
    found = json.loads(stdout)
    assert found.keys() == {"val_loss", "bits_per_character", "characters"}
    assert found["bits_per_character"] == pytest.approx(found["val_loss"] / math.log(2))
    return found


def test_eval_is_the_loss_over_the_held_out_tenth(first, capfd):
    assert main(["eval", "first"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    found = evaluated(out)
    held_out = split(corpus.load(first.settings()["corpus"]["id"]).tokens())[1].tolist()
    assert found["characters"] == len(held_out) - 1
    assert found["val_loss"] == pytest.approx(loss_by_hand(first, held_out), abs=1e-5)
    assert found["val_loss"] == pytest.approx(first.history().events[-1]["val_loss"], abs=1e-9)


def test_eval_of_a_file_is_the_loss_over_that_text(first, home, tiny_text, capfd):
    (home / "other.txt").write_text(tiny_text[100:333], encoding="utf-8")
    assert main(["eval", "first", str(home / "other.txt")]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    found = evaluated(out)
    assert found["characters"] == 232
    ids = CharTokenizer.load(first.folder).encode(tiny_text[100:333])
    assert found["val_loss"] == pytest.approx(loss_by_hand(first, ids), abs=1e-5)


@pytest.mark.parametrize("arguments", [["eval", "first", "a.txt"], ["ladder", "a.txt"]], ids=" ".join)
def test_a_text_that_is_measured_is_read_in_the_encoding_given(first, monkeypatch, capfd, arguments):
    def text_in(files, encoding):
        raise NanoGPTError(f"{files[0]} as {encoding}")

    monkeypatch.setattr(f"nanogpt.cli.{'sample' if arguments[0] == 'eval' else 'ladder'}.text_in", text_in)
    assert is_refused(capfd, *arguments, "--encoding", "cp1252") == "nanogpt: a.txt as cp1252\n"


def test_eval_of_a_large_file_is_the_loss_over_its_start(first, home, tiny_text, monkeypatch, capfd):
    (home / "long.txt").write_text(tiny_text[:1000] + 100 * tiny_text, encoding="utf-8")
    for module in (corpus, cutting, pieces, reading):
        monkeypatch.setattr(module, "WHOLE", 1000)
    monkeypatch.setattr(cutting, "PIECE", 1000)
    assert main(["eval", "first", str(home / "long.txt")]) == 0
    out, err = capfd.readouterr()
    used = re.fullmatch(r"Only the first ([\d,]+) characters are used\.\n", err)
    assert evaluated(out)["characters"] == int(used[1].replace(",", "")) - 1
    assert 1000 <= int(used[1].replace(",", "")) < 3000


@pytest.mark.parametrize("content", ["漢字", "a", ""])
def test_eval_of_a_file_with_nothing_to_predict(first, home, capfd, content):
    (home / "nothing.txt").write_text(content, encoding="utf-8")
    assert main(["eval", "first", str(home / "nothing.txt")]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback" not in err


def test_runs_lists_them_for_people_and_for_programs(first, capfd):
    assert main(["runs", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capfd.readouterr().out)}
    row = rows["first"]
    assert (row["state"], row["step"], row["max_iters"], row["corpus"]) == ("finished", 20, 20, "A Play")
    assert row["val_loss"] == row["best_val_loss"] == first.history().events[-1]["val_loss"]
    lowest = min(r["val_loss"] for r in first.history().rows if "val_loss" in r)
    assert row["val_loss"] == pytest.approx(lowest, abs=0.005)  # the last evaluation is float32, others may be bfloat16
    assert main(["runs"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    line = next(line for line in out.splitlines() if line.startswith("first "))
    assert re.search(r"Finished +20/20 ", line)
    assert f"{row['val_loss']:.4f}" in line
    assert len(out.splitlines()) == len(rows)


@pytest.mark.parametrize("content", ["[]", "{", "{}", '{"train": {}}'])
def test_a_broken_run_does_not_hide_the_others(first, home, capfd, content):
    broken = home / "checkpoints" / "broken"
    broken.mkdir()
    (broken / "run.json").write_text(content, encoding="utf-8")
    try:
        assert main(["runs"]) == 0
        out, err = capfd.readouterr()
        assert "first " in out
        assert re.search(r"^broken +Damaged +\S.+\.$", out, re.M)
        assert err == ""
        assert main(["runs", "--json"]) == 0
        rows = {row["name"]: row for row in json.loads(capfd.readouterr().out)}
        assert (rows["first"]["state"], rows["broken"]["state"]) == ("finished", "damaged")
        assert rows["broken"].keys() == rows["first"].keys()
    finally:
        shutil.rmtree(broken)


def test_a_run_without_a_date_is_listed_with_the_others(first, capfd):
    settings = first.settings()
    try:
        write_whole(first.folder / "run.json", json.dumps({k: v for k, v in settings.items() if k != "created"}))
        assert main(["runs", "--json"]) == 0
    finally:
        first.change(**settings)
    assert {row["name"]: row["created"] for row in json.loads(capfd.readouterr().out)}["first"] is None


def test_no_runs_yet(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("NANOGPT_HOME", str(tmp_path))
    monkeypatch.delenv("NANOGPT_SHIPPED")
    shipped = [path.parent.name for path in (ROOT / "checkpoints").glob("*/run.json")]
    assert main(["runs", "--json"]) == 0
    assert sorted(row["name"] for row in json.loads(capfd.readouterr().out)) == sorted(shipped)
    assert main(["runs"]) == 0
    assert ("No runs yet" in capfd.readouterr().out) == (not shipped)


@pytest.mark.slow
def test_a_stage_of_the_ladder(file, capfd):
    assert main(["ladder", str(file), "--stage", "1", "--max-iters", "20"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.startswith("stage 1: bigram model\n")
    losses = re.findall(r"^ +(\d+) +(\d\.\d{4}) +(\d\.\d{4})$", out, re.M)
    assert [int(step) for step, _, _ in losses] == [0, 20]
    assert float(losses[1][2]) < float(losses[0][2])


def test_in_json_the_ladder_says_on_stderr_what_it_left_out(file, capfd, monkeypatch):
    monkeypatch.setattr("nanogpt.lecture.LADDER", (replace(STAGES[1], eval_iters=1), STAGES[7]))
    arguments = ["ladder", str(file), "--max-iters", "1", "--json", "--device", "cpu"]
    assert main(arguments) == 0
    out, err = capfd.readouterr()
    assert [json.loads(line)["stage"] for line in out.splitlines()] == [1, 1]
    assert err == f"{SKIPPED}\n"
    assert err.startswith("Skipped stage 7 (scaled up, with dropout), which is for a GPU. ")
    assert main([*arguments, "--stage", "1"]) == 0
    assert capfd.readouterr().err == ""


# --- help ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_help_names_every_knob():
    done = nanogpt("train", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for flag in ("--max-iters", "--learning-rate", "--n-layer", "--block-size", "--resume", "--preset"):
        assert flag in done.stdout


@pytest.mark.slow
def test_without_a_command_the_help_is_printed(home):
    done = nanogpt()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == nanogpt("--help").stdout
    assert done.stdout.startswith("usage: python -m nanogpt ")
    assert all(f"    {name} " in done.stdout for name in COMMANDS)
    assert str(home) in done.stdout
    assert nanogpt("--version").stdout == f"nanogpt {__version__}\n"


COMMANDS = ("serve", "train", "sample", "eval", "runs", "export", "ladder", "push", "pull", "deploy")
QUICK = [[], ["--version"], ["runs"], ["runs", "--json"], *([name, "--help"] for name in COMMANDS)]


@pytest.mark.slow
def test_help_version_and_lists_import_nothing_heavy(first):
    """Run all commands, and `python app.py --help`, in one process, because each process costs a second."""
    script = """
import contextlib, io, json, runpy, sys
from nanogpt.cli.main import main

def quick(action):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        action()
    return sorted({"torch", "gradio", "huggingface_hub", "numpy", "PIL"} & sys.modules.keys())

heavy = {" ".join(words): found for words in json.loads(sys.argv[1]) if (found := quick(lambda: main(words)))}
sys.argv = ["app.py", "--help"]
heavy |= {"app.py": found for found in [quick(lambda: runpy.run_path("app.py", run_name="__main__"))] if found}
print(json.dumps(heavy))
"""
    command = [sys.executable, "-c", script, json.dumps(QUICK)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {}
