"""Does the list of canaries keep KServe's rules? (rule 15)"""

from __future__ import annotations

from penstock.resources.annotations import STANDARD
from penstock.resources.serving import CanarySpec, InferenceService
from penstock.resources.validation import Denial

FIXED = ("worker_spec", "max_replicas", "scale_target", "scale_metric", "auto_scaling")


def deny_canaries(service: InferenceService, mode: str) -> Denial | None:
    """The first rule that the canaries break."""
    canaries, stable = service.spec.canary, service.spec.predictor
    if not canaries:
        return None
    if mode != STANDARD:
        return Denial(
            "spec.canary",
            "canary is only supported in Standard deployment mode",
            "set the annotation serving.kserve.io/deploymentMode: Standard, or use predictor.canaryTrafficPercent",
        )
    if stable.model is None:
        return Denial(
            "spec.predictor.model",
            "canary requires a stable predictor with a model for the canary to override",
        )
    seen: set[str] = set()
    for i, canary in enumerate(canaries):
        denial = _deny_name(i, canary, seen, stable.name or "") or _deny_canary(
            i, canary, 1 if stable.min_replicas is None else stable.min_replicas
        )
        if denial is not None:
            return denial
        seen.add(canary.predictor.name or "")
    total = sum(canary.traffic_percent for canary in canaries)
    if total > 100:
        return Denial("spec.canary", f"sum of canary trafficPercent values ({total}) must be <= 100")
    return None


def _deny_name(i: int, canary: CanarySpec, seen: set[str], stable: str) -> Denial | None:
    field, name = f"spec.canary[{i}].predictor.name", canary.predictor.name
    if not name:
        return Denial(field, f"canary[{i}] predictor.name is required")
    if name in seen:
        return Denial(field, f'canary[{i}] predictor.name "{name}" is a duplicate')
    if name == stable:
        return Denial(
            field, f'canary[{i}] predictor.name "{name}" conflicts with the stable predictor\'s name'
        )
    return None


def _deny_canary(i: int, canary: CanarySpec, stable_min: int) -> Denial | None:
    field, predictor = f"spec.canary[{i}]", canary.predictor
    if not 0 <= canary.traffic_percent <= 100:
        return Denial(
            f"{field}.trafficPercent",
            f'canary "{predictor.name}" trafficPercent must be between 0 and 100, got {canary.traffic_percent}',
        )
    for name in FIXED:
        if getattr(predictor, name) is not None:
            wire = predictor.__struct_encode_fields__[predictor.__struct_fields__.index(name)]
            return Denial(
                f"{field}.predictor.{wire}",
                f'canary "{predictor.name}" must not set {wire}: canary uses fixed replicas',
            )
    if predictor.min_replicas is not None and predictor.min_replicas > stable_min:
        return Denial(
            f"{field}.predictor.minReplicas",
            f'canary "{predictor.name}" minReplicas ({predictor.min_replicas}) must be <= stable minReplicas'
            f" ({stable_min})",
        )
    return None
