"""Does the model of this pod fit the GPUs that it would get?

Of every type that the pod may get, on as many GPUs as its engine spreads the model over: whether one request of the longest context that the
engine is told fits. vLLM checks that itself when it starts, also where it is told none and takes the model's; the others, and vLLM with
`--max-model-len auto`, then take what there is, so that a short one is enough. Types on which it does not are left out; where none is left, the pod is
not placed, and the answer has the inequality and the smallest changes. A pod that asks for as much memory of a GPU as its model needs
(`penstock.dev/gpu-memory: auto`) gets what its declared requests need there, and its engine is told so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from penstock.contracts.devices import MEMORY_ANNOTATION, WHOLE_MILLI, DeviceRequest, GpuType
from penstock.decide.engine_memory import engine_memory
from penstock.decide.fit import GIB, Certificate, fit
from penstock.decide.fit_changes import Question
from penstock.decide.fit_error import Learned
from penstock.decide.memory_need import Device, Plan, device_of
from penstock.decide.model_shape import ModelShape
from penstock.decide.served_model import Served
from penstock.resources.pod import Pod

AUTO = "auto"
FIT_ANNOTATION = "penstock.dev/fit"
"""On a pod: `ignore` leaves the decision to whoever wrote it."""
CERTIFICATE_ANNOTATION = "penstock.dev/fit-certificate"
"""On a pod that is bound: the JSON of its `PodCertificate`."""
USUAL_CONTEXT, USUAL_REQUESTS = 8192, 32
"""What `auto` makes room for where the arguments say nothing."""
SHORT_CONTEXT = 2048
"""What must fit where an engine takes what context there is room for."""
MAX_CHANGES = 3
"""In a message."""
SPARE_BYTES = 64 << 20
"""`auto` asks for whole multiples of this."""


class PodCertificate(Struct, frozen=True, kw_only=True):
    """What a placement stands on. Bytes are of each GPU; `arguments` is what the engine in `container` is told beside its own."""

    container: str
    model: str
    engine: str
    gpu: str
    need_bytes: int
    usable_bytes: int
    footprint_bytes: int
    inequality: str
    accuracy: str
    arguments: tuple[str, ...] = ()


class PodFit(Struct, frozen=True, kw_only=True):
    """`requests` is what the pod asks of GPUs on which its model fits, or why there are none. `certificates` are by type of GPU."""

    requests: tuple[DeviceRequest, ...] | str
    certificates: Mapping[str, PodCertificate] = {}


class Sought(Struct, frozen=True, kw_only=True):
    """`kinds` are the types of GPU that there are. `is_auto`: memory is to follow from the model. `learned(engine, gpu)` are earlier runs. `name` is the model without secrets."""

    served: Served
    name: str
    shape: ModelShape
    requests: tuple[DeviceRequest, ...]
    kinds: Sequence[GpuType]
    learned: Callable[[str, str], Learned]
    is_auto: bool = False


def pod_fit(sought: Sought) -> PodFit:
    """For pods that ask for GPUs; the requests of other containers than the engine's stay as they are."""
    own = [one for one in sought.requests if one.container in ("", sought.served.container)]
    if not own or not sought.kinds:
        return PodFit(requests=sought.requests)
    wanted = [kind for kind in sought.kinds if _may_be(kind, own[0])]
    answers = {kind.name: _answer(sought, kind, own[0], wanted) for kind in wanted}
    fitting = {name: one for name, one in answers.items() if one.fits and _has_room(one, sought.is_auto)}
    if not fitting:
        return PodFit(requests=_refusal(sought.name, answers.values()) if answers else sought.requests)
    memory = max(_rounded(one.footprint_bytes) for one in fitting.values())
    narrowed = frozenset(fitting) if len(fitting) < len(sought.kinds) else frozenset[str]()
    requests = tuple(
        _narrowed(one, narrowed, memory if sought.is_auto else 0) if one in own else one
        for one in sought.requests
    )
    certificates = {name: _certificate(sought, one) for name, one in fitting.items()}
    return PodFit(requests=requests, certificates=certificates)


def _may_be(kind: GpuType, request: DeviceRequest) -> bool:
    if request.profile and all(one.name != request.profile for one in kind.profiles):
        return False
    return not request.types or kind.name in request.types


def _has_room(answer: Certificate, is_shared: bool) -> bool:
    """Who shares a GPU leaves nothing of it to CUDA's context by itself."""
    return not is_shared or answer.footprint_bytes <= answer.device.memory_bytes


def _answer(sought: Sought, kind: GpuType, request: DeviceRequest, kinds: Iterable[GpuType]) -> Certificate:
    served, engine = sought.served, engine_memory(sought.served.engine)
    device, plan = _device(kind, request), _plan(sought, kind, request)
    others = [device_of(other) for other in kinds] if device.name == kind.name and not sought.is_auto else []
    learned = sought.learned(served.engine, kind.name)
    return fit(Question(sought.shape, plan, device, engine, devices=others), learned)


def _plan(sought: Sought, kind: GpuType, request: DeviceRequest) -> Plan:
    plan, shape = sought.served.plan, sought.shape
    device, engine = device_of(kind), engine_memory(sought.served.engine)
    room = plan.sequences or engine.sequences(device.name, device.memory_bytes)
    longest = shape.context_tokens or USUAL_CONTEXT
    takes_less = sought.served.engine != "vllm" or "context" in sought.served.said
    context = plan.context_tokens or (min(SHORT_CONTEXT, longest) if takes_less else longest)
    if sought.is_auto:
        count = plan.sequences or USUAL_REQUESTS
        usual = plan.context_tokens or min(USUAL_CONTEXT, longest)
        return replace(plan, concurrency=count, context_tokens=usual, sequences=count, utilization=1.0)
    utilization = 1.0 if request.memory_bytes or plan.cache_bytes else plan.utilization
    return replace(plan, context_tokens=context, sequences=room, utilization=utilization)


def _device(kind: GpuType, request: DeviceRequest) -> Device:
    """As much of a GPU as the pod would get."""
    whole = device_of(kind)
    profile = next((one for one in kind.profiles if one.name == request.profile), None)
    if profile is not None:
        return replace(whole, name=f"{profile.name} of {kind.name}", memory_bytes=profile.memory_bytes)
    if request.memory_bytes:
        asked = request.memory_bytes
        return replace(
            whole, name=f"{asked / GIB:.1f}Gi of {kind.name}", memory_bytes=min(asked, whole.memory_bytes)
        )
    return whole


def _rounded(size: int) -> int:
    return -(-size // SPARE_BYTES) * SPARE_BYTES


def _narrowed(request: DeviceRequest, fitting: frozenset[str], memory_bytes: int) -> DeviceRequest:
    """`fitting` is empty where all types do."""
    types = fitting & request.types if fitting and request.types else fitting or request.types
    if memory_bytes and request.milli == WHOLE_MILLI:
        return replace(request, types=types, milli=0, memory_bytes=memory_bytes)
    return replace(request, types=types)


def _certificate(sought: Sought, answer: Certificate) -> PodCertificate:
    return PodCertificate(
        container=sought.served.container,
        model=sought.name,
        engine=sought.served.engine,
        gpu=answer.device.name,
        need_bytes=answer.need_bytes,
        usable_bytes=answer.usable_bytes,
        footprint_bytes=answer.footprint_bytes,
        inequality=answer.inequality,
        accuracy=answer.learned.text,
        arguments=_told(sought.served, answer) if sought.is_auto else (),
    )


def _told(served: Served, answer: Certificate) -> tuple[str, ...]:
    """What the engine's own arguments leave open."""
    kinds = {
        "--gpu-memory-utilization": "utilization",
        "--kv-cache-memory-bytes": "cache",
        "--max-model-len": "context",
        "--max-num-seqs": "sequences",
    }
    names = {told: told.partition("=")[0] for told in answer.arguments}
    return tuple(told for told, name in names.items() if name in kinds and kinds[name] not in served.said)


def _refusal(name: str, answers: Iterable[Certificate]) -> str:
    """By the GPU that comes nearest, with what would help there."""
    best = min(answers, key=lambda one: (one.need_bytes - one.usable_bytes, one.device.name))
    ways = " or ".join(change.text for change in best.changes[:MAX_CHANGES])
    helps = f"; it would fit if you {ways}" if ways else ""
    return f"{name} does not fit: {best.inequality}{helps} (annotation {FIT_ANNOTATION}: ignore places it nevertheless)"


def certificate_of(pod: Pod) -> PodCertificate | None:
    """The one that the pod's placement stands on; None where there is none, or it cannot be read."""
    text = pod.metadata.annotations.get(CERTIFICATE_ANNOTATION)
    try:
        return msgspec.json.decode(text, type=PodCertificate) if text else None
    except msgspec.DecodeError:
        return None


def with_memory(pod: Pod, quantity: str) -> Pod:
    """The pod as if it asked for this much of a GPU."""
    annotations = {**pod.metadata.annotations, MEMORY_ANNOTATION: quantity}
    return replace(pod, metadata=replace(pod.metadata, annotations=annotations))


def certified(pod: Pod) -> Pod:
    """A bound pod whose memory follows from its model, as if it asked for what its certificate says; any other as it is."""
    if not pod.spec.node_name or pod.metadata.annotations.get(MEMORY_ANNOTATION) != AUTO:
        return pod
    certificate = certificate_of(pod)
    return with_memory(pod, str(certificate.footprint_bytes)) if certificate else pod


def needs_quantity(why: str) -> str:
    """Where `auto` cannot be answered."""
    return f"{MEMORY_ANNOTATION}: {AUTO}: {why}; give a quantity such as 20Gi"
