"""What one vertical autoscaler knows of its target's containers: histories, and the running containers' present windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from penstock.decide.usage import Usage
from penstock.decide.vpa import Recommendation, policy_of, recommend
from penstock.decide.vpa_apply import request_of
from penstock.decide.vpa_checkpoint import checkpoint_of, history_of
from penstock.decide.vpa_history import (
    History,
    Observed,
    Sample,
    Window,
    observe,
    observe_oom,
    rules_of,
    without_usage_peak,
)
from penstock.kit.quantity import to_bytes, to_cores
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.pod import Container, ContainerStateTerminated, ContainerStatus, Pod
from penstock.resources.vpa import VerticalPodAutoscaler, VerticalPodAutoscalerCheckpoint


class Usages(Protocol):
    """What containers use, by pod."""

    def of(self, pod: Pod) -> Mapping[str, Usage]:
        """By container, with the time of the measurement; empty where nothing is known."""
        ...


Place = tuple[str, str]
"""A container of one pod: the pod's uid, and the container's name."""


class Knowledge:
    """Grows by samples and by containers that run out of memory. Histories are by container name, over all pods."""

    def __init__(self, checkpoints: Iterable[VerticalPodAutoscalerCheckpoint] = ()) -> None:
        """What was written down before a restart; what ended since then is news."""
        self._histories: dict[str, History] = {}
        self._windows: dict[Place, Window] = {}
        self._sampled: dict[Place, float] = {}
        self._ends: dict[Place, str] = {}
        self._known_until = 0.0
        for checkpoint in checkpoints:
            history = history_of(checkpoint)
            if history is not None:
                self._histories[checkpoint.spec.container_name] = history
                written = checkpoint.status.last_update_time
                self._known_until = max(self._known_until, parse_rfc3339(written) if written else 0.0)

    def learn(
        self, autoscaler: VerticalPodAutoscaler, pods: Iterable[Pod], usages: Usages
    ) -> tuple[str, ...]:
        """Take a sample of each container that was measured since the last one; answers who ran out of memory."""
        news: list[str] = []
        seen: set[Place] = set()
        for pod in pods:
            measured = usages.of(pod)
            statuses = {status.name: status for status in pod.status.container_statuses}
            for container in pod.spec.containers:
                place = (pod.metadata.uid, container.name)
                seen.add(place)
                self._sample(autoscaler, place, container, measured.get(container.name))
                ended = _out_of_memory(statuses.get(container.name))
                if ended is not None and self._is_news(place, ended):
                    self._oom(autoscaler, place, container, ended)
                    news.append(f"container {container.name} of pod {pod.metadata.name} ran out of memory")
        self._windows = {place: window for place, window in self._windows.items() if place in seen}
        self._sampled = {place: at for place, at in self._sampled.items() if place in seen}
        self._ends = {place: end for place, end in self._ends.items() if place in seen}
        return tuple(news)

    def recommendation(
        self, autoscaler: VerticalPodAutoscaler, names: Iterable[str], now: float
    ) -> Recommendation:
        """For the containers of these names; a history that ended says nothing any more."""
        for name in names:
            self._histories.setdefault(name, History())
        for name, history in self._histories.items():
            last, expires_s = history.last_sample_s, rules_of(policy_of(autoscaler, name)).expires_s
            if last is not None and now - last > expires_s:
                self._histories[name] = History()
        wanted = set(names)
        return recommend(
            autoscaler, {name: known for name, known in self._histories.items() if name in wanted}
        )

    def checkpoints(
        self, autoscaler: VerticalPodAutoscaler, now: float
    ) -> tuple[VerticalPodAutoscalerCheckpoint, ...]:
        """All that is worth to be written down."""
        written = []
        for name, known in self._histories.items():
            history = known
            for (_, container), window in self._windows.items():
                if container == name:
                    history = without_usage_peak(history, window)
            if known.samples:
                written.append(checkpoint_of(autoscaler, name, history, now))
        return tuple(written)

    def _sample(
        self, autoscaler: VerticalPodAutoscaler, place: Place, container: Container, usage: Usage | None
    ) -> None:
        if usage is None or usage.at == self._sampled.get(place):
            return
        self._sampled[place] = usage.at
        request = request_of(container, "cpu")
        observed = observe(
            self._histories.get(container.name, History()),
            self._windows.get(place, Window()),
            Sample(usage.at, usage.amounts.get("cpu"), usage.amounts.get("memory")),
            to_cores(request) if request is not None else 0.0,
            rules_of(policy_of(autoscaler, container.name)),
        )
        self._keep(place, observed)

    def _oom(
        self,
        autoscaler: VerticalPodAutoscaler,
        place: Place,
        container: Container,
        ended: ContainerStateTerminated,
    ) -> None:
        self._ends[place] = ended.finished_at or ""
        request = request_of(container, "memory")
        observed = observe_oom(
            self._histories.get(container.name, History()),
            self._windows.get(place, Window()),
            to_bytes(request) if request is not None else 0,
            _moment(ended),
            rules_of(policy_of(autoscaler, container.name)),
        )
        self._keep(place, observed)

    def _keep(self, place: Place, observed: Observed) -> None:
        self._histories[place[1]] = observed.history
        self._windows[place] = observed.window

    def _is_news(self, place: Place, ended: ContainerStateTerminated) -> bool:
        return _moment(ended) > self._known_until and self._ends.get(place) != ended.finished_at


def _out_of_memory(status: ContainerStatus | None) -> ContainerStateTerminated | None:
    """The container's last end, if that was for want of memory."""
    ended = (status.state.terminated or status.last_state.terminated) if status is not None else None
    return ended if ended is not None and ended.reason == "OOMKilled" and ended.finished_at else None


def _moment(ended: ContainerStateTerminated) -> float:
    return parse_rfc3339(ended.finished_at or "")
