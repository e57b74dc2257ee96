"""Which PriorityClass does work on GPUs get that names none?

Inference goes before training, and training pushes nobody aside: what it has computed since its last checkpoint is worth more than an earlier start.
"""

from __future__ import annotations

from msgspec.structs import replace

from penstock.resources.core import PriorityClass
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import PodSpec


def _class(name: str, value: int, description: str, policy: str | None = None) -> PriorityClass:
    return PriorityClass(
        metadata=ObjectMeta(name=name), value=value, description=description, preemption_policy=policy
    )


INFERENCE = _class("inference", 900_000, "Requests that somebody waits for.")
TRAINING = _class("training", 1_000, "Work that can be stopped and resumed; it pushes nobody aside.", "Never")
SUGGESTED = {
    one.metadata.name: one
    for one in (
        _class("inference-critical", 1_000_000, "Requests that must not wait for others' GPUs."),
        INFERENCE,
        _class("batch-inference", 100_000, "Requests that nobody waits for."),
        TRAINING,
    )
}
"""By name. Kubernetes leaves values up to 1,000,000,000 to its users."""


def work_priority(spec: PodSpec, *, ends: bool) -> tuple[PodSpec, PriorityClass | None]:
    """The pod with a class, and the class if it is one of the suggested. `ends` says that it is work which ends, as a Job's.

    A pod that names a class, or has a priority, keeps it.
    """
    name = spec.priority_class_name
    if not name and spec.priority is None:
        name = (TRAINING if ends else INFERENCE).metadata.name
        spec = replace(spec, priority_class_name=name)
    return spec, SUGGESTED.get(name)
