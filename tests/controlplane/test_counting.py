"""Counts follow pods through every change, as a look at all of them would tell."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.controller import Key
from penstock.controlplane.autoscaling.counting import NONE, PodCounts
from penstock.decide.replica_set import is_active, ready_since
from penstock.decide.revision import REVISION_LABEL
from penstock.resources.meta import Condition
from penstock.resources.pod import Pod, PodStatus
from penstock.testing.factories import pod

states = st.builds(
    lambda name, revision, phase, ready, leaves: _pod(name, revision, phase, ready=ready, leaves=leaves),
    st.sampled_from("abc"),
    st.sampled_from(["one", "two", ""]),
    st.sampled_from(["Pending", "Running", "Succeeded", "Failed"]),
    st.booleans(),
    st.booleans(),
)


def _pod(name: str, revision: str, phase: str, *, ready: bool, leaves: bool) -> Pod:
    made: Any = pod(name)
    meta = msgspec.structs.replace(
        made.metadata,
        labels={REVISION_LABEL: revision} if revision else {},
        deletion_timestamp="2026-01-01T00:00:00Z" if leaves else None,
    )
    condition = Condition(type="Ready", status="True" if ready else "False")
    return Pod(metadata=meta, spec=made.spec, status=PodStatus(phase=phase, conditions=(condition,)))


@given(st.lists(st.tuples(st.sampled_from("abc"), states | st.none())))
def test_counts_are_what_a_look_at_every_pod_would_tell(changes: list[tuple[str, Pod | None]]) -> None:
    counts, known = PodCounts(), dict[str, Pod]()
    for name, after in changes:
        counts.pod_changed(known.pop(name, None), after)
        if after is not None:
            known[name] = after
        for revision in ("one", "two"):
            own = [
                one
                for one in known.values()
                if one.metadata.labels.get(REVISION_LABEL) == revision and is_active(one)
            ]
            expected = (len(own), sum(ready_since(one) is not None for one in own))
            assert counts.of(Key("default", revision)) == expected


def test_a_revision_without_pods_is_forgotten() -> None:
    counts, one = PodCounts(), _pod("a", "one", "Running", ready=True, leaves=False)
    counts.pod_changed(None, one)
    assert counts.of(Key("default", "one")) == (1, 1)
    counts.pod_changed(one, None)
    assert counts.of(Key("default", "one")) is NONE
