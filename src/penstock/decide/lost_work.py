"""What would be lost if these pods stopped now?

Pods that work as one (the pods of a Job that saves checkpoints) stop as one: a gang without one of its ranks stands still. What a unit loses is
the work since its last verified checkpoint, or since its start, the time to go on from there, and a penalty for each time that it gave way before.
A unit that saves when it is told to loses only what saving takes, and a server only the time to be ready again. Whether it will is known once it
was told; until then it is believed as far as others kept that promise. One that reports nothing is taken to lose no more than what usually lies between two checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import exp2, inf
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

from penstock.contracts.devices import WHOLE_MILLI, Share
from penstock.decide.checkpoint import last_verified
from penstock.decide.gang import gang_of
from penstock.decide.inventory import pod_key, shares_of
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
FORGET_S = 600.0
"""After how long only half of that is left: what it was told long ago is no reason to push another aside who loses more."""
SETTLE_S = 60.0
"""How long a unit that gave way before is let run while anybody else will do, so that it gets somewhere."""
DOUBT = 1
"""How many promises kept, and how many broken, the first ones that are seen are weighed against."""
DEFAULT_GRACE_S = 30.0
MAX_USUAL_S = 3600.0


class History(Struct, frozen=True, kw_only=True, rename="camel"):
    """What a Job went through: how often it gave way, how often it was told and did not save or did, the GPU-seconds that it lost, and when last."""

    count: int = 0
    ignored: int = 0
    saved: int = 0
    lost_gpu_seconds: float = 0.0
    last_at: float = 0.0


NO_HISTORY = History()


class Faith(Struct, frozen=True, kw_only=True):
    """How often pods that promised to save when told did so, and did not, as the ledger has it: what a promise is worth of a job that was never told."""

    kept: int = 0
    broken: int = 0

    @property
    def share(self) -> float:
        """Of promises that are kept; half of them while nobody was told."""
        return (self.kept + DOUBT) / (self.kept + self.broken + 2 * DOUBT)


NO_FAITH = Faith()


class Unit(Struct, frozen=True, kw_only=True):
    """Pods that stop together. `gpus` is what all of them hold; `since` when the work began that would be lost (Unix s), never for a server.

    `save_s` is how long it takes to save when it is told to, None where it does not; it is believed to do so with the probability `faith`, and
    ends within `grace_s` otherwise. `told_at` is when it was last told (Unix s), `times` how often.
    """

    name: str
    pods: tuple[Pod, ...]
    priority: int
    gpus: float
    started_at: float
    since: float
    reports: bool = False
    save_s: float | None = None
    faith: float = 1.0
    grace_s: float = 0.0
    restore_s: float = 0.0
    minimum_runtime_s: float = 0.0
    times: int = 0
    told_at: float = 0.0

    @property
    def wait_s(self) -> float:
        """How long until it is gone, as is to be expected."""
        return self.faith * (self.save_s or 0.0) + (1.0 - self.faith) * self.grace_s

    def may_stop(self, now: float) -> bool:
        """Whether it ran for as long as it must be let run."""
        return now - self.started_at >= self.minimum_runtime_s

    def is_settled(self, now: float) -> bool:
        """Whether it has also got somewhere since it last gave way."""
        return self.may_stop(now) and (not self.times or now - self.started_at >= SETTLE_S)

    def redo_s(self, now: float) -> float:
        """How long it would take to be where it is now, as is to be expected."""
        redo_s = max(0.0, now - self.since)
        kept_s = redo_s if self.save_s is None else min(redo_s, self.save_s)
        broken_s = redo_s + self.grace_s
        return self.faith * kept_s + (1.0 - self.faith) * broken_s + self.restore_s

    def cost(self, now: float, usual_s: float | None) -> float:
        """GPU-seconds that would be lost, with the penalty. `usual_s` is `usual_redo_s` of all units."""
        redo_s = self.redo_s(now)
        if not self.reports and usual_s is not None:
            redo_s = min(redo_s, usual_s)
        penalty_s = PENALTY_S * self.times * exp2(-max(0.0, now - self.told_at) / FORGET_S)
        return self.gpus * (redo_s + penalty_s)


def units_of(
    pods: Iterable[Pod], now: float, histories: Mapping[str, History], faith: Faith = NO_FAITH
) -> tuple[Unit, ...]:
    """The units of pods that hold a node and have not ended, by name; `histories` are those of Jobs by their uid."""
    return UnitBook().units_of(pods, now, histories, faith)


class UnitBook:
    """Remembers the units of which no pod has changed since the last time; the answer is the same as without."""

    def __init__(self) -> None:
        self._pods: dict[str, tuple[str, str, Pod]] = {}
        self._units: dict[str, Unit] = {}
        self._jobs: dict[str, tuple[str, ...]] = {}
        self._told: dict[str, tuple[Unit, History, float, Unit]] = {}
        self._beginning: set[str] = set()

    def units_of(
        self, pods: Iterable[Pod], now: float, histories: Mapping[str, History], faith: Faith = NO_FAITH
    ) -> tuple[Unit, ...]:
        """As `lost_work.units_of`."""
        changed = self._notice(pods)
        if changed:
            self._look_at(changed, now)
        believed = faith.share
        return tuple(self._with_past(name, unit, histories, believed) for name, unit in self._units.items())

    def _notice(self, pods: Iterable[Pod]) -> set[str]:
        """The names of units that may be others than they were."""
        changed, seen = set(self._beginning), {}
        for pod in pods:
            key, version = pod_key(pod), pod.metadata.resource_version
            known = self._pods.get(key)
            if known is None or known[0] != version or not version:
                if known is not None:
                    changed.add(known[1])
                known = version, unit_name(pod), pod
                changed.add(known[1])
            seen[key] = known
        changed.update(self._pods[key][1] for key in self._pods.keys() - seen.keys())
        self._pods = seen
        return changed

    def _look_at(self, names: set[str], now: float) -> None:
        grouped: dict[str, list[Pod]] = {}
        for _, name, pod in self._pods.values():
            if name in names:
                grouped.setdefault(name, []).append(pod)
        units = {name: unit for name, unit in self._units.items() if name not in names}
        for name, some in grouped.items():
            units[name] = _unit(name, tuple(some), now)
            self._jobs[name] = tuple({job for pod in some if (job := job_of(pod))})
        self._units = {name: units[name] for name in sorted(units)}
        self._beginning = {
            name for name, some in grouped.items() if not all(pod.status.start_time for pod in some)
        }
        for gone in names - grouped.keys():
            self._jobs.pop(gone, None)
            self._told.pop(gone, None)

    def _with_past(self, name: str, unit: Unit, histories: Mapping[str, History], believed: float) -> Unit:
        past = NO_HISTORY
        for job in self._jobs[name]:
            one = histories.get(job)
            if one is not None and (past is NO_HISTORY or one.count > past.count):
                past = one
        if unit.save_s is None and past is NO_HISTORY:
            return unit
        known = self._told.get(name)
        if known is None or known[0] is not unit or known[2] != believed or known[1] != past:
            known = unit, past, believed, _told(unit, past, believed)
            self._told[name] = known
        return known[3]


def unit_name(pod: Pod) -> str:
    """The gang of a pod that says it, else the Job of one that saves checkpoints; any other pod is a unit of its own."""
    if (gang := gang_of(pod)) is not None and gang.size > 1:
        return f"{gang.namespace}/{gang.name}"
    if contract_of(pod.metadata) is not None and (owner := job_of(pod)):
        return owner
    return pod_key(pod)


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
    """What one that reports nothing is taken to lose, None where nobody reports: all that lies between two checkpoints of a usual unit.

    The median is of units that report, without being told; on average half of an interval has gone by when one looks.
    """
    known = [2 * max(0.0, now - unit.since) + unit.restore_s for unit in units if unit.reports]
    return min(MAX_USUAL_S, median(known)) if known else None


def _unit(name: str, pods: tuple[Pod, ...], now: float) -> Unit:
    """As if it had never been told to give way, and kept its promises."""
    started = max(_started_at(pod, now) for pod in pods)
    saved = [checkpoint for pod in pods if (checkpoint := last_verified(pod)) is not None]
    promises = [contract for pod in pods if (contract := contract_of(pod.metadata)) is not None]
    saves = bool(saved) and bool(promises) and all(p.on_demand for p in promises)
    slowest_s = max((checkpoint.save_s for checkpoint in saved), default=0.0)
    since = max(started, min((checkpoint.saved_at for checkpoint in saved), default=started))
    serves = [_ready_after_s(pod) for pod in pods if not promises and not job_of(pod)]
    ends_s = grace_s(pods)
    return Unit(
        name=name,
        pods=pods,
        priority=max(map(priority_of, pods)),
        gpus=sum(map(gpus_of, pods)),
        started_at=started,
        since=inf if serves else since,
        reports=bool(saved or serves),
        save_s=slowest_s if saves and slowest_s <= ends_s else None,
        grace_s=ends_s,
        restore_s=max((*serves, *(checkpoint.restore_s for checkpoint in saved)), default=0.0),
        minimum_runtime_s=max(minimum_runtime_s(pod.metadata.annotations) for pod in pods),
    )


def _told(unit: Unit, past: History, believed: float) -> Unit:
    """With what its Job went through."""
    if past.ignored:
        believed = 0.0
    elif past.saved or unit.save_s is None:
        believed = 1.0
    return replace(
        unit,
        save_s=None if past.ignored else unit.save_s,
        faith=believed,
        times=past.count,
        told_at=past.last_at,
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
