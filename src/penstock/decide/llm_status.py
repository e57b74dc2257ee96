"""What do we tell the user about this LLMInferenceService?

KServe's conditions, by those of the InferenceServices that it asks for: WorkloadsReady is as the worst of them, Ready as the worst of all.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.decide.llm_service import LlmPlan, prefill_name
from penstock.resources.conditions import dated
from penstock.resources.llm import LLMInferenceService, LLMInferenceServiceStatus
from penstock.resources.meta import Condition
from penstock.resources.serving import Addressable, InferenceService

PRESETS, MAIN, PREFILL = "PresetsCombined", "MainWorkloadReady", "PrefillWorkloadReady"
WORKLOADS, ROUTER, READY = "WorkloadsReady", "RouterReady", "Ready"


def llm_status(
    service: LLMInferenceService,
    plan: LlmPlan,
    there: Mapping[str, InferenceService],
    *,
    url: str,
    now: float,
) -> LLMInferenceServiceStatus:
    """`there` are the InferenceServices of its namespace that have a name it needs, also those of others. The gateway routes to any service
    at once, so RouterReady is as the one that answers."""
    if plan.missing:
        missing = ", ".join(plan.missing)
        presets = Condition(
            type=PRESETS, status="False", reason="PresetNotFound", message=f"there is no preset {missing}"
        )
        parts = [Condition(type=MAIN, status="Unknown", reason="PresetNotFound")]
    elif plan.refusal:
        presets = Condition(type=PRESETS, status="True")
        parts = [Condition(type=MAIN, status="False", reason="Unsupported", message=plan.refusal)]
    else:
        presets = Condition(type=PRESETS, status="True")
        parts = [_part(service, wished.metadata.name, there) for wished in plan.services]
    main, workloads = parts[0], _worst(WORKLOADS, parts)
    router = Condition(type=ROUTER, status=main.status, reason=main.reason)
    conditions = [presets, *parts, workloads, router, _worst(READY, [presets, workloads, router])]
    before = service.status.conditions
    return LLMInferenceServiceStatus(
        observed_generation=service.metadata.generation or None,
        conditions=tuple(dated(one, before, now) for one in sorted(conditions, key=lambda one: one.type)),
        url=url,
        address=Addressable(url=url),
        addresses=({"url": url},),
    )


def _part(service: LLMInferenceService, name: str, there: Mapping[str, InferenceService]) -> Condition:
    """As its InferenceService says of itself."""
    type = PREFILL if name == prefill_name(service) else MAIN
    found = there.get(name)
    if found is None:
        return Condition(type=type, status="Unknown", reason="Creating")
    if not any(owner.uid == service.metadata.uid for owner in found.metadata.owner_references):
        message = f"there is an InferenceService {name} that is not of this service"
        return Condition(type=type, status="False", reason="NameTaken", message=message)
    ready = next((one for one in found.status.conditions if one.type == "Ready"), None)
    if ready is None:
        return Condition(type=type, status="Unknown", reason="Creating")
    return Condition(type=type, status=ready.status, reason=ready.reason, message=ready.message)


def _worst(type: str, parts: list[Condition]) -> Condition:
    worst = min(parts, key=lambda one: ("False", "Unknown", "True").index(one.status))
    return Condition(type=type, status=worst.status, reason=worst.reason, message=worst.message)
