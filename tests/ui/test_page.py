"""The page as you would use it: a real server process, real trainers, a real Chromium."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import Server, ended_run, visit, wait_until_still

from nanogpt import corpus
from nanogpt.launch import prepare
from nanogpt.runs import Run, queue
from nanogpt.ui import drawn, welcome

pytestmark = pytest.mark.slow
SMALL = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16, "batch_size": 4}


def open_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def upload(page, path: Path) -> None:
    page.set_input_files("#corpus-upload input[type=file]", str(path))
    page.wait_for_function("name => document.querySelector('#corpus-report h3')?.textContent === name", arg=path.stem)


def fill_small(page, max_iters: int) -> None:
    """Fill in settings for a model that trains in seconds."""
    page.get_by_label("Quick").check()
    page.locator("#train-max-iters input").fill(str(max_iters))  # appears once the preset has filled in the fields
    page.get_by_role("button", name="Advanced").first.click()
    for name, value in SMALL.items():
        page.locator(f"#train-{name.replace('_', '-')} input").fill(str(value))


def wait_for_state(page, *states: str) -> None:
    page.wait_for_function(
        "states => states.includes(document.querySelector('#train-status .status-line')?.dataset.state)",
        arg=list(states),
    )


def step(page) -> int:
    """Return the last step on the plot."""
    return int(page.locator("#train-plot svg").get_attribute("data-step") or 0)


def wait_for_step(page, at_least: int) -> None:
    page.wait_for_function(
        "n => Number(document.querySelector('#train-plot svg')?.dataset.step || 0) >= n", arg=at_least
    )


@pytest.fixture
def text_file(tmp_path: Path, tiny_text: str) -> Path:
    path = tmp_path / "millers-play.txt"
    path.write_text(tiny_text, encoding="utf-8")
    return path


@pytest.mark.usefixtures("real_process")
def test_the_main_job(page, server: Server, text_file: Path, home: Path):
    upload(page, text_file)
    assert f"{len(text_file.read_text()):,}" in page.locator("#corpus-report dl").inner_text()
    page.locator("#corpus-next").click()
    fill_small(page, 100_000)
    page.locator("#train-start").click()
    wait_for_state(page, "running")
    wait_for_step(page, 1)
    the_plot_goes_on_in_place(page)
    a_refresh_changes_nothing(page)
    neither_does_a_new_server(page, server, home / "checkpoints" / "millers-play" / "metrics.jsonl")
    stop_saves_and_continue_goes_on(page)
    open_tab(page, "Sample")
    it_writes_and_can_be_stopped(page)
    open_tab(page, "Train")
    page.locator("#train-stop").click()
    wait_for_state(page, "stopped")


def the_plot_goes_on_in_place(page) -> None:
    svg = page.locator("#train-plot svg").element_handle()
    wait_for_step(page, step(page) + 1)
    assert svg.evaluate("node => node.isConnected")


def a_refresh_changes_nothing(page) -> None:
    before = step(page)
    page.reload()
    open_tab(page, "Train")
    wait_for_state(page, "running")
    wait_for_step(page, before + 1)


def neither_does_a_new_server(page, server: Server, metrics: Path) -> None:
    before = step(page)
    page.goto("about:blank")  # leave the page: when the server is back, it would reload itself while we load it
    server.stop()
    size = metrics.stat().st_size
    server.start()
    page.goto(server.url)
    open_tab(page, "Train")
    wait_for_state(page, "running")
    wait_for_step(page, before + 1)
    assert metrics.stat().st_size > size


def stop_saves_and_continue_goes_on(page) -> None:
    page.locator("#train-stop").click()
    wait_for_state(page, "stopped")
    stopped = step(page)
    assert page.locator("#train-sample .typing-text").text_content()
    assert page.locator("#train-sample .typing-label").inner_text().startswith("Sample at step ")
    page.locator("#train-continue").click()
    wait_for_state(page, "running")
    wait_for_step(page, stopped + 1)


def it_writes_and_can_be_stopped(page) -> None:
    text = "(document.querySelector('#sample-output p') || {textContent: ''}).textContent"
    length = page.locator("#sample-length input[type=number]")
    page.locator("#sample-prompt textarea").fill("The ")
    length.fill("40")
    length.press("Tab")
    page.locator("#sample-generate").click()
    page.wait_for_function(f"{text}.length === 44")
    length.fill("10000")
    length.press("Tab")
    many = page.locator("#sample-num-samples input[type=number]")
    many.fill("16")  # a single sample from such a small model would finish before Stop is pressed
    many.press("Tab")
    page.locator("#sample-generate").click()
    page.wait_for_function("document.querySelectorAll('#sample-output p').length === 16")
    page.wait_for_function(f"{text}.length > 50")
    page.locator("#sample-stop").click()
    written = wait_until_still(page, text)  # … and keeps the text so far
    assert written.startswith("The ")
    assert 50 < len(written) <= 10_004
    assert page.locator("#sample-stop").is_disabled()
    assert page.locator("#sample-output .writing").get_attribute("data-state") == "stopped"
    assert page.locator("#sample-whose .status-line").get_attribute("data-state") == "finished"


IN_WINDOW = """(selector) => {
  const { top, bottom } = document.querySelector(selector).getBoundingClientRect();
  return top >= 0 && bottom <= innerHeight;
}"""


def test_what_cannot_be_done_is_said_where_it_happened(standing_page, tmp_path: Path):
    page = standing_page
    short = tmp_path / "short.txt"
    short.write_text("too short", encoding="utf-8")
    page.set_viewport_size(dict(width=360, height=640))  # a phone, where the report is far below
    page.evaluate("scrollTo(0, 0)")
    spoken = page.locator("#corpus-report [role=status]").element_handle()
    page.set_input_files("#corpus-upload input[type=file]", str(short))
    page.wait_for_selector("#corpus-report .note-error")
    assert "characters" in page.locator("#corpus-report .note-error").inner_text()
    page.wait_for_function(IN_WINDOW, arg="#corpus-report .note-error")
    assert spoken.text_content().startswith("Couldn't use this text.")  # in a region that was there before
    page.set_viewport_size(dict(width=1280, height=900))

    # the previous text is still selected, and named; clearing an empty list changes nothing
    assert page.locator("#corpus-next").inner_text() == 'Next: choose settings for "Python reference"'
    assert page.locator("#welcome-train").inner_text() == 'Train on "Python reference" for 1 minute'
    assert page.locator("#corpus-builtin input:checked").get_attribute("value") is not None
    # and an invalid number shows a message in the tab
    open_tab(page, "Train")
    page.get_by_label("Quick").check()
    page.wait_for_selector("#train-max-iters input")  # the preset has filled in the fields
    page.get_by_role("button", name="Advanced").first.click()
    page.locator("#train-n-head input").fill("3")
    line = page.locator("#train-said [role=status]").first.element_handle()
    page.locator("#train-start").click()
    page.wait_for_function("(line) => line.isConnected && line.textContent.includes('n_embd')", arg=line)
    assert page.locator("#train-n-head input").input_value() == "3"


def test_pasted_text_is_text_and_never_html(standing_page):
    page = standing_page
    hostile = "<img src=x onerror=window.owned=1> ${window.owned=1} {{value}} 你好 🙂 \n" * 40
    page.locator("#corpus-paste textarea").fill(hostile)
    page.locator("#corpus-use").click()
    page.wait_for_function("document.querySelector('#corpus-report pre')?.textContent.includes('onerror')")
    assert page.evaluate("window.owned") is None
    assert page.locator("#corpus-report img").count() == 0


CYRILLIC = "Мельник ждал у старой реки, пока лодка плыла под мостом.\n"


def test_another_alphabet_in_another_encoding(standing_page, standing_server: Server, tmp_path: Path):
    page = standing_page
    mine = tmp_path / "Мельник.txt"
    mine.write_bytes((CYRILLIC * 60).encode("koi8-r"))
    upload(page, mine)
    report = page.locator("#corpus-report")
    assert CYRILLIC.strip() in report.locator("pre").inner_text()
    assert "KOI8" in report.locator("dl").inner_text()
    assert f"{len(set(CYRILLIC))}" in report.locator("dl").inner_text()
    for label in ("Windows-1251", "KOI8-R"):  # decode it differently and back again: only one text is kept
        before = report.locator("pre").inner_text()
        page.get_by_role("button", name="Encoding and clean-up").click() if label == "Windows-1251" else None
        page.locator("#corpus-encoding input").fill(label)
        page.get_by_role("option").filter(has_text=label).first.click()
        page.wait_for_function("was => document.querySelector('#corpus-report pre')?.innerText !== was", arg=before)
    assert CYRILLIC.strip() in report.locator("pre").inner_text()
    stored = [
        json.loads(path.read_text(encoding="utf-8")) for path in standing_server.home.glob("corpora/*/corpus.json")
    ]
    assert [one["name"] for one in stored if one["source"].startswith("files")] == ["Мельник"]
    encoding, paste = page.locator("#corpus-encoding input"), page.locator("#corpus-paste textarea")
    paste.fill("too short")
    page.locator("#corpus-use").click()
    page.wait_for_function("document.querySelector('#corpus-report')?.innerText.includes('Your previous text')")
    assert "KOI8-R" in encoding.input_value()  # in which the previous text would be read again
    paste.fill(CYRILLIC * 70)
    page.locator("#corpus-use").click()
    page.wait_for_function("document.querySelector('#corpus-encoding input')?.value === 'Detect automatically'")
    page.locator("#corpus-stored input").click()
    page.get_by_role("option", name="Мельник").click()
    page.wait_for_function("document.querySelector('#corpus-report h3')?.textContent === 'Мельник'")
    page.reload()  # it is still selected
    page.wait_for_function("document.querySelector('#corpus-report h3')?.textContent === 'Мельник'")
    open_tab(page, "Train")
    page.wait_for_function("document.querySelector('#train-text textarea')?.value.startsWith('Text: Мельник')")


def put_run(name: str, tiny_text: str, *events: str) -> Run:
    """Create a run with losses at three steps, without training it."""
    made = prepare.new_run(name, corpus.add(tiny_text, "A play"), "quick", **SMALL, max_iters=50)
    made.event("started", step=0, device="CPU")
    for at in (0, 25, 50):
        made.log(step=at, seconds=1.0, tokens=at * 64, train_loss=4.0 - at / 50, val_loss=4.1 - at / 50)
        made.sample(at, f"text {at}")
    for event in events:
        made.event(event, step=50)
    return made


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enable the model that ships with the project, which other tests hide."""
    monkeypatch.delenv("NANOGPT_SHIPPED")


def test_the_bundled_run_is_replayed_and_can_be_looked_through(shipped, page):
    """With reduced motion, the last sample is shown at once, and the slider still shows every sample."""
    page.emulate_media(reduced_motion="reduce")
    page.reload()
    caption, text = page.locator(".replay-caption"), page.locator(".replay-text")
    caption.wait_for()
    samples = Run("shakespeare").history().samples
    assert re.fullmatch(
        f"step {samples[-1]['step']:,}\\nvalidation loss \\S+\\ntraining loss \\S+", caption.inner_text()
    )
    assert text.text_content() == samples[-1]["text"].strip()
    slider = page.locator(".replay-controls input")
    slider.fill("1")
    assert caption.inner_text().startswith("step 0\nvalidation loss 4.")
    assert text.text_content() == samples[0]["text"].strip()
    page.emulate_media(reduced_motion="no-preference")
    page.get_by_role("button", name="Replay").click()
    page.wait_for_function("Number(document.querySelector('.replay-controls input').value) > 2")
    page.wait_for_function(f"document.querySelector('.replay-caption').innerText.includes('{samples[-1]['step']:,}')")


def test_the_first_tab_replays_a_public_run_and_speaks_only_of_one_that_is_there(home, tiny_text, monkeypatch):
    assert welcome.replayed() is None
    assert welcome.introduction(None) == welcome.INTRODUCTION
    run = ended_run(corpus.add(tiny_text, "mine"), "diary")
    assert welcome.replayed() is None  # it is private
    run.change(public=True)  # as in a Space with this model
    assert welcome.replay(welcome.replayed())["samples"][-1] == [50, "text 50"]
    assert welcome.introduction(run).endswith("Here is how the model `diary` learned.")
    monkeypatch.setenv("NANOGPT_SHIPPED", "on")
    assert welcome.introduction(welcome.replayed()).endswith("comes with this app learned from Shakespeare.")


WATCH_CLASSES = """(button) => new MutationObserver(() => { window.waited ||= button.classList.contains("waits"); })
    .observe(button, { attributes: true })"""


def test_one_click_trains_and_a_late_answer_to_stop_is_corrected(standing_page):
    page = standing_page
    button = page.locator("#welcome-train:not([disabled])")
    button.evaluate(WATCH_CLASSES)
    place = "JSON.parse(sessionStorage.getItem('nanogpt-place'))"
    page.evaluate(
        f"sessionStorage.setItem('nanogpt-place', JSON.stringify({{ ...{place}, models: {{ sample: 'old' }} }}))"
    )
    button.click()
    wait_for_state(page, "running", "queued")
    page.wait_for_function("!document.querySelector('.waits')")
    assert page.evaluate("window.waited")
    page.wait_for_function(f"!{place}.models.sample")  # Sample and Understand follow the new run
    assert page.get_by_role("tab", name="Train", exact=True).get_attribute("aria-selected") == "true"
    wait_for_step(page, 1)
    run = Run("python-reference")
    assert run.settings()["train"]["budget"] == 60
    late = hold_the_answer_to_stop(page)
    page.locator("#train-stop").click()
    wait_for_state(page, "stopped")  # which a tick says
    page.wait_for_function("/^(Ready|Idle)/.test(document.querySelector('#page-status').innerText)")
    page.locator("#train-status .status-line").evaluate(WATCH_STOPPING)
    late[0]()
    page.wait_for_function("window.wasStopping")
    wait_for_state(page, "stopped")
    page.unroute_all(behavior="ignoreErrors")


WATCH_STOPPING = """(line) => new MutationObserver(() => { window.wasStopping ||= line.dataset.state === "stopping"; })
    .observe(line, { attributes: true })"""


def hold_the_answer_to_stop(page) -> list:
    """Keep back the answer to Stop. Return a list which will hold the function that sends it."""
    button = page.evaluate("gradio_config.components.find((one) => one.props.elem_id === 'train-stop').id")
    wired = "gradio_config.dependencies.find((one) => one.targets.some(([id]) => id === %d)).id"
    handler, late = page.evaluate(wired % button), []

    def hold(route, request):
        answer = route.fetch()
        if request.post_data_json["fn_index"] == handler:
            late.append(lambda: route.fulfill(response=answer))
        else:
            route.fulfill(response=answer)

    page.route("**/run/predict*", hold)
    return late


def test_the_plot_is_read_with_the_keyboard(standing_page, tiny_text: str):
    page = standing_page
    put_run("one", tiny_text, "finished")
    open_tab(page, "Train")
    wait_for_step(page, 50)
    focus = "document.activeElement.matches('#train-plot svg')"
    page.get_by_role("button", name="PNG", exact=True).focus()  # the last one in the toolbar
    page.keyboard.press("Tab")
    assert page.evaluate(focus)
    plot = page.get_by_role("slider", name="Loss over steps", exact=True)
    spoken = lambda: plot.get_attribute("aria-valuetext")
    assert spoken() == "Latest training loss 3.0000, validation loss 3.1000."
    page.keyboard.press("ArrowLeft")
    assert spoken() == "Step 25, training loss 3.5000, validation loss 3.6000."
    assert [plot.get_attribute(f"aria-value{key}") for key in ("min", "now", "max")] == ["0", "25", "50"]
    assert "training 3.5000" in page.locator("#train-plot .plot-tip").inner_html()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")  # stays at the last step
    assert spoken().startswith("Step 50,")
    page.keyboard.press("Home")
    assert spoken().startswith("Step 0,")
    page.keyboard.press("Tab")
    assert not page.evaluate(focus)
    assert page.locator("#train-plot .plot-tip").count() == 0
    assert spoken().startswith("Latest ")


PLOT_OF = """data => {
  %s;
  const box = document.body.appendChild(document.createElement("p"));
  draw(box, data);
  const boxes = [...box.querySelectorAll(".plot-end")].map((text) => text.getBBox());
  const meet = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && Math.abs(a.y - b.y) < a.height - 4;
  const found = [boxes.length, boxes.some((a, i) => boxes.slice(i + 1).some((b) => meet(a, b)))];
  const low = Math.max(...boxes.map((one) => one.y + one.height)) > 270;
  const note = getComputedStyle(box.querySelector(".plot-note")).visibility;
  box.remove();
  return [...found, low, note];
}"""  # draws a plot; returns how many losses are named in it, whether two names overlap or one is low, and the note


def test_the_plot_draws_what_was_measured_and_nothing_else(standing_page, tiny_text: str):
    """The losses are 4, 3.5, 3 (training) and 4.1, 3.6, 3.1 (validation), at steps 0, 25 and 50 of 50."""
    page = standing_page
    put_run("one", tiny_text, "finished")
    open_tab(page, "Train")
    wait_for_step(page, 50)
    texts = lambda: page.locator("#train-plot svg text").all_text_contents()
    assert "loss (nats per character)" in texts()
    assert {"3.000", "3.100"} <= set(texts())  # at the ends of the lines
    assert page.locator("#train-plot .plot-best").count() == 1
    page.locator("#train-plot input[type=range]").fill("0.5")  # weights 1/4, 1/2 and 1, divided by their sum (debiased)
    assert f"{(4.0 / 4 + 3.5 / 2 + 3.0) / 1.75:.3f}" in texts()
    box = page.locator("#train-plot svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    tip = page.locator("#train-plot .plot-tip").text_content()
    assert "step 25" in tip
    assert "epochs" not in tip  # nor a time: the steps are the axis
    assert "validation 3.6000" in tip
    assert "training" in tip
    page.mouse.move(0, 0)
    page.get_by_role("button", name="Log scale").click()
    assert page.get_by_role("button", name="Log scale").get_attribute("aria-pressed") == "true"
    for kind, begin in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        with page.expect_download() as saved:
            page.get_by_role("button", name=kind, exact=True).click()
        assert saved.value.suggested_filename == f"one-loss.{kind.lower()}"
        content = saved.value.path().read_bytes()
        assert content.startswith(begin)
        if kind == "SVG":
            picture = content.decode("utf-8")
            assert all(f">{key}</text>" in picture for key in ("one", "training loss", "validation loss"))
            assert picture.count('rx="1.5"') == 2  # the keys of the lines
            assert 'role="img"' in picture
            assert not re.search("tabindex|aria-value", picture)
    for width in (768, 390):  # the field for more time stays within its column
        page.set_viewport_size(dict(width=width, height=844))
        field, column = page.locator("#train-more").bounding_box(), page.locator("#train-settings").bounding_box()
        assert field["x"] + field["width"] <= column["x"] + column["width"] + 1, width
    page.set_viewport_size(dict(width=1280, height=900))
    plot = PLOT_OF % (drawn.HERE / "loss_plot.js").read_text(encoding="utf-8")
    val = [[1, 4, 0], [11, 1.712, 110], [15, 1.738, 150]]  # the best is close to the newest
    shown = dict(axis="seconds", end=60, train=[[1, 4, 0], [20, 1.7, 200]], val=val)
    assert page.evaluate(plot, shown | dict(baselines=[dict(label="letters", loss=3)])) == [3, False, False, "visible"]
    assert page.evaluate(plot, shown | dict(baselines=[dict(label="letters", loss=9)])) == [3, False, False, "hidden"]
    val = [[1, 4, 0], [11, 0.131, 110], [40, 0.162, 400]]  # the best is at the bottom
    shown = dict(axis="seconds", end=500, train=[[1, 4, 0], [40, 0.114, 400]], val=val, baselines=[])
    assert page.evaluate(plot, shown)[:3] == [3, False, False]


def test_an_empty_plot_is_a_sentence(standing_page, tiny_text: str):
    page = standing_page
    prepare.new_run("one", corpus.add(tiny_text, "A play"), "quick", **SMALL, max_iters=50)
    open_tab(page, "Train")
    page.wait_for_function("document.querySelectorAll('#train-plot svg text').length === 1")
    assert page.locator("#train-plot svg > *").count() == 1
    assert page.locator("#train-plot svg text").text_content() == "The losses appear here when a run starts."


def test_a_refusal_stays_while_another_run_trains(unopened_page, tiny_text: str):
    """The timer updates the page every second, and must not clear the message."""
    page = unopened_page
    run = put_run("one", tiny_text)
    with run.held():
        visit(page)
        open_tab(page, "Train")
        wait_for_state(page, "running")
        page.locator("#train-name input, #train-name textarea").fill("Bad Name!")
        page.locator("#train-start").click()
        page.wait_for_function("document.querySelector('#train-said')?.innerText.includes('Bad Name!')")
        run.log(step=51, seconds=2.0, tokens=51 * 64, train_loss=2.5)
        wait_for_step(page, 51)
        run.log(step=52, seconds=2.0, tokens=52 * 64, train_loss=2.4)
        wait_for_step(page, 52)
        assert "Bad Name!" in page.locator("#train-said").inner_text()


def test_the_curves_have_the_colours_of_the_theme(standing_page, tiny_text: str):
    page = standing_page
    put_run("one", tiny_text, "finished")
    open_tab(page, "Train")
    wait_for_step(page, 50)
    colour = "getComputedStyle(document.querySelector('#train-plot .plot-line.plot-val')).stroke"
    assert page.evaluate(colour) == "rgb(37, 99, 235)"
    page.evaluate("document.body.classList.add('dark')")
    assert page.evaluate(colour) == "rgb(96, 165, 250)"


def test_the_page_sees_what_was_started_elsewhere_and_remembers_the_run_in_view(page, server, home, tiny_text):
    for name in ("older", "newer"):
        put_run(name, tiny_text, "finished")
    text = "document.querySelector('#page-status')?.innerText.includes({!r})"
    page.reload()
    page.wait_for_function(text.format("Ready"))
    open_tab(page, "Train")
    page.wait_for_function("document.querySelector('#train-run input')?.value === 'newer'")
    before = page.wait_for_function("localStorage.getItem('nanogpt-run')").json_value()
    page.locator("#train-run input").click()
    page.get_by_role("option", name="older").click()
    page.wait_for_function("before => localStorage.getItem('nanogpt-run') !== before", arg=before)
    page.goto("about:blank")  # leave the page, as above
    server.stop()
    server.start()  # same address, so the browser's local storage is still there
    page.goto(server.url)
    open_tab(page, "Train")
    page.wait_for_function("document.querySelector('#train-run input')?.value === 'older'")
    run = put_run("elsewhere", tiny_text)
    with queue.turn("elsewhere", "cpu"), run.held():
        page.goto(server.url)  # without opening a tab
        page.wait_for_function(text.format("elsewhere: step 50 of 50"))
        run.log(step=60, seconds=2.0, tokens=1)
        page.wait_for_function(text.format("elsewhere: step 60 of"))
        open_tab(page, "Train")
        page.wait_for_function("document.querySelector('#train-run input')?.value === 'elsewhere'")
        wait_for_state(page, "running")


def test_one_damaged_run_leaves_the_page_usable(unopened_page, tiny_text: str):
    page = unopened_page
    put_run("sound", tiny_text, "finished")
    (put_run("broken", tiny_text, "finished").folder / "run.json").write_text("{", encoding="utf-8")
    visit(page)
    open_tab(page, "Train")
    wait_for_state(page, "damaged")
    assert "The run.json of broken cannot be read." in page.locator("#train-status").inner_text()
    assert page.locator("#train-continue").is_disabled()
    page.locator("#train-run input").click()
    page.get_by_role("option", name="sound").click()
    wait_for_state(page, "finished")
    assert not page.locator("#train-continue").is_disabled()


@pytest.mark.gpu
def test_training_on_a_gpu(page, text_file: Path):
    upload(page, text_file)
    open_tab(page, "Train")
    fill_small(page, 100_000)
    page.locator("#train-start").click()
    wait_for_state(page, "running")
    wait_for_step(page, 1)
    assert "CPU" not in page.locator("#train-details").text_content()
    page.locator("#train-stop").click()
    wait_for_state(page, "stopped")
    stopped = step(page)
    page.locator("#train-continue").click()
    wait_for_step(page, stopped + 1)
    open_tab(page, "Sample")
    page.locator("#sample-generate").click()
    page.wait_for_function("document.querySelector('#sample-output').innerText.length > 60")
    open_tab(page, "Train")
    page.locator("#train-stop").click()
    wait_for_state(page, "stopped")
