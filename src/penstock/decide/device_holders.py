"""Who holds what of each GPU?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from string import ascii_lowercase, ascii_uppercase

from msgspec import Struct

from penstock.contracts.devices import WHOLE_MILLI, Gpu, MigProfile, Share
from penstock.decide.inventory import pod_key, shares_of
from penstock.resources.claims import claim_key
from penstock.resources.pod import Pod

LETTERS = ascii_lowercase + ascii_uppercase
CELLS = 24
"""Of a picture of memory that is not partitioned."""


class Holding(Struct, frozen=True, kw_only=True, rename="camel"):
    """One pod's part of one GPU. `what` says it in words; of a MIG instance `slices` are its memory slices."""

    namespace: str
    pod: str
    container: str = ""
    what: str
    memory_bytes: int
    milli: int = 0
    slices: tuple[int, ...] = ()


class GpuView(Struct, frozen=True, kw_only=True, rename="camel"):
    """One GPU, what is held of it and what is free. `free_slices` is None where it is not partitioned."""

    node: str
    index: int
    uuid: str
    type: str
    mode: str
    memory_bytes: int
    free_bytes: int
    holdings: tuple[Holding, ...]
    slices: int = 0
    free_slices: tuple[int, ...] | None = None
    problem: str = ""


def gpu_views(gpus: Mapping[str, tuple[Gpu, ...]], pods: Iterable[Pod]) -> tuple[GpuView, ...]:
    """Every GPU, by node and index. `pods` may be all that there are."""
    holders: dict[str, list[tuple[Pod, Share]]] = {}
    for pod in pods:
        if pod.spec.node_name and pod.status.phase not in ("Succeeded", "Failed"):
            for share in shares_of(pod):
                if not share.is_admin:
                    holders.setdefault(share.gpu, []).append((pod, share))
    return tuple(_view(node, gpu, holders.get(gpu.uuid, [])) for node in sorted(gpus) for gpu in gpus[node])


def held_gpus(gpus: Mapping[str, tuple[Gpu, ...]], pods: Iterable[Pod]) -> dict[str, str]:
    """What each pod holds, in words, by NAMESPACE/NAME: `0 and 1 (h100-80gb)`, `2 (a30, 1g.6gb at 0)`. Those who hold nothing are not there."""
    found: dict[str, dict[str, list[int]]] = {}
    for view in gpu_views(gpus, pods):
        for one in view.holdings:
            what = view.type if one.what == "whole" else f"{view.type}, {one.what}"
            mine = found.setdefault(f"{one.namespace}/{one.pod}", {})
            mine.setdefault(what, []).append(view.index)
    return {
        name: ", ".join(f"{' and '.join(map(str, indices))} ({what})" for what, indices in mine.items())
        for name, mine in found.items()
    }


def picture(view: GpuView) -> str:
    """The GPU's memory as cells: a letter per holding, a dot where it is free. Slices of MIG are parted by bars."""
    letters = dict(zip(range(len(view.holdings)), LETTERS, strict=False))
    if view.free_slices is not None:
        taken = {slot: letters.get(i, "*") for i, one in enumerate(view.holdings) for slot in one.slices}
        return f"[{'|'.join(taken.get(slot, '.') for slot in range(view.slices))}]"
    cells = ""
    held = 0
    for i, one in enumerate(view.holdings):
        held += one.memory_bytes
        upto = min(CELLS, max(len(cells) + 1, round(held * CELLS / max(1, view.memory_bytes))))
        cells += letters.get(i, "*") * (upto - len(cells))
    return f"[{cells.ljust(CELLS, '.')}]"


def _view(node: str, gpu: Gpu, holders: list[tuple[Pod, Share]]) -> GpuView:
    holdings = tuple(_holding(gpu, pod, share) for pod, share in holders)
    taken = {slot for one in holdings for slot in one.slices}
    free = gpu.type.memory_bytes - sum(_held_bytes(gpu, holders))
    return GpuView(
        node=node,
        index=gpu.index,
        uuid=gpu.uuid,
        type=gpu.type.name,
        mode="mig" if gpu.is_mig else gpu.sharing.strategy or "whole",
        memory_bytes=gpu.type.memory_bytes,
        free_bytes=max(0, free),
        holdings=holdings,
        slices=gpu.type.memory_slices if gpu.is_mig else 0,
        free_slices=tuple(s for s in range(gpu.type.memory_slices) if s not in taken) if gpu.is_mig else None,
        problem=", ".join(f"{taint.key}={taint.value}:{taint.effect}" for taint in gpu.taints),
    )


def _held_bytes(gpu: Gpu, holders: list[tuple[Pod, Share]]) -> Iterable[int]:
    """What a claim holds that several pods share is held once."""
    once = {
        (claim_key(pod, share.claim), share.request) if share.claim else (pod_key(pod), i): share
        for i, (pod, share) in enumerate(holders)
    }
    return (_bytes(gpu, share, _profile(gpu, share)) for share in once.values())


def _profile(gpu: Gpu, share: Share) -> MigProfile | None:
    return next((one for one in gpu.type.profiles if one.name == share.profile), None)


def _holding(gpu: Gpu, pod: Pod, share: Share) -> Holding:
    profile = _profile(gpu, share)
    return Holding(
        namespace=pod.metadata.namespace,
        pod=pod.metadata.name,
        container=share.container,
        what=_what(gpu, share),
        memory_bytes=_bytes(gpu, share, profile),
        milli=share.milli,
        slices=tuple(range(share.start, share.start + profile.memory_slices))
        if profile and share.start >= 0
        else (),
    )


def _what(gpu: Gpu, share: Share) -> str:
    if share.profile:
        return f"{share.profile} at {share.start}"
    if share.replica >= 0:
        return f"replica {share.replica + 1} of {gpu.sharing.replicas}"
    return "whole" if share.milli >= WHOLE_MILLI else "part"


def _bytes(gpu: Gpu, share: Share, profile: MigProfile | None) -> int:
    """Time slices have no memory of their own."""
    if share.memory_bytes:
        return share.memory_bytes
    return profile.memory_bytes if profile else gpu.type.memory_bytes * share.milli // WHOLE_MILLI
