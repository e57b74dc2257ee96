"""How many pods each revision has, kept current by the cache's changes, so that a tick need not look at every pod."""

from __future__ import annotations

from typing import NamedTuple

from penstock.contracts.controller import Key
from penstock.decide.replica_set import is_active, ready_since
from penstock.decide.revision import REVISION_LABEL
from penstock.resources.meta import Resource
from penstock.resources.pod import Pod


class Count(NamedTuple):
    """Pods that neither ended nor are ending, and how many of them are ready."""

    active: int = 0
    ready: int = 0


NONE = Count()


class PodCounts:
    """By revision: what it costs grows with changes, not with pods."""

    def __init__(self) -> None:
        """No pod is known."""
        self._counts: dict[Key, Count] = {}

    def of(self, revision: Key) -> Count:
        """The revision's pods."""
        return self._counts.get(revision, NONE)

    def pod_changed(self, before: Resource | None, after: Resource | None) -> None:
        """For the cache's pods."""
        self._add(before, -1)
        self._add(after, 1)

    def _add(self, pod: Resource | None, sign: int) -> None:
        if not isinstance(pod, Pod) or not is_active(pod):
            return
        key = revision_of(pod)
        active, ready = self.of(key)
        count = Count(active + sign, ready + (sign if ready_since(pod) is not None else 0))
        if count.active:
            self._counts[key] = count
        else:
            self._counts.pop(key, None)


def revision_of(pod: Resource) -> Key:
    """Of which revision the pod is; the name is "" for pods of none."""
    return Key(pod.metadata.namespace, pod.metadata.labels.get(REVISION_LABEL, ""))
