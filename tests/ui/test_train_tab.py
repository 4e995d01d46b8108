"""The Train tab in a real Chromium: nothing moves the plot, samples type themselves, keys, phones, screen readers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import gradio as gr
import pytest
from conftest import ended_run, faint, until, visit
from test_page import open_tab, put_run, wait_for_state, wait_for_step

from nanogpt import corpus
from nanogpt.config import NanoGPTError, TrainConfig
from nanogpt.formats import read_config, weights_bytes
from nanogpt.launch import gpu_plan, measured, pace, prepare, sizes
from nanogpt.launch.visitors import Visitor
from nanogpt.model import GPT
from nanogpt.presets import PLANNED, PRESETS
from nanogpt.runs import Run, queue
from nanogpt.runs.settings import read_settings, settings_json, settings_of
from nanogpt.ui import form, form_picture, train_tab

PLOT = "document.querySelector('#train-plot svg').getBoundingClientRect()"
HEIGHT_OF_BAR = "document.querySelector('#train-plot .plot-bar').getBoundingClientRect().height"
SAMPLE = "document.querySelector('#train-sample .typing-text')"
SHOWN = """(() => {
  const box = document.querySelector("#train-tiles")?.getBoundingClientRect();
  return box && box.height > 0 && box.top < innerHeight / 4;
})()"""
LOOKS = """gradio_config.dependencies.filter(
  (one) => one.backend_fn && one.targets.some((on) => on[1] === "select")
).map((one) => one.id)"""
LONG = "The old mill turns by the river, and the fox sleeps under the hazel. " * 30


# --- the form ------------------------------------------------------------------------------------------------------


def entered(preset: str, **changes) -> list:
    """Return the form's inputs for a preset with some settings changed."""
    s = form.settings_of(preset, changes.pop("layout", None)) | changes
    return [preset, s["layout"], "30s", s["max_iters"], *(s[k.name] for k in form.ADVANCED)]


def sent(values: list) -> list:
    """Return the form's inputs as a browser sends them after `field_values` has filled in the form."""
    plain = [getattr(one, "value", one) for one in values]
    return [plain[0], *plain[2:]]  # without the preset's description


SHAPE = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4)


@pytest.mark.parametrize("key", PRESETS)
@pytest.mark.parametrize("changes", [{}, dict(max_iters=500), dict(layout="classic", dropout=0.1, seed=7)], ids=str)
@pytest.mark.parametrize("longer", [{}, dict(budget=120.0), dict(max_iters=600)], ids=str)
def test_the_form_starts_a_run_with_the_settings_of_the_run_that_filled_it_in(
    home, known_speed, tiny_text, key, changes, longer
):
    run = prepare.new_run("one", corpus.add(tiny_text), key, **{**SHAPE, **changes})
    if longer:
        prepare.to_continue(run, **longer)
    model, train = read_config(run.folder), TrainConfig.of(run.settings()["train"])
    by_time = {name: SHAPE.get(name, 1) for name in (*PLANNED, "max_iters")} if train.budget else {}  # what it chooses
    wanted = {**model.as_dict(), **train.as_dict(), **by_time, "vocab_size": 0}
    for stored in (run.settings()["preset"], "gone"):
        run.change(preset=stored)
        for settings in (settings_of(run), read_settings(settings_json(run).encode())):
            chosen, *inputs = sent(form.field_values(settings))
            assert chosen == ("timed" if train.budget else key if key != "timed" and stored != "gone" else "quick")
            again = PRESETS[chosen].configs(**form.changes(chosen, *inputs))
            assert {**again[0].as_dict(), **again[1].as_dict(), **by_time} == wanted


def test_a_loss_is_predicted_only_for_a_text_like_the_one_it_was_measured_on(home, known_speed, tiny_text):
    guess = lambda text, **changes: form.estimate(corpus.add(text).id, *entered("timed", **changes))
    long, russian = tiny_text * 10, "Мельник ждал у старой реки, пока лодка плыла под мостом.\n" * 500
    assert len(tiny_text) < sizes.GUESSED < min(len(long), len(russian))
    said = guess(long)
    assert "Expect a validation loss of about " in said
    assert said.count("parameters") == 1
    too_often = guess(tiny_text * 5)  # 25 epochs
    for other in (guess(tiny_text), guess(russian), guess(long, layout="classic"), guess(long, dropout=0.2), too_often):
        assert "epochs" in other
        assert "loss" not in other
    for preset in ("timed", "quick"):
        assert "weight decay" not in form.estimate(corpus.add(long).id, *entered(preset))


def test_the_estimate_is_for_the_context_that_the_text_is_long_enough_for(home, known_speed, tiny_text):
    text = corpus.add(tiny_text)
    short, long = (form.estimate(text.id, *entered("quick", block_size=size)) for size in (128, 4096))
    assert long == f"{short} block_size was lowered to 128, so that the validation set holds two windows."


@pytest.mark.parametrize("preset", ["timed", "quick"])
def test_what_would_fill_the_server_s_memory_is_refused_before_it_is_measured(home, tiny_text, monkeypatch, preset):
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    monkeypatch.setenv("NANOGPT_MAX_PREDICTIONS", "1000")
    monkeypatch.setattr(pace, "trial", lambda *_: pytest.fail("it is measured"))
    me = Visitor("a" * 32)
    monkeypatch.setattr(form, "visitor", lambda: me)
    text = me.add_text(tiny_text)
    most = 1000 // len(text.chars)
    refusal = f"With {len(text.chars)} different characters, block_size may be at most {most} on this server, not "
    assert form.estimate(text.id, *entered(preset)).startswith(refusal)
    with pytest.raises(NanoGPTError, match=refusal):
        me.new_run("one", text, preset, **(dict(budget=30) if preset == "timed" else {}))


def test_presets_say_their_time_where_it_is_known_and_nothing_is_measured(home, monkeypatch):
    monkeypatch.setattr(pace, "speed", lambda *a: pytest.fail("it measures"))
    monkeypatch.setattr(measured, "processor", lambda: "a processor")
    monkeypatch.setattr(pace, "pick_device", lambda wanted: pace.Device("cpu", pace.torch.float32, "CPU"))
    labels = lambda: dict((key, label) for label, key in form.preset_choices())
    assert labels() == {key: one.label for key, one in PRESETS.items()}  # nothing was measured yet
    model, train = PRESETS["quick"].configs()
    device = pace.pick_device("cpu")
    work = 1.08 * 1000 * pace.step_flops(model, 16)  # a run of this preset, evaluations included
    measured.keep(measured.key_of(device, model, train), work / 90)
    assert labels()["quick"] == "Quick · ~2 min"
    assert labels()["laptop"] == "Laptop · ~2 min"  # twice the steps, of 12 instead of 16, at the same speed
    assert labels()["timed"] == "Time budget"
    assert labels()["lecture"].endswith(" h")
    measured.keep("another processor, CPU, float32, torch 1, load 0: x", 1.0)
    assert measured.typical(device) == work / 90


def test_a_preset_s_time_on_a_gpu_comes_from_the_speed_that_is_cached(home, monkeypatch):
    monkeypatch.setattr(gpu_plan, "product_speed", lambda device: pytest.fail("it measures"))
    device = pace.Device("cuda", pace.torch.bfloat16, "A GPU")
    monkeypatch.setattr(pace, "pick_device", lambda wanted: device)
    model, train = PRESETS["quick"].configs()
    assert pace.rough_seconds(model, train) is None
    measured.keep(gpu_plan.product_key(device), 1e14)
    step = gpu_plan.step_seconds(model.n_layer, pace.step_flops(model, train.batch_size), 1e14)
    assert pace.rough_seconds(model, train) == 1.08 * train.max_iters * step


def test_several_gpus_are_mentioned(home, known_speed, tiny_text, monkeypatch):
    fields, text = entered("laptop"), corpus.add(tiny_text)
    assert "GPUs" not in form.estimate(text.id, *fields)
    monkeypatch.setattr("nanogpt.device.places", lambda device: ["cuda-0", "cuda-1"])
    assert (
        "Each of your 2 GPUs can train a run; nanogpt train --processes 2 trains one on all of them."
        in form.estimate(text.id, *fields)
    )


def test_the_picture_is_of_the_model_that_a_run_would_train(home, known_speed, tiny_text, monkeypatch):
    text = corpus.add(tiny_text)
    drawn = lambda *fields: form_picture.picture(text.id, *fields)
    data = drawn(*entered("laptop", n_layer=3, batch_size=5))
    assert data["n_layer"] == 3
    assert data["boxes"][-1]["shape"] == f"(B, 64, {text.tokenizer().vocab_size})"
    assert "a training step of 5 sequences" in data["words"]
    assert data["words"].split()[0] in form.estimate(text.id, *entered("laptop", n_layer=3, batch_size=5))
    assert drawn(*entered("laptop", block_size=4096))["boxes"][-1]["shape"].startswith("(B, 128, ")  # lowered
    timed = drawn(*entered("timed"))
    assert timed["words"].split()[0] in form.estimate(text.id, *entered("timed"))
    with pytest.raises(NanoGPTError, match="must be divisible by n_head"):
        drawn(*entered("laptop", n_head=5))
    monkeypatch.setattr(queue, "running", lambda: ["other"])
    with pytest.raises(NanoGPTError, match="once no other run is training"):
        drawn(*entered("timed"))
    assert drawn(*entered("laptop"))["n_layer"] == 4


def form_of(preset: str) -> list:
    """Return the form's inputs for a preset, with few steps."""
    settings = form.settings_of(preset)
    return [preset, settings["layout"], "30s", 10, *(settings[k.name] for k in form.ADVANCED)]


def test_the_name_of_a_run_is_kept_until_it_has_started(home, known_speed, tiny_text, monkeypatch):
    text = corpus.add(tiny_text, "A play")
    monkeypatch.setattr(train_tab.place, "start", lambda run: None)
    start = lambda name: next(train_tab.attempt_start(text.id, name, *form_of("quick")))
    assert "name" not in start("!?")
    assert start("my-run")["name"] == ""
    refused = start("my-run")
    assert "There is already a run named my-run" in refused["said"].value["text"]
    assert "name" not in refused


def test_what_a_button_shows_while_it_waits_ends_also_if_there_is_no_answer(home):
    with gr.Blocks() as demo:
        button, note = gr.Button(elem_id="go"), gr.HTML()
        train_tab.on_click(button, lambda: [{}], None, [note], note)
    after = [one for one in demo.fns.values() if one.trigger_after is not None]
    shown = [one for one in after if one.trigger_only_on_failure]
    assert sum("toggle('waits', false)" in str(one.js) for one in after) == 2
    assert sum("toggle('waits', false)" in str(one.js) for one in shown) == 1
    [says] = [one.js for one in shown if one.outputs]
    assert "try again" in says
    assert not any(one.fn for one in shown)  # a server that has refused one request may refuse the next


def test_what_follows_a_click_does_not_wait_for_the_training_within_the_request(home, monkeypatch):
    monkeypatch.setattr(train_tab.place, "takes_the_request", lambda: True)
    with gr.Blocks() as demo:
        button, note = gr.Button(elem_id="go"), gr.HTML()
        then = train_tab.on_click(button, lambda: iter([{note: "begun"}]), None, [note], note)
        then(None, note, None, js="follows")
    [click] = [one for one in demo.fns.values() if one.fn and (button._id, "click") in one.targets]
    [follows] = [one for one in demo.fns.values() if one.js == "follows"]
    [shown, answered] = click.outputs
    assert shown is note
    assert (follows.targets, follows.trigger_after) == ([(answered._id, "change")], None)
    update, last = click.fn()
    assert update[note] == "begun"
    assert update[answered]
    assert last == {answered: gr.skip()}  # Gradio sends it again when the training ends


def test_every_setting_is_in_a_group_and_only_once():
    grouped = [name for names in form.GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(k.name for k in form.ADVANCED)


# --- in a browser --------------------------------------------------------------------------------------------------


def watched(page, tiny_text: str) -> Run:
    """Create a run without any numbers yet. The caller holds its lock and opens the tab."""
    from nanogpt.launch import prepare

    run = prepare.new_run("one", corpus.add(tiny_text, "A play"), "quick", n_layer=1, n_head=2, n_embd=16)
    run.event("started", step=0, device="CPU")
    return run


def grow(page, run: Run, step: int, text: str = "", **more) -> None:
    """Log a step with its losses, and a sample if there is a text for it. Wait until the page shows it."""
    run.log(step=step, seconds=step / 10, tokens=step * 4096, train_loss=3.0, tokens_per_second=40960, **more)
    if text:
        run.sample(step, text)
    wait_for_step(page, step)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_nothing_moves_the_plot(unopened_page, tiny_text: str, size):
    page = unopened_page
    page.set_viewport_size(dict(width=size[0], height=size[1]))
    run = watched(page, tiny_text)
    # on a phone, the estimate is above the plot, and it is made again when the run has ended
    above = "document.querySelector('#train-estimate').getBoundingClientRect().height" if size[0] == 390 else "0"
    top = lambda: page.evaluate(f"{PLOT}.top + scrollY - {above}")
    with queue.turn("one", "cpu"), run.held():
        visit(page)
        open_tab(page, "Train")
        wait_for_state(page, "running")
        page.wait_for_function("document.querySelector('#train-plot svg text')?.textContent.startsWith('Waiting')")
        before = top()
        assert page.locator("#train-tiles .tile-value").all_text_contents() == ["–"] * 4
        places = [before]
        for step in (1, 10, 1000):
            grow(page, run, step, LONG[: 10 * step], val_loss=2.5)
            places.append(top())
        assert page.locator("#train-tiles .tile-value").all_text_contents()[0] == "2.500"
        why = "Stopped early at step 1000: the model was memorizing its text. " * 4
        run.event("finished", step=1000, val_loss=2.5, message=why)  # under the locks, like a trainer
    wait_for_state(page, "finished")
    page.wait_for_selector("#train-more")  # how much longer to train
    assert places == [before] * 4
    said = page.locator("#train-status .status-line span").first
    assert said.inner_text().count("memorizing") == 4
    assert said.evaluate("(span) => span.scrollHeight <= span.clientHeight")  # whole, which takes more lines on a phone
    if size[0] == 1280:  # the sample is beside the plot, and both fit into the window
        box = page.locator("#train-sample").bounding_box()
        assert box["x"] > page.evaluate(f"{PLOT}.right")
        assert page.evaluate(f"{PLOT}.bottom") < 800
        assert top() == before
        page.evaluate("document.documentElement.style.width = `${innerWidth - 15}px`")  # as with a scrollbar
        page.wait_for_timeout(300)
        assert page.evaluate(HEIGHT_OF_BAR) < 40  # all on one line
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]


@pytest.mark.slow
@pytest.mark.moving
def test_a_new_sample_types_itself_and_the_slider_goes_back(unopened_page, tiny_text: str):
    page = unopened_page
    run = watched(page, tiny_text)
    slider = page.locator("#train-sample-at input")
    with queue.turn("one", "cpu"), run.held():
        grown = lambda step, text: grow(page, run, step, text, val_loss=2.5)
        visit(page)
        looks = page.evaluate(LOOKS)
        with page.expect_response(lambda one: (one.request.post_data_json or {}).get("fn_index") in looks):
            open_tab(page, "Train")  # a late answer would show the run once more, with a sample that isn't fresh
        wait_for_state(page, "running")
        page.evaluate(
            f"new MutationObserver(() => (window.lengths ||= []).push({SAMPLE}.textContent.length))"
            f".observe({SAMPLE}, {{ childList: true, characterData: true, subtree: true }})"
        )
        grown(10, LONG.strip())
        page.wait_for_function(f"text => {SAMPLE}.textContent === text", arg=LONG.strip())
        lengths = page.evaluate("lengths")
        assert len(set(lengths)) > 2  # it came bit by bit
        assert lengths == sorted(lengths)
        assert page.get_by_role("region", name="Sample at step 10").inner_text() == LONG.strip()
        page.emulate_media(reduced_motion="reduce")
        page.evaluate("lengths = []")
        grown(20, "A short one. " + LONG.strip())
        page.wait_for_function(f"{SAMPLE}.textContent.startsWith('A short one.')")
        assert page.evaluate("lengths") == [len("A short one. " + LONG.strip())]  # all of it at once
        slider.focus()
        page.keyboard.press("ArrowLeft")
        page.wait_for_function("document.querySelector('#train-sample').innerText.startsWith('Sample at step 10')")
        assert slider.get_attribute("aria-valuetext") == "step 10"
        assert page.locator("#train-sample-at").inner_text() == "10 of 20"
        grown(30, "The newest.")
        page.wait_for_function("document.querySelector('#train-sample-at input').max === '3'")
        assert page.locator("#train-sample").inner_text().startswith("Sample at step 10")  # it stays where it is …
        page.keyboard.press("End")
        page.wait_for_function(f"{SAMPLE}.textContent === 'The newest.'")
        grown(40, "Newer still.")
        page.wait_for_function(f"{SAMPLE}.textContent === 'Newer still.'")  # … and follows from the end on


@pytest.mark.slow
def test_screen_readers_hear_of_evaluations_and_not_of_each_step(unopened_page, tiny_text: str):
    page = unopened_page
    run = watched(page, tiny_text)
    heard = lambda: page.evaluate("[...document.querySelectorAll('[role=status]')].map((n) => n.textContent).join(' ')")
    with queue.turn("one", "cpu"), run.held():
        visit(page)
        open_tab(page, "Train")
        wait_for_state(page, "running")
        grow(page, run, 10, val_loss=2.5)
        page.wait_for_function("document.querySelector('#train-status [role=status]').textContent.includes('Step 10')")
        before = heard()
        assert "Training. Step 10: validation loss 2.500." in before
        grow(page, run, 11)
        page.wait_for_function("document.querySelector('#train-status').innerText.includes('step 11 of')")
        page.wait_for_function("document.querySelector('#page-status').innerText.includes('step 11 of')")
        assert heard() == before
        grow(page, run, 12, val_loss=2.4)
        page.wait_for_function("document.querySelector('#train-status [role=status]').textContent.includes('2.400')")


@pytest.mark.slow
def test_the_estimate_follows_what_is_typed(unopened_page):
    page = unopened_page
    visit(page)
    open_tab(page, "Train")
    told = "document.querySelector('#train-estimate textarea').value"
    page.wait_for_function(f"{told}.includes('parameters')")
    field = page.locator("#train-budget :is(input, textarea)")
    field.focus()
    for key in ("End", *["Backspace"] * 2):  # for which Gradio has no event of its own
        page.keyboard.press(key)
    page.wait_for_function(f"{told}.startsWith('Training time is empty')")
    # the data of an estimate are the text's id, the preset, the layout, the time; others begin with a state
    times = lambda request: re.findall(r'^{"data":\["\w+","timed","modern","(.*?)"', request.post_data or "")
    asked: list[str] = []
    page.on("request", lambda request: asked.extend(times(request)))
    with page.expect_response(lambda answer: times(answer.request) == ["90s"]):
        page.keyboard.type("90s")
    page.wait_for_function(f"{told}.includes('parameters')")
    assert asked in ([*half, "90s"] for half in ([], ["9"], ["90"], ["9", "90"]))  # where the machine paused for long
    assert field.evaluate("(field) => field === document.activeElement")
    page.get_by_label("Quick").check()
    page.wait_for_function(f"{told}.startsWith('About')")
    steps = page.locator("#train-max-iters input")
    with page.expect_response(lambda answer: '","quick","' in (answer.request.post_data or "")):
        steps.fill("")
        steps.press("-")
    before = page.evaluate(told)
    steps.fill("4000")
    page.wait_for_function(f"{told}.startsWith('About') && {told} !== {json.dumps(before)}")
    assert page.locator(".toast-body").count() == 0
    page.wait_for_function("!document.querySelector('#train-estimate.old')")


@pytest.mark.slow
def test_the_estimate_is_made_again_when_training_ends_and_only_then(unopened_page, tiny_text: str):
    page = unopened_page
    run = watched(page, tiny_text)
    told = "document.querySelector('#train-estimate textarea').value"
    with queue.turn("one", "cpu"), run.held():
        visit(page)
        open_tab(page, "Train")
        page.wait_for_function(f"{told}.includes('available once no other run is training')")
        asked = []
        estimates = page.evaluate(
            """() => {
              const id = gradio_config.components.find((one) => one.props.elem_id === "train-estimate").id;
              const shows = ({ outputs }) => String(outputs) === String([id]);
              return gradio_config.dependencies.filter(shows).map((one) => one.id);
            }"""
        )
        page.on(
            "request", lambda request: asked.append(request.post_data_json["fn_index"]) if "/run/" in request.url else 0
        )
        grow(page, run, 1, val_loss=2.5)
        grow(page, run, 2, val_loss=2.4)
        assert not set(asked) & set(estimates)
        run.event("finished", step=2, val_loss=2.4)
    page.wait_for_function(f"{told}.includes('parameters')")
    page.wait_for_function("/^(Ready|Idle)/.test(document.querySelector('#page-status').innerText)")
    assert len([one for one in asked if one in estimates]) == 1


# Keeps the timers that fire each second, of which Gradio's is one, in `timers`.
TIMERS = """
window.timers = new Set();
const { setInterval: begin, clearInterval: end } = window;
window.setInterval = (call, each, ...more) => {
  const id = begin(call, each, ...more);
  if (each === 1000) timers.add(id);
  return id;
};
window.clearInterval = (id) => { timers.delete(id); end(id); };
"""


@pytest.mark.slow
def test_a_page_at_rest_looks_again_when_you_come_back_and_its_lists_follow(unopened_page, tiny_text: str):
    page = unopened_page
    page.add_init_script(TIMERS)
    prepare.new_run("here", corpus.add(tiny_text, "A play"), "quick", n_layer=1, n_embd=16, n_head=2)
    visit(page)
    open_tab(page, "Train")
    page.wait_for_function("document.querySelector('#train-estimate textarea').value.includes('parameters')")
    page.wait_for_function("timers.size === 0")
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/run/" in request.url else None)
    run = prepare.new_run("elsewhere", corpus.listed()[0], "quick", n_layer=1, n_embd=16, n_head=2)
    run.event("started", step=0, device="CPU")
    said = "document.querySelector('#page-status').innerText"
    with queue.turn("elsewhere", "cpu"), run.held():
        page.wait_for_timeout(1500)
        assert asked == []
        page.evaluate("window.dispatchEvent(new Event('focus'))")
        page.wait_for_function(f"{said}.startsWith('Training elsewhere')")
        page.locator("#train-run input").click()
        page.get_by_role("option", name="elsewhere").wait_for()
        page.keyboard.press("Escape")
        assert page.locator("#train-run input").input_value() == "here"
        open_tab(page, "Runs")
        state = "document.querySelector('tr[data-name=elsewhere] [data-state]')?.innerText === '{}'"
        page.wait_for_function(state.format("Training"))
        page.locator("tr[data-name=here] .runs-open").focus()
        run.event("finished", step=50)
    page.wait_for_function(state.format("Finished"))
    assert page.evaluate("document.activeElement.matches('tr[data-name=here] .runs-open')")
    it_waits_for_an_open_menu(page)
    a_run_that_ends_can_be_sampled_from_at_once(page)


def it_waits_for_an_open_menu(page) -> None:
    """When a run ends while you choose from the menu of another row."""
    run = Run("elsewhere")
    with queue.turn("elsewhere", "cpu"), run.held():
        run.event("started", step=50, device="CPU")
        page.evaluate("window.dispatchEvent(new Event('focus'))")
        page.wait_for_function("document.querySelector('#page-status').innerText.startsWith('Training')")
        page.wait_for_function("document.querySelector('tr[data-name=elsewhere] [data-state=running]')")
        page.get_by_role("button", name="Actions for here").click()
        run.event("finished", step=50)
    page.wait_for_function("/^(Ready|Idle)/.test(document.querySelector('#page-status').innerText)")
    page.wait_for_timeout(500)  # in which the table would have been drawn
    assert page.get_by_role("menuitem", name="Open run").is_visible()


def a_run_that_ends_can_be_sampled_from_at_once(page) -> None:
    """Without opening the Sample tab again."""
    page.keyboard.press("Escape")
    open_tab(page, "Sample")
    run = Run("elsewhere")
    with queue.turn("elsewhere", "cpu"), run.held():
        run.event("started", step=50, device="CPU")
        page.evaluate("window.dispatchEvent(new Event('focus'))")
        page.wait_for_function("document.querySelector('#page-status').innerText.startsWith('Training')")
        (run.folder / "model.safetensors").write_bytes(weights_bytes(GPT(read_config(run.folder))))
        run.event("finished", step=50)
    page.wait_for_function("/^(Ready|Idle)/.test(document.querySelector('#page-status').innerText)")
    page.locator("#sample-run input").click()
    page.get_by_role("option", name="elsewhere").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_function("document.querySelector('tr[data-name=elsewhere] [data-state=finished]')")


@pytest.mark.slow
def test_the_time_left_counts_down_between_rows(browser):
    page = browser.new_page()
    page.clock.install()  # from here on, time passes only in `pass_by`
    source = (Path(form.__file__).parent / "tiles.js").read_text(encoding="utf-8")
    page.evaluate(f"() => {{ {source}; window.box = document.body.appendChild(document.createElement('p')); "
        "window.tile = (more) => draw(box, [{ label: 'Time left', value: '', note: '', ...more }]); }")  # fmt: skip
    shown = lambda: page.evaluate("box.querySelector('.tile-value').textContent")

    def pass_by(seconds: float) -> str:
        page.clock.run_for(round(1000 * seconds))
        return shown()

    page.clock.pause_at(page.evaluate("Date.now() + 1000"))
    page.evaluate("tile({ left: 3661.5 })")
    assert [shown(), pass_by(0.4), pass_by(0.2), pass_by(1.0), pass_by(3600)] == [
        "1:01:02", "1:01:02", "1:01:01", "1:01:00", "1:00"
    ]  # fmt: skip
    page.evaluate("tile({ left: 2 })")  # a row says that it takes shorter
    assert [shown(), pass_by(1.1), pass_by(1.0), pass_by(60)] == ["0:02", "0:01", "0:00", "0:00"]
    page.evaluate("tile({ left: 9 })")
    page.evaluate("tile({ value: '–' })")  # it was stopped
    assert [shown(), pass_by(5)] == ["–", "–"]
    page.close()


@pytest.mark.slow
def test_presets_are_one_tab_stop_with_arrow_keys(standing_page):
    page = standing_page
    open_tab(page, "Train")
    page.wait_for_function("document.querySelector('#train-estimate textarea').value.includes('parameters')")
    chosen = "document.querySelector('#train-preset input:checked').value"
    assert page.get_by_role("radiogroup", name="Preset").get_by_role("radio").count() == 4
    page.locator("#train-preset input:checked").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#train-max-iters input")  # "quick" has a number of steps in place of a time
    assert page.evaluate(chosen) == "quick"
    assert page.evaluate("document.activeElement.value") == "quick"
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#train-budget input, #train-budget textarea")
    assert page.evaluate(chosen) == "timed"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#train-budget') !== null")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.value") == "timed"
    page.wait_for_function("/ · ~\\d/.test(document.querySelector('#train-preset').innerText)")


@pytest.mark.slow
@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_on_a_phone_a_start_brings_the_result_into_view(standing_page, motion: str):
    page = standing_page
    page.set_viewport_size(dict(width=390, height=844))
    page.emulate_media(reduced_motion=motion)
    open_tab(page, "Train")
    page.evaluate(
        """() => {
          const scroll = Element.prototype.scrollIntoView;
          Element.prototype.scrollIntoView = function (how) { window.how = how; scroll.call(this, how); };
        }"""
    )
    page.locator("#train-name input, #train-name textarea").fill("Bad Name!")
    page.locator("#train-start").click()
    page.wait_for_function("document.querySelector('#train-said')?.innerText.includes('Bad Name!')")
    page.wait_for_function(
        """() => {
          const at = document.querySelector("#train-said").getBoundingClientRect();
          return at.top > 0 && at.bottom <= innerHeight && window.how.block === "nearest"; // the refusal is in view
        }"""
    )
    page.locator("#train-name input, #train-name textarea").fill("good")
    page.locator("#train-start").click()
    page.wait_for_function(SHOWN)
    assert page.evaluate("how.behavior") == ("instant" if motion == "reduce" else "smooth")
    page.wait_for_function(f"{PLOT}.top < innerHeight - 200 && {PLOT}.top > 0")
    wait_for_state(page, "running", "queued")
    page.locator("#train-stop").click()  # as soon as it is enabled
    wait_for_state(page, "stopped")


@pytest.mark.slow
def test_on_a_phone_the_first_tab_s_button_shows_the_result_and_a_late_tick_is_corrected(standing_page):
    page = standing_page
    page.set_viewport_size(dict(width=390, height=844))
    page.emulate_media(reduced_motion="reduce")
    tick = page.evaluate("gradio_config.dependencies.find((one) => one.targets.some((on) => on[1] === 'tick')).id")
    late = []

    def hold_the_first_tick(route, request):
        answer = route.fetch()
        if not late and request.post_data_json["fn_index"] == tick:
            late.append(lambda: route.fulfill(response=answer))
        else:
            route.fulfill(response=answer)

    page.route("**/run/predict*", hold_the_first_tick)
    page.locator("#welcome-train:not([disabled])").click()
    page.wait_for_function(SHOWN)
    wait_for_state(page, "running", "queued")
    until(lambda: late, wait=lambda: page.wait_for_timeout(20))
    page.locator("#train-stop").click()  # as soon as it is enabled
    wait_for_state(page, "stopping", "stopped")
    late[0]()
    wait_for_state(page, "stopped")
    page.wait_for_function("/^(Ready|Idle)/.test(document.querySelector('#page-status').innerText)")
    page.unroute_all(behavior="ignoreErrors")


# The parts that stand above or to the left of one that comes before them, as the Tab key goes.
AGAINST_THE_ORDER = """() => ["#train-parts", "#train-watch"].flatMap((name) => {
  const parts = [...document.querySelector(name).children].filter((part) => part.offsetParent);
  const boxes = parts.map((part) => part.getBoundingClientRect());
  const follows = (box, before) => box.top > before.bottom - 1 || box.left > before.right - 1;
  return parts.slice(1).filter((_, i) => !follows(boxes[i + 1], boxes[i]));
}).map((part) => part.id)"""


@pytest.mark.slow
def test_what_is_shown_is_in_the_order_of_the_tab_key_at_each_width(standing_page):
    page = standing_page
    open_tab(page, "Train")
    page.wait_for_selector("#train-plot svg")
    for width in (1280, 1000, 768, 360):
        page.set_viewport_size(dict(width=width, height=844))
        assert page.evaluate(AGAINST_THE_ORDER) == [], width
    settings, result = (page.locator(f"#train-{one}").bounding_box() for one in ("settings", "result"))
    assert 0 <= result["y"] - settings["y"] - settings["height"] < 30  # on a phone, the result follows the buttons


@pytest.mark.slow
def test_advanced_stands_in_even_rows(standing_page):
    page = standing_page
    open_tab(page, "Train")
    page.get_by_label("Quick").check()
    page.wait_for_selector("#train-max-iters input")
    page.get_by_role("button", name="Advanced").first.click()
    page.wait_for_selector("#train-n-layer input")
    groups = page.locator("#train-advanced h4").all_inner_texts()
    assert groups == ["Model", "Optimization", "Schedule", "Evaluation"]
    rows = page.evaluate(
        """() => [...document.querySelectorAll(".advanced-fields")].map((group) => {
          const boxes = [...group.querySelectorAll(":scope > .block, .form > .block")];
          return boxes.map((node) => node.getBoundingClientRect()).map(
            (box) => [box.left, box.top, box.width, box.height].map(Math.round));
        })"""
    )
    lefts = {left for row in rows for left, *_ in row}
    assert len(lefts) == 6  # columns
    for row in rows:
        for top in {top for _, top, *_ in row}:
            assert len({tuple(size) for _, at, *size in row if at == top}) == 1
    edges = page.evaluate(
        """['#train-advanced', '#link-copy', '#train-start', '#train-preset', '#run-panel'].map((name) => {
          const node = document.querySelector(name);
          return (node.closest(".form") || node).getBoundingClientRect().left; // the border is the form's
        })"""
    )
    assert max(edges) - min(edges) < 1
    assert page.evaluate("document.querySelector('.advanced-fields #train-layout') !== null")
    redraw_the_picture(page)


def redraw_the_picture(page) -> None:
    """Change the number of layers, with the picture of the model closed and then open. Closed, it isn't drawn."""
    layers = page.locator("#train-architecture .architecture-times")
    page.locator("#train-n-layer input").fill("3")
    page.keyboard.press("Tab")
    page.wait_for_function("document.querySelector('#train-estimate textarea').value.includes('parameters')")
    assert layers.count() == 0
    page.get_by_role("button", name="The model as a picture").click()
    page.wait_for_function("document.querySelector('#train-architecture .architecture-times')")
    assert layers.text_content() == "block, 3 times"
    page.locator("#train-n-layer input").fill("2")
    page.keyboard.press("Tab")
    page.wait_for_function("document.querySelector('.architecture-times').textContent === 'block, 2 times'")
    page.get_by_label("Laptop").check()
    page.wait_for_function("document.querySelector('.architecture-times').textContent === 'block, 4 times'")


@pytest.mark.slow
def test_the_picture_follows_a_choice_that_leaves_the_estimate_as_it_is(unopened_page, tiny_text: str):
    page = unopened_page
    run = watched(page, tiny_text)
    words = "document.querySelector('#train-architecture .architecture-words')?.textContent"
    told = "document.querySelector('#train-estimate textarea').value"
    with queue.turn("one", "cpu"), run.held():
        visit(page)
        open_tab(page, "Train")
        page.get_by_label("Quick").check()
        page.wait_for_selector("#train-max-iters input")
        page.wait_for_function(f"{told}.includes('available once no other run is training')")
        page.get_by_role("button", name="The model as a picture").click()
        page.wait_for_function(words)
        before, estimate = page.evaluate(words), page.evaluate(told)
        page.get_by_role("button", name="Advanced").first.click()
        page.locator("#train-optimizer input").click()
        page.get_by_role("option", name="muon", exact=True).click()
        page.wait_for_function(f"was => {words} !== was", arg=before)
        assert page.evaluate(told) == estimate


@pytest.mark.slow
def test_that_there_was_no_answer_is_said_without_the_server(unopened_page):
    page = unopened_page.context.new_page()  # whose console may have errors
    visit(page)
    open_tab(page, "Train")
    page.locator("#train-start").wait_for()
    page.route("**/run/predict*", lambda route: route.fulfill(status=429, json=dict(detail="Too many requests.")))
    page.locator("#train-start").click()
    page.wait_for_function("document.querySelector('#train-said')?.innerText.includes('try again')")
    assert page.locator("#train-said .status-line").get_attribute("data-state") == "failed"
    page.wait_for_function("!document.querySelector('.waits')")
    page.close()


@pytest.mark.slow
def test_the_estimate_and_the_picture_follow_loaded_settings(unopened_page, tiny_text: str, tmp_path: Path):
    page = unopened_page
    ended_run(corpus.add(tiny_text, "A play"), "one", n_layer=5, n_head=2, n_embd=16)
    visit(page)
    open_tab(page, "Train")
    told = "document.querySelector('#train-estimate textarea').value"
    page.wait_for_function(f"{told}.includes('parameters')")
    page.get_by_role("button", name="The model as a picture").click()
    layers = "document.querySelector('#train-architecture .architecture-times')?.textContent"
    page.wait_for_function(layers)
    page.get_by_role("button", name="Manage run").click()
    page.get_by_role("button", name="Files and settings").click()
    page.locator("#run-use-settings").click()
    page.wait_for_function(f"{told}.startsWith('About') && {layers} === 'block, 5 times'")
    page.wait_for_function("!document.querySelector('#train-estimate.old')")
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(dict(preset="quick", n_layer=3)))
    page.locator("input[type=file][accept='.json']").set_input_files(path)
    page.wait_for_function(f"{layers} === 'block, 3 times'")


@pytest.mark.slow
def test_the_figures_and_the_sample_can_be_read(unopened_page, tiny_text: str):
    page = unopened_page
    put_run("one", tiny_text, "finished")
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    visit(page)
    open_tab(page, "Train")
    wait_for_state(page, "finished")
    page.locator("#train-details summary").click()
    assert "CPU" in page.locator("#train-details dl").inner_text()
    assert page.locator(".typing-text").inner_text() == "text 50"
    page.get_by_role("button", name="Log scale").first.click()
    page.get_by_role("button", name="Manage run").click()
    page.locator("#run-delete").click()
    page.wait_for_selector("#run-delete-yes")
    page.mouse.move(0, 0)
    assert faint(page) == []
    yes, no = (page.locator(f"#run-delete-{name}").bounding_box() for name in ("yes", "no"))
    assert yes["x"] + yes["width"] + 8 <= no["x"]  # two buttons, and no slab
    assert max(yes["width"], no["width"]) < 250
