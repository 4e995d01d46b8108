"""What you can read from a run: its curves as a table, its samples as text, and its log."""

from __future__ import annotations

import csv
import io

import pytest

from nanogpt.config import NanoGPTError
from nanogpt.launch import prepare
from nanogpt.runs import Run, logs
from nanogpt.runs.logs import curves_csv, log_text, samples_text

SMALL = dict(n_layer=1, n_head=2, n_embd=16, block_size=16)


def test_of_a_run_that_is_not_there(home):
    for read in (curves_csv, samples_text):
        with pytest.raises(NanoGPTError, match="no run named one"):
            read(Run("one"))
    assert log_text(Run("one")) == ""


def test_the_curves_are_a_row_a_step(text):
    run = prepare.new_run("one", text, **SMALL)
    run.event("started", step=0, device="CPU")
    run.log(step=0, seconds=0.0, tokens=0, train_loss=4.5, val_loss=4.4)
    rates = dict(tokens_per_second=99, characters=640, characters_per_second=198)
    run.log(step=5, seconds=1.5, tokens=320, train_loss=4.0, learning_rate=1e-3, grad_norm=1.25, **rates)
    run.log(step=5, seconds=1.6, tokens=320, val_loss=3.9, note="=SUM(A1)")
    run.event("stopped", step=5)
    table = curves_csv(run)
    header = "step,seconds,tokens,train_loss,val_loss,learning_rate,grad_norm,tokens_per_second,"
    assert table.splitlines()[0] == f"{header}characters,characters_per_second"
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["step"] for row in rows] == ["0", "5"]
    assert rows[0]["grad_norm"] == ""
    assert {key: float(value) for key, value in rows[1].items()} == dict(
        step=5,
        seconds=1.6,
        tokens=320,
        train_loss=4.0,
        val_loss=3.9,
        learning_rate=1e-3,
        grad_norm=1.25,
        tokens_per_second=99,
        characters=640,
        characters_per_second=198,
    )


def test_the_samples_are_one_text(text):
    run = prepare.new_run("one", text, **SMALL)
    assert samples_text(run) == ""
    run.sample(0, "\nzq x\n")
    run.sample(1000, "To be")
    assert samples_text(run) == "---- step 0 ----\nzq x\n\n---- step 1,000 ----\nTo be\n"


def test_a_row_that_is_no_sample_is_left_out_as_everywhere(text):
    run = prepare.new_run("one", text, **SMALL)
    run.sample(5, "To be")
    for row in (
        '{"step":6}',
        '{"step":null,"text":"x"}',
        '{"text":"x"}',
        '{"step":7,"text":5}',
        '{"step":true,"text":"x"}',
    ):
        with (run.folder / "samples.jsonl").open("a", encoding="utf-8") as file:
            file.write(row + "\n")
    assert samples_text(run) == "---- step 5 ----\nTo be\n"
    assert run.history().samples == [dict(step=5, text="To be")]


def test_what_is_no_number_is_in_no_curve(text):
    run = prepare.new_run("one", text, **SMALL)
    run.log(step=5, seconds=1.0, tokens=320, train_loss=True)
    run.log(step=True, seconds=1.0, tokens=320, train_loss=4.0)
    assert curves_csv(run).splitlines()[1:] == ["5,1.0,320,,,,,,,"]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('  File "/srv/me and you/nanogpt/train.py", line 7', '  File "train.py", line 7'),
        ("  File 'C:\\Users x\\me\\nanogpt\\train.py'", "  File 'train.py'"),
        ("OSError: /srv/me/x.bin is full", "OSError: x.bin is full"),
        ("at D:\\data\\run\\log.txt: no", "at log.txt: no"),
        (
            "step 5: 3/4 done, see https://example.org/a/b and a/b/c",
            "step 5: 3/4 done, see https://example.org/a/b and a/b/c",
        ),
    ],
)
def test_the_log_does_not_say_where_things_are(text, line, shown):
    run = prepare.new_run("one", text, **SMALL)
    (run.folder / "log.txt").write_text(line + "\n", encoding="utf-8")
    assert log_text(run) == shown + "\n"


def test_the_log_is_its_end(text, monkeypatch):
    run = prepare.new_run("one", text, **SMALL)
    (run.folder / "log.txt").write_bytes(b"\xff" + b"".join(b"line %d\n" % i for i in range(1000)))
    assert log_text(run, 2) == "line 998\nline 999"
    monkeypatch.setattr(logs, "LOG_BYTES", 20)
    assert log_text(run).endswith("line 999\n")
    assert len(log_text(run)) == 20
