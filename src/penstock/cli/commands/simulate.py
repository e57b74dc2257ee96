"""Replay a trace of requests in virtual time with simulated engines: against autoscaling laws, or routing profiles. Or record one.

The laws are those that the platform runs; only time, requests and engines are simulated. In the table, REPLICA-S counts every replica
from when it is asked for until it is gone, MEAN and PEAK are numbers of replicas, IN SLO is the share of requests whose first token came
in time, STARTS are cold starts, COST is that of the GPUs. Times are in seconds.

With --profile, the requests of a Mooncake JSONL or of a recording are routed by each of the profiles; what is SAVED is against the first.
PREFILL S are the replica-seconds that prompts take. With --record, the gateway's own traffic is written to a trace: times, lengths and hashes, no words.

Example: penstock simulate azure_conv.csv -p kpa -p gpu -p hpa:target=20 -p forecast --slo-ttft 2s --plot out.svg
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TaskID

from penstock.cli.bars import progress_bars
from penstock.cli.console import print_json, print_table
from penstock.cli.counterfactual import Wish, play_profiles
from penstock.cli.gateway import Url
from penstock.cli.recording import record as record_traffic
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
    list[Path] | None,
    typer.Argument(
        help="Azure CSV, Mooncake JSONL, or ServeGen arrivals; each is played by itself.", show_default=False
    ),
]
Policies = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        "-p",
        help=f"{OF_POLICIES}; may be given again, to compare. Settings follow a colon: kpa:window=30s, fixed:3.",
        show_default=False,
    ),
]
Record = Annotated[
    Path | None,
    typer.Option(help="Record the gateway's traffic into this file instead.", show_default=False),
]
Model = Annotated[
    str,
    typer.Option(
        help="With --record and --profile: NAMESPACE/NAME of one service; default: all.", show_default=False
    ),
]
Profiles = Annotated[
    list[str] | None,
    typer.Option(
        "--profile",
        help="built-in, a file with RoutingProfiles, the name of one in the cluster, or peer:NAME, as in peer:round-robin, for another "
        "router's rule; may be given again, to compare.",
        show_default=False,
    ),
]
Replicas = Annotated[
    int, typer.Option(min=0, help="With --profile: engines; default: as many as the recording has.")
]
For = Annotated[str, typer.Option("--for", help="With --record: how long.")]
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
    trace: Traces = None,
    policy: Policies = None,
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
    profile: Profiles = None,
    replicas: Replicas = 0,
    record: Record = None,
    model: Model = "",
    for_: For = "10m",
    url: Url = "",
) -> None:
    """Results go to standard output, progress to standard error."""
    _check(trace, policy, profile, record)
    if record is not None:
        record_traffic(record, model, _seconds("--for", for_), url)
        return
    assert trace, "it has been checked"
    cut = Cut(_seconds("--from", from_), _seconds("--to", to) if to else None, scale, speed)
    if profile:
        play_profiles(trace[0], Wish(profile, load_profile(engine), cut, seed, replicas, model), json=json)
        return
    scenario = Scenario(
        profile=load_profile(engine),
        slo_ttft_s=_seconds("--slo-ttft", slo_ttft),
        cut=cut,
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
    every = _compared(trace, policy or [], scenario, plot)
    if json:
        print_json(every)
        return
    print_table(HEADERS, map(_row, every))
    if events:
        sys.stdout.write("\n")
        _print_events(every)


def _check(
    traces: list[Path] | None, policies: list[str] | None, profiles: list[str] | None, record: Path | None
) -> None:
    """Which of the three things is asked for. Raises InvalidInput."""
    if record is not None:
        if traces or policies or profiles:
            raise InvalidInput("--record: found a trace, policy or profile as well, expected none")
    elif not traces or not (policies or profiles):
        raise InvalidInput(
            f"found no {'policy' if traces else 'trace'}, expected at least one",
            hint="penstock simulate TRACE --policy POLICY, or TRACE --profile PROFILE; --help lists them",
        )
    elif profiles and (policies or len(traces) > 1):
        raise InvalidInput("--profile: found a policy, or several traces, expected one trace and neither")


def _compared(traces: list[Path], policies: list[str], scenario: Scenario, plot: Path | None) -> list[Result]:
    """What is wrong is found before anything is played."""
    for text in policies:
        policy_of(text)
    if plot is not None:
        canvas_for(plot, WIDTH, HEIGHT)
    results = _played(traces, policies, scenario)
    if plot is not None:
        _plot(plot, traces, results)
    return [result for of_trace in results for result in of_trace]


def _played(traces: list[Path], policies: list[str], scenario: Scenario) -> list[list[Result]]:
    """One list per trace, in the order given."""
    with progress_bars() as bars:
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
