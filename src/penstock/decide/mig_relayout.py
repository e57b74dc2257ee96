"""Which GPUs are laid out anew now, on the nodes that ask for it?

Nodes ask by the label of NVIDIA's MIG manager, `nvidia.com/mig.config`, with the value `penstock`. Only GPUs of which nobody holds any part are laid
out, for what is asked for beyond what is served already: by instances that pods hold, and by those that stand elsewhere. A GPU is first
withheld from new pods (`pending`), and laid out when nobody has taken a part of it meanwhile: a pod that was being placed keeps what it got.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from penstock.contracts.devices import Gpu, MigInstance
from penstock.decide.inventory import GpuRoom, Inventory, NodeRoom
from penstock.decide.mig import Plan, plan_layouts
from penstock.decide.mig_layout import Layout
from penstock.kit.hashing import stable_hash
from penstock.resources.core import Node, Taint

OPT_IN = "penstock"
"""The value of the label `nvidia.com/mig.config` (`mig_parted.CONFIG_LABEL`)."""
STATE_LABEL = "nvidia.com/mig.config.state"
STANDING = "penstock.dev/mig-layouts"
"""On a node: `Standing` as JSON."""
WITHHELD = "nvidia.com/mig.config.pending"
"""The taint of a GPU that is about to be laid out."""
HALF_LIFE_S = 3600.0


class Standing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Layouts by the GPU's UUID: those that were `applied`, those that are `pending`, and when each was laid out last (Unix s)."""

    applied: dict[str, Layout] = {}
    pending: dict[str, Layout] = {}
    changed_at: dict[str, float] = {}


class Forecast(Struct, frozen=True):
    """How many instances of each profile are wanted at a time: what is now, or what was lately and fades."""

    levels: dict[str, float] = {}
    at: float = 0.0

    def seen(self, counts: Mapping[str, float], now: float) -> Forecast:
        """With what pods ask for at this moment."""
        left = 0.5 ** (max(0.0, now - self.at) / HALF_LIFE_S)
        names = self.levels.keys() | counts.keys()
        faded = {name: self.levels.get(name, 0.0) * left for name in names}
        return Forecast({name: max(faded[name], counts.get(name, 0.0)) for name in sorted(names)}, now)


def standing_of(node: Node) -> Standing:
    """What the node says; what cannot be read is none."""
    try:
        return msgspec.json.decode(node.metadata.annotations.get(STANDING, "{}"), type=Standing)
    except msgspec.DecodeError:
        return Standing()


def laid_out(node: Node, gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """Declared GPUs with the instances that they were given since."""
    applied = standing_of(node).applied
    return tuple(
        replace(gpu, instances=_instances(gpu, applied[gpu.uuid]))
        if gpu.is_mig and gpu.uuid in applied
        else gpu
        for gpu in gpus
    )


def withheld(node: Node, gpu: Gpu) -> tuple[Taint, ...]:
    """What keeps new pods from a GPU that is about to be laid out."""
    pending = gpu.uuid in standing_of(node).pending
    return (Taint(key=WITHHELD, effect="NoSchedule"),) if pending else ()


def plan_relayout(
    stock: Inventory, nodes: Collection[str], demand: Mapping[str, float], standing: Standing, now: float
) -> Plan:
    """Over the GPUs of these nodes that have a layout and are not in use. `standing` is that of all of them together."""
    left, rooms = Counter(demand), dict[str, NodeRoom]()
    for name, room in stock.rooms.items():
        open_ = [gpu for gpu in room.gpus if name in nodes and _may_change(gpu)]
        for held in room.held:
            left.subtract(share.profile for share in held.shares if share.profile)
        for other in (gpu for gpu in room.gpus if gpu not in open_):
            left.subtract(_free_instances(other))
        if open_:
            rooms[name] = replace(room, gpus=tuple(open_), held=())
    wanted = {name: tenths for name, count in left.items() if (tenths := round(float(count), 1)) > 0}
    return plan_layouts(Inventory(rooms), wanted, now=now, changed_at=standing.changed_at)


def settled(standing: Standing, in_use: Collection[str], now: float) -> tuple[Standing, tuple[str, ...]]:
    """What was pending is laid out, except on GPUs of which somebody has taken a part; those are named."""
    taken = tuple(sorted(standing.pending.keys() & set(in_use)))
    done = {uuid: layout for uuid, layout in standing.pending.items() if uuid not in taken}
    after = Standing(
        applied={**standing.applied, **done},
        changed_at={**standing.changed_at, **dict.fromkeys(done, now)},
    )
    return after, taken


def _may_change(room: GpuRoom) -> bool:
    gpu = room.gpu
    return gpu.is_mig and room.is_whole and bool(gpu.instances) and not gpu.taints


def _free_instances(room: GpuRoom) -> list[str]:
    """Profiles of instances that stand and that nobody holds."""
    sizes = {one.name: one.memory_slices for one in room.gpu.type.profiles}
    found = []
    for one in room.gpu.instances:
        mask = ((1 << sizes.get(one.profile, 0)) - 1) << one.start
        if room.slices & mask == mask and not room.gpu.taints:
            found.append(one.profile)
    return found


def _instances(gpu: Gpu, layout: Layout) -> tuple[MigInstance, ...]:
    """Named by where they are, so that the same layout has the same names after a restart."""
    found = []
    for profile, start in layout:
        digits = stable_hash([gpu.uuid, profile, start])
        cuts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32])
        found.append(MigInstance(uuid=f"MIG-{'-'.join(cuts)}", profile=profile, start=start))
    return tuple(found)
