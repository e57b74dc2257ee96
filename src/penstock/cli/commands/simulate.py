"""Replay a trace of requests against autoscaling laws, in virtual time with simulated engines.

The laws are those that the platform runs; only time, requests and engines are simulated. In the table, REPLICA-S counts every replica
from when it is asked for until it is gone, MEAN and PEAK are numbers of replicas, IN SLO is the share of requests whose first token came
in time, STARTS are cold starts, COST is that of the GPUs. Times are in seconds.

Example: penstock simulate azure_conv.csv -p kpa -p gpu -p hpa:target=20 -p forecast --slo-ttft 2s --plot out.svg
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from penstock.cli.console import console, print_json, print_table
from penstock.engine.simulated.profile import load_profile, profile_names
from penstock.kit.durations import parse_duration_s
from penstock.kit.errors import InvalidInput
from penstock.testing.sim.canvas import canvas_for
from penstock.testing.sim.plot import HEIGHT, WIDTH, draw
from penstock.testing.sim.policy import policy_names, policy_of
from penstock.testing.sim.report import Result
from penstock.testing.sim.simulation import Scenario, simulate
from penstock.testing.sim.trace import Cut

HEADERS = (
    "trace",
    "policy",
    "requests",
    "failed",
    "ttft p50",
    "ttft p99",
    "latency p99",
    "in slo",
    "replica-s",
    "mean",
    "peak",
    "starts",
    "cost",
)
OF_POLICIES, OF_ENGINES = ", ".join(policy_names()), ", ".join(profile_names())


Traces = Annotated[
    list[Path],
    typer.Argument(help="Azure CSV, Mooncake JSONL, or ServeGen arrivals; each is played by itself."),
]
Policies = Annotated[
    list[str],
    typer.Option(
        "--policy",
        "-p",
        help=f"{OF_POLICIES}; may be given again, to compare. Settings follow a colon: kpa:window=30s, fixed:3.",
    ),
]
Engine = Annotated[
    str, typer.Option("--engine", "-e", help=f"{OF_ENGINES}, or a file with a profile of your own.")
]
SloTtft = Annotated[str, typer.Option(help="How soon a first token must come, as in 2s or 800ms.")]
Target = Annotated[
    float | None,
    typer.Option(help="Requests at once per replica; default: each law's own.", show_default=False),
]
Initial = Annotated[int, typer.Option(min=0, help="Replicas that are ready at the start.")]
MinReplicas = Annotated[int, typer.Option(min=0, help="Never fewer.")]
MaxReplicas = Annotated[int, typer.Option(min=0, help="Never more; 0 for no limit.")]
Services = Annotated[int, typer.Option(min=1, help="Share the trace out among so many, by Zipf's law.")]
Gpus = Annotated[int, typer.Option(min=0, help="GPUs in all; 0 for as many as wanted.")]
From = Annotated[str, typer.Option("--from", help="Where in the trace to begin, as in 1h30m.")]
To = Annotated[str, typer.Option(help="Where in the trace to end; default: its end.", show_default=False)]
Skip = Annotated[str, typer.Option(help="So much of the beginning is played, but not counted.")]
Scale = Annotated[float, typer.Option(help="Multiplies the rate: below 1 leaves out, above 1 copies.")]
Speed = Annotated[float, typer.Option(help="Divides the gaps between requests.")]
Price = Annotated[
    float | None, typer.Option(help="Of one GPU for an hour; default: the engine's.", show_default=False)
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same result, to the byte.")]
Events = Annotated[bool, typer.Option("--events", help="List each change of scale, with its reason.")]
Json = Annotated[bool, typer.Option("--json", help="Everything as JSON, with the course over time.")]
Plot = Annotated[
    Path | None,
    typer.Option(help="FILE.svg or FILE.png: demand, replicas, TTFT over time.", show_default=False),
]


def run(
    trace: Traces,
    policy: Policies,
    engine: Engine = "llama-8b-h100",
    slo_ttft: SloTtft = "2s",
    target: Target = None,
    initial: Initial = 1,
    min_replicas: MinReplicas = 0,
    max_replicas: MaxReplicas = 0,
    services: Services = 1,
    gpus: Gpus = 0,
    from_: From = "0",
    to: To = "",
    skip: Skip = "0",
    scale: Scale = 1.0,
    speed: Speed = 1.0,
    price: Price = None,
    seed: Seed = 0,
    events: Events = False,
    json: Json = False,
    plot: Plot = None,
) -> None:
    """Results go to standard output, progress to standard error."""
    scenario = Scenario(
        profile=load_profile(engine),
        slo_ttft_s=_seconds("--slo-ttft", slo_ttft),
        cut=Cut(_seconds("--from", from_), _seconds("--to", to) if to else None, scale, speed),
        seed=seed,
        services=services,
        skip_s=_seconds("--skip", skip),
        initial=initial,
        min_replicas=min_replicas,
        max_replicas=max_replicas,
        target=target,
        gpus=gpus,
        gpu_hour_price=price,
    )
    for text in policy:
        policy_of(text)
    if plot is not None:
        canvas_for(plot, WIDTH, HEIGHT)
    results = _played(trace, policy, scenario)
    if plot is not None:
        _plot(plot, trace, results)
    every = [result for of_trace in results for result in of_trace]
    if json:
        print_json(every)
        return
    print_table(HEADERS, map(_row, every))
    if events:
        sys.stdout.write("\n")
        _print_events(every)


def _played(traces: list[Path], policies: list[str], scenario: Scenario) -> list[list[Result]]:
    """One list per trace, in the order given."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=console(sys.stderr), transient=True, disable=not sys.stderr.isatty()
    ) as bars:
        results = []
        for path in traces:
            of_trace = []
            for policy in policies:
                task = bars.add_task(f"{path.stem} {policy}", total=1.0)
                of_trace.append(simulate(path, policy, scenario, partial(_tell, bars, task)))
                bars.update(task, completed=1.0)
            results.append(of_trace)
    return results


def _tell(bars: Progress, task: TaskID, share: float) -> None:
    bars.update(task, completed=share)


def _plot(path: Path, traces: list[Path], results: list[list[Result]]) -> None:
    for trace, of_trace in zip(traces, results, strict=True):
        canvas = canvas_for(path, WIDTH, HEIGHT)
        draw(canvas, of_trace)
        target = path if len(traces) == 1 else path.with_name(f"{path.stem}-{trace.stem}{path.suffix}")
        try:
            canvas.save(target)
        except OSError as error:
            raise InvalidInput(f"--plot: cannot write {target}: {error.strerror}") from None


def _row(result: Result) -> tuple[str, ...]:
    return (
        result.trace,
        result.policy,
        f"{result.requests}",
        f"{sum(result.failed.values())}",
        f"{result.ttft_s.p50:.3f}",
        f"{result.ttft_s.p99:.3f}",
        f"{result.latency_s.p99:.2f}",
        f"{100 * result.attainment:.2f} %",
        f"{result.replica_seconds:.0f}",
        f"{result.replicas_mean:.2f}",
        f"{result.replicas_peak}",
        f"{result.cold_starts}",
        f"{result.cost:.2f} {result.currency}",
    )


def _print_events(results: list[Result]) -> None:
    rows = [
        (
            result.trace,
            result.policy,
            f"{event.at - result.course.start_s:.1f}",
            event.service,
            f"{event.before} -> {event.after}",
            event.reasons,
        )
        for result in results
        for event in result.scale_events
    ]
    print_table(("trace", "policy", "after s", "service", "replicas", "reasons"), rows)


def _seconds(option: str, text: str) -> float:
    try:
        if text.endswith("ms") and text[:-2].isdigit():
            return int(text[:-2]) / 1000.0
        return float(parse_duration_s(text))
    except InvalidInput as error:
        raise InvalidInput(f"{option}: {error.message}") from None
