"""A checkpoint contract that could not be kept is refused when it is made."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.kit.errors import Invalid
from penstock.resources.admission import admit
from penstock.resources.checkpoint import CHECKPOINT, MINIMUM_RUNTIME, ON_DEMAND, contract_of
from penstock.resources.meta import ObjectMeta

CLAIM = {"persistentVolumeClaim": {"claimName": "c"}}


def job(annotations: dict[str, str], volume: dict[str, Any] = CLAIM, **mount: Any) -> dict[str, Any]:
    container = {
        "name": "train",
        "image": "example",
        "volumeMounts": [{"name": "data", "mountPath": "/data", **mount}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "train", "namespace": "default"},
        "spec": {
            "template": {
                "metadata": {"annotations": annotations},
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [container],
                    "volumes": [{"name": "data", **volume}],
                },
            }
        },
    }


def refusal(document: dict[str, Any]) -> str:
    with pytest.raises(Invalid) as caught:
        admit(document)
    return "; ".join(f"{cause.field}: {cause.message}" for cause in caught.value.causes)


def test_a_folder_in_a_claim_or_on_the_host_is_taken() -> None:
    admit(job({CHECKPOINT: "/data/checkpoints", ON_DEMAND: "false", MINIMUM_RUNTIME: "5m"}))
    admit(job({CHECKPOINT: "/data"}, {"hostPath": {"path": "/srv"}}))


@pytest.mark.parametrize("folder", ["/elsewhere", "data", "/data/../etc", "/database", ""])
def test_a_folder_outside_the_mounts_is_refused(folder: str) -> None:
    said = refusal(job({CHECKPOINT: folder}))
    assert "spec.template.metadata.annotations[penstock.dev/checkpoint]" in said
    assert "within one of the pod's mounts" in said


def test_a_folder_that_ends_with_the_pod_is_refused() -> None:
    assert "volume 'data' ends with the pod" in refusal(job({CHECKPOINT: "/data"}, {"emptyDir": {}}))


def test_a_folder_that_cannot_be_written_or_found_again_is_refused() -> None:
    assert "read-only" in refusal(job({CHECKPOINT: "/data"}, readOnly=True))
    assert "subPathExpr" in refusal(job({CHECKPOINT: "/data"}, subPathExpr="$(POD_NAME)"))


def test_words_that_mean_nothing_are_refused() -> None:
    assert "checkpoint-on-demand" in refusal(job({CHECKPOINT: "/data", ON_DEMAND: "maybe"}))
    assert "Required value" in refusal(job({ON_DEMAND: "true"}))
    assert "minimum-runtime" in refusal(job({MINIMUM_RUNTIME: "soon"}))


def test_what_is_not_said_has_its_default() -> None:
    plain = contract_of(ObjectMeta(annotations={CHECKPOINT: "/data/"}))
    assert plain is not None
    assert (plain.folder, plain.on_demand, plain.minimum_runtime_s) == ("/data", True, 0.0)
    assert contract_of(ObjectMeta()) is None
