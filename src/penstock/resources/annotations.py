"""Annotations and labels that change what happens, and deployment modes.

Source: KServe `serving.kserve.io/…`, Knative `autoscaling.knative.dev/…`, and Penstock's own `penstock.dev/…`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.resources.serving import InferenceService

DEPLOYMENT_MODE = "serving.kserve.io/deploymentMode"
AUTOSCALER_CLASS = "serving.kserve.io/autoscalerClass"
GPU_RESOURCE_TYPES = "serving.kserve.io/gpu-resource-types"
MODEL_FORMAT = "modelFormat"
KNATIVE_CLASS = "autoscaling.knative.dev/class"
PROGRESS_DEADLINE = "serving.knative.dev/progress-deadline"
WISHED = "penstock.dev/wished"
"""A hash of what the owner of an object asked of it."""
KNATIVE_HPA = "hpa.autoscaling.knative.dev"

STANDARD, KNATIVE, MODEL_MESH = "Standard", "Knative", "ModelMesh"
DEFAULT_MODE = KNATIVE
"""As a stock KServe: scaling by concurrency and to zero, rollout by canaryTrafficPercent."""

_LEGACY_MODES = {"RawDeployment": STANDARD, "Serverless": KNATIVE}


def parse_mode(text: str) -> str:
    """A deployment mode by its present name; legacy names are RawDeployment and Serverless."""
    return _LEGACY_MODES.get(text, text)


def mode_of(service: InferenceService) -> str:
    """The mode that holds for a service: what its status says, else its annotation, else the default."""
    given = service.status.deployment_mode or service.metadata.annotations.get(DEPLOYMENT_MODE, "")
    return parse_mode(given) if given else DEFAULT_MODE
