"""What would be lost if these pods stopped now?

Pods that work as one (the pods of a Job that saves checkpoints) stop as one: a gang without one of its ranks stands still. What a unit loses is
the work since its last verified checkpoint, or since its start, the time to go on from there, and a penalty for each time that it gave way before.
A unit that can save when it is told to loses only what saving takes, and a server only the time to be ready again. One that reports nothing is taken to lose what is usual, so that to be
silent protects nobody; one that was told and did not save is no longer believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

from msgspec import Struct

from penstock.contracts.devices import WHOLE_MILLI, Share
from penstock.decide.checkpoint import last_verified
from penstock.decide.gang import gang_of
from penstock.decide.inventory import shares_of
from penstock.decide.pod_requests import requests_of
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.checkpoint import contract_of, minimum_runtime_s
from penstock.resources.pod import Pod

GPU_PREFIX = "nvidia.com/"
MIG_SLICES = 7
CORE_IN_GPUS = 1 / 64
"""What a core counts for beside a GPU, roughly as clouds price them; for pods that hold no GPU."""
PENALTY_S = 120.0
"""How much dearer a unit is for each time that it gave way already, for each of its GPUs."""
SETTLE_S = 60.0
"""How long a unit that gave way before is let run while anybody else will do, so that it gets somewhere."""
DEFAULT_GRACE_S = 30.0
MAX_USUAL_S = 3600.0


class History(Struct, frozen=True, kw_only=True, rename="camel"):
    """What a Job went through: how often it gave way, how often it was told and did not save, the GPU-seconds that it lost, and when last."""

    count: int = 0
    ignored: int = 0
    lost_gpu_seconds: float = 0.0
    last_at: float = 0.0


NO_HISTORY = History()


class Unit(Struct, frozen=True, kw_only=True):
    """Pods that stop together. `gpus` is what all of them hold; `since` when the work began that would be lost (Unix s).

    `save_s` is how long it takes to save when it is told to, None where it does not; `wait_s` how long until it is gone, as far as is known.
    """

    name: str
    pods: tuple[Pod, ...]
    priority: int
    gpus: float
    started_at: float
    since: float
    reports: bool = False
    save_s: float | None = None
    wait_s: float = 0.0
    restore_s: float = 0.0
    minimum_runtime_s: float = 0.0
    times: int = 0

    def may_stop(self, now: float) -> bool:
        """Whether it ran for as long as it must be let run."""
        return now - self.started_at >= self.minimum_runtime_s

    def is_settled(self, now: float) -> bool:
        """Whether it has also got somewhere since it last gave way."""
        return self.may_stop(now) and (not self.times or now - self.started_at >= SETTLE_S)

    def redo_s(self, now: float) -> float:
        """How long it would take to be where it is now."""
        redo_s = max(0.0, now - self.since)
        return (min(redo_s, self.save_s) if self.save_s is not None else redo_s) + self.restore_s

    def cost(self, now: float, usual_s: float | None) -> float:
        """GPU-seconds that would be lost, with the penalty. `usual_s` is `usual_redo_s` of all units."""
        redo_s = self.redo_s(now)
        if not self.reports and usual_s is not None:
            redo_s = min(redo_s, usual_s)
        return self.gpus * (redo_s + PENALTY_S * self.times)


def units_of(pods: Iterable[Pod], now: float, histories: Mapping[str, History]) -> tuple[Unit, ...]:
    """The units of pods that hold a node and have not ended, by name; `histories` are those of Jobs by their uid."""
    grouped: dict[str, list[Pod]] = {}
    for pod in pods:
        grouped.setdefault(unit_name(pod), []).append(pod)
    return tuple(_unit(name, tuple(grouped[name]), now, histories) for name in sorted(grouped))


def unit_name(pod: Pod) -> str:
    """The gang of a pod that says it, else the Job of one that saves checkpoints; any other pod is a unit of its own."""
    if (gang := gang_of(pod)) is not None and gang.size > 1:
        return f"{gang.namespace}/{gang.name}"
    if contract_of(pod.metadata) is not None and (owner := job_of(pod)):
        return owner
    return pod.metadata.uid or f"{pod.metadata.namespace}/{pod.metadata.name}"


def job_of(pod: Pod) -> str:
    """The uid of the Job that controls the pod, or ""."""
    owners = pod.metadata.owner_references
    return next((owner.uid for owner in owners if owner.controller and owner.kind == "Job"), "")


def priority_of(pod: Pod) -> int:
    """As admission has set it."""
    return pod.spec.priority or 0


def gpus_of(pod: Pod) -> float:
    """How many GPUs' worth the pod holds or asks for."""
    if shares := shares_of(pod):
        return sum(map(_part_of, shares))
    asked = requests_of(pod)
    gpus = sum(float(amount) for name, amount in asked.items() if name.startswith(GPU_PREFIX))
    return gpus or float(asked.get("cpu", 0)) * CORE_IN_GPUS


def _part_of(share: Share) -> float:
    """Of one GPU. An instance `3g.40gb` has three of seven slices; what says nothing of its compute counts as a whole one."""
    slices = share.profile.split("g")[0]
    if slices.isdecimal():
        return min(1.0, int(slices) / MIG_SLICES)
    return share.milli / WHOLE_MILLI if share.milli else 1.0


def usual_redo_s(units: Iterable[Unit], now: float) -> float | None:
    """The median time to be where they are now, of units that report and without being told; None where none does."""
    known = [max(0.0, now - unit.since) + unit.restore_s for unit in units if unit.reports]
    return min(MAX_USUAL_S, median(known)) if known else None


def _unit(name: str, pods: tuple[Pod, ...], now: float, histories: Mapping[str, History]) -> Unit:
    started = max(_started_at(pod, now) for pod in pods)
    saved = [checkpoint for pod in pods if (checkpoint := last_verified(pod)) is not None]
    history = max((histories.get(job_of(pod), NO_HISTORY) for pod in pods), key=lambda one: one.count)
    promises = [contract for pod in pods if (contract := contract_of(pod.metadata)) is not None]
    saves = bool(saved) and bool(promises) and all(p.on_demand for p in promises) and not history.ignored
    slowest_s = max((checkpoint.save_s for checkpoint in saved), default=0.0)
    since = max(started, min((checkpoint.saved_at for checkpoint in saved), default=started))
    serves = [_ready_after_s(pod) for pod in pods if not promises and not job_of(pod)]
    can_save = saves and slowest_s <= grace_s(pods)
    return Unit(
        name=name,
        pods=pods,
        priority=max(map(priority_of, pods)),
        gpus=sum(map(gpus_of, pods)),
        started_at=started,
        since=now if serves else since,
        reports=bool(saved or serves),
        save_s=slowest_s if can_save else None,
        wait_s=grace_s(pods) if history.ignored else slowest_s if can_save else 0.0,
        restore_s=max((*serves, *(checkpoint.restore_s for checkpoint in saved)), default=0.0),
        minimum_runtime_s=max(minimum_runtime_s(pod.metadata.annotations) for pod in pods),
        times=history.count,
    )


def _ready_after_s(pod: Pod) -> float:
    """How long a server took to be ready; a lone pod without an owner is taken for one."""
    ready = next(
        (c.last_transition_time for c in pod.status.conditions if c.type == "Ready" and c.status == "True"),
        None,
    )
    if not ready or not pod.status.start_time:
        return 0.0
    return max(0.0, parse_rfc3339(ready) - parse_rfc3339(pod.status.start_time))


def grace_s(pods: Iterable[Pod]) -> float:
    """How long all of them have to end: the shortest grace."""
    given = [pod.spec.termination_grace_period_seconds for pod in pods]
    return min((DEFAULT_GRACE_S if grace is None else float(grace) for grace in given), default=0.0)


def _started_at(pod: Pod, now: float) -> float:
    return parse_rfc3339(pod.status.start_time) if pod.status.start_time else now
