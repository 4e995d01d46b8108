"""Draw the loss curve as a PNG image, for the model card, which can show images but not run code."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean as mean

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, FINE = 840, 400, 2  # drawn at twice the size, then scaled down for smooth lines
INK, PALE, LINE = "#0f172a", "#64748b", "#e2e8f0"
COLORS = {"train_loss": "#f59e0b", "val_loss": "#2563eb"}
LABELS = {"train_loss": "training loss", "val_loss": "validation loss"}


def png(rows: Sequence[Mapping], bigram: float | None = None) -> bytes:
    """Draw both losses, in nats per character, over the steps; `bigram` is a baseline to compare with.

    `rows` are measurements as in metrics.jsonl. Return b"" if fewer than two losses were measured.
    """
    curves = {key: [(row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float)] for key in COLORS}
    points = [point for curve in curves.values() for point in curve]
    if len({step for step, _ in points}) < 2:
        return b""
    picture, axes = Drawing(), Axes(points, bigram)
    draw_grid(picture, axes)
    place = draw_curves(picture, axes, curves)
    if bigram is not None and axes.bottom <= bigram <= axes.top:
        draw_baseline(picture, axes.y(bigram), place)
    return picture.png()


@dataclass(frozen=True)
class Box:
    """A rectangle in an image, in pixels from its top left corner."""

    left: int
    top: int
    right: int
    bottom: int


PLOT = Box(64, 48, WIDTH - 24, HEIGHT - 52)


class Axes:
    """Map steps and losses to pixels inside `box`, and choose round numbers for the ticks."""

    def __init__(self, points: Sequence[tuple[float, float]], bigram: float | None = None, box: Box = PLOT):
        losses = [loss for _, loss in points]
        low, high = min(losses), max(losses)
        if low == high:  # there is nothing to scale by
            high = low + max(0.5, abs(low) / 10)
        self.box, self.right = box, max(step for step, _ in points)
        self.steps, self.losses = ticks(0, self.right), ticks(min(low, bigram or high), high)
        self.bottom, self.top = self.losses[0], max(self.losses[-1], high)

    def x(self, step: float) -> float:
        return self.box.left + (self.box.right - self.box.left) * step / self.right

    def y(self, loss: float) -> float:
        return self.box.top + (self.box.bottom - self.box.top) * (self.top - loss) / (self.top - self.bottom)


def draw_grid(picture: Drawing, axes: Axes) -> None:
    """Draw a grid line for each loss tick, and label both axes."""
    for loss in axes.losses:
        picture.line([(PLOT.left, axes.y(loss)), (PLOT.right, axes.y(loss))], LINE)
        picture.text((PLOT.left - 10, axes.y(loss)), f"{loss:g}", PALE, "rm")
    for step in axes.steps:
        picture.text((axes.x(step), PLOT.bottom + 10), f"{step:,.0f}", PALE, "mt")
    picture.text((PLOT.right, HEIGHT - 10), "step", PALE, "rb")
    picture.text((PLOT.right, 22), "nats per character", PALE, "rm")


def draw_curves(picture: Drawing, axes: Axes, curves: Mapping[str, list[tuple[float, float]]]) -> float:
    """Draw the curves and the legend above them. Return the x position where the legend ends."""
    place = float(PLOT.left)
    for key, curve in curves.items():
        if curve:
            picture.line([(axes.x(step), axes.y(loss)) for step, loss in smooth(curve)], COLORS[key], 2)
            picture.line([(place, 22), (place + 22, 22)], COLORS[key], 2)
            place = picture.text((place + 30, 22), LABELS[key], INK, "lm") + 28
    return place


def draw_baseline(picture: Drawing, y: float, place: float) -> None:
    """Draw a dashed line at height `y`, and its legend entry at x position `place`."""
    for start in range(PLOT.left, PLOT.right, 12):
        picture.line([(start, y), (start + 6, y)], PALE)
    for dash in (place, place + 12):
        picture.line([(dash, 22), (dash + 8, 22)], PALE)
    picture.text((place + 30, 22), "bigram baseline", INK, "lm")


def smooth(curve: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average each loss with its neighbors if there are so many points that noise would hide the curve.

    There are as many neighbors on either side, so the ends of the curve are losses that were measured.
    """
    most, last = len(curve) // 60, len(curve) - 1
    reach = lambda i: min(most, i, last - i)
    around = lambda i: [loss for _, loss in curve[i - reach(i) : i + reach(i) + 1]]
    places = [*range(0, last, max(1, last // 800)), last] if curve else []
    return [(curve[i][0], mean(around(i))) for i in places]


def ticks(low: float, high: float) -> list[float]:
    """Return four to nine round numbers, from at most `low` up to at most `high`."""
    rough = max(high - low, 1e-9) / 5
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * n for n in (1, 2, 5, 10) if size * n >= rough)
    return [round(i * step, 10) for i in range(math.floor(low / step), math.floor(high / step) + 1)]


class Drawing:
    """A white canvas; all coordinates are in pixels of the finished image."""

    def __init__(self):
        self.image = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), "white")
        self.draw = ImageDraw.Draw(self.image)
        self.font = ImageFont.load_default(14 * FINE)

    def line(self, points, color: str, width: float = 1) -> None:
        """Draw a line through (x, y) points."""
        self.draw.line([(a * FINE, b * FINE) for a, b in points], color, round(width * FINE), joint="curve")

    def text(self, at, text: str, color: str, anchor: str) -> float:
        """Draw a text and return the x position where it ends."""
        place = (at[0] * FINE, at[1] * FINE)
        self.draw.text(place, text, color, self.font, anchor)
        return self.draw.textbbox(place, text, self.font, anchor)[2] / FINE

    def png(self) -> bytes:
        """Return the image as a PNG file."""
        out = io.BytesIO()
        small = self.image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        small.quantize(64).save(out, "PNG", optimize=True)  # no timestamp, so the same curve gives the same bytes
        return out.getvalue()
