"""Where is the tokenizer of a pod's model, on the machine that runs the pod?

In the folder that the kubelet gives the volume at /mnt/models (`host/kubelet/layout.py`), as a path below the data folder. A runtime says
by annotation whether its engine tokenizes as that folder says: `model` (or nothing) it does, `bytes` it counts bytes as the simulated one
does, anything else it does not.
"""

from __future__ import annotations

from penstock.contracts.tokenizing import BYTES_TOKENIZER
from penstock.decide.storage import MODELS
from penstock.resources.pod import Pod

TOKENIZER = "penstock.dev/tokenizer"


def tokenizer_folder(pod: Pod) -> str:
    """Empty where it cannot be said; a name that would lead elsewhere gives none."""
    kind = pod.metadata.annotations.get(TOKENIZER, "model")
    if kind != "model":
        return BYTES_TOKENIZER if kind == "bytes" else ""
    mounts = [m for c in pod.spec.containers for m in c.volume_mounts if m.mount_path.rstrip("/") == MODELS]
    volume = next((v for v in pod.spec.volumes if mounts and v.name == mounts[0].name), None)
    if volume is None:
        return ""
    if claim := volume.persistent_volume_claim:
        root = ["volumes", pod.metadata.namespace, claim.claim_name]
    elif volume.empty_dir is not None:
        root = ["nodes", pod.spec.node_name, "pods", pod.metadata.uid, "volumes", volume.name]
    else:
        return ""
    parts = [*root, *(part for part in mounts[0].sub_path.split("/") if part)]
    return "/".join(parts) if all(parts) and not {".", ".."} & {*parts} else ""
