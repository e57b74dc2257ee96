"""What does this start of an engine teach about estimates of its memory?

What the engine says that it took beside its KV cache, and what is predicted for a start of this model, with the batches and requests that it
says it ran with, on this type of GPU. Nothing where its report does not say how large its cache is.
"""

from __future__ import annotations

from msgspec import Struct

from penstock.contracts.devices import GpuType
from penstock.decide.engine_memory import engine_memory
from penstock.decide.engine_report import EngineReport, beside_cache_bytes
from penstock.decide.fit import as_it_ran, beside_cache
from penstock.decide.fit_changes import Question
from penstock.decide.fit_error import Observation
from penstock.decide.kv_bytes import token_bytes
from penstock.decide.memory_need import device_of
from penstock.decide.model_shape import ModelShape
from penstock.decide.served_model import Served
from penstock.kit.errors import InvalidInput


class Start(Struct, frozen=True, kw_only=True):
    """`name` is the model without secrets, `run` what tells this start from others."""

    served: Served
    name: str
    shape: ModelShape
    kind: GpuType
    run: str


def learn_start(start: Start, report: EngineReport, now: float) -> Observation | None:
    """None where there is nothing to learn: another engine than the command says, another number of ranks, or no cache that it tells of."""
    served, device = start.served, device_of(start.kind)
    if report.engine != served.engine or report.tensor_parallel not in (1, served.plan.tensor_parallel):
        return None
    try:
        engine = engine_memory(served.engine, report.version)
    except InvalidInput:  # numbered otherwise
        engine = engine_memory(served.engine)
    plan = as_it_ran(served.plan, report, engine.sequences(device.name, device.memory_bytes))
    observed = beside_cache_bytes(
        report,
        device.memory_bytes,
        plan.utilization or engine.utilization,
        token_bytes(start.shape, plan.tensor_parallel, plan.kv_dtype),
    )
    if observed is None:
        return None
    return Observation(
        model=start.name,
        engine=served.engine,
        version=report.version,
        gpu=start.kind.name,
        predicted_bytes=beside_cache(Question(start.shape, plan, device, engine), report.unsaid),
        observed_bytes=observed,
        at=now,
        run=start.run,
    )
