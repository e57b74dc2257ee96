"""Where a container's mounts really are, and how its command line learns of it.

There is no mount namespace: a volume is a folder below the pod's own. Wherever a command, an argument, a working folder or a
declared environment value names a mount path, as a whole path or as the beginning of one, the folder's path is put in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from penstock.host.kubelet.expansion import expand
from penstock.kit.errors import Invalid
from penstock.resources.pod import Container

_BEFORE = r"(?:(?<=://)|(?<![\w./~-]))"
_AFTER = r"(?=$|[^\w.-]|\.(?:$|\s))"


class Mounts:
    """Mount paths of one container and the folders (or files) behind them."""

    def __init__(self, targets: Mapping[str, Path]) -> None:
        """`targets`: absolute mount path -> what lies there."""
        self._targets = {path.rstrip("/"): target for path, target in targets.items()}
        longest_first = sorted(self._targets, key=len, reverse=True)
        alternatives = "|".join(re.escape(path) for path in longest_first)
        self._pattern = re.compile(f"{_BEFORE}({alternatives}){_AFTER}") if longest_first else None

    def rewrite(self, text: str) -> str:
        """`text` with every mount path replaced by the real one."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: str(self._targets[match.group(1)]), text)


def mounts_of(container: Container, volumes: Mapping[str, Path], env: Mapping[str, str]) -> Mounts:
    """The container's mounts; sub-path folders are made where they are missing. Invalid names the offending field."""
    targets: dict[str, Path] = {}
    for index, mount in enumerate(container.volume_mounts):
        field = f"containers[{container.name}].volumeMounts[{index}]"
        if not mount.mount_path.startswith("/") or not mount.mount_path.strip("/"):
            raise Invalid(
                f"{field}.mountPath: found {mount.mount_path!r}, expected an absolute path below /",
                hint="mount the volume at a folder of its own, such as /mnt/models",
            )
        if mount.name not in volumes:
            raise Invalid(
                f"{field}.name: no volume named {mount.name!r} in spec.volumes",
                hint=f"volumes of this pod: {', '.join(sorted(volumes)) or 'none'}",
            )
        sub_path = mount.sub_path or expand(mount.sub_path_expr, env)
        targets[mount.mount_path] = (
            below(volumes[mount.name], sub_path, field) if sub_path else volumes[mount.name]
        )
    return Mounts(targets)


def below(root: Path, sub_path: str, field: str) -> Path:
    """`root / sub_path`, made as a folder where nothing is there; Invalid if it leads out of `root`."""
    found = root / sub_path
    inside = not sub_path.startswith("/") and found.resolve().is_relative_to(root.resolve())
    if not inside or ".." in Path(sub_path).parts:
        raise Invalid(
            f"{field}.subPath: {sub_path!r} leads out of the volume",
            hint="use a relative path without '..' that no symbolic link takes elsewhere",
        )
    if not found.exists():
        found.mkdir(parents=True, exist_ok=True)
    return found
