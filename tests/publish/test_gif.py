"""The animation of a run: its length, its size, what its frames show, and texts whose letters no font has."""

from __future__ import annotations

import io
import random
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, SMALL, ended_run
from PIL import Image, ImageDraw, ImageFont, features

from nanogpt import corpus
from nanogpt.cli.main import main
from nanogpt.config import NanoGPTError
from nanogpt.launch import prepare
from nanogpt.publish import curve, fonts, gif
from nanogpt.runs import Run
from nanogpt.ui import gif_panel


@pytest.fixture
def run(home, tiny_text) -> Run:
    """Return a finished run with three samples."""
    return ended_run(corpus.add(tiny_text, "A play"), **SMALL)


@pytest.fixture
def new_run(home, tiny_text) -> Run:
    """Return a run that hasn't begun."""
    return prepare.new_run("new", corpus.add(tiny_text, "A play"), "quick", **SMALL)


@pytest.fixture
def coarse(monkeypatch) -> None:
    """Draw a fifth of the frames, to be quick."""
    monkeypatch.setattr(gif, "FRAME", 0.5)


@pytest.fixture
def no_font(monkeypatch) -> None:
    """Have no fonts on this machine. Pillow still has its own, which has Latin letters only."""
    monkeypatch.setattr(fonts, "fonts", lambda: [])


def frames_of(content: bytes) -> tuple[list[Image.Image], list[float]]:
    """Return the frames in color, and how many seconds each is shown."""
    picture, frames, seconds = Image.open(io.BytesIO(content)), [], []
    for number in range(picture.n_frames):
        picture.seek(number)
        frames.append(picture.convert("RGB"))
        seconds.append(picture.info["duration"] / 1000)
    return frames, seconds


def pixels(picture: Image.Image, color: str) -> int:
    """Count the pixels of nearly this color."""
    wanted = bytes.fromhex(color[1:])
    found = picture.getcolors(1_000_000)
    return sum(count for count, one in found if max(abs(a - b) for a, b in zip(one, wanted)) < 24)


def text_of(picture: Image.Image) -> Image.Image:
    """Return the part of a frame that holds the sample."""
    return picture.crop((gif.TEXT.left + 2, gif.TEXT.top + 2, gif.TEXT.right - 2, gif.TEXT.bottom - 2))


def test_it_lasts_fifteen_seconds_and_is_small(run):
    content, problem = gif.animation(run)
    frames, seconds = frames_of(content)
    assert problem == ""
    assert sum(seconds) == pytest.approx(15.0)
    assert seconds[-1] >= 3.0  # time to read the last sample
    assert {frame.size for frame in frames} == {(800, 540)}
    assert len(frames) > 40
    assert len(content) < 1_000_000
    assert Image.open(io.BytesIO(content)).info["loop"] == 0  # endless
    assert content == gif.animation(run)[0]


def test_both_curves_grow_and_samples_are_typed(run):
    frames, seconds = frames_of(gif.animation(run)[0])
    for key in ("train_loss", "val_loss"):
        drawn = [pixels(frame, curve.COLORS[key]) for frame in (frames[0], frames[len(frames) // 2], frames[-1])]
        assert 0 < drawn[0] < drawn[1] < drawn[2]
    # the first of three samples is typed in 1.6 seconds of its four
    moments = [next(n for n in range(len(frames)) if sum(seconds[: n + 1]) > after) for after in (0.0, 0.8, 1.7)]
    blank, half, whole = (pixels(text_of(frames[number]), curve.INK) for number in moments)
    assert blank == 0 < half < whole


@pytest.mark.parametrize("count", [0, 1, 2, 8, 9, 22, 500])
def test_the_first_and_the_last_sample_are_shown_and_at_most_eight(count):
    samples = [(10 * number, str(number)) for number in range(count)]
    found = gif.chosen(samples)
    assert len(found) == min(8, count)
    assert found == sorted(set(found))
    assert found[:1] + found[-1:] == samples[:1] + samples[-1:]


def test_a_run_without_samples_is_refused(new_run, capsys):
    with pytest.raises(NanoGPTError, match=r"^new has no samples yet, so there is nothing to animate\."):
        gif.animation(new_run)
    assert main(["export", "new", "--gif", str(new_run.folder.parent / "x.gif")]) == 2
    assert capsys.readouterr().err.startswith("nanogpt: new has no samples yet")
    assert not (new_run.folder.parent / "x.gif").exists()


@pytest.mark.parametrize("losses", [[], [(0, 4.0)], [(0, 4.0), (50, 4.0)], [(0, None), (50, 3.0)]])
@pytest.mark.parametrize("step", [0, 50])
@pytest.mark.usefixtures("coarse")
def test_one_sample_is_enough_whatever_was_measured(new_run, step, losses):
    new_run.sample(step, "a sample")
    for at, loss in losses:
        new_run.log(step=at, seconds=1.0, tokens=0, train_loss=loss, val_loss=loss)
    frames, seconds = frames_of(gif.animation(new_run)[0])
    assert sum(seconds) == pytest.approx(15.0)
    assert pixels(text_of(frames[-1]), curve.INK) > 0


@pytest.mark.usefixtures("coarse")
def test_numbers_that_no_training_gives_are_left_out(run):
    before = gif.animation(run)[0]
    rows = '{"step":60,"val_loss":-1e308}\n{"step":70,"train_loss":1e308}\n{"step":' + "9" * 400 + ',"val_loss":3.0}\n'
    with (run.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(rows + '{"step":NaN,"val_loss":2.0}\n{"step":Infinity,"val_loss":2.0}\n')
    with (run.folder / "samples.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step":-1,"text":"before"}\n{"step":Infinity,"text":"after"}\n')
    assert gif.animation(run)[0] == before


def test_noise_of_any_length_stays_under_three_megabytes(new_run):
    random.seed(1)
    letters = [chr(code) for code in range(33, 127)]
    for step in range(30):
        new_run.log(step=step, seconds=1.0, tokens=0, train_loss=random.uniform(1, 4), val_loss=random.uniform(1, 4))
        new_run.sample(step, "".join(random.choices(letters, k=100_000)))
    assert len(gif.animation(new_run)[0]) < 3_000_000


def test_long_lines_wrap_and_long_samples_are_cut():
    font = ImageFont.load_default(16)
    text = "to be or not to be that is the question " * 3 + "\n\n" + "x" * 120
    lines = gif.wrapped(text, font)
    assert all(font.getlength(line) <= gif.TEXT.right - gif.TEXT.left - 2 * gif.INDENT for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "").replace("\n", "")
    assert all(line in text for line in lines)  # wrapped between words
    cut = gif.wrapped("one line\n" * 40, font)
    assert cut == ["one line"] * (gif.LINES - 1) + ["one line ..."]
    assert gif.wrapped("W" * 2000, font)[-1].endswith("W ...")
    assert gif.wrapped("W", font, width=1.0) == ["W"]  # wider than a line, but it ends
    assert gif.printable("\na\tb\u200bc\x07\r\n\nd\n") == "a   b c\n\nd"


def test_each_curve_has_its_name_where_it_ends_and_two_names_keep_their_distance():
    axes = curve.Axes([(0, 4.0), (50, 3.0)], box=gif.PLOT)
    written = {}
    pen = SimpleNamespace(line=lambda *_: None, text=lambda at, text, *_: written.setdefault(text, at))
    gif.write_labels(pen, axes, dict(train_loss=(300, 205), val_loss=(280, 200)))
    assert written["validation loss"] == (308, 200)
    assert written["training loss"] == (328, 220)  # 20 below the other
    for loss in axes.losses:
        assert written[f"{loss:g}"] == (gif.PLOT.left - 10, axes.y(loss))
    assert written["step"] == (gif.PLOT.left - 10, written["50"][1])  # in line with the steps
    picture = Image.new("RGB", (gif.WIDTH, gif.HEIGHT), "white")
    gif.write_labels(ImageDraw.Draw(picture), axes, dict(train_loss=(300, 205), val_loss=(280, 200)))
    at = lambda x, y: "#{:02x}{:02x}{:02x}".format(*picture.getpixel((x, y)))
    assert at(280 + 17, 200) == curve.COLORS["val_loss"]
    assert at(300 + 17, 220) == curve.COLORS["train_loss"]  # 20 below the other


def test_the_curves_run_up_to_a_first_sample_that_came_late(new_run):
    for step in (0, 25, 50):
        new_run.log(step=step, seconds=1.0, tokens=0, train_loss=4.0 - step / 50, val_loss=4.0 - step / 50)
    new_run.sample(25, "To be")
    assert gif.story_of(new_run).samples == [(0, ""), (25, "To be")]
    new_run.sample(0, "xyz")
    assert gif.story_of(new_run).samples == [(0, "xyz"), (25, "To be")]


def test_the_loss_at_a_step_is_the_last_one_measured_by_then():
    measured = [(0, 4.0), (10, 3.0), (20, 2.0)]
    assert [gif.value_at(measured, step) for step in (-1, 0, 9.9, 10, 99)] == [None, 4.0, 4.0, 3.0, 2.0]


# --- fonts -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_font", "coarse")
def test_without_a_font_for_the_letters_the_curve_is_alone(new_run, tmp_path, capsys):
    for step in (0, 50):
        new_run.log(step=step, seconds=1.0, tokens=0, train_loss=4.0 - step / 50, val_loss=4.0 - step / 50)
        new_run.sample(step, "天地玄黃，宇宙洪荒。")
    frames, seconds = frames_of(gif.animation(new_run)[0])
    assert sum(seconds) == pytest.approx(15.0)
    assert pixels(frames[0], curve.COLORS["val_loss"]) < pixels(frames[-1], curve.COLORS["val_loss"])
    path = tmp_path / "x.gif"
    assert main(["export", "new", "--gif", str(path)]) == 0
    assert gif.NO_FONT in capsys.readouterr().err
    assert path.read_bytes() == gif.animation(new_run)[0]
    assert gif_panel.take("new")[1] == gif.NO_FONT
    said = frames[-1].crop((gif.TEXT.left, 56, gif.TEXT.right, 80))  # below the name
    assert pixels(said, curve.PALE) > 100


@pytest.mark.usefixtures("no_font")
def test_pillow_s_own_font_is_the_last_resort():
    assert fonts.font_for("To be, or not to be", 16) is not None
    assert fonts.font_for("Быть или не быть", 16) is None
    assert fonts.font_for("a" * 99 + "天", 16) is not None  # one in a hundred may be missing
    assert fonts.font_for("a" * 9 + "天", 16) is None
    assert fonts.font_for("", 16) is not None


def test_a_font_is_taken_by_its_letters_not_by_its_name(tmp_path, monkeypatch):
    """One file is no font, the other, Pillow's own, has no Cyrillic letters."""
    broken, latin = tmp_path / "a-nanogpt-test.ttf", tmp_path / "b-nanogpt-test.ttf"
    broken.write_bytes(b"no font")
    latin.write_bytes(ImageFont.load_default(16).font_bytes)
    monkeypatch.setattr(fonts, "fonts", lambda: [broken, latin])
    assert Path(fonts.font_for("to be", 16).path) == latin
    assert fonts.font_for("быть", 16) is None


def test_a_font_whose_letters_cannot_be_drawn_is_passed_over(tmp_path, monkeypatch):
    file, drawn = tmp_path / "a-nanogpt-test.ttf", fonts.drawn
    file.write_bytes(ImageFont.load_default(16).font_bytes)

    def damaged(font, letter):
        if font.path == str(file):
            raise OSError("invalid outline")
        return drawn(font, letter)

    monkeypatch.setattr(fonts, "fonts", lambda: [file])
    assert fonts.font_for("to be", 16).path == str(file)
    monkeypatch.setattr(fonts, "drawn", damaged)
    assert fonts.font_for("to be", 16).path != str(file)


HIRAGINO = unicodedata.normalize("NFD", "ヒラギノ角ゴシック W3.ttc")  # as macOS may call it


@pytest.mark.parametrize(
    ("text", "best", "other"),
    [
        ("天地玄黃", "msyh.ttc", "YuGothR.ttc"),
        ("吾輩は猫である", "YuGothR.ttc", "msyh.ttc"),
        ("ギター", HIRAGINO, "PingFang.ttc"),
    ],
)
def test_japanese_is_drawn_with_a_japanese_font_and_chinese_with_a_chinese_one(
    tmp_path, monkeypatch, text, best, other
):
    found = [tmp_path / name for name in (best, other)]
    for path in found:
        path.write_bytes(ImageFont.load_default(16).font_bytes)
    monkeypatch.setattr(fonts, "fonts", lambda: found)
    monkeypatch.setattr(fonts, "share_shown", lambda font, letters: 1.0)
    assert Path(fonts.font_for(text, 16).path).name == best


@pytest.mark.parametrize("text", ["שלום", "مرحبا", "नमस्ते"])
def test_letters_that_must_be_shaped_need_a_layout_that_does(text, monkeypatch):
    monkeypatch.setattr(features, "check_feature", lambda name: False)
    monkeypatch.setattr(fonts, "share_shown", lambda font, letters: 1.0)
    assert fonts.font_for(text, 16) is None
    assert fonts.font_for("abc", 16) is not None
    monkeypatch.setattr(features, "check_feature", lambda name: True)
    assert fonts.font_for(text, 16) is not None


def test_fontconfig_names_more_folders(tmp_path):
    file = tmp_path / "fonts.conf"
    file.write_text(
        '<dir>/nix/fonts</dir><dir prefix="xdg">fonts</dir><dir> /other </dir><dir>~/.fonts</dir>', encoding="utf-8"
    )
    assert fonts.fontconfig_folders(file) == [Path("/nix/fonts"), Path("/other")]
    assert fonts.fontconfig_folders(tmp_path / "missing") == []


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("coarse")
def test_the_command_writes_the_animation(run, tmp_path, capsysbinary, monkeypatch):
    content, _ = gif.animation(run)
    path = tmp_path / "one.gif"
    path.write_bytes(b"an older one")
    assert main(["export", "one", "--gif", str(path)]) == 0
    assert path.read_bytes() == content
    assert capsysbinary.readouterr().out.decode().strip() == f"{path}: {len(content) / 1e6:.2f} MB"
    assert main(["export", "one", "--gif", "-"]) == 0
    assert capsysbinary.readouterr().out == content
    assert main(["export", "one", "--gif", str(tmp_path / "missing" / "one.gif")]) == 2
    assert b"Couldn't write" in capsysbinary.readouterr().err


@pytest.mark.usefixtures("coarse")
def test_an_export_that_fails_leaves_the_older_file(run, tmp_path, monkeypatch, capsys):
    path = tmp_path / "one.gif"
    path.write_bytes(b"an older one")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nanogpt.disk.os.fsync", full)
    assert main(["export", "one", "--gif", str(path)]) == 2
    assert "No space left" in capsys.readouterr().err
    assert path.read_bytes() == b"an older one"
    assert [one.name for one in tmp_path.glob("*one.gif*")] == ["one.gif"]


@pytest.mark.usefixtures("coarse")
def test_an_export_to_a_link_or_a_device_keeps_it(run, tmp_path):
    target, link = tmp_path / "target.gif", tmp_path / "link.gif"
    target.write_bytes(b"")
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("this system has no links")
    assert main(["export", "one", "--gif", str(link)]) == 0
    assert link.is_symlink()
    assert target.read_bytes()[:6] == b"GIF89a"
    if Path("/dev/null").is_char_device():
        assert main(["export", "one", "--gif", "/dev/null"]) == 0
        assert Path("/dev/null").is_char_device()


def test_the_readme_s_animation_is_small():
    path = ROOT / "docs" / "shakespeare.gif"
    assert path.stat().st_size < 1_000_000
    _, seconds = frames_of(path.read_bytes())
    assert sum(seconds) == pytest.approx(15.0)
