"""A plot of one trace under one or several policies: demand, replicas, and time to first token, one above the other over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from penstock.testing.sim.canvas import Canvas
from penstock.testing.sim.report import Result

WIDTH, HEIGHT = 980, 760
LEFT, RIGHT = 70, 40
GREY, FRAME, BACK = "#999999", "#cccccc", "#fafafa"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which the colour-blind can tell apart."""
LEAST_TTFT_S = 0.01


@dataclass(frozen=True, slots=True)
class Panel:
    """One of the plots: where it is on the page, and its scale; `log` counts in powers of ten."""

    top: float
    height: float
    low: float
    high: float
    log: bool = False

    def y(self, value: float) -> float:
        """Where a value is."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = (log10(max(v, LEAST_TTFT_S)) for v in (value, low, high))
        return self.top + self.height * (1.0 - (value - low) / (high - low))


def draw(canvas: Canvas, results: Sequence[Result]) -> None:
    """All results must be of one trace; the demand of the first is shown."""
    first = results[0]
    title = f"{first.trace} on {first.engine}" + (
        f", {first.services} services" if first.services > 1 else ""
    )
    canvas.text((LEFT, 22), title)
    _legend(canvas, results)
    span_s = max(len(r.course.asked) * r.course.bucket_s for r in results)
    demand = Panel(70, 150, 0.0, _round_up(max(first.course.requests_per_s)))
    _frame(canvas, demand, "requests a second", span_s)
    _curve(canvas, demand, first, first.course.requests_per_s, GREY, span_s)
    replicas = Panel(280, 190, 0.0, _round_up(max(max(r.course.asked) for r in results)))
    _frame(canvas, replicas, "replicas: asked for, and ready (thin)", span_s)
    times = [t for r in results for t in r.course.ttft_p99_s if t is not None]
    slowest = 10.0 ** ceil(log10(max(*times, first.slo_ttft_s, LEAST_TTFT_S * 10)))
    ttft = Panel(530, 180, LEAST_TTFT_S, slowest, log=True)
    _frame(
        canvas, ttft, "99th percentile of the time to first token, seconds (dashed: the objective)", span_s
    )
    objective = ttft.y(first.slo_ttft_s)
    canvas.line([(LEFT, objective), (WIDTH - RIGHT, objective)], GREY, 1.0, dashed=True)
    for number, result in enumerate(results):
        colour = COLOURS[number % len(COLOURS)]
        _curve(canvas, replicas, result, result.course.ready, colour, span_s, 0.7)
        _curve(canvas, replicas, result, result.course.asked, colour, span_s)
        _curve(canvas, ttft, result, result.course.ttft_p99_s, colour, span_s)


def _legend(canvas: Canvas, results: Sequence[Result]) -> None:
    x = float(LEFT)
    for number, result in enumerate(results):
        canvas.line([(x, 40), (x + 20, 40)], COLOURS[number % len(COLOURS)], 3.0)
        canvas.text((x + 26, 44), result.policy)
        x += 50 + 7.5 * len(result.policy)


def _frame(canvas: Canvas, panel: Panel, title: str, span_s: float) -> None:
    canvas.box(LEFT, panel.top, WIDTH - LEFT - RIGHT, panel.height, BACK)
    canvas.text((LEFT, panel.top - 8), title)
    for value in _marks(panel):
        y = panel.y(value)
        canvas.line([(LEFT, y), (WIDTH - RIGHT, y)], FRAME, 0.5)
        canvas.text((LEFT - 8, y + 4), f"{value:g}", "end")
    unit, size_s = ("h", 3600.0) if span_s > 7200 else ("min", 60.0) if span_s > 120 else ("s", 1.0)
    every = _round_up(span_s / size_s / 8)
    for number in range(int(span_s / size_s / every) + 1):
        x = LEFT + (WIDTH - LEFT - RIGHT) * number * every * size_s / span_s
        canvas.text((x, panel.top + panel.height + 16), f"{number * every:g} {unit}", "middle")


def _curve(
    canvas: Canvas,
    panel: Panel,
    result: Result,
    values: Sequence[float | None],
    colour: str,
    span_s: float,
    width: float = 1.5,
) -> None:
    """Broken where there is no value."""
    piece: list[tuple[float, float]] = []
    for number, value in enumerate((*values, None)):
        if value is None:
            if piece:
                canvas.line(
                    piece if len(piece) > 1 else [piece[0], (piece[0][0] + 2, piece[0][1])], colour, width
                )
            piece = []
        else:
            at = (number + 0.5) * result.course.bucket_s / span_s
            piece.append((LEFT + (WIDTH - LEFT - RIGHT) * at, panel.y(value)))


def _marks(panel: Panel) -> list[float]:
    if panel.log:
        powers = range(round(log10(panel.low)), round(log10(panel.high)) + 1)
        return [round(10.0**power, 6) for power in powers]
    step = _round_up(panel.high / 5)
    return [step * number for number in range(int(panel.high / step * 1.0001) + 1)]


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5, 8 or 10 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if value <= step * power * 1.0001)
