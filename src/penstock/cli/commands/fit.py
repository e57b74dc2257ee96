"""Tell how much GPU memory a model needs, and whether it fits: weights, KV cache, activations, engine. Nothing is downloaded.

MODEL is a folder, a file (GGUF, safetensors), or hf://OWNER/MODEL, s3://, https://, file://: only the beginnings of its files are read. With one
--gpu comes the certificate: the inequality term by term, and what to tell vLLM; or the smallest changes that would make it fit. Without, a line for each
type of GPU. All sizes are of each GPU. Exit code 1 says that it does not fit.

With --learn-from, an engine that runs this model corrects later estimates: give its log, or its metrics.

Example: penstock fit hf://meta-llama/Llama-3.1-8B --gpu H100 --concurrency 32 --context 8192
"""

from __future__ import annotations

import os
import re
import time
from typing import Annotated

import psutil
import typer

from penstock.app.engine_reports import engine_report, used_bytes
from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.app.home import Home
from penstock.app.model_headers import read_headers
from penstock.app.settings import load
from penstock.cli.console import check_output, warn
from penstock.cli.fit_output import print_certificate, print_overview
from penstock.contracts.source import public
from penstock.decide.engine_memory import ENGINES, engine_memory, usual_engine
from penstock.decide.engine_report import beside_cache_bytes
from penstock.decide.fit import as_it_ran, beside_cache, fit
from penstock.decide.fit_changes import Question
from penstock.decide.fit_error import Observation, learn
from penstock.decide.kv_bytes import KV_DTYPES, token_bytes
from penstock.decide.memory_need import Device, Plan, device_of, terms
from penstock.decide.model_shape import with_draft
from penstock.decide.quantization import BITS
from penstock.host.fit_store import add_observation, read_observations
from penstock.kit.errors import InvalidInput, nearest
from penstock.kit.quantity import to_bytes

OUTPUTS = ("table", "json")
CONTEXT = 8192
_SIZE = re.compile(r"\d+(\.\d+)?([KMGT]i?)?")

Gpus = Annotated[
    list[str] | None,
    typer.Option(
        "--gpu",
        help="Type, by any of its names (H100, a100-80gb, L4), or a size as 40Gi; may be given again.",
        show_default=False,
    ),
]
Concurrency = Annotated[int, typer.Option(min=1, max=1 << 20, help="Requests at once.")]
Tokens = Annotated[
    int | None,
    typer.Option(
        "--context",
        min=1,
        max=1 << 30,
        help=f"Tokens of each request; default: {CONTEXT}, or what the model can.",
        show_default=False,
    ),
]
Ranks = Annotated[
    int, typer.Option("--tensor-parallel", min=1, max=1024, help="GPUs that share the model out.")
]
Quantization = Annotated[
    str, typer.Option(help=f"What the engine makes of 16-bit weights: {', '.join(BITS)}.", show_default=False)
]
KvDtype = Annotated[str, typer.Option(help=f"Type of the KV cache: {', '.join(KV_DTYPES)}.")]
Engine = Annotated[
    str, typer.Option(help=f"{', '.join(ENGINES)}; default: by the files' format.", show_default=False)
]
Version = Annotated[
    str, typer.Option("--engine-version", help="As 0.20.1; default: the newest known.", show_default=False)
]
Utilization = Annotated[
    float,
    typer.Option(min=0.0, max=1.0, help="Share of the GPU that the engine may take; 0 for its default."),
]
Draft = Annotated[
    str,
    typer.Option(help="The smaller model that speculates for it: folder, file or URI.", show_default=False),
]
Loras = Annotated[int, typer.Option(min=0, max=1024, help="LoRA adapters that are used at once.")]
LoraRank = Annotated[int, typer.Option(min=1, max=4096, help="The highest rank of theirs.")]
File = Annotated[
    str,
    typer.Option(
        help="Part of the name of the file that is meant, where there are several.", show_default=False
    ),
]
LearnFrom = Annotated[
    str,
    typer.Option(
        help="Log of a vLLM that runs this model so, its http://HOST:PORT/metrics, or - for standard input.",
        show_default=False,
    ),
]
Used = Annotated[
    str,
    typer.Option(
        help="With --learn-from: memory in use on that GPU, as 61Gi, or the UUID of one here, which NVML is asked about.",
        show_default=False,
    ),
]
Output = Annotated[str, typer.Option("--output", "-o", help="table or json")]


def run(
    model: Annotated[str, typer.Argument(help="Folder, file or URI.", show_default=False)],
    gpu: Gpus = None,
    concurrency: Concurrency = 32,
    context: Tokens = None,
    tensor_parallel: Ranks = 1,
    quantization: Quantization = "",
    kv_dtype: KvDtype = "auto",
    engine: Engine = "",
    engine_version: Version = "",
    utilization: Utilization = 0.0,
    draft: Draft = "",
    loras: Loras = 0,
    lora_rank: LoraRank = 16,
    file: File = "",
    learn_from: LearnFrom = "",
    used: Used = "",
    output: Output = "table",
) -> None:
    """The answer goes to standard output."""
    check_output(output, OUTPUTS)
    _one_of("--quantization", quantization, tuple(BITS))
    _one_of("--kv-dtype", kv_dtype, tuple(KV_DTYPES))
    chosen = [_device(name) for name in gpu or ()]
    headers = read_headers(model, os.environ, file=file)
    if draft:
        both = with_draft(headers.shape, read_headers(draft, os.environ).shape)
        headers = headers._replace(shape=both)
    memory = engine_memory(engine or usual_engine(headers.files), engine_version)
    plan = Plan(
        concurrency=concurrency,
        context_tokens=context or min(CONTEXT, headers.shape.context_tokens or CONTEXT),
        tensor_parallel=tensor_parallel,
        quantization=quantization,
        kv_dtype=kv_dtype,
        utilization=utilization,
        loras=loras,
        lora_rank=lora_rank,
    )
    known = tuple(map(device_of, load_gpu_types())) if memory.is_spread else ()
    if not (chosen or known):
        chosen = [Device(name="this machine", memory_bytes=psutil.virtual_memory().total)]
    asked = [Question(headers.shape, plan, device, memory, devices=known) for device in chosen or known]
    home, name = Home(load(os.environ).home), public(model)
    if learn_from:
        _learn(home, name, asked, learn_from, used)
    seen = read_observations(home.fit_observations)
    certificates = [
        fit(one, learn(seen, model=name, engine=memory.name, version=memory.version, gpu=one.device.name))
        for one in asked
    ]
    if len(chosen) == 1:
        print_certificate(name, headers, memory, certificates[0], output)
    else:
        print_overview(name, headers, memory, certificates, output)
    if not any(certificate.fits for certificate in certificates):
        raise typer.Exit(1)


def _learn(home: Home, model: str, asked: list[Question], where: str, used: str) -> None:
    """Compare what an engine took with what was predicted for it, and keep that. Raises InvalidInput where it does not say enough."""
    if len(asked) != 1:
        raise InvalidInput("--learn-from: found no one GPU, expected --gpu with the type that it runs on")
    report, question = engine_report(where), asked[0]
    plan, engine = question.plan, question.engine
    if report.tensor_parallel not in (1, plan.tensor_parallel):
        raise InvalidInput(
            f"--tensor-parallel: found {plan.tensor_parallel}, the engine says {report.tensor_parallel}"
        )
    observed = beside_cache_bytes(
        report,
        question.device.memory_bytes,
        plan.utilization or engine.utilization,
        token_bytes(question.shape, plan.tensor_parallel, plan.kv_dtype),
        used_bytes(used),
    )
    if observed is None:
        raise InvalidInput(
            f"--learn-from: {where} does not say how large the KV cache is",
            hint="give the log from the engine's start on, or its metrics; with --kv-cache-memory-bytes also --used",
        )
    room = engine.sequences(question.device.name, question.device.memory_bytes)
    question = question._replace(plan=as_it_ran(plan, report, room))
    predicted = beside_cache(question, report.unsaid)
    weights = terms(question.shape, plan, question.device, engine)[0]
    version = report.version or engine.version
    add_observation(
        home.fit_observations,
        Observation(
            model=model,
            engine=engine.name,
            version=version,
            gpu=question.device.name,
            predicted_bytes=predicted,
            observed_bytes=observed,
            at=time.time(),
        ),
    )
    said = (
        f"; weights {report.weight_bytes / 2**30:.2f}, predicted {weights.size_bytes / 2**30:.2f}"
        if report.weight_bytes
        else ""
    )
    warn(
        f"learned: beside its KV cache the engine took {observed / 2**30:.2f} GiB, predicted {predicted / 2**30:.2f}{said}"
    )


def _device(name: str) -> Device:
    """Raises InvalidInput for what is neither a type of GPU nor a size."""
    if _SIZE.fullmatch(name) and not name.isdecimal():
        return Device(name=name, memory_bytes=to_bytes(name))
    return device_of(find_gpu_type(name, field="--gpu"))


def _one_of(option: str, found: str, known: tuple[str, ...]) -> None:
    if found and found not in known:
        close = nearest(found, known, 1)
        raise InvalidInput(
            f"{option}: found {found!r}, expected one of {', '.join(known)}",
            hint=f"did you mean {close[0]}?" if close else "",
        )
