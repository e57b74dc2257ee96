"""The types of GPU that Penstock knows: `penstock/gpus/*.yaml`, one file per family.

Where a type's file does not say how much memory a MIG profile has, it is estimated: see `_estimated_bytes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import msgspec
import yaml
from msgspec import Struct

from penstock.contracts.devices import GpuType, MigProfile
from penstock.decide.gpu_class import class_names, product_label, types_named
from penstock.kit.errors import InvalidInput, nearest

MIB = 1 << 20


class _Place(Struct, frozen=True, kw_only=True):
    """Where a class of profiles may lie: NVIDIA's id of it, its slices, and the positions at which it may start."""

    profile_id: int
    compute: int
    memory: int
    starts: tuple[int, ...]
    most: int


_SEVEN = tuple(range(7))
_PLACES: dict[int, dict[str, _Place]] = {
    8: {
        "1g": _Place(profile_id=19, compute=1, memory=1, starts=_SEVEN, most=7),
        "1g+me": _Place(profile_id=20, compute=1, memory=1, starts=_SEVEN, most=1),
        "1g-double": _Place(profile_id=15, compute=1, memory=2, starts=(0, 2, 4, 6), most=4),
        "2g": _Place(profile_id=14, compute=2, memory=2, starts=(0, 2, 4), most=3),
        "3g": _Place(profile_id=9, compute=3, memory=4, starts=(0, 4), most=2),
        "4g": _Place(profile_id=5, compute=4, memory=4, starts=(0,), most=1),
        "7g": _Place(profile_id=0, compute=7, memory=8, starts=(0,), most=1),
    },
    4: {
        "1g": _Place(profile_id=14, compute=1, memory=1, starts=(0, 1, 2, 3), most=4),
        "1g+me": _Place(profile_id=21, compute=1, memory=1, starts=(0, 1, 2, 3), most=1),
        "2g": _Place(profile_id=5, compute=2, memory=2, starts=(0, 2), most=2),
        "2g+me": _Place(profile_id=6, compute=2, memory=2, starts=(0, 2), most=1),
        "4g": _Place(profile_id=0, compute=4, memory=4, starts=(0,), most=1),
    },
}
"""By the width of the axis of memory slices, as `nvidia-smi mig -lgipp` lists placements. The same on every product of that width."""
_COMPUTE_SLICES = {8: 7, 4: 4}


class _Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    memory_mib: int = msgspec.field(default=0, name="memoryMiB")


class _Mig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    memory_slices: int
    profiles: dict[str, _Profile]


class _Type(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    name: str
    product: str
    memory_mib: int = msgspec.field(name="memoryMiB")
    multiprocessors: int = 0
    compute_capability: str = ""
    pci_ids: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    mig: _Mig | None = None


class _Family(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    family: str
    compute_capability: str
    types: tuple[_Type, ...]


@cache
def load_gpu_types() -> tuple[GpuType, ...]:
    """All types, by family and then as its file has them."""
    folder = files("penstock") / "gpus"
    found = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda f: f.name)
    families = [msgspec.convert(yaml.safe_load(file.read_text()), _Family) for file in found]
    return tuple(_gpu_type(family, one) for family in families for one in family.types)


def find_gpu_type(name: str, types: Sequence[GpuType] | None = None, *, field: str = "type") -> GpuType:
    """The one type of this name, whoever's name it is.

    Raises InvalidInput for a name that means nothing (with those that look like it) or several types. `field` is where it was said.
    """
    known = load_gpu_types() if types is None else types
    exact = [one for one in known if one.name == name]
    found = exact or list(types_named(name, known))
    if len(found) == 1:
        return found[0]
    names = [one.name for one in known]
    if found:
        meant = " or ".join(one.name for one in found)
        raise InvalidInput(f"{field}: found {name!r}, which may be {meant}", hint="say which of them")
    close = nearest(name.casefold(), class_names(known), 3)
    raise InvalidInput(
        f"{field}: there is no type of GPU {name!r}",
        code="unknown_gpu_type",
        hint=f"did you mean {' or '.join(close)}?" if close else f"types are: {', '.join(names)}",
    )


def _gpu_type(family: _Family, one: _Type) -> GpuType:
    memory_bytes = one.memory_mib * MIB
    width = one.mig.memory_slices if one.mig else 0
    profiles = one.mig.profiles.items() if one.mig else ()
    return GpuType(
        name=one.name,
        product=product_label(one.product),
        model=one.product,
        memory_bytes=memory_bytes,
        compute_slices=_COMPUTE_SLICES.get(width, 0),
        memory_slices=width,
        multiprocessors=one.multiprocessors,
        profiles=tuple(
            _profile(_PLACES[width][place], profile, width, memory_bytes) for place, profile in profiles
        ),
        architecture=family.family,
        compute_capability=one.compute_capability or family.compute_capability,
        pci_ids=one.pci_ids,
        classes=one.classes,
    )


def _profile(place: _Place, profile: _Profile, width: int, memory_bytes: int) -> MigProfile:
    return MigProfile(
        name=profile.name,
        profile_id=place.profile_id,
        compute_slices=place.compute,
        memory_slices=place.memory,
        starts=place.starts,
        memory_bytes=profile.memory_mib * MIB or _estimated_bytes(place.memory / width, memory_bytes),
        most=place.most,
    )


def _estimated_bytes(part: float, memory_bytes: int) -> int:
    """A part of the memory less 4 %, in steps of 64 MiB: on products whose figures are known a profile has 1 to 5 % less than its part."""
    return int(part * memory_bytes * 0.96) // (64 * MIB) * 64 * MIB
