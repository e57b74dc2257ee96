"""A plot of a bench: how many answers had their first token, their tokens, and their end within which time; a line per target."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10

from penstock.testing.load.outcome import Outcome
from penstock.testing.load.player import Recording
from penstock.testing.load.summary import Result, counted
from penstock.testing.sim.canvas import Canvas
from penstock.testing.sim.plot import BACK, COLOURS, FRAME, WIDTH

HEIGHT = 780
LEFT, RIGHT, TOP, PANEL, GAP = 70, 40, 90, 170, 60
LEAST_S = 1e-4
POINTS = 400
SHARES = (0.0, 0.5, 0.9, 0.99, 1.0)


def draw(canvas: Canvas, results: Sequence[Result], recordings: Sequence[Sequence[Recording]]) -> None:
    """One list of repeats for each result."""
    first = results[0]
    canvas.text((LEFT, 22), f"{first.workload}, {first.pace}")
    for number, result in enumerate(results):
        errors = result.whole.requests - result.whole.answered
        y = 42 + 16 * number
        canvas.line([(LEFT, y - 4), (LEFT + 20, y - 4)], COLOURS[number], 3.0)
        canvas.text((LEFT + 26, y), f"{result.target}: {result.whole.requests} requests, {errors} errors")
    answered = [[one for run in runs for one in counted(run) if one.ok] for runs in recordings]
    panels = (
        (
            "time to first token, seconds",
            [_ordered(_ttft(those)) for those in answered],
            first.objective.ttft_s,
        ),
        (
            "time between tokens, seconds",
            [_ordered(_gaps(those)) for those in answered],
            first.objective.itl_s,
        ),
        ("time to the answer's end, seconds", [_ordered(_e2e(those)) for those in answered], None),
    )
    for number, (title, times, objective_s) in enumerate(panels):
        _panel(canvas, TOP + number * (PANEL + GAP), title, times, objective_s)


def _ttft(answered: Sequence[Outcome]) -> list[float]:
    return [one.ttft_s for one in answered]


def _gaps(answered: Sequence[Outcome]) -> list[float]:
    return [gap_s for one in answered for gap_s in one.gaps_s]


def _e2e(answered: Sequence[Outcome]) -> list[float]:
    return [one.e2e_s for one in answered]


def _ordered(times: list[float]) -> list[float]:
    """At most so many points, with the first and the last."""
    times.sort()
    step = max(1, ceil(len(times) / POINTS))
    return times[::step] + times[-1:] if times else []


def _panel(
    canvas: Canvas, top: float, title: str, lines: Sequence[Sequence[float]], objective_s: float | None
) -> None:
    """Time on a logarithmic scale to the right, the share of answers upwards."""
    ends = [max(time, LEAST_S) for times in lines if times for time in (times[0], times[-1])]
    if objective_s is not None:
        ends.append(objective_s)
    low, high = (
        (floor(log10(min(ends))), max(ceil(log10(max(ends))), floor(log10(min(ends))) + 1))
        if ends
        else (-3, 1)
    )

    def x(time_s: float) -> float:
        share = (log10(max(time_s, 10.0**low)) - low) / (high - low)
        return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, share)

    canvas.box(LEFT, top, WIDTH - LEFT - RIGHT, PANEL, BACK)
    canvas.text((LEFT, top - 8), title)
    for share in SHARES:
        y = top + PANEL * (1.0 - share)
        canvas.line([(LEFT, y), (WIDTH - RIGHT, y)], FRAME, 0.5)
        if share != 0.99:
            canvas.text((LEFT - 8, y + 4), f"{share:.0%}", "end")
    for power in range(low, high + 1):
        canvas.text((x(10.0**power), top + PANEL + 16), f"{10.0**power:g}", "middle")
    if objective_s is not None:
        canvas.line([(x(objective_s), top), (x(objective_s), top + PANEL)], "#999999", 1.0, dashed=True)
    for number, times in enumerate(lines):
        if len(times) > 1:
            points = [
                (x(time), top + PANEL * (1.0 - place / (len(times) - 1))) for place, time in enumerate(times)
            ]
            canvas.line(points, COLOURS[number])
