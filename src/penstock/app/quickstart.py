"""The service that a first start brings: `quickstart`, the tiny model that comes with Penstock.

The manifest is `examples/01-quickstart/quickstart.yaml` but for one line: there `storageUri` is the path in a checkout, here
it is the path of this installation.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from penstock.contracts.cluster import Cluster
from penstock.kit.errors import Unavailable
from penstock.resources.meta import ObjectMeta
from penstock.resources.serving import (
    InferenceService,
    InferenceServiceSpec,
    ModelFormat,
    ModelSpec,
    PredictorSpec,
)

NAME = "quickstart"
NAMESPACE = "default"
VARIABLE = "PENSTOCK_QUICKSTART"
"""Set to 0 for a control plane that shall not create it."""


def model_folder() -> Path:
    """Where the tiny model lies in this installation. Raises Unavailable if it was left out."""
    folder = Path(str(files("penstock"))) / "models" / "penstock-tiny"
    if not (folder / "config.json").exists():
        raise Unavailable(
            f"{folder}: the tiny model is not there",
            hint="install Penstock anew, or start with --no-quickstart",
        )
    return folder


def quickstart() -> InferenceService:
    """The service."""
    model = ModelSpec(model_format=ModelFormat(name="huggingface"), storage_uri=model_folder().as_uri())
    return InferenceService(
        metadata=ObjectMeta(name=NAME, namespace=NAMESPACE),
        spec=InferenceServiceSpec(predictor=PredictorSpec(model=model)),
    )


def is_wanted() -> bool:
    """Whether whoever started this process wants it."""
    return os.environ.get(VARIABLE, "1") != "0"


async def ensure_quickstart(cluster: Cluster) -> bool:
    """Create it if the cluster has no InferenceService at all; whether it did."""
    if (await cluster.list(InferenceService)).items:
        return False
    await cluster.create(quickstart())
    return True
