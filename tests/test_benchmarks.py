"""Test the benchmarks by running them at a tiny size."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nanogpt.config import ModelConfig
from nanogpt.model import count_parameters

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def text_file(tmp_path: Path, tiny_text: str) -> str:
    path = tmp_path / "tiny.txt"
    path.write_text(tiny_text, encoding="utf-8")
    return str(path)


def result(name: str) -> dict[str, Any]:
    """Return what a benchmark measured."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def rows_of_the_readme() -> dict[str, tuple[str, str]]:
    """Return what README.md says that two CPU cores reach: (training time, loss) by command."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| two CPU cores \| `--([^`]+)`[^|]* \| ([^|]+) \| ([^|]+) \|$", text, re.M)
    return {command: (seconds, loss) for command, seconds, loss in rows}


def own_runs(budget: float) -> list[dict[str, Any]]:
    """Return the runs of a time budget's own choice in the newest set that has three seeds; sets are in order."""
    sets = [one["runs"] if isinstance(one, dict) else one for one in result("budget_own_amd").values()]
    found = [
        [row for row in rows if (row["budget"], row["name"]) == (budget, "own")]
        for rows in sets
        if isinstance(rows, list)
    ]
    return [runs for runs in found if len(runs) == 3][-1]


def own_losses(budget: float) -> list[float]:
    return [row["val_loss"] for row in own_runs(budget)]


def test_the_readme_has_the_newest_losses_of_time_budgets():
    said = rows_of_the_readme()
    for command, budget in (("budget 10s", 10.0), ("budget 30s", 30.0), ("budget 3m", 180.0)):
        assert said[command][1] == f"{statistics.median(own_losses(budget)):.2f}"
    three = ", ".join(f"{loss:.3f}" for loss in own_losses(180.0))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"at {said['budget 3m'][1]} (three seeds: {three})" in readme
    peer, ours, _ = result("time_to_loss")["table"]
    assert f"reaches a validation loss of {peer['val_loss']:.2f} in {peer['seconds']:.0f} s" in readme
    assert f"this project reaches {ours['val_loss']:.2f} in {ours['seconds']:.1f} s" in readme


def test_the_readme_compares_with_the_size_of_nanogpt_s_model():
    shapes = [{key: row[key] for key in ("n_layer", "n_embd", "block_size")} for row in own_runs(180.0)]
    parameters = [count_parameters(ModelConfig(65, "modern", n_head=4, **shape)) for shape in shapes]
    times = [10.65e6 / count for count in parameters]  # as nanoGPT prints it
    words = {9: "nine", 13: "thirteen"}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"a model {words[round(min(times))]} to {words[round(max(times))]} times the size" in readme


def test_the_first_minute_is_the_newest_one():
    median = result("newcomer")["median"]
    said = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8").replace("\n", " ")
    for sentence in (
        "The server answers after {page_answers_seconds} s", "the page is drawn {page_shows_seconds} s later",
        "the plot {first_point_seconds} s after Start", "`--help` takes {help_seconds} s",
        "A first visit loads {page_megabytes} MB in {page_requests} requests",
    ):  # fmt: skip
        assert sentence.format(**median) in said


@pytest.mark.parametrize("preset", ["quick", "laptop"])
def test_the_readme_has_the_newest_figures_of_a_preset(preset):
    runs = [row for row in result("presets")["runs"] if row["preset"] == preset]
    seconds, loss = (statistics.median(row[key] for row in runs) for key in ("seconds", "val_loss"))
    assert rows_of_the_readme()[f"preset {preset}"] == (f"{seconds:.0f} s", f"{loss:.2f}")


@pytest.mark.parametrize("recipes", ["cpu", "cuda"])
def test_time_to_loss(recipes, text_file, home, monkeypatch):
    from benchmarks import time_to_loss

    monkeypatch.setattr(time_to_loss, "write_result", lambda *_: pytest.fail("--quick writes nothing"))
    table = time_to_loss.main([text_file, "--recipes", recipes, "--quick"])
    assert [row["name"] for row in table][0] == time_to_loss.PEER
    assert len(table) == 3
    assert all(1.0 < row["val_loss"] < 6.0 for row in table)


@pytest.mark.slow
def test_turns(text_file):
    from benchmarks import turns

    assert len(turns.main([text_file, "--waiting", "1", "--turns", "1", "--seconds", "0"])) == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
def test_big_text(text_file, monkeypatch):
    from benchmarks import big_text

    results = {}
    monkeypatch.setattr(big_text, "write_result", results.__setitem__)
    shape = ["--preset", "quick", "--n-layer", "1", "--n-head", "1", "--n-embd", "8", "--block-size", "16"]
    monkeypatch.setattr(big_text, "SHAPE", shape)
    found = big_text.main([text_file, "--megabytes", "25", "--steps", "20"])
    assert results == {"big_text": found}
    assert 25 <= found["large"]["megabytes"] < 26
    assert found["large"]["megabytes_per_second"] > 1
    assert found["large"]["peak"]["own"] > 100


def test_a_card_that_is_not_there_is_said_in_one_line(text_file, capsys):
    import torch

    from benchmarks import time_to_loss

    if torch.cuda.is_available():
        pytest.skip("there is a card here")
    with pytest.raises(SystemExit):
        time_to_loss.main([text_file, "--device", "cuda", "--quick"])
    assert "no usable NVIDIA GPU" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("part", ["first", "second"])
def test_all_checks_of_a_gpu_run_on_a_cpu_too(part, text_file, tmp_path):
    from benchmarks import gpu_day

    names = list(gpu_day.SECOND if part == "second" else {**gpu_day.TOGETHER, **gpu_day.FIRST})
    if part == "first":
        names.remove("tests")  # they would all be skipped
    found = gpu_day.main([part, text_file, "--device", "cpu", "--quick", "--out", str(tmp_path), "--only", *names])
    assert list(found) == names
    for name, result in found.items():
        assert "error" not in result, (name, result)
        assert all(isinstance(row, dict) for row in (result if isinstance(result, list) else [result]))
    written = json.loads((tmp_path / f"{part}.json").read_text(encoding="utf-8"))
    assert written["checks"].keys() == found.keys()
    if part == "first":
        assert {row["name"] for row in found["resume"]} == {"whole", "halves"}
        assert len({row["end"] for row in found["resume"]}) == 1
        assert found["commands"][-1]["end"]["event"] == found["page_training"]["end"][0]["event"] == "finished"


def test_a_step_and_a_character_are_timed_beside_the_arithmetic():
    from benchmarks import card

    found = card.main(["--device", "cpu", "--quick"])
    assert found["step"]["times_the_floor"] > 1
    assert found["characters_per_second"] > 0


@pytest.mark.slow
def test_presets(text_file, monkeypatch):
    from benchmarks import presets

    monkeypatch.setattr(presets, "write_result", lambda *_: pytest.fail("--quick writes nothing"))
    rows = presets.main([text_file, "--quick", "--seeds", "1"])
    assert [(row["preset"], row["steps"]) for row in rows] == [("quick", 2), ("laptop", 2)]


def test_the_steps_are_compared(monkeypatch):
    from benchmarks import step

    monkeypatch.setattr(step, "SIZES", [("modern", 1, 32, 16, 4), ("classic", 1, 32, 16, 4)])
    table = step.main(["--quick"])
    assert {row["layout"] for row in table} == {"modern"}
    assert [row["way"] for row in table][0] == "plain"
    assert all(row["milliseconds"] > 0 for row in table)


@pytest.mark.slow
def test_a_budgets_choice_is_compared_with_one_by_hand(text_file, monkeypatch, tmp_path):
    from benchmarks import budget, machine

    monkeypatch.setattr(budget, "SHAPES", [(1, 2, 16)])
    monkeypatch.setattr(budget, "BATCHES", [(16, 2)])
    monkeypatch.setattr(budget, "BY_HAND", 1)
    written, rows = [], str(tmp_path / "rows.jsonl")
    monkeypatch.setattr(machine, "write_result", lambda name, result: written.append((name, result)))
    budget.main([text_file, "--budgets", "1", "--seeds", "2", "--cores", "1", "--near", "9", "--out", rows])
    budget.main(["--table", rows])
    [(name, result)] = written
    assert name == "budget"
    assert [(run["name"], run["seed"]) for run in result["runs"]] == [
        ("own", 1), ("by-hand-0", 1), ("own", 2), ("by-hand-0", 2),
    ]  # fmt: skip
    assert result["runs"][1]["n_layer"] == 1
    assert all(run["steps"] > 0 and 0.0 < run["val_loss"] < 6.0 for run in result["runs"])
    found = result["table"]["1"]
    assert found["seeds"] == len(found["own_losses"]) == len(found["best_losses"]) == 2
    assert found["over"] == found["own"] / found["best"] - 1


def test_no_run_is_started_that_would_end_too_late(text_file, tmp_path, capsys):
    from benchmarks import budget

    rows = tmp_path / "rows.jsonl"
    assert budget.main([text_file, "--budgets", "10", "--cores", "1", "--limit", "5", "--out", str(rows)]) == []
    assert "no time left for 25 runs of 10 s" in capsys.readouterr().out
    assert not rows.exists()


def test_whole_commands_are_held_against_their_budget(text_file, monkeypatch, tmp_path):
    from benchmarks import clock

    def command(file, home, cores, name, *flags):
        folder = tmp_path / "checkpoints" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps(dict(planning=0.1, promise=2.5)), encoding="utf-8")
        row = dict(event="finished", step=9, val_loss=2.4, costs=dict(save=0.01))
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        assert (flags == tuple(clock.STEP)) == (not name.startswith("run-"))
        return 4.0 if flags == tuple(clock.STEP) else 4.0 + float(flags[1].removesuffix("s")) + 0.25, folder

    monkeypatch.setattr(clock, "command", command)
    rows = str(tmp_path / "rows.jsonl")
    found = clock.main([text_file, "--budgets", "1", "10", "--limit", "15", "--out", rows])
    assert found == [json.loads(line) for line in Path(rows).read_text(encoding="utf-8").splitlines()]
    assert [(row["budget"], row["over"], row["promise"]) for row in found] == [(1.0, 0.25, 2.5)]  # 10 s is too long
    assert found[0] | dict(busy=False, planning=0.1, steps=9, val_loss=2.4, costs=dict(save=0.01)) == found[0]
    kept: list[list[int]] = []  # busy
    monkeypatch.setattr(clock, "load", lambda cores: kept.append(cores) or contextlib.nullcontext())
    found = clock.main([text_file, "--budgets", "1", "--cores", "0", "--busy", "--out", rows])
    assert [row["busy"] for row in found] == [False, True]
    assert kept == [[], [0]]


@pytest.mark.slow
def test_weight_decays_are_compared(text_file):
    from benchmarks import passes

    rows = passes.main([text_file, "--quick"])
    assert [row["batches"] for row in rows] == ["random", "shuffled"]
    assert all(1.0 < row["mean"] < 6.0 for row in rows)


KILL = """
import sys
from benchmarks import kill
if sys.argv[1]:  # break something, to see that it is noticed
    from nanogpt.runs import Run
    cut_back = Run.cut_back
    Run.cut_back = lambda run, kept, **started: cut_back(run, 10**6, **started)
kill.main(["--runs", "2", "--timed", "0" if sys.argv[1] else "1", "--steps", "12", "--stride", "60", "--quick"])
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("broken", ["", "broken"])
def test_killed_runs_are_compared_with_undisturbed_ones(broken):
    command = [sys.executable, "-c", KILL, broken]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout[done.stdout.index("{\n") :])
    each, some, timed = (result[part] for part in ("each_operation", "random_moments", "by_the_clock"))
    assert (each["runs"] >= 2, some["runs"], timed["runs"]) == (True, 2, 0 if broken else 1)
    assert sum(each["states_after_kills"].values()) == each["runs"]
    if broken:
        assert each["identical"] < each["runs"]
        assert "metrics.jsonl" in each["failures"][0]["differs"]
    else:
        assert (each["identical"], some["identical"]) == (each["runs"], 2)
        assert timed["left_over"] == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="visitors have addresses of their own, which only Linux gives them")
def test_a_server_is_attacked(monkeypatch):
    from benchmarks import hostile

    monkeypatch.setattr(hostile, "AFTERWARD", 0)
    found = hostile.main(["--quick", "--minutes", "0.2", "--hostile", "13", "--honest", "1"])
    assert found["honest"]["failed"] == []
    assert found["honest"]["seconds"]["add_corpus"]["calls"] >= 1
    assert set(found["hostile"]["answers"]) == {kind.__name__ for kind in hostile.KINDS}
    assert found["hostile"]["failed"] == []
    assert found["most"]["stored_mb"] < 500
    assert found["most"]["scratch_mb"] < 200


@pytest.mark.slow
def test_weight_decays_are_compared_and_dead_layers_left_out(text_file, tmp_path, home, monkeypatch, capsys):
    import zipfile

    from benchmarks import decay
    from nanogpt.formats import load_model

    names = ["0.2, cautious, slow first", "long, 0.2, per head", "0.2, cautious, second not 0"]
    rows = decay.main([text_file, "--out", str(tmp_path), "--quick", "--only", *names])
    assert [row["name"] for row in rows] == names
    assert all(row["best"] < 4.2 and len(row["feed_forward"]) == 2 for row in rows)
    assert len({row["best"] for row in rows}) == 3  # each variant trains in its own way
    zipfile.ZipFile(tmp_path / "best.zip").extractall(tmp_path / "best")
    layers = lambda: [bool(block.ffwd.net[2].weight.any()) for block in load_model(tmp_path / "best").blocks]
    for nothing, left in ((0.0, [True, True]), (10.0, [False, False])):
        monkeypatch.setattr(decay, "NOTHING", nothing)
        decay.main([text_file, "--leave-out", str(tmp_path / "best")])
        assert layers() == left


def test_growth(text_file, home, monkeypatch):
    from benchmarks import growth

    monkeypatch.setattr(growth, "write_result", lambda *_: pytest.fail("--quick writes nothing"))
    found = growth.main([text_file, "--quick", "--tables", "runs", "steps"])
    assert found["runs"][0]["runs"] == 10
    assert found["steps"][0]["rows"] == 100


@pytest.mark.slow
def test_texts_without_a_newline_and_with_very_many_characters_are_fuzzed():
    from benchmarks import fuzz

    found, seldom = set(), [0, 0]

    @fuzz.seed(1)
    @fuzz.settings(max_examples=20, database=None, deadline=None, suppress_health_check=list(fuzz.HealthCheck))
    @fuzz.given(fuzz.vast_texts())
    def look(text):
        if "\n" not in text and len(text.encode("utf-8", "surrogatepass")) >= 10_000_000:
            found.add("a line of 10 MB")
        if len(set(text[:200_000])) == 100_000 + ("\n" in text[:200_000]):
            found.add("100,000 characters")

    @fuzz.seed(1)
    @fuzz.settings(max_examples=2000, database=None)
    @fuzz.given(fuzz.seldom)
    def count(is_now):
        seldom[is_now] += 1

    look()
    count()
    assert found == {"a line of 10 MB", "100,000 characters"}
    assert 1 <= seldom[True] <= 200


def test_every_kind_of_input_is_fuzzed(home):
    from benchmarks import fuzz

    table = fuzz.main(["--quick"])
    assert table.keys() == fuzz.KINDS.keys()
    for found in table.values():
        assert found.get("refused", 0) + found.get("accepted", 0) >= 10


@pytest.mark.slow
def test_an_input_that_raises_or_takes_long_or_writes_elsewhere_fails(home, monkeypatch, tmp_path):
    from benchmarks import fuzz

    def breaking(what):
        def kind(cases):
            return cases(lambda text: what() if text else None, text=fuzz.st.text())

        return kind

    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    wrongs = (lambda: 1 / 0, lambda: fuzz.time.sleep(1), lambda: (tmp_path / "x").write_text("x"))
    for wrong, says in zip(wrongs, (ZeroDivisionError, "answered after", "wrote to")):
        monkeypatch.setattr(fuzz, "KINDS", dict(wrong=breaking(wrong)))
        with pytest.raises((ZeroDivisionError, AssertionError)) as failed:
            fuzz.main(["--quick", "wrong"])
        assert says is failed.type or str(says) in str(failed.value)


def test_mutants_are_drawn_from_files_that_exist_and_tested_by_tests_that_do():
    """Read from its source, because it imports packages that nothing else needs."""
    tree = ast.parse((ROOT / "benchmarks" / "mutants.py").read_text(encoding="utf-8"))
    assigned = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    parts, tests = (ast.literal_eval(assigned[name]) for name in ("PARTS", "TESTS"))
    for name in (*(name for where in parts.values() for name in where), *tests):
        assert list(ROOT.glob(name)), name
    drawn = {path for where in parts.values() for name in where for path in ROOT.glob(name)}
    assert drawn >= {path for part in ("launch", "ui", "publish") for path in (ROOT / "nanogpt" / part).rglob("*.py")}
