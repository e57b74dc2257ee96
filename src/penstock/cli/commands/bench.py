"""Put a load on a model, and say how fast and how reliably it answers.

Workloads are shared-prefix, multi-turn, random, the presets kthena-4096, kthena-256, llm-d-73 and llm-d-37, and trace, for an Azure CSV,
a Mooncake JSONL, ServeGen arrivals or a recording; settings follow a colon. With --rate or a trace requests are sent by the clock, however slow answers are; with --concurrency so many are
under way at a time. Times count from when a request was due. Any server with OpenAI's API will do; where it asks for a key, that is taken
from PENSTOCK_API_KEY or a file. Ctrl-C ends it early and shows what was measured by then.

Example: penstock bench qwen -w shared-prefix:groups=32,prefix=2048 --rate 8 --duration 60s --slo-ttft 1s --against http://127.0.0.1:9000
"""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import signal
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
import uvloop

from penstock.app.settings import load
from penstock.cli.bench_output import Report, print_report, watched
from penstock.cli.gateway import KEY_VARIABLE
from penstock.kit.durations import parse_go_duration_s
from penstock.kit.errors import InvalidInput
from penstock.testing.load.compare import ENOUGH_PAIRS
from penstock.testing.load.conversation import Workload
from penstock.testing.load.player import Pace
from penstock.testing.load.plot import HEIGHT, draw
from penstock.testing.load.session import Bench, Setup
from penstock.testing.load.summary import Objective
from penstock.testing.load.target import Target, key_from, target_of
from penstock.testing.load.workloads import workload_of
from penstock.testing.sim.canvas import canvas_for
from penstock.testing.sim.plot import WIDTH

FILES = 65_536
"""Open files that a load may need, if the system allows as many."""
DURATION_S = 30.0
CONCURRENCY = 8
MAX_SEED = 1_000_000


Model = Annotated[
    str, typer.Argument(help="Name of the model; default: the only one there is.", show_default=False)
]
Url = Annotated[str, typer.Option(help="Server; default: this machine's gateway.", show_default=False)]
Against = Annotated[
    str, typer.Option(help="A second server, in turn with the first, and the ratios.", show_default=False)
]
KeyFile = Annotated[
    Path | None, typer.Option(help="File with the API key in its first line.", show_default=False)
]
AgainstKeyFile = Annotated[
    Path | None, typer.Option(help="The second server's; without it none is sent.", show_default=False)
]
CaFile = Annotated[
    Path | None, typer.Option(help="Certificates to trust; default: the system's.", show_default=False)
]
WorkloadText = Annotated[
    str,
    typer.Option(
        "--workload",
        "-w",
        help="NAME, NAME:SETTING=VALUE,SETTING=VALUE, or trace:FILE,SETTING=VALUE.",
    ),
]
Rate = Annotated[
    float | None, typer.Option(min=0.001, max=100_000, help="Conversations a second.", show_default=False)
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=16_000,
        help=f"Conversations at a time; default: {CONCURRENCY}, without a rate.",
        show_default=False,
    ),
]
Duration = Annotated[
    str, typer.Option(help="How long; default: 30s, unless --requests says it.", show_default=False)
]
Requests = Annotated[int | None, typer.Option(min=1, help="How many requests at most.", show_default=False)]
Warmup = Annotated[str, typer.Option(help="What is due in this time is sent, but not counted.")]
Ramp = Annotated[str, typer.Option(help="The load grows to its full size in this time.")]
Repeats = Annotated[
    int | None,
    typer.Option(
        min=1, max=1000, help=f"Runs; default: 1, with --against {ENOUGH_PAIRS} pairs.", show_default=False
    ),
]
SloTtft = Annotated[str, typer.Option(help="How soon a first token must come, as in 1s.", show_default=False)]
SloItl = Annotated[
    str, typer.Option(help="An answer's mean time between tokens, as in 50ms.", show_default=False)
]
FindKnee = Annotated[bool, typer.Option("--find-knee", help="Highest rate at which 99 % meet the objective.")]
MaxSteps = Annotated[int, typer.Option(min=1, max=100, help="Rates that --find-knee tries.")]
ApiName = Annotated[Literal["chat", "completions"], typer.Option(help="Which of OpenAI's APIs.")]
IgnoreEos = Annotated[
    bool,
    typer.Option("--ignore-eos/--no-ignore-eos", help="Answers as long as asked; a field of vLLM's API."),
]
Timeout = Annotated[str, typer.Option(help="How long a request may take.")]
Tokenizer = Annotated[
    Path | None,
    typer.Option(help="tokenizer.json to count with; default: 4 bytes a token.", show_default=False),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="The same seed sends the same requests, which are then in caches; default: a new one each time.",
        show_default=False,
    ),
]
Json = Annotated[Path | None, typer.Option("--json", help="FILE: everything as JSON.", show_default=False)]
Plot = Annotated[
    Path | None, typer.Option(help="FILE.svg or FILE.png: the times' distributions.", show_default=False)
]


def run(
    model: Model = "",
    url: Url = "",
    against: Against = "",
    api_key_file: KeyFile = None,
    against_key_file: AgainstKeyFile = None,
    ca_file: CaFile = None,
    workload: WorkloadText = "shared-prefix",
    rate: Rate = None,
    concurrency: Concurrency = None,
    duration: Duration = "",
    requests: Requests = None,
    warmup: Warmup = "0",
    ramp: Ramp = "0",
    repeats: Repeats = None,
    slo_ttft: SloTtft = "",
    slo_itl: SloItl = "",
    find_knee: FindKnee = False,
    max_steps: MaxSteps = 12,
    api: ApiName = "chat",
    ignore_eos: IgnoreEos = True,
    timeout: Timeout = "10m",
    tokenizer: Tokenizer = None,
    seed: Seed = None,
    json: Json = None,
    plot: Plot = None,
) -> None:
    """Results go to standard output, progress to standard error."""
    chosen = workload_of(workload)
    setup = Setup(
        workload=chosen,
        pace=Pace(
            rate_per_s=rate,
            concurrency=_concurrency(chosen, rate, concurrency, find_knee),
            duration_s=_duration(chosen, duration, requests),
            requests=requests,
            warmup_s=_seconds("--warmup", warmup),
            ramp_s=_seconds("--ramp", ramp),
        ),
        objective=_objective(slo_ttft, slo_itl, find_knee),
        model=model,
        api=api,
        ignores_eos=ignore_eos,
        repeats=repeats or (ENOUGH_PAIRS if against else 1),
        seed=secrets.randbelow(MAX_SEED) if seed is None else seed,
        timeout_s=_above_zero("--timeout", timeout),
        tokenizer=tokenizer,
    )
    _check_place("--json", json)
    _check_place("--plot", plot)
    if plot is not None:
        canvas_for(plot, WIDTH, HEIGHT)
    targets = _targets(url, api_key_file, against, against_key_file, ca_file)
    _allow_files()
    report = uvloop.run(_bench(setup, targets, max_steps if find_knee else 0, plot))
    print_report(report)
    if json is not None:
        _write(json, report)
    if report.is_partial:
        raise KeyboardInterrupt


async def _bench(setup: Setup, targets: list[Target], knee_steps: int, plot: Path | None) -> Report:
    with watched(setup.pace) as told:
        bench = Bench(setup, targets, told)
        try:
            await bench.check()
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, bench.stop)
            if knee_steps:
                knees = await bench.find_knee(knee_steps)
                return Report(setup.seed, (), (), knees, bench.is_stopped)
            results, ratios = await bench.measure()
        finally:
            bench.close()
    if plot is not None and results:
        canvas = canvas_for(plot, WIDTH, HEIGHT)
        draw(canvas, results, bench.recordings)
        try:
            canvas.save(plot)
        except OSError as error:
            raise InvalidInput(f"--plot: cannot write {plot}: {error.strerror}") from None
    return Report(setup.seed, results, ratios, (), bench.is_stopped)


def _check_place(option: str, path: Path | None) -> None:
    """Before a long run, not after it."""
    if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        raise InvalidInput(
            f"{option}: cannot write {path}", hint="name a file in a folder that exists and may be written to"
        )


def _write(path: Path, report: Report) -> None:
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    except OSError as error:
        raise InvalidInput(f"--json: cannot write {path}: {error.strerror}") from None


def _objective(ttft: str, itl: str, find_knee: bool) -> Objective:
    if find_knee and not (ttft or itl):
        raise InvalidInput("--find-knee: found no objective, expected --slo-ttft or --slo-itl")
    return Objective(
        _above_zero("--slo-ttft", ttft) if ttft else None, _above_zero("--slo-itl", itl) if itl else None
    )


def _concurrency(
    workload: Workload, rate: float | None, concurrency: int | None, find_knee: bool
) -> int | None:
    """Checked against what else was asked for; None where requests are sent by the clock."""
    if find_knee and (workload.timed or concurrency is not None):
        raise InvalidInput("--find-knee: found a trace or --concurrency, expected a workload at a rate")
    if rate is not None and (workload.timed or concurrency is not None):
        raise InvalidInput(
            "--rate: found a trace or --concurrency, too, expected one of them",
            hint="trace:FILE,speed=2 plays a trace faster",
        )
    if concurrency is not None or rate is not None or workload.timed or find_knee:
        return concurrency
    return CONCURRENCY


def _duration(workload: Workload, text: str, requests: int | None) -> float | None:
    """A trace is played to its end."""
    if text:
        return _above_zero("--duration", text)
    return None if workload.timed or requests is not None else DURATION_S


def _targets(
    url: str, key_file: Path | None, against: str, against_key_file: Path | None, ca_file: Path | None
) -> list[Target]:
    """A key is sent only to the server it was given for."""
    key = key_from("--api-key-file", key_file) if key_file else os.environ.get(KEY_VARIABLE, "")
    targets = [target_of("--url", url or load(os.environ).gateway_url, key, ca_file)]
    if against:
        other = key_from("--against-key-file", against_key_file) if against_key_file else ""
        targets.append(target_of("--against", against, other, ca_file))
    return targets


def _allow_files() -> None:
    """A stream is a file to the system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _seconds(option: str, text: str) -> float:
    try:
        found = parse_go_duration_s(text)
    except InvalidInput as error:
        raise InvalidInput(f"{option}: {error.message}") from None
    if found < 0.0:
        raise InvalidInput(f"{option}: found {text!r}, expected 0 or more")
    return found


def _above_zero(option: str, text: str) -> float:
    found = _seconds(option, text)
    if found == 0.0:
        raise InvalidInput(f"{option}: found {text!r}, expected more than 0")
    return found
