"""One day of a cluster on virtual time: training starts where there is room, inference pushes it aside, and what that costs is counted.

Placement, victims, their units and costs are the product's own (`decide/`). What is simulated: jobs that compute, save and end, and time. A job
whose pod is taken stops as a whole, whoever chose, and waits for room again with what it had saved.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import msgspec
from msgspec.structs import replace

from penstock.decide.checkpoint import Checkpoint
from penstock.decide.dry_run import Room
from penstock.decide.inventory import take_stock
from penstock.decide.lost_work import Faith, History
from penstock.kit.timestamps import rfc3339
from penstock.resources.checkpoint import CHECKPOINT, ON_DEMAND, SAVED
from penstock.resources.core import Node, NodeStatus
from penstock.resources.meta import Condition, ObjectMeta, OwnerReference, Quantity
from penstock.resources.pod import Container, Pod, PodSpec, PodStatus, ResourceRequirements
from penstock.testing.factories import meta
from penstock.testing.preemption.policies import Past, Policy
from penstock.testing.preemption.workload import HOUR_S, Serving, Training, Workload

GPUS = 8
GRACE_S = 30.0
STOP_S = 1.0
"""How long a job takes to end that has nothing to save."""
MAX_ENDING = 8
MAX_TRIED = 20
"""Jobs that are tried at the head of the queue whenever there is room."""
INFERENCE, TRAINING = 900_000, 1000


@dataclass(slots=True)
class Figures:
    """What came of it. Times in seconds, work in GPU-seconds."""

    lost: float = 0.0
    lost_by: dict[str, float] = field(default_factory=dict)
    preempted: float = 0.0
    evictions: int = 0
    restarts: dict[str, int] = field(default_factory=dict)
    useful: float = 0.0
    finished: int = 0
    waits_s: list[float] = field(default_factory=list)
    preempted_waits_s: list[float] = field(default_factory=list)
    unserved: int = 0


@dataclass(slots=True)
class _Job:
    spec: Training
    done_s: float = 0.0
    """Work that is saved."""
    begun_s: float = 0.0
    """When work began, or begins once it is restored, in this attempt."""
    started_s: float = 0.0
    attempt: int = 0
    pods: tuple[Pod, ...] = ()
    ending: bool = False
    history: History = field(default_factory=History)

    @property
    def gpus(self) -> int:
        return self.spec.pods * self.spec.gpus

    def saved_s(self, now: float) -> float | None:
        """When it last saved in this attempt."""
        rounds = int(max(0.0, now - self.begun_s) // self.spec.interval_s)
        if self.spec.habit == "bare" or not rounds:
            return None
        return self.begun_s + rounds * self.spec.interval_s

    def truth_s(self, now: float) -> float:
        """How long it would take to be where it is now, if it was told now."""
        spec, computes = self.spec, now > self.begun_s
        if spec.habit == "bare":
            return now - self.started_s + STOP_S
        if spec.habit == "on-demand" and computes:
            return spec.save_s + spec.restore_s
        saved_s = self.saved_s(now)
        ends_s = GRACE_S if spec.habit == "liar" else STOP_S
        has_saved = saved_s is not None or self.done_s > 0.0
        return now - (saved_s or self.started_s) + ends_s + (spec.restore_s if has_saved else 0.0)


class World:
    """Plays a workload by one policy, once."""

    def __init__(self, workload: Workload, policy: Policy) -> None:
        self._load = workload
        self._policy = policy
        self.figures = Figures()
        self._now = 0.0
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        nodes = [_node(f"n{number:02}") for number in range(workload.nodes)]
        self._room = Room(take_stock(nodes, ()), lambda _: ())
        self._queue: list[_Job] = []
        self._running: dict[str, _Job] = {}
        self._waiting: list[tuple[Serving, Pod]] = []
        self._asked: dict[str, set[str]] = {}
        self._pushed: set[str] = set()
        self._faith = Faith()

    def play(self) -> Figures:
        """To the end of the workload's hours."""
        for training in self._load.trainings:
            self._at(training.arrives_s, partial(self._queue.append, _Job(training)))
        for serving in self._load.servings:
            self._at(serving.arrives_s, partial(self._waiting.append, (serving, _serving_pod(serving))))
        end_s = self._load.hours * HOUR_S
        while self._events and self._events[0][0] <= end_s:
            self._now = self._events[0][0]
            while self._events and self._events[0][0] <= self._now:
                heapq.heappop(self._events)[2]()
            self._step()
        self._now = end_s
        for job in self._running.values():
            self.figures.useful += job.gpus * max(0.0, self._now - job.begun_s)
            self._lose(job, job.gpus * (min(self._now, job.begun_s) - job.started_s))
        self.figures.unserved = len(self._waiting)
        return self.figures

    def _at(self, when_s: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when_s, next(self._order), do))

    def _step(self) -> None:
        """As the host does: what fits is bound; for what does not, somebody is told to give way."""
        for entry in list(self._waiting):
            serving, pod = entry
            if where := self._room.take(pod):
                self._waiting.remove(entry)
                self._serve(serving, replace(pod, spec=replace(pod.spec, node_name=where)))
        if self._waiting:
            self._make_room()
        elif self._queue:
            self._start_training()

    def _serve(self, serving: Serving, pod: Pod) -> None:
        waited_s = self._now - serving.arrives_s
        self.figures.waits_s.append(waited_s)
        self._asked.pop(pod.metadata.uid, None)
        if pod.metadata.uid in self._pushed:
            self.figures.preempted_waits_s.append(waited_s)
            self.figures.preempted += serving.gpus * serving.holds_s
        self._at(self._now + serving.holds_s, lambda: self._free([pod]))

    def _make_room(self) -> None:
        ending = [job for job in self._running.values() if job.ending]
        room = self._room.without([pod for job in ending for pod in job.pods])
        for _, pod in self._waiting:
            if room.take(pod) or self._asked.get(pod.metadata.uid):
                continue
            if sum(job.ending for job in self._running.values()) >= MAX_ENDING:
                return
            staying = [job for job in self._running.values() if not job.ending]
            bound = [one for job in staying for one in self._seen(job)]
            past = Past(
                {job.spec.name: job.history for job in staying},
                self._faith,
                {job.spec.name: job.truth_s(self._now) for job in staying},
            )
            _, victims = self._policy(pod, bound, past, room.fits(pod), self._now)
            names = sorted({owner.uid for victim in victims for owner in victim.metadata.owner_references})
            if not names:
                continue
            self._asked[pod.metadata.uid] = set(names)
            self._pushed.add(pod.metadata.uid)
            for name in names:
                self._tell(self._running[name])
            room = room.without([one for name in names for one in self._running[name].pods])
            room.take(pod)

    def _tell(self, job: _Job) -> None:
        job.ending = True
        told_s, habit, attempt = self._now, job.spec.habit, job.attempt
        saves = habit == "on-demand" and told_s > job.begun_s
        ends_s = told_s + (job.spec.save_s if saves else GRACE_S if habit == "liar" else STOP_S)
        self._at(ends_s, lambda: self._stopped(job, attempt, told_s, saves))

    def _stopped(self, job: _Job, attempt: int, told_s: float, saves: bool) -> None:
        if job.attempt != attempt or job.spec.name not in self._running:
            return  # it finished meanwhile
        saved_s = told_s if saves else job.saved_s(told_s)
        kept_s = max(0.0, saved_s - job.begun_s) if saved_s is not None else 0.0
        job.done_s = 0.0 if job.spec.habit == "bare" else job.done_s + kept_s
        useful = job.gpus * kept_s
        held = job.gpus * (self._now - job.started_s)
        self.figures.useful += useful
        self._lose(job, held - useful)
        self.figures.evictions += len(job.pods)
        self.figures.restarts[job.spec.name] = self.figures.restarts.get(job.spec.name, 0) + 1
        ignored = job.spec.habit == "liar"
        known = job.history
        job.history = History(
            count=known.count + 1,
            ignored=known.ignored + ignored,
            saved=known.saved + saves,
            last_at=told_s,
        )
        self._faith = Faith(
            kept=self._faith.kept + saves * job.spec.pods, broken=self._faith.broken + ignored * job.spec.pods
        )
        self._leave(job)
        self._queue.insert(0, job)

    def _lose(self, job: _Job, lost: float) -> None:
        """What is done again, what saving and restoring take, and what is held to no purpose."""
        self.figures.lost += lost
        by = self.figures.lost_by
        by[job.spec.habit] = by.get(job.spec.habit, 0.0) + lost

    def _leave(self, job: _Job) -> None:
        del self._running[job.spec.name]
        self._free(job.pods)
        job.pods, job.ending = (), False
        for names in self._asked.values():
            names.discard(job.spec.name)

    def _free(self, pods: list[Pod] | tuple[Pod, ...]) -> None:
        self._room = self._room.without(pods)

    def _start_training(self) -> None:
        free = sum(room.free["nvidia.com/gpu"] for room in self._room.inventory.rooms.values())
        for job in self._queue[:MAX_TRIED]:
            if job.gpus > free:
                continue
            trial = self._room.without(())
            pods = _training_pods(job, self._now)
            places = [trial.take(pod) for pod in pods]
            if all(places):
                self._room = trial
                self._queue.remove(job)
                free -= job.gpus
                self._begin(job, tuple(_bound(pod, where) for pod, where in zip(pods, places, strict=True)))

    def _begin(self, job: _Job, pods: tuple[Pod, ...]) -> None:
        job.pods, job.attempt, job.started_s = pods, job.attempt + 1, self._now
        job.begun_s = self._now + (job.spec.restore_s if job.done_s else 0.0)
        self._running[job.spec.name] = job
        attempt = job.attempt
        self._at(job.begun_s + job.spec.work_s - job.done_s, lambda: self._finish(job, attempt))

    def _finish(self, job: _Job, attempt: int) -> None:
        if job.attempt != attempt or job.spec.name not in self._running:
            return
        self.figures.useful += job.gpus * (self._now - job.begun_s)
        self._lose(job, job.gpus * (job.begun_s - job.started_s))
        self.figures.finished += 1
        self._leave(job)

    def _seen(self, job: _Job) -> tuple[Pod, ...]:
        """The job's pods with the last verified checkpoint on the first of them, as the platform writes it."""
        saved_s = None if job.spec.habit == "silent" else job.saved_s(self._now)
        if saved_s is None and job.done_s and job.spec.habit != "silent":
            saved_s = job.started_s  # what it began from
        if saved_s is None:
            return job.pods
        spec, first = job.spec, job.pods[0]
        kept = Checkpoint(
            path="x",
            step=1,
            bytes=1,
            digest="",
            saved_at=saved_s,
            save_s=spec.save_s,
            restore_s=spec.restore_s,
        )
        noted = {**first.metadata.annotations, SAVED: msgspec.json.encode(kept).decode()}
        return (replace(first, metadata=replace(first.metadata, annotations=noted)), *job.pods[1:])


def _node(name: str) -> Node:
    amounts: dict[str, Quantity] = {"nvidia.com/gpu": GPUS, "cpu": 512, "memory": "4Ti", "pods": 500}
    ready = Condition(type="Ready", status="True")
    return Node(
        metadata=ObjectMeta(name=name, labels={"kubernetes.io/hostname": name}),
        status=NodeStatus(capacity=amounts, allocatable=amounts, conditions=(ready,)),
    )


def _bound(pod: Pod, where: str) -> Pod:
    return replace(pod, spec=replace(pod.spec, node_name=where))


def _spec(gpus: int, priority: int) -> PodSpec:
    limits: dict[str, Quantity] = {"nvidia.com/gpu": gpus, "cpu": gpus}
    container = Container(name="main", resources=ResourceRequirements(limits=limits))
    return PodSpec(containers=(container,), priority=priority, termination_grace_period_seconds=int(GRACE_S))


def _serving_pod(serving: Serving) -> Pod:
    return Pod(metadata=meta(serving.name, uid=serving.name), spec=_spec(serving.gpus, INFERENCE))


def _training_pods(job: _Job, now: float) -> list[Pod]:
    spec = job.spec
    owner = OwnerReference(api_version="batch/v1", kind="Job", name=spec.name, uid=spec.name, controller=True)
    noted = {CHECKPOINT: "/data", ON_DEMAND: "false" if spec.habit == "periodic" else "true"}
    return [
        Pod(
            metadata=meta(
                f"{spec.name}-{rank}",
                uid=f"{spec.name}-{job.attempt}-{rank}",
                annotations=noted,
                owner_references=(owner,),
            ),
            spec=_spec(spec.gpus, TRAINING),
            status=PodStatus(phase="Running", start_time=rfc3339(now)),
        )
        for rank in range(spec.pods)
    ]
