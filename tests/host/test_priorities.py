"""A pod's priority is its class's, and there is one default."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from penstock.kit.errors import Forbidden, Invalid
from penstock.resources.core import PriorityClass
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Pod
from penstock.testing.factories import memory_cluster, meta, pod_spec


def class_(name: str, value: int, **fields: object) -> PriorityClass:
    return PriorityClass(metadata=ObjectMeta(name=name), value=value, **fields)  # type: ignore[arg-type]


def pod(name: str, **spec: object) -> Pod:
    return Pod(metadata=meta(name), spec=pod_spec(**spec))


async def test_a_pod_has_the_priority_and_policy_of_its_class() -> None:
    cluster = memory_cluster()
    await cluster.create(class_("training", 1000, preemption_policy="Never"))
    made = await cluster.create(pod("a", priority_class_name="training"))
    assert (made.spec.priority, made.spec.preemption_policy) == (1000, "Never")


async def test_a_pod_without_a_class_has_the_default_or_zero() -> None:
    cluster = memory_cluster()
    plain = await cluster.create(pod("a"))
    assert (plain.spec.priority, plain.spec.preemption_policy) == (0, "PreemptLowerPriority")
    await cluster.create(class_("usual", 50, global_default=True))
    made = await cluster.create(pod("b"))
    assert (made.spec.priority, made.spec.priority_class_name) == (50, "usual")


async def test_an_unknown_class_is_refused_and_those_of_the_system_are_known() -> None:
    cluster = memory_cluster()
    with pytest.raises(Forbidden, match="no PriorityClass with name nobody was found"):
        await cluster.create(pod("a", priority_class_name="nobody"))
    made = await cluster.create(pod("b", priority_class_name="system-node-critical"))
    assert made.spec.priority == 2_000_001_000


async def test_a_pod_does_not_choose_its_own_number() -> None:
    cluster = memory_cluster()
    with pytest.raises(Forbidden, match=r"priority \(7\) must not be provided in pod spec"):
        await cluster.create(pod("a", priority=7))
    with pytest.raises(Forbidden, match=r"PreemptionPolicy \(Never\) must not be provided"):
        await cluster.create(pod("a", preemption_policy="Never"))
    assert (await cluster.create(pod("a", priority=0))).spec.priority == 0


async def test_a_priority_stays_when_the_class_goes() -> None:
    cluster = memory_cluster()
    await cluster.create(class_("training", 1000))
    made = await cluster.create(pod("a", priority_class_name="training"))
    await cluster.delete(PriorityClass, "training")
    patch = {"metadata": {"labels": {"x": "y"}}}
    assert (await cluster.patch(Pod, "a", "default", patch)).spec.priority == made.spec.priority


async def test_only_one_class_is_the_default() -> None:
    cluster = memory_cluster()
    await cluster.create(class_("usual", 50, global_default=True))
    with pytest.raises(Forbidden, match="PriorityClass usual is already marked as default"):
        await cluster.create(class_("other", 60, global_default=True))
    other = await cluster.create(class_("other", 60))
    with pytest.raises(Forbidden, match="already marked as default"):
        await cluster.replace(replace(other, global_default=True))
    again = await cluster.get(PriorityClass, "usual")
    await cluster.replace(replace(again, description="still the one"))


async def test_a_class_keeps_its_policy_and_knows_only_two() -> None:
    cluster = memory_cluster()
    with pytest.raises(Invalid, match="preemptionPolicy"):
        await cluster.create(class_("a", 1, preemption_policy="Sometimes"))
    made = await cluster.create(class_("a", 1))
    with pytest.raises(Invalid, match="preemptionPolicy"):
        await cluster.replace(replace(made, preemption_policy="Never"))
