"""How much memory does this model need, and does it fit that device?

The answer is a certificate: the inequality with each of its terms in bytes, and what to tell the engine so that it takes no more than
that; or the smallest changes that would make it hold. A correction that was learned from what engines reported is part of the need, and
the certificate says how far the estimates have been off.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct
from msgspec.structs import replace

from penstock.decide.engine_report import EngineReport
from penstock.decide.fit_changes import (
    Change,
    Question,
    least_changes,
    longest_context,
    most_requests,
)
from penstock.decide.fit_error import UNLEARNED, Learned
from penstock.decide.kv_bytes import token_bytes
from penstock.decide.memory_need import (
    Device,
    Plan,
    Term,
    graph_bytes,
    outside_bytes,
    terms,
    usable_bytes,
)

GIB = 1 << 30


class Certificate(Struct, frozen=True, kw_only=True):
    """All bytes are of each GPU. `outside_bytes` are taken beside the engine's share, by CUDA itself. `kv_room_bytes` is what is left for the KV cache when everything else is there; `most_requests` fit of
    the plan's context, and `longest_context` tokens at the plan's concurrency.
    """

    fits: bool
    need_bytes: int
    usable_bytes: int
    outside_bytes: int = 0
    terms: tuple[Term, ...]
    device: Device
    plan: Plan
    kv_token_bytes: int
    kv_room_bytes: int
    most_requests: int
    longest_context: int
    arguments: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    learned: Learned = UNLEARNED
    notes: tuple[str, ...] = ()

    @property
    def inequality(self) -> str:
        """In GiB, in words."""
        left = " + ".join(f"{term.size_bytes / GIB:.2f} {term.name}" for term in self.terms).replace(
            "+ -", "- "
        )
        sign = "<=" if self.fits else ">"
        share = self.usable_bytes / self.device.memory_bytes
        right = f"{share:.2f} x {self.device.memory_bytes / GIB:.2f} of {self.device.name}"
        return f"{left} = {self.need_bytes / GIB:.2f} {sign} {self.usable_bytes / GIB:.2f} GiB = {right}"

    @property
    def footprint_bytes(self) -> int:
        """Of a GPU that several share: everything that the engine takes of it."""
        return self.need_bytes + self.outside_bytes

    @property
    def kv_tokens(self) -> int:
        """Tokens that the room for the KV cache holds, whatever requests they are of, as long as no window has passed them."""
        return max(0, self.kv_room_bytes) // self.kv_token_bytes if self.kv_token_bytes else 0


def fit(asked: Question, learned: Learned = UNLEARNED) -> Certificate:
    """The correction of `asked` is replaced by the one that was learned."""
    asked = asked._replace(correction=learned.correction)
    plan, device, engine = asked.plan, asked.device, asked.engine
    summands = terms(asked.shape, plan, device, engine, asked.correction)
    need, usable = sum(term.size_bytes for term in summands), usable_bytes(device, plan, engine)
    cache = next(term.size_bytes for term in summands if term.name == "kv cache")
    fits = need <= usable
    return Certificate(
        fits=fits,
        need_bytes=need,
        usable_bytes=usable,
        outside_bytes=outside_bytes(asked.shape, plan, engine),
        terms=summands,
        device=device,
        plan=plan,
        kv_token_bytes=token_bytes(asked.shape, plan.tensor_parallel, plan.kv_dtype),
        kv_room_bytes=usable - need + cache,
        most_requests=most_requests(asked) if asked.shape.layers else 0,
        longest_context=longest_context(asked) if asked.shape.layers else 0,
        arguments=_arguments(asked, need, cache) if fits else (),
        changes=least_changes(asked),
        learned=learned,
        notes=(*asked.shape.notes, *_notes(asked)),
    )


def beside_cache(asked: Question, unsaid: Collection[str] = ()) -> int:
    """What is predicted, uncorrected, that an engine takes of each GPU beside its KV cache and CUDA's context, without the terms of which
    its report has nothing: what the report is held against.
    """
    plan, engine = asked.plan, asked.engine
    said = [one for one in terms(asked.shape, plan, asked.device, engine) if one.name not in unsaid]
    apart = 0 if engine.counts_graphs or plan.is_eager else graph_bytes(asked.shape, engine)
    return sum(term.size_bytes for term in said if term.name != "kv cache") + apart


def as_it_ran(plan: Plan, report: EngineReport, room: int) -> Plan:
    """The plan with what an engine says that it ran with; `room` is for how many requests it made room if neither says so."""
    return replace(
        plan,
        batched_tokens=report.batched_tokens or plan.batched_tokens,
        sequences=report.sequences or plan.sequences or room,
        is_eager=report.is_eager or plan.is_eager,
    )


def _arguments(asked: Question, need: int, cache: int) -> tuple[str, ...]:
    """For vLLM alone: the cache's size in bytes goes before the share of the GPU, which is what it checks at its start."""
    plan = asked.plan
    if asked.engine.name != "vllm":
        return ()
    share = min(1.0, -(-need * 100 // asked.device.memory_bytes) / 100)
    said = [f"--gpu-memory-utilization={share:.2f}"]
    if cache:
        said += [
            f"--kv-cache-memory-bytes={cache}",
            f"--max-model-len={plan.context_tokens}",
            f"--max-num-seqs={plan.concurrency}",
        ]
    if plan.tensor_parallel > 1:
        said.append(f"--tensor-parallel-size={plan.tensor_parallel}")
    if plan.kv_dtype != "auto":
        said.append(f"--kv-cache-dtype={plan.kv_dtype}")
    if plan.quantization in ("fp8", "bitsandbytes"):
        said.append(f"--quantization={plan.quantization}")
    return tuple(said)


def _notes(asked: Question) -> tuple[str, ...]:
    plan, shape = asked.plan, asked.shape
    notes = []
    if shape.heads and shape.heads % plan.tensor_parallel:
        notes.append(
            f"{shape.heads} heads cannot be shared out evenly among {plan.tensor_parallel} GPUs: engines refuse that"
        )
    if shape.context_tokens and plan.context_tokens > shape.context_tokens:
        notes.append(
            f"the model itself was made for {shape.context_tokens} tokens, {plan.context_tokens} are asked for"
        )
    if plan.quantization and shape.quantization:
        notes.append(
            f"the weights are quantised already ({shape.quantization}): {plan.quantization} changes what is left in 16 bits"
        )
    return tuple(notes)
