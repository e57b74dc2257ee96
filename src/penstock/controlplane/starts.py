"""Watches pods start, and keeps how long each revision's starts take, phase by phase."""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.contracts.controller import Key
from penstock.decide.cold_start import StartPhase, after_start, phase_of, weights_were_cached
from penstock.decide.replica_set import ready_since
from penstock.decide.revision import REVISION_LABEL
from penstock.kit.clock import Clock
from penstock.resources.meta import Resource
from penstock.resources.pod import Pod
from penstock.resources.pod_autoscaler import ColdStart


@dataclass(slots=True)
class _Start:
    """One pod that is not ready yet: the phase it is in, since when, and what the phases before took."""

    phase: StartPhase
    since: float
    took_s: dict[StartPhase, float] = field(default_factory=dict)


class Starts:
    """By revision, of those that are followed. Only starts that were seen from their beginning count; a pod's second start, after a crash, does not."""

    def __init__(self, clock: Clock) -> None:
        """Nothing is known."""
        self._clock = clock
        self._under_way: dict[str, _Start] = {}
        self._known: dict[Key, ColdStart | None] = {}

    def follow(self, revision: Key, known: ColdStart | None) -> None:
        """Measure its starts from now on; `known` is what an earlier process measured."""
        self._known.setdefault(revision, known)

    def forget(self, revision: Key) -> None:
        """The revision is gone."""
        self._known.pop(revision, None)

    def of(self, revision: Key) -> ColdStart | None:
        """What is known of this revision's starts; None before the first."""
        return self._known.get(revision)

    def pod_changed(self, before: Resource | None, after: Resource | None) -> None:
        """For the cache's pods."""
        pod = after if after is not None else before
        if not isinstance(pod, Pod) or REVISION_LABEL not in pod.metadata.labels:
            return
        phase, now = phase_of(pod), self._clock.monotonic()
        start = self._under_way.get(pod.metadata.uid)
        if start is None:
            if before is None and phase == "placing":
                self._under_way[pod.metadata.uid] = _Start(phase, now)
            return
        if after is not None and phase == start.phase:
            return
        start.took_s[start.phase] = start.took_s.get(start.phase, 0.0) + now - start.since
        if after is not None and phase is not None:
            start.phase, start.since = phase, now
            return
        del self._under_way[pod.metadata.uid]
        revision = Key(pod.metadata.namespace, pod.metadata.labels[REVISION_LABEL])
        if revision in self._known and after is not None and ready_since(pod) is not None:
            cached, before_it = weights_were_cached(pod), self._known.get(revision)
            self._known[revision] = after_start(before_it, pod.metadata.name, start.took_s, cached=cached)
