"""What does this placement cost per hour?

By list prices: what a node costs is spread over its GPUs by their memory, and a pod pays for its part of them; a fraction of a GPU costs its
fraction, a MIG instance the memory slices that it takes. A node without GPUs is paid for by what is reserved of it. What has no price
has none: it is unknown, never nothing. Amounts are millionths of a US dollar.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from msgspec import Struct

from penstock.contracts.devices import GPU_RESOURCE, WHOLE_MILLI, Gpu, Share
from penstock.decide.inventory import NodeRoom
from penstock.decide.pod_requests import Units

INSTANCE_TYPE = "node.kubernetes.io/instance-type"
PROVIDER = "penstock.dev/provider"
"""On a node: whose prices hold for it, as the price file names providers."""
CAPACITY_TYPE = "karpenter.sh/capacity-type"
SPOT = "spot"
MICROS = 1_000_000


class Price(Struct, frozen=True, kw_only=True):
    """A row of the price file: `usd_micros` is what an instance with `count` GPUs of the type `gpu` costs per hour, `spot_usd_micros` what
    it costs where it may be taken back, None where that is not known.

    A row without a provider holds for nodes that name none. `date` (ISO) is when `source` said so.
    """

    provider: str = ""
    instance: str = ""
    gpu: str = ""
    count: int = 1
    usd_micros: int
    spot_usd_micros: int | None = None
    date: str
    source: str


class Quote(Struct, frozen=True):
    """What something costs per hour, None where that is not known, and by what."""

    usd_micros: int | None
    because: str


def node_price(labels: Mapping[str, str], gpus: Sequence[Gpu], prices: Iterable[Price]) -> Quote:
    """Of a whole node: by its instance type, else by its GPUs, of the provider that its labels name."""
    rows = tuple(prices)
    provider, instance = labels.get(PROVIDER, ""), labels.get(INSTANCE_TYPE, "")
    is_spot = labels.get(CAPACITY_TYPE) == SPOT
    named = (
        [row for row in rows if row.instance == instance and provider in ("", row.provider)]
        if instance
        else []
    )
    if len({row.provider for row in named}) == 1:
        return _quote(named[0], is_spot)
    total, because = 0, []
    for kind, count in Counter(gpu.type.name for gpu in gpus).items():
        row = _row(kind, count, provider, rows)
        if row is None:
            return Quote(None, f"there is no price of {kind}{f' at {provider}' if provider else ''}")
        quote = _quote(row, is_spot)
        if quote.usd_micros is None:
            return quote
        total += round(Fraction(quote.usd_micros * count, row.count))
        because.append(quote.because)
    if not because:
        return Quote(None, f"there is no price of instance type {instance or '(no label)'}")
    return Quote(total, ", ".join(because))


def node_prices(rooms: Mapping[str, NodeRoom], prices: Iterable[Price]) -> dict[str, Quote]:
    """Of all nodes by name. Nodes that are alike are looked up once."""
    rows = tuple(prices)
    known: dict[tuple[object, ...], Quote] = {}
    found = {}
    for name, room in rooms.items():
        labels = room.node.metadata.labels
        kinds = room.kind or tuple(one.gpu.type.name for one in room.gpus)
        key = (*map(labels.get, (PROVIDER, INSTANCE_TYPE, CAPACITY_TYPE)), kinds, len(room.gpus))
        if key not in known:
            known[key] = node_price(labels, [one.gpu for one in room.gpus], rows)
        found[name] = known[key]
    return found


def node_part(
    shares: Iterable[Share], needs: Units, gpus: Sequence[Gpu], whole: Mapping[str, int]
) -> Fraction:
    """How much of a node a pod pays for. `needs` and `whole` are in units (`pod_requests.Units`), of the pod and of the node.

    Where a node's GPUs are only counted, because nothing tells what they are, a pod pays for as many as it asks for.
    """
    memory_bytes = sum(gpu.type.memory_bytes for gpu in gpus)
    if memory_bytes:
        known = {gpu.uuid: gpu for gpu in gpus}
        held = [(known[share.gpu], share) for share in shares if share.gpu in known]
        return sum(
            (gpu_part(share, gpu) * gpu.type.memory_bytes for gpu, share in held), Fraction(0)
        ) / Fraction(memory_bytes)
    counted = (GPU_RESOURCE,) if whole.get(GPU_RESOURCE, 0) > 0 else ("cpu", "memory")
    parts = [Fraction(needs.get(name, 0), whole[name]) for name in counted if whole.get(name, 0) > 0]
    return max(parts, default=Fraction(0))


def gpu_part(share: Share, gpu: Gpu) -> Fraction:
    """How much of its GPU a share is: slices of a MIG instance, one of a shared GPU's replicas, else the larger of compute and memory."""
    if share.profile:
        profile = next((one for one in gpu.type.profiles if one.name == share.profile), None)
        if profile is not None:
            return Fraction(profile.memory_slices, gpu.type.memory_slices)
    elif share.replica >= 0:
        return Fraction(1, max(1, gpu.sharing.replicas))
    memory = Fraction(share.memory_bytes, max(1, gpu.type.memory_bytes))
    return min(Fraction(1), max(memory, Fraction(share.milli, WHOLE_MILLI)))


def cost_of(node: Quote, part: Fraction) -> Quote:
    """What this part of a node costs."""
    return node if node.usd_micros is None else Quote(round(node.usd_micros * part), node.because)


def gpu_hour(node: Quote, gpus: int) -> float | None:
    """What one of a node's GPUs costs per hour, None where that is not known: how placement compares nodes."""
    return None if node.usd_micros is None or not gpus else node.usd_micros / gpus


def dollars(usd_micros: int) -> str:
    """As people read it: to the cent, below one dollar to a hundredth of that."""
    if 0 < usd_micros < 100:
        return "under 0.0001 USD/h"
    whole, micros = divmod(round(usd_micros, -4 if usd_micros >= MICROS else -2), MICROS)
    decimals = f"{micros:06}".rstrip("0")
    return f"{whole}.{decimals:0<2} USD/h"


def _row(kind: str, count: int, provider: str, rows: Iterable[Price]) -> Price | None:
    """The row with as many of these GPUs, else the one with fewest."""
    fitting = [row for row in rows if row.gpu == kind and row.provider == provider]
    return min(fitting, key=lambda row: (row.count != count, row.count), default=None)


def _quote(row: Price, is_spot: bool) -> Quote:
    what = " ".join(
        filter(None, (row.provider, row.instance or row.gpu, SPOT if is_spot else "", f"of {row.date}"))
    )
    if is_spot and row.spot_usd_micros is None:
        return Quote(None, f"there is no spot price of {row.instance or row.gpu}")
    return Quote(row.spot_usd_micros if is_spot else row.usd_micros, what)
