"""The run doctor, on curves recorded from real runs (curves/*.json), and changed so that a rule must not apply."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TWO_BLOCKS, ended_run

from nanogpt import corpus
from nanogpt.explain import ablation, cache, doctor, rules
from nanogpt.explain.opened import open_run
from nanogpt.layout import LAYOUTS
from nanogpt.ui import watching

CURVES = Path(__file__).parent / "curves"


def recorded(name: str) -> rules.Curve:
    """Return a recorded curve: `about` has the facts, `rows` the evaluations."""
    stored = json.loads((CURVES / f"{name}.json").read_text())
    about = stored["about"]
    steps, val, train = doctor.evaluations(stored["rows"])
    return rules.Curve(
        steps, val, train, True, about["learning_rate"], about["read"] / (0.9 * about["characters"]),
        about["parameters"], about["characters"], about["vocab_size"], about["message"],
    )  # fmt: skip


def broken(curve: rules.Curve) -> list[str]:
    return [found.rule for found in rules.findings(curve)]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("too-high", ["stuck"]),  # learning rate 0.3
        ("too-low", ["rate too low"]),  # 2e-5
        ("far-too-low", ["rate too low"]),  # 1e-5: the loss falls by 0.04 in the last third
        ("as-low-as-can-be", ["rate too low"]),  # 1e-6: by 0.007
        ("overfit", ["overfitting", "too little text"]),  # 20,000 characters, 70 epochs
        ("plateau", ["plateau"]),  # one layer of width 8
        ("short", ["too short"]),  # 300 steps
        ("healthy", ["too short"]),  # 2,500 steps, still falling at 4.7 epochs
    ],
)
def test_every_curve_gets_the_findings_it_was_recorded_for(name, found):
    assert broken(recorded(name)) == found


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("too-high", {"stuck"}),
        ("too-low", {"rate too low"}),
        ("far-too-low", {"rate too low"}),
        ("as-low-as-can-be", {"rate too low"}),
        ("overfit", {"overfitting", "too little text"}),
        ("plateau", set()),
        ("short", set()),
        ("healthy", set()),
    ],
)
def test_nothing_false_is_said_while_a_run_trains(name, allowed):
    curve = recorded(name)
    found = set()
    for n in range(1, len(curve.val) + 1):
        found |= set(
            broken(replace(curve, steps=curve.steps[:n], val=curve.val[:n], train=curve.train[:n], ended=False))
        )
    assert found == allowed


def test_each_sentence_has_one_thing_to_do_that_fits_the_run():
    overfit = recorded("overfit")
    assert rules.overfitting(overfit).do == "Set dropout to 0.2."
    assert rules.overfitting(replace(overfit, dropout=0.2)).do == "Add more text."
    muon = replace(recorded("too-high"), learning_rate=0.12, matrix_lr=0.3)
    short = recorded("short")
    assert rules.too_short(short).do == "Train it for longer, with “Train more for” or train --resume."
    assert "“Resume”" in rules.too_short(replace(short, finished=False)).do
    assert rules.stuck(muon).do == "Set learning_rate to 0.012 and matrix_lr to 0.03."


def test_advice_on_the_learning_rate_can_be_followed():
    low, high = recorded("as-low-as-can-be"), replace(recorded("too-high"), learning_rate=2e-6, matrix_lr=4e-6)
    assert rules.rate_too_low(low).do == "Set learning_rate to 1e-05."
    assert rules.rate_too_low(replace(low, learning_rate=0.5)).do == "Set learning_rate to 1."
    assert rules.stuck(high).do == "Set learning_rate to 1e-06 and matrix_lr to 1e-06."
    lowest = replace(high, learning_rate=1e-6, matrix_lr=None)
    assert "rate too high" not in [found.rule for found in rules.findings(lowest)]  # nothing lower can be set


def test_a_text_that_repeats_itself_leaves_nothing_to_learn():
    curve = recorded("plateau")
    known = replace(curve, val=curve.val - curve.val[-1] + 0.004, train=curve.train - curve.train[-1])
    for counted, unigram in ((None, None), (0.0, 0.0)):  # 0 if all of its characters are the same
        [found] = rules.findings(replace(known, counted=counted, unigram=unigram))
        assert found.rule == "nothing left"
        assert found.says == "Nothing is left to learn: the validation loss is 0.00. This text repeats itself."


def test_a_text_without_patterns_is_not_blamed_on_the_learning_rate():
    curve = recorded("too-high")  # stuck at 3.51
    assert "learning rate is too high, or the text has no patterns" in rules.stuck(curve).says
    found = rules.stuck(replace(curve, counted=1.9))  # counting does much better
    assert found.rule == "rate too high"
    assert found.says.endswith("guessing: the learning rate is too high.")
    found = rules.stuck(replace(curve, counted=3.5))  # and here it doesn't
    assert found.rule == "nothing to learn"
    assert "doesn't get below 3.50" in found.says
    assert "learning_rate" not in found.do
    low = recorded("too-low")  # ends at 3.41, falling
    assert rules.rate_too_low(replace(low, counted=1.9)).rule == "rate too low"
    assert rules.rate_too_low(replace(low, counted=3.4)) is None


@pytest.mark.parametrize(("name", "found"), [("too-high", "stuck"), ("too-low", "rate too low")])
def test_a_failed_run_is_found_whatever_the_size_of_the_alphabet(name, found):
    """Rare characters raise ln(vocab_size), but hardly the loss of one who knows how often each occurs, 3.40 here."""
    for vocab_size in (62, 110, 5000):
        assert broken(replace(recorded(name), vocab_size=vocab_size, unigram=3.4)) == [found]
    counted = replace(recorded("too-high"), vocab_size=110, unigram=3.4, counted=1.516)
    assert broken(counted) == ["rate too high"]
    for fine in ("short", "healthy", "plateau", "overfit"):
        assert broken(replace(recorded(fine), unigram=3.4)) == broken(recorded(fine))


def test_the_tables_of_a_large_alphabet_are_not_held_against_the_text(home):
    """They grow with the alphabet, and don't let a model memorize more of its text."""
    text = corpus.add("".join(chr(0x4E00 + i % 700) + "\n" * (i % 9 == 0) for i in range(3000)), "Many")
    run = ended_run(text, "one", **TWO_BLOCKS)
    curve = doctor.curve_of(run, run.status(), count=True)
    model = open_run(run).model
    tables = model.token_embedding_table.weight, model.lm_head.weight
    assert curve.parameters == model.count_parameters() - sum(table.numel() for table in tables)
    assert curve.unigram == pytest.approx(6.4, abs=0.2)


def grown(each: float, **changes) -> rules.Curve:
    """Return the plateau as that of a model with so many parameters per character."""
    curve = recorded("plateau")
    return replace(curve, parameters=int(each * curve.characters), **changes)


def test_a_larger_model_is_advised_only_if_size_is_what_a_model_lacks():
    best = recorded("plateau").val.min()
    larger, half = (f"Choose a larger model ({by})" for by in ("double n_embd", "increase n_embd by half"))
    for counted in (None, best - 0.5, best + 0.5):  # unknown; far better than a tiny model; worse
        [found] = rules.findings(grown(0.01, counted=counted))
        assert (found.rule, found.do.partition(":")[0]) == ("plateau", larger)
    assert rules.plateau(grown(0.7, counted=best + 0.1)).do.startswith(half)  # as from width 128 to 192
    for each, counted in ((0.7, best - 0.5), (0.7, best + 0.02), (0.01, best + 0.02), (0.01, best - 0.02)):
        [found] = rules.findings(grown(each, counted=counted, layout=LAYOUTS["modern"], epochs=9.0))
        assert found.rule == "behind counting"
        said = "Counting characters alone does about as well:"  # even where the model is a little better
        said = "but counting characters alone reaches" if counted == best - 0.5 else said
        assert f"{said} {counted:.2f}. A larger model isn't" in found.says
        assert found.do == "Train it for longer, with “Train more for” or train --resume."
    behind = grown(0.7, counted=best - 0.5)
    assert rules.plateau(replace(behind, matrix_lr=0.03)).do.startswith("Choose the modern architecture")
    modern = replace(behind, layout=LAYOUTS["modern"])  # trained without Muon
    assert rules.plateau(replace(modern, epochs=9.0)).do == modern.longer()
    assert rules.plateau(replace(modern, epochs=20.0)).do == "Add more text."


def test_until_a_text_is_counted_only_a_small_model_is_told_to_grow():
    [found] = rules.findings(grown(0.7))
    assert "we can't tell whether a larger model would help" in found.says
    assert "nanogpt baselines" in found.do
    assert broken(grown(0.2)) == ["plateau"]


def test_a_model_that_the_text_limits_is_not_to_grow():
    for counted in (None, 1.0, 3.0):
        [found] = rules.findings(grown(2.1, counted=counted))
        assert (found.rule, found.do) == ("text limits", "Add more text.")
        assert "With 2.1 parameters per character, the text limits it" in found.says


def test_the_limits_are_those_that_were_measured():
    """Models of the sizes that a time budget chooses, on Tiny Shakespeare's 1,115,394 characters."""
    from nanogpt.config import ModelConfig
    from nanogpt.launch.sizes import SIZES
    from nanogpt.model import count_parameters

    reached = {}  # by parameters per character
    for size in SIZES:
        shape = {name: value for name, value in size.settings.items() if name != "batch_size"}
        config = ModelConfig.of(dict(layout="modern", vocab_size=65, **shape))
        count = count_parameters(config) - 2 * 65 * config.n_embd
        reached[count / 1_115_394] = size.curve[-1][1]
    able = [loss for each, loss in reached.items() if each >= rules.ABLE]
    assert max(able) < 1.516  # a 7-gram model's
    assert min(loss for each, loss in reached.items() if each < rules.ABLE) > 1.516
    assert max(reached) < rules.ENOUGH + 0.1
    assert reached[max(reached)] == min(reached.values())


def test_sentences_name_numbers_and_one_thing_to_do():
    too_high, too_low, overfit = (rules.findings(recorded(name))[0] for name in ("too-high", "too-low", "overfit"))
    assert too_high.says.startswith("The loss is stuck at 3.51")
    assert too_high.do == "Set learning_rate to 0.03."
    assert too_low.says.startswith("After 800 steps the loss is still 3.41")
    assert too_low.do == "Set learning_rate to 0.0002."
    assert overfit.says.startswith("Overfitting since step 1,050: the validation loss rose from 1.94 to 2.37")


def test_what_is_still_training_has_not_ended_too_early_or_on_a_plateau():
    for name in ("short", "plateau"):
        assert broken(replace(recorded(name), ended=False)) == []


def test_a_rise_within_the_noise_is_no_overfitting():
    curve = recorded("healthy")
    val = curve.val.copy()
    val[-1] = val.min() + rules.WORSE / 2
    train = curve.train.copy()
    train[-1] = train.min() - 0.1
    assert "overfitting" not in broken(replace(curve, val=val, train=train))
    val[-1] = val[:-1].min() + 2 * rules.WORSE
    assert "overfitting" in broken(replace(curve, val=val, train=train))
    assert "overfitting" not in broken(replace(curve, val=val, train=train, epochs=0.9))  # it has read nothing twice


def test_a_model_that_overfits_is_not_said_to_be_too_small():
    curve = recorded("plateau")
    assert broken(curve) == ["plateau"]
    val, train = curve.val.copy(), curve.train.copy()
    val[2], train[2] = val[-1] - 2 * rules.WORSE, train[-1] + 0.01
    assert broken(replace(curve, val=val, train=train)) == ["overfitting"]


def test_the_untrained_model_is_not_compared_with_the_end():
    curve = recorded("short")
    steps, val = np.array([0, 42, 106, 116, 126]), np.array([3.829, 0.315, 0.250, 0.251, 0.250])
    few = replace(curve, steps=steps, val=val, train=val)
    assert math.isnan(few.fall())
    assert "too short" not in broken(few)


def test_a_large_text_is_not_too_small():
    assert "too little text" not in broken(replace(recorded("overfit"), characters=10_000_000))


def test_few_evaluations_say_nothing_and_nan_says_it_at_once():
    curve = recorded("too-high")
    few = replace(curve, steps=curve.steps[:4], val=curve.val[:4], train=curve.train[:4])
    assert broken(few) == []
    nan = rules.findings(replace(few, message="Training diverged at step 7 (the loss became NaN)."))
    assert [found.do for found in nan] == ["Set learning_rate to 0.1."]


def test_losses_are_taken_from_the_rows_as_they_were_logged():
    rows = [dict(step=0, train_loss=4.0, val_loss=4.1), dict(step=5, train_loss=3.0), dict(step=10, val_loss=3.2)]
    steps, val, train = doctor.evaluations(rows)
    assert list(steps) == [0, 10]
    assert list(val) == [4.1, 3.2]
    assert list(train) == [4.0, 3.0]
    assert all(len(part) == 0 for part in doctor.evaluations([]))


def test_parts_that_do_nothing_are_named_once_they_have_been_measured(home, tiny_text):
    run = ended_run(corpus.add(tiny_text, "A play"), "one", **TWO_BLOCKS)
    curve = doctor.curve_of(run, run.status())
    assert doctor.idle_parts(run, curve) is None
    measured = {"0.mlp": 0.001, "1.mlp": -0.002, "0.attention": 0.3, "1.attention": 0.0, "0.head.0": 0.0}
    cache.keep(open_run(run), ablation.VIEW, dict(rises=measured, done=True))
    found = doctor.idle_parts(run, curve)
    for step in range(75, 900, 25):  # a plateau
        run.log(step=step, seconds=1.0, tokens=step * 9000, characters=step * 9000, train_loss=2.0, val_loss=2.0)
    run.event("finished", step=875, val_loss=2.0, message="Finished.")
    assert broken(doctor.curve_of(run, run.status())) == ["plateau without baselines"]
    assert "larger model" not in " ".join(one.do for one in doctor.examine(run, run.status()))
    assert (
        found.says
        == "Parts of this model do nothing: the feed-forward layers of blocks 1 and 2 and the attention of block 2."
    )
    assert found in doctor.examine(run, run.status())


def advice_on(run, rises: dict[str, float]) -> tuple[str, str]:
    """Return what is said and advised about a run whose parts cost this much."""
    cache.keep(open_run(run), ablation.VIEW, dict(rises=rises, done=True))
    found = doctor.idle_parts(run, doctor.curve_of(run, run.status()))
    return found.says, found.do


def test_the_advice_about_idle_parts_can_be_followed(home, tiny_text):
    text = corpus.add(tiny_text, "A play")
    two, one = ended_run(text, "two", **TWO_BLOCKS), ended_run(text, "one", **TWO_BLOCKS | dict(n_layer=1))
    fewer, narrower = "Try one fewer layer (n_layer): it", "Try a smaller width (n_embd): it"
    rises = {"0.mlp": 0.0, "0.attention": 0.3, "1.mlp": 0.2, "1.attention": 0.4}
    assert advice_on(two, rises)[1].startswith(fewer)
    says, do = advice_on(one, {"0.mlp": 0.0, "0.attention": 0.3})
    assert do.startswith(narrower)
    assert says == "Parts of this model do nothing: the feed-forward layer of block 1."
    untrained = ("No block of this model does anything yet.", doctor.curve_of(one, one.status()).longer())
    assert advice_on(one, {"0.mlp": 0.0, "0.attention": 0.0}) == untrained
    assert advice_on(two, dict.fromkeys(rises, 0.001)) == untrained


def test_only_the_page_says_where_on_it_the_advice_is_to_be_followed():
    curve, uncounted = recorded("overfit"), grown(0.7)
    found = lambda one: [doctor.marked(finding, one) for finding in rules.findings(one)]
    advised = ["Set dropout to 0.2.", "Choose a smaller model: halve n_embd."]
    rest = " With a time budget, it is hidden; the Quick and Laptop presets show it under Advanced."
    assert [one.do for one in found(replace(curve, timed=True))] == advised
    assert [watching.advice(one) for one in found(curve)] == advised
    assert [watching.advice(one) for one in found(replace(curve, timed=True))] == [advised[0], advised[1] + rest]
    assert [one.do for one in found(uncounted)] == ["Compute them first: nanogpt baselines FILE."]
    assert [watching.advice(one) for one in found(uncounted)] == [
        "Open Loss under Understand first: it compares your model with them."
    ]


def test_a_run_in_which_nothing_is_wrong_gets_a_sentence(home, tiny_text):
    run = ended_run(corpus.add(tiny_text, "A play"), "one", **TWO_BLOCKS)
    assert doctor.examine(run, run.status()) == []  # three evaluations
    for step in range(75, 400, 25):
        run.log(step=step, seconds=1.0, tokens=step * 64, train_loss=1.8, val_loss=2.0)
    run.event("finished", step=375, val_loss=3.0, message="Finished.")
    [found] = doctor.examine(run, run.status())
    assert found.rule == "healthy"
    assert (
        found.says
        == "Nothing wrong: the validation loss fell to 2.00, and the last one is 0.20 above the training loss."
    )


def test_a_run_that_counting_beats_is_not_healthy(home, tiny_text):
    """The text is counted on request, for the command, and that is kept for the next one."""
    text = corpus.add(tiny_text, "A play")
    run = ended_run(text, "one", **TWO_BLOCKS)
    for step in range(75, 400, 25):
        run.log(step=step, seconds=1.0, tokens=step * 64, train_loss=2.6, val_loss=2.8)
    run.event("finished", step=375, val_loss=2.8, message="Finished.")
    [found] = doctor.examine(run, run.status())
    assert found.rule == "healthy"
    [found] = doctor.examine(run, run.status(), count=True)
    counted = doctor.curve_of(run, run.status(), count=True).counted
    assert found.rule == "behind counting"
    assert found.says.startswith(
        f"The validation loss fell to 2.80, but counting characters alone reaches {counted:.2f}."
    )
    assert "larger model" not in found.says
    assert (text.folder / "baselines.json").exists()
    corpus.delete(text.id)
    assert doctor.curve_of(run, run.status(), count=True).counted is None
