"""The tokenizer is where the kubelet puts the model, and no name leads anywhere else."""

from __future__ import annotations

import pytest

from penstock.decide.tokenizer_folder import TOKENIZER, tokenizer_folder
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import (
    Container,
    EmptyDirVolumeSource,
    PersistentVolumeClaimVolumeSource,
    Pod,
    PodSpec,
    Volume,
    VolumeMount,
)
from penstock.resources.volume import HostPathVolumeSource

EMPTY = Volume(name="models", empty_dir=EmptyDirVolumeSource())
CLAIM = Volume(name="models", persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name="weights"))


def pod(
    volume: Volume | None = EMPTY,
    *,
    sub_path: str = "",
    node: str = "n1",
    path: str = "/mnt/models",
    **annotations: str,
) -> Pod:
    mount = VolumeMount(name="models", mount_path=path, sub_path=sub_path)
    return Pod(
        metadata=ObjectMeta(name="p", namespace="team", uid="u1", annotations=annotations),
        spec=PodSpec(
            node_name=node,
            containers=(Container(name="kserve-container", volume_mounts=(mount,)),),
            volumes=(volume,) if volume else (),
        ),
    )


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        (pod(), "nodes/n1/pods/u1/volumes/models"),
        (pod(path="/mnt/models/"), "nodes/n1/pods/u1/volumes/models"),
        (pod(sub_path="a/b"), "nodes/n1/pods/u1/volumes/models/a/b"),
        (pod(CLAIM, sub_path="llama"), "volumes/team/weights/llama"),
        (pod(None), ""),
        (pod(path="/data"), ""),
        (pod(Volume(name="models", host_path=HostPathVolumeSource(path="/etc"))), ""),
        (pod(node=""), ""),
        (pod(sub_path="../../secrets"), ""),
        (pod(node=".."), ""),
        (pod(**{TOKENIZER: "bytes"}), "bytes"),
        (pod(**{TOKENIZER: "none"}), ""),
        (pod(**{TOKENIZER: "model"}), "nodes/n1/pods/u1/volumes/models"),
    ],
)
def test_it_is_where_the_model_is(given: Pod, folder: str) -> None:
    assert tokenizer_folder(given) == folder
