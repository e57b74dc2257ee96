"""A stream of MIG instances that come and go: how many find a place, by where they are put?

Poisson arrivals and exponential stays on H100s in MIG mode, no queue: what fits nowhere is lost. `LOAD` is the compute slices asked for at a
time, by those that there are. Penstock's own decision is compared with rules that choose a GPU by its free slices (first, best and worst fit; blind
ones do not see where the slices lie) and with the greedy rule of "An Online Fragmentation-Aware GPU Scheduler for Multi-Tenant MIG-based Clouds"
(arXiv 2511.18906) as we read its abstract: the placement after which fewest placements are blocked on GPUs that still have slices enough for them.
The paper's own stream is not played, for we do not know its arrivals, stays and number of GPUs. It states 10 % more than its baselines under heavy load.

Where instances are made beforehand, layouts planned by the product are compared with mig-parted's `all-balanced` on every GPU.

No rule that takes whoever fits can place much more than `movable` does, for which every instance may be moved at any time at no cost: what it
loses is not lost to fragmentation. It loses large instances first, as any such rule does: a rule that keeps large ones out by fragmentation
may place more instances, though fewer slices.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from penstock.app.gpu_types import find_gpu_type
from penstock.contracts.devices import DeviceRequest, Gpu, GpuType, MigProfile, Share
from penstock.decide.board import Board
from penstock.decide.inventory import GpuRoom, Inventory, take_stock
from penstock.decide.mig import Terms, plan_layouts
from penstock.decide.mig_layout import Layout, lay_out, slices_of
from penstock.decide.mig_parted import balanced_counts
from penstock.decide.mig_start import starts_of
from penstock.decide.node_standing import Leaning
from penstock.decide.placement import place
from penstock.resources.core import Node, NodeStatus
from penstock.resources.meta import Condition, ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec

TYPE = "h100-80gb"
NODES, GPUS_PER_NODE = 4, 8
ARRIVALS, WARM_UP = 4_000, 1_000
MEAN_STAY_S = 100.0
PLANNED_EVERY = 100
"""Arrivals between two plans of layouts."""
LOADS = (0.9, 1.4)
MIXES: dict[str, dict[str, float]] = {
    "uniform": {"1g.10gb": 1, "1g.20gb": 1, "2g.20gb": 1, "3g.40gb": 1, "4g.40gb": 1, "7g.80gb": 1},
    "small": {"1g.10gb": 50, "1g.20gb": 10, "2g.20gb": 20, "3g.40gb": 15, "4g.40gb": 4, "7g.80gb": 1},
    "large": {"1g.10gb": 20, "1g.20gb": 5, "2g.20gb": 15, "3g.40gb": 25, "4g.40gb": 20, "7g.80gb": 15},
}


class Arrival(NamedTuple):
    """A pod that asks for one instance, and stays so long."""

    number: int
    at_s: float
    profile: str
    stay_s: float


@dataclass
class Tally:
    """Instances, and compute slices times seconds, that arrived and that found a place."""

    arrived: int = 0
    placed: int = 0
    work: float = 0.0
    work_placed: float = 0.0


Choose = Callable[[Arrival, Inventory], tuple[str, Share] | None]


def kind() -> GpuType:
    """The type of all GPUs."""
    return find_gpu_type(TYPE)


def arrivals(mix: str, load: float, seed: int) -> Iterator[Arrival]:
    """In the order of time."""
    draw, weights = random.Random(f"{mix}/{load}/{seed}"), MIXES[mix]
    slices = {one.name: one.compute_slices for one in kind().profiles}
    mean = sum(slices[name] * weight for name, weight in weights.items()) / sum(weights.values())
    rate = load * NODES * GPUS_PER_NODE * kind().compute_slices / (mean * MEAN_STAY_S)
    now = 0.0
    for number in range(ARRIVALS):
        now += draw.expovariate(rate)
        profile = draw.choices(list(weights), list(weights.values()))[0]
        yield Arrival(number, now, profile, draw.expovariate(1 / MEAN_STAY_S))


def empty() -> Inventory:
    """All nodes, nothing on them."""
    amounts = {"cpu": "512", "memory": "4Ti", "pods": "1000"}
    ready = (Condition(type="Ready", status="True", reason="KubeletReady"),)
    names = [f"node-{number}" for number in range(NODES)]
    nodes = [
        Node(metadata=ObjectMeta(name=name), status=NodeStatus(allocatable=dict(amounts), conditions=ready))
        for name in names
    ]
    gpus = {
        name: tuple(Gpu(index=i, uuid=f"{name}/{i}", type=kind(), is_mig=True) for i in range(GPUS_PER_NODE))
        for name in names
    }
    return take_stock(nodes, [], gpus)


def play(policy: str, mix: str, load: float, seed: int) -> Tally:
    """One run."""
    choose, tally, stock = POLICIES[policy](), Tally(), empty()
    slices = {one.name: one.compute_slices for one in kind().profiles}
    leaving: list[tuple[float, int, Pod]] = []
    for arrival in arrivals(mix, load, seed):
        gone = []
        while leaving and leaving[0][0] <= arrival.at_s:
            gone.append(heapq.heappop(leaving)[2])
        if gone:
            stock = stock.without(gone)
        found = choose(arrival, stock)
        work = slices[arrival.profile] * arrival.stay_s
        if arrival.number >= WARM_UP:
            tally.arrived += 1
            tally.work += work
        if found is None:
            continue
        node, share = found
        pod = _pod(arrival, node)
        stock = stock.with_(pod, node, (share,))
        heapq.heappush(leaving, (arrival.at_s + arrival.stay_s, arrival.number, pod))
        if arrival.number >= WARM_UP:
            tally.placed += 1
            tally.work_placed += work
    return tally


def _pod(arrival: Arrival, node: str = "") -> Pod:
    meta = ObjectMeta(name=f"p{arrival.number}", namespace="default", uid=str(arrival.number))
    return Pod(metadata=meta, spec=PodSpec(containers=(Container(name="main"),), node_name=node))


def penstock() -> Choose:
    """The product's decision, with the demand that it has seen so far."""
    board, seen = Board(), dict.fromkeys((one.name for one in kind().profiles), 0.0)
    leaning = Leaning()

    def choose(arrival: Arrival, stock: Inventory) -> tuple[str, Share] | None:
        nonlocal leaning
        seen[arrival.profile] += 1.0
        if arrival.number % 500 == 499:
            whole = sum(seen.values())
            leaning = Leaning(mig_demand={name: round(count / whole, 2) for name, count in seen.items()})
        asked = DeviceRequest(container="main", resource="", milli=0, profile=arrival.profile)
        found = place(_pod(arrival), stock, (asked,), leaning=leaning, board=board)
        return (found.node, found.shares[0]) if found.node else None

    return choose


def _candidates(profile: MigProfile, stock: Inventory) -> Iterator[tuple[str, GpuRoom, int]]:
    for name, room in stock.rooms.items():
        for gpu in room.gpus:
            for start in starts_of(profile, gpu.slices, gpu.compute_slices):
                yield name, gpu, start


def _share(gpu: GpuRoom, profile: MigProfile, start: int) -> Share:
    return Share(
        gpu=gpu.gpu.uuid,
        container="main",
        memory_bytes=profile.memory_bytes,
        profile=profile.name,
        start=start,
    )


def by_free_slices(sign: int, *, is_blind: bool = False) -> Callable[[], Choose]:
    """The lowest start on the GPU with fewest (sign 1) or most (-1) free memory slices, or on the lowest GPU (0).

    A blind rule counts only how many slices are free: where they lie it sees when it is too late, and the request is lost.
    """
    profiles = {one.name: one for one in kind().profiles}

    def choose(arrival: Arrival, stock: Inventory) -> tuple[str, Share] | None:
        profile = profiles[arrival.profile]
        able = [
            (name, gpu)
            for name, room in stock.rooms.items()
            for gpu in room.gpus
            if gpu.slices.bit_count() >= profile.memory_slices
            and gpu.compute_slices >= profile.compute_slices
            and (is_blind or starts_of(profile, gpu.slices, gpu.compute_slices))
        ]
        if not able:
            return None
        name, gpu = min(able, key=lambda one: sign * one[1].slices.bit_count())
        starts = starts_of(profile, gpu.slices, gpu.compute_slices)
        return (name, _share(gpu, profile, starts[0])) if starts else None

    return lambda: choose


def blocked(slices: int, compute_slices: int) -> int:
    """Memory slices of the placements that free slices would suffice for, but whose positions are taken."""
    found = 0
    for profile in kind().profiles:
        if profile.memory_slices <= slices.bit_count() and profile.compute_slices <= compute_slices:
            free = len(starts_of(profile, slices, compute_slices))
            found += profile.memory_slices * (len(profile.starts) - free)
    return found


def greedy() -> Choose:
    """Least more blocked; of equal ones the fullest GPU, then the lowest."""
    profiles = {one.name: one for one in kind().profiles}

    def choose(arrival: Arrival, stock: Inventory) -> tuple[str, Share] | None:
        profile = profiles[arrival.profile]
        best: tuple[tuple[int, int], str, Share] | None = None
        for name, gpu, start in _candidates(profile, stock):
            after = gpu.slices & ~(((1 << profile.memory_slices) - 1) << start)
            more = blocked(after, gpu.compute_slices - profile.compute_slices) - blocked(
                gpu.slices, gpu.compute_slices
            )
            rank = more, gpu.compute_slices
            if best is None or rank < best[0]:
                best = rank, name, _share(gpu, profile, start)
        return None if best is None else best[1:]

    return choose


def _from_layouts(
    layouts: Mapping[str, Layout], arrival: Arrival, stock: Inventory
) -> tuple[str, Share] | None:
    """The first instance of the layouts that nobody holds."""
    profile = next(one for one in kind().profiles if one.name == arrival.profile)
    for name, room in stock.rooms.items():
        for gpu in room.gpus:
            for found, start in layouts[gpu.gpu.uuid]:
                bits = slices_of(profile, start)
                if found == profile.name and gpu.slices & bits == bits:
                    return name, _share(gpu, profile, start)
    return None


def balanced() -> Choose:
    """Layouts that are made beforehand and stay: mig-parted's `all-balanced`."""
    layout = lay_out(kind(), balanced_counts(kind())) or ()

    def choose(arrival: Arrival, stock: Inventory) -> tuple[str, Share] | None:
        layouts = {gpu.gpu.uuid: layout for room in stock.rooms.values() for gpu in room.gpus}
        return _from_layouts(layouts, arrival, stock)

    return choose


def planned() -> Choose:
    """Layouts that are made beforehand and planned anew by `decide/mig.py`, around what is held, for the arrivals that were seen so far."""
    seen: Counter[str] = Counter()
    layouts: dict[str, Layout] = {}
    terms = Terms(relayout_s=MEAN_STAY_S / 100, horizon_s=MEAN_STAY_S, rest_s=0.0)

    def choose(arrival: Arrival, stock: Inventory) -> tuple[str, Share] | None:
        seen[arrival.profile] += 1
        if arrival.number % PLANNED_EVERY == 0:
            demand = {name: count * MEAN_STAY_S / arrival.at_s for name, count in seen.items()}
            layouts.update(plan_layouts(stock, demand, terms=terms).layouts)
        return _from_layouts(layouts, arrival, stock)

    return choose


def fit_if_moved(counts: Counter[str]) -> bool:
    """Whether so many instances have room on all GPUs together. 7g, 4g and 3g are counted by GPUs and their halves, the others by slices only."""
    slices = {one.name: (one.compute_slices, one.memory_slices) for one in kind().profiles}
    whole, four, three = (
        sum(count for name, count in counts.items() if slices[name][0] == size) for size in (7, 4, 3)
    )
    beside = min(three, four)
    pairs, single = divmod(three - beside, 2)
    empty = NODES * GPUS_PER_NODE - whole - four - pairs - single
    small = [(*slices[name], count) for name, count in counts.items() if slices[name][0] < 3]
    compute = sum(size * count for size, _, count in small)
    memory = sum(size * count for _, size, count in small)
    return (
        empty >= 0
        and compute <= 7 * empty + 3 * (four - beside) + 4 * single
        and memory <= 8 * empty + 4 * (four - beside) + 4 * single
    )


def movable() -> Choose:
    """As if all were moved as needed: whoever has room in all GPUs together is placed."""
    profiles = {one.name: one for one in kind().profiles}

    def choose(arrival: Arrival, stock: Inventory) -> tuple[str, Share] | None:
        counts = Counter(
            share.profile for room in stock.rooms.values() for held in room.held for share in held.shares
        )
        counts[arrival.profile] += 1
        if not fit_if_moved(counts):
            return None
        name = f"node-{arrival.number % NODES}"
        return name, _share(stock.rooms[name].gpus[0], profiles[arrival.profile], 0)

    return choose


POLICIES: dict[str, Callable[[], Choose]] = {
    "penstock": penstock,
    "first fit": by_free_slices(0),
    "best fit": by_free_slices(1),
    "worst fit": by_free_slices(-1),
    "blind first fit": by_free_slices(0, is_blind=True),
    "blind best fit": by_free_slices(1, is_blind=True),
    "blind worst fit": by_free_slices(-1, is_blind=True),
    "fragmentation greedy": greedy,
    "all movable": movable,
    "all-balanced": balanced,
    "planned layouts": planned,
}
RIVALS = {
    "first fit": "penstock",
    "fragmentation greedy": "penstock",
    "blind first fit": "penstock",
    "all-balanced": "planned layouts",
}
"""Each rule and what is compared with it: instances made as they are needed, or beforehand."""
