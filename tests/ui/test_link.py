"""Settings as a link: the form's values survive the round trip, and invalid values get a clear message."""

from __future__ import annotations

import random
from urllib.parse import parse_qsl

import gradio as gr
import pytest
from conftest import SMALL

from nanogpt import corpus, durations
from nanogpt.launch import prepare
from nanogpt.presets import PRESETS
from nanogpt.runs.settings import complete
from nanogpt.ui import form, link


def entered(settings: dict) -> list:
    """Return the form's inputs with these settings, as a browser would send them."""
    budget = durations.short(settings["budget"] or 60.0)
    advanced = [settings[knob.name] for knob in form.ADVANCED]
    return [settings["preset"], settings["layout"], budget, settings["max_iters"], *advanced]


def address(query: str) -> dict[str, str]:
    assert query.startswith("?")
    return dict(parse_qsl(query[1:]))


def varied(preset: str, seed: int) -> dict:
    """Return a preset with about a third of its settings changed."""
    rng = random.Random(seed)
    wanted: dict = dict(preset=preset, layout=rng.choice(["classic", "modern"]))
    if preset == "timed":
        wanted["budget"] = rng.choice([30, 90, 3600, 12.5])
    else:
        wanted |= dict(rng.sample([*dict(n_layer=1, batch_size=4, max_iters=50, seed=2**40, dropout=0.15).items()], 3))
        wanted |= dict(n_head=1, n_embd=16)
    wanted |= dict(rng.sample([*dict(learning_rate=0.0123, min_lr=1e-5, beta2=0.999, grad_clip=0.0).items()], 2))
    return complete(wanted)


# --- round trip ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_come_back_as_they_were(home, preset):
    for seed in range(40):
        wanted = varied(preset, seed)
        asked = link.read(address(link.query(None, *entered(wanted))))
        assert asked.said == []
        assert asked.settings == wanted


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_as_it_stands_is_only_named(home, preset):
    assert link.query(None, *entered(form.settings_of(preset))) == f"?preset={preset}"


@pytest.mark.parametrize(
    ("asked", "preset", "n_embd"),
    [
        (dict(max_iters="500"), "quick", 128), (dict(preset="timed", max_iters="500"), "quick", 96),
        (dict(preset="Laptop", max_iters="500"), "laptop", 128),
    ],
    ids=str,
)  # fmt: skip
def test_a_number_of_steps_is_trained_as_such(home, asked, preset, n_embd):
    found = link.read(asked)
    assert (found.said, found.settings["preset"]) == ([], preset)
    changed = form.changes(*entered(found.settings))
    assert changed["max_iters"] == 500
    assert {**form.settings_of(preset), **changed}["n_embd"] == n_embd


def test_the_link_has_the_differences_and_a_text_that_all_have(home, tiny_text):
    fields = entered(complete(dict(preset="laptop", n_layer=3, learning_rate=3e-3)))
    mine, everybody_s = corpus.add(tiny_text), corpus.find("python-reference")
    expected = "?text=python-reference&preset=laptop&n_layer=3&learning_rate=0.003"
    assert link.query(everybody_s.id, *fields) == expected
    assert link.query(mine.id, *fields) == expected.replace("text=python-reference&", "")
    assert "can't include your own text" in link.offered(mine.id, *fields)[1].value["text"]
    assert "and this text" in link.offered(everybody_s.id, *fields)[1].value["text"]


def test_what_the_form_cannot_mean_is_no_link(home):
    fields = entered(complete(dict(preset="laptop")))
    fields[3] = "many"
    shown, said = link.offered(None, *fields)
    assert not shown.visible
    assert said.value["text"].startswith("Steps was 'many'")


# --- invalid links -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (dict(n_layer="0"), "n_layer was 0; it must be a whole number from 1 to 48."),
        (dict(n_layer="<b>"), "n_layer was '<b>'"),
        (dict(preset="huge"), "There is no preset 'huge'"),
        (dict(preset="laptop", n_head="3"), "n_embd (128) must be divisible by n_head (3)"),
        (dict(budget="soon"), "Couldn't read 'soon' as a time"),
        (dict(preset="laptop", budget="3m"), "A time budget chooses the model itself. Leave out the preset"),
        (dict(preset="timed", budget="0"), "Enter a time budget, such as 60s or 3m, or choose another preset."),
        (dict(seed="9" * 5000), "seed was"),
    ],
    ids=str,
)
def test_wrong_settings_are_a_sentence_and_change_nothing(home, asked, sentence):
    found = link.read(asked)
    assert found.settings is None
    assert sentence in found.said[0]
    assert len(found.said[0]) < 400
    assert found.said[0].endswith("The link's settings were ignored.")


def test_a_text_or_a_run_that_cannot_be_had(home, tiny_text):
    found = link.read(dict(text="../../etc", run="absent", preset="quick"))
    assert (found.text, found.run) == (None, None)
    assert "a link can name python-reference" in " ".join(found.said)
    assert "There is no run named absent here." in found.said
    assert found.settings["preset"] == "quick"
    assert "'../x' can't be used as a name" in link.read(dict(run="../x")).said[0]
    prepare.new_run("one", corpus.add(tiny_text), "quick", **SMALL)
    assert link.read(dict(run="one")) == link.Asked(run="one")


def test_what_others_put_into_an_address_is_not_asked_for(home):
    assert link.read(dict(__theme="dark", view="api", _x="1")) == link.Asked()
    [said] = link.read(dict(n_layr="3")).said
    assert said == "The link has 'n_layr' in it, which is not a setting, so it was ignored."


# --- in a browser --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_teacher_s_link(unopened_page, standing_server, tiny_text):
    """Settings entered, copied as a link, opened and copied again give the same link; another link opens a run."""
    page, server = unopened_page, standing_server
    run = prepare.new_run("lesson", corpus.add(tiny_text), "quick", **SMALL)
    run.event("started", step=0, device="CPU")
    run.log(step=0, seconds=1.0, tokens=0, train_loss=4.0, val_loss=4.0)
    prepare.new_run("newer", corpus.add(tiny_text), "quick", **SMALL)
    page.goto(f"{server.url}/?text=python-reference&preset=laptop&n_layer=3&n_head=many")
    page.wait_for_function("document.querySelector('#page-asked')?.innerText.includes('n_head was')")
    page.get_by_role("tab", name="Train", exact=True).click()
    page.get_by_label("Quick").check()
    page.wait_for_selector("#train-max-iters input")
    page.get_by_role("button", name="Advanced").first.click()
    page.locator("#train-n-embd input").fill("96")
    made = copied(page)
    assert made == f"{server.url}/?text=python-reference&preset=quick&n_embd=96"
    page.locator("#train-n-head input").fill("3")
    page.locator("#link-address").wait_for(state="hidden")  # it is another form's
    assert not page.locator("#link-said").is_visible()
    page.locator("#train-n-head input").fill("4")
    page.goto(made)
    page.wait_for_selector("#train-max-iters input")  # the link opens the Train tab with the preset selected
    assert page.get_by_label("Quick").is_checked()
    assert copied(page) == made
    page.goto(f"{server.url}/?run=lesson")
    page.wait_for_function("document.querySelector('#train-run input')?.value === 'lesson'")
    page.get_by_role("tab", name="Sample", exact=True).click()
    page.wait_for_function("JSON.parse(sessionStorage.getItem('nanogpt-place') || '{}').tab === 'sample'")
    page.reload()  # you are where you were
    page.wait_for_selector("#sample-generate", state="visible")


def copied(page) -> str:
    """Click the button and return the link it puts into the field below.

    Click again if it goes: a preset that was chosen just before may still fill in the form, which hides a link.
    """
    from playwright.sync_api import TimeoutError

    field = "document.querySelector('#link-address textarea, #link-address input')"
    address = f"{field}?.value.startsWith('http') && {field}.value"
    page.locator("#link-copy").click()
    try:
        return page.wait_for_function(address, timeout=20_000).json_value()
    except TimeoutError:
        page.locator("#link-copy").click()
        return page.wait_for_function(address).json_value()


@pytest.mark.slow
def test_copying_leaves_the_focus_where_it_was_also_without_a_clipboard(standing_page):
    page = standing_page
    page.get_by_role("tab", name="Train", exact=True).click()
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")  # as for a page from http
    page.locator("#link-copy").press("Enter")
    page.wait_for_function("document.querySelector('#link-said')?.innerText.startsWith('Copied.')")
    assert page.evaluate("document.activeElement.id") == "link-copy"


def test_another_layout_brings_its_recipe_and_leaves_the_time_as_it_was_entered():
    for layout, optimizer in (("classic", "adamw"), ("modern", "muon")):
        values = form.layout_values("timed", layout)
        advanced = dict(zip([k.name for k in form.ADVANCED], values[-len(form.ADVANCED) :]))
        assert advanced["optimizer"] == optimizer
        left_alone = [number for number, value in enumerate(values) if isinstance(value, dict) and value == gr.skip()]
        assert left_alone == [3, 4]  # the time budget and the number of steps
