"""Animate a run as a GIF of about 15 seconds: its samples, typed one after another, above its falling losses."""

from __future__ import annotations

import io
import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

from PIL import Image, ImageColor, ImageDraw, ImageFont

from ..config import NanoGPTError
from ..runs import Run
from .curve import COLORS, INK, LABELS, LINE, PALE, Axes, Box, smooth
from .fonts import Font, font_for

WIDTH, HEIGHT, FINE = 800, 540, 2  # the curves are drawn at twice the size, then scaled down for smooth lines
TEXT = Box(24, 58, WIDTH - 24, 288)  # the sample
PLOT = Box(64, 322, WIDTH - 176, HEIGHT - 44)  # the curves; their labels are to the right
PLOT_ALONE = Box(64, 116, WIDTH - 176, HEIGHT - 44)  # without a sample
PAPER = "#ffffff"
LETTERS, SPACING = 16, 22  # pixels: the size of a sample's letters, and from line to line
LINES = (TEXT.bottom - TEXT.top - 16) // SPACING
INDENT = 12  # of the sample in its panel
SHADES = 14  # of each color in the palette
FRAME = 0.1  # seconds; browsers slow down anything under 0.02
SECONDS, LAST = 15.0, 3.0  # the whole animation, and the time for the last frame
MOST = 8  # samples, so that there is time to read them
TYPING = 0.4  # share of a sample's time in which it is typed; then the curve runs to the next one
MOST_DRAWN = 1e12  # as a step or a loss; an imported run may contain any number
SHOWN = 2000  # characters of a sample that are looked at; fewer fit
NO_FONT = "No font on this machine has the letters of this text, so the animation shows only the losses."


@dataclass(eq=False)  # compared by identity, so that frames can be cached
class Story:
    """What the animation shows: samples as (step, text), and curves as {key: [(step, loss), ...]}."""

    name: str
    samples: list[tuple[float, str]]
    curves: dict[str, list[tuple[float, float]]]
    font: Font | None  # None if no font has the samples' letters

    @cached_property
    def last(self) -> float:
        """The last step."""
        return max([step for curve in self.curves.values() for step, _ in curve] + [self.samples[-1][0]])

    @cached_property
    def axes(self) -> Axes:
        """The axes of the plot, also if no loss or only one step was logged."""
        points = [point for curve in self.curves.values() for point in curve]
        low, high = min([loss for _, loss in points], default=0.0), max([loss for _, loss in points], default=1.0)
        ends = [(0.0, high), (max(1.0, self.last), low)]
        return Axes(points + ends, box=PLOT if self.font else PLOT_ALONE)


def animation(run: Run) -> tuple[bytes, str]:
    """Return a run's animation, under 3 MB, and a sentence if it can't show the samples, or "".

    Raise NanoGPTError if the run has no samples.
    """
    story, palette = story_of(run), shared_palette()
    plotted, written = lru_cache(maxsize=1)(plot), lru_cache(maxsize=1)(panel)  # most frames change one of them
    pictures, seconds = [], []
    for step, lines, duration in moments(story):
        picture = plotted(story, step).copy()
        if story.font:
            picture.paste(written(story.font, tuple(lines)), (TEXT.left, TEXT.top))
        pictures.append(picture.quantize(palette=palette, dither=Image.Dither.NONE))
        seconds.append(round(1000 * duration))
    out = io.BytesIO()
    # not optimized, because all frames share one palette
    pictures[0].save(out, "GIF", save_all=True, append_images=pictures[1:], duration=seconds, loop=0, optimize=False)
    return out.getvalue(), "" if story.font else NO_FONT


def story_of(run: Run) -> Story:
    """Read what the animation shows from a run. Raise NanoGPTError if there are no samples."""
    run.settings()  # raises if there is no such run
    history = run.history()
    found = {one["step"]: printable(one["text"][:SHOWN]) for one in history.samples if fits(one["step"])}
    if not found:
        raise NanoGPTError(f"{run.name} has no samples yet, so there is nothing to animate. Wait for its first one.")
    samples = chosen(sorted(found.items()))
    curves = {key: curve_of(history.rows, key) for key in COLORS}
    font = font_for("".join(text for _, text in samples), LETTERS)
    if samples[0][0] > 0:
        samples.insert(0, (0, ""))  # the curves run to the first sample
    return Story(run.name, samples, curves, font)


def curve_of(rows: Sequence[Mapping], key: str) -> list[tuple[float, float]]:
    """Return the smoothed curve of a loss as (step, loss), in the order of the steps."""
    return smooth(sorted((row["step"], row[key]) for row in rows if fits(row["step"]) and fits(row.get(key))))


def fits(value: object) -> bool:
    """Return True for a step or a loss that can be drawn, but not for one that is missing, NaN or made up."""
    return isinstance(value, int | float) and 0 <= value <= MOST_DRAWN


def printable(text: str) -> str:
    """Return a text without the characters that have no picture."""
    plain = "".join(letter if letter.isprintable() or letter.isspace() else " " for letter in text)
    return "\n".join(line.rstrip() for line in plain.expandtabs(4).splitlines()).strip("\n")


def chosen(samples: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return at most MOST samples: the first, the last, and more of the early ones, when a model learns fastest."""
    end = len(samples) - 1
    if end < MOST:
        return samples
    places = [0]
    for left in range(MOST - 1, 0, -1):  # each time the same factor further, but at least to the next one
        now = places[-1]
        places.append(max(now + 1, round((now + 1) * ((end + 1) / (now + 1)) ** (1 / left)) - 1))
    return [samples[place] for place in places]


# ---- frames ----------------------------------------------------------------------------------------------------------


def moments(story: Story) -> Iterator[tuple[float, list[str], float]]:
    """Yield for each frame the step that the curves have reached, the lines of the sample, and the seconds to show it.

    Each sample is typed while the curves wait at its step; then they run to the step of the next one.
    """
    samples = story.samples if story.font else [(0.0, "")]
    steps = [*(step for step, _ in samples), story.last]
    texts = [wrapped(text, story.font) if story.font else [] for _, text in samples]
    typing = TYPING if story.font else 0.0
    frames = round((SECONDS - LAST) / FRAME)
    for number in range(frames):
        place, within = divmod(number / frames * len(samples), 1)
        lines, step, after = texts[int(place)], *steps[int(place) : int(place) + 2]
        if within < typing:
            yield step, typed(lines, within / typing), FRAME
        else:
            yield step + (after - step) * (within - typing) / (1 - typing), lines, FRAME
    yield story.last, texts[-1], LAST


def typed(lines: Sequence[str], share: float) -> list[str]:
    """Return the first `share` of the lines' letters, as lines."""
    left, found = round(share * sum(map(len, lines))), []
    for line in lines:
        found.append(line[:left])
        left = max(0, left - len(line))
    return found


def wrapped(text: str, font: Font, width: float = TEXT.right - TEXT.left - 2 * INDENT) -> list[str]:
    """Return a text as at most LINES lines of at most `width` pixels, wrapped at spaces where there are any.

    The last line ends with "..." if the text was cut.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        while len(line) > 1 and font.getlength(line) > width:
            most = bisect_right(range(len(line)), width, key=lambda end: font.getlength(line[:end])) - 1
            space = line.rfind(" ", 1, most + 1)
            end = space if space > most // 2 else max(1, most)
            lines.append(line[:end].rstrip())
            line = line[end:].lstrip()
        lines.append(line)
    if len(lines) > LINES:
        lines = "\n".join(lines[:LINES]).rstrip().split("\n")
        lines[-1] = cut(lines[-1] + " ...", font, width)
    return lines


def cut(line: str, font: Font, width: float) -> str:
    """Return a line if it fits into `width` pixels, or as much of it as fits with "..."."""
    kept = line
    while kept and font.getlength(line) > width:
        kept = kept[:-1]
        line = kept.rstrip(" .") + " ..."
    return line


def panel(font: Font, lines: Sequence[str]) -> Image.Image:
    """Draw a sample in its frame, as an image of the size of TEXT."""
    image = Image.new("RGB", (TEXT.right - TEXT.left, TEXT.bottom - TEXT.top), PAPER)
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle((0, 0, image.width - 1, image.height - 1), 6, None, LINE)
    for number, line in enumerate(lines):
        pen.text((INDENT, 8 + number * SPACING), line, INK, font)
    return image


def plot(story: Story, step: float) -> Image.Image:
    """Draw all but the sample, as an image for the whole frame: a caption, the axes, and both curves up to a step."""
    axes, box = story.axes, story.axes.box
    image = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), PAPER)
    pen = ImageDraw.Draw(image)
    for loss in axes.losses:
        pen.line([(place * FINE, axes.y(loss) * FINE) for place in (box.left, box.right)], LINE, FINE)
    ends = {}
    for key, curve in story.curves.items():
        points = [(axes.x(at) * FINE, axes.y(loss) * FINE) for at, loss in up_to(curve, step)]
        if points:
            pen.line(points, COLORS[key], 2 * FINE, joint="curve")
            x, y = points[-1]
            pen.ellipse((x - 4 * FINE, y - 4 * FINE, x + 4 * FINE, y + 4 * FINE), COLORS[key])
            ends[key] = x / FINE, y / FINE
    image = image.reduce(FINE)
    pen = ImageDraw.Draw(image)
    write_labels(pen, axes, ends)
    write_caption(pen, story, step)
    return image


def write_caption(pen: ImageDraw.ImageDraw, story: Story, step: float) -> None:
    """Write the run's name, the step and the validation loss at the top, and what can't be shown below."""
    pen.text((TEXT.left, 30), cut(story.name, label_font(22), 400), INK, label_font(22), "lm")
    loss = value_at(story.curves["val_loss"], step)
    caption = f"step {step:,.0f}" + ("" if loss is None else f"  ·  validation loss {loss:.2f}")
    pen.text((TEXT.right, 30), caption, INK, label_font(18), "rm")
    if story.font is None:
        pen.text((TEXT.left, 68), NO_FONT, PALE, label_font(15), "lm")


def write_labels(pen: ImageDraw.ImageDraw, axes: Axes, ends: Mapping[str, tuple[float, float]]) -> None:
    """Write the numbers at both axes, and each curve's name where it ends, given as {key: (x, y)}."""
    font, box = label_font(14), axes.box
    for loss in axes.losses:
        pen.text((box.left - 10, axes.y(loss)), f"{loss:g}", PALE, font, "rm")
    for step in axes.steps:
        if step == round(step):  # also in a run of a few steps
            pen.text((axes.x(step), box.bottom + 10), f"{step:,.0f}", PALE, font, "mt")
    pen.text((box.left, box.top - 20), "loss, nats per character", PALE, font, "lm")
    pen.text((box.left - 10, box.bottom + 10), "step", PALE, font, "rt")
    below = -math.inf
    for key, (x, y) in sorted(ends.items(), key=lambda one: one[1][1]):  # the upper one first
        below = max(y, below + 20)
        pen.line((x + 12, below, x + 22, below), COLORS[key], 3)
        pen.text((x + 28, below), LABELS[key], INK, label_font(15), "lm")


def up_to(curve: list[tuple[float, float]], step: float) -> list[tuple[float, float]]:
    """Return the points of a curve up to a step, ending at that step if the curve goes further."""
    end = bisect_right(curve, step, key=lambda point: point[0])
    points = curve[:end]
    if 0 < end < len(curve):
        (left, low), (right, high) = curve[end - 1 : end + 1]
        points = [*points, (step, low + (high - low) * (step - left) / (right - left))]
    return points


def value_at(curve: list[tuple[float, float]], step: float) -> float | None:
    """Return the last loss measured by a step, or None."""
    end = bisect_right(curve, step, key=lambda point: point[0])
    return curve[end - 1][1] if end else None


@cache
def label_font(size: int) -> Font:
    """Return the font for labels, which Pillow contains."""
    return ImageFont.load_default(size)  # type: ignore[return-value]  # a FreeTypeFont for a given size


def shared_palette() -> Image.Image:
    """Return an image with the palette of all frames: each color in SHADES steps from the paper's."""
    paper, colors = ImageColor.getrgb(PAPER), [*ImageColor.getrgb(PAPER), *ImageColor.getrgb(LINE)]
    for color in (INK, PALE, *COLORS.values()):
        for part in range(1, SHADES + 1):
            mixed = zip(paper, ImageColor.getrgb(color))
            colors += [round(one + (other - one) * part / SHADES) for one, other in mixed]
    palette = Image.new("P", (1, 1))
    palette.putpalette(colors)
    return palette
