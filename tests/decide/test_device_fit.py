"""Which devices of a node a pod could get: whole ones, parts, replicas, MIG instances that exist or are made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.app.gpu_types import find_gpu_type
from penstock.contracts.devices import DeviceRequest, Gpu, MigInstance, Share, Sharing
from penstock.decide.device_fit import Asker, Option, options
from penstock.decide.inventory import GpuRoom, empty_room, less
from penstock.decide.mig_start import best_start, options_left, starts_of
from penstock.resources.core import Taint
from penstock.resources.pod import Toleration
from penstock.testing.factories import node

H100 = find_gpu_type("h100-80gb")
PROFILES = {profile.name: profile for profile in H100.profiles}
WHOLE = DeviceRequest(resource="nvidia.com/gpu")
EMPTY, FULL = (1 << 8) - 1, 7


def rooms(*gpus: Gpu) -> tuple[GpuRoom, ...]:
    return empty_room(node("n"), gpus, {}).gpus


def h100(number: int, **more: object) -> Gpu:
    return Gpu(index=number, uuid=f"g{number}", type=H100, **more)  # type: ignore[arg-type]


def part(gib: int) -> DeviceRequest:
    return DeviceRequest(milli=0, memory_bytes=gib << 30)


def found(
    request: DeviceRequest, gpus: tuple[GpuRoom, ...], asker: Asker | None = None
) -> tuple[Option, ...]:
    answer = options((request,), gpus, asker or Asker())
    assert not isinstance(answer, str), answer
    return answer


def test_a_whole_gpu_is_one_that_nobody_touches() -> None:
    first, second = rooms(h100(0), h100(1))
    touched = less(first, (Share(gpu="g0", memory_bytes=1 << 30),), "other")
    (only,) = found(WHOLE, (touched, second))
    assert only.shares[0].gpu == "g1"
    assert options((WHOLE,), (touched,), Asker()) == "Insufficient nvidia.com/gpu"


def test_equal_gpus_are_one_option_and_unequal_ones_are_several() -> None:
    first, second, third = rooms(h100(0), h100(1), h100(2))
    used = less(third, (Share(gpu="g2", memory_bytes=30 << 30),), "other")
    assert [one.shares[0].gpu for one in found(part(10), (first, second, used))] == ["g0", "g2"]


def test_a_sibling_on_the_gpu_is_told() -> None:
    first, second = rooms(h100(0), h100(1))
    used = less(first, (Share(gpu="g0", memory_bytes=30 << 30),), "service")
    collides = {one.shares[0].gpu: one.collides for one in found(part(10), (used, second), Asker("service"))}
    assert collides == {"g0": True, "g1": False}


def test_several_gpus_are_several() -> None:
    request = DeviceRequest(resource="nvidia.com/gpu", count=2)
    (both,) = found(request, rooms(h100(0), h100(1), h100(2)))
    assert len({share.gpu for share in both.shares}) == 2
    assert options((request,), rooms(h100(0)), Asker()) == "Insufficient nvidia.com/gpu"


def test_a_tainted_gpu_is_for_those_that_tolerate_it() -> None:
    sick = rooms(h100(0, taints=(Taint(key="xid", effect="NoSchedule"),)))
    assert isinstance(options((WHOLE,), sick, Asker()), str)
    assert found(WHOLE, sick, Asker("", (Toleration(key="xid", operator="Exists"),)))


def test_another_type_will_not_do() -> None:
    request = DeviceRequest(resource="nvidia.com/gpu", types=frozenset({"t4"}))
    assert options((request,), rooms(h100(0)), Asker()) == "Insufficient nvidia.com/gpu of t4"


@pytest.mark.parametrize(("strategy", "memory"), [("time-slicing", 0), ("mps", 40 << 30)])
def test_a_replica_has_a_number_of_its_own(strategy: str, memory: int) -> None:
    sharing = Sharing(strategy=strategy, replicas=2, resource="nvidia.com/gpu.shared")
    request = DeviceRequest(resource="nvidia.com/gpu.shared", milli=0, is_shared=True)
    left = rooms(h100(0, sharing=sharing))
    numbers = []
    for _ in range(2):
        (one,) = found(request, left)
        numbers.append(one.shares[0].replica)
        left = one.left
    assert numbers == [0, 1]
    if memory:
        assert one.shares[0].memory_bytes == H100.memory_bytes // 2
    assert isinstance(options((request,), left, Asker()), str)
    assert isinstance(options((WHOLE,), rooms(h100(0, sharing=sharing)), Asker()), str)


def test_an_instance_that_exists_is_taken_before_one_is_made() -> None:
    there = MigInstance(uuid="MIG-1", profile="1g.10gb", start=2)
    request = DeviceRequest(profile="1g.10gb", milli=0)
    (one,) = found(request, rooms(h100(0, is_mig=True, instances=(there,))))
    assert (one.shares[0].instance, one.shares[0].start, one.lost) == ("MIG-1", 2, 0.0)
    (made,) = found(request, one.left)
    assert made.shares[0].instance == ""
    assert made.shares[0].start != 2


@pytest.mark.parametrize(
    ("profile", "start"), [("1g.10gb", 6), ("1g.20gb", 6), ("2g.20gb", 4), ("3g.40gb", 4), ("7g.80gb", 0)]
)
def test_on_an_empty_gpu_an_instance_starts_where_most_is_left(profile: str, start: int) -> None:
    """The preferences of the placements that NVIDIA lists: the first free start is the worst for small ones."""
    (room,) = rooms(h100(0, is_mig=True))
    best = best_start(room, PROFILES[profile])
    assert best is not None
    assert best[1] == start


def test_what_is_asked_for_most_is_kept_possible() -> None:
    (room,) = rooms(h100(0, is_mig=True))
    wanted = best_start(room, PROFILES["2g.20gb"], {"3g.40gb": 1.0})
    assert wanted == (3.0, 4) or wanted == (3.0, 2) or wanted == (3.0, 0)
    only_four = best_start(room, PROFILES["2g.20gb"], {"4g.40gb": 1.0})
    assert only_four == (0.0, 4)


def test_demand_is_in_any_unit() -> None:
    (room,) = rooms(h100(0, is_mig=True))
    few, many = {"1g.10gb": 1.0, "7g.80gb": 3.0}, {"1g.10gb": 20.0, "7g.80gb": 60.0}
    assert best_start(room, PROFILES["3g.40gb"], few) == best_start(room, PROFILES["3g.40gb"], many)


def test_a_small_instance_goes_beside_a_large_one_and_not_to_an_empty_gpu() -> None:
    """The half that is left has more placements of small ones than an empty GPU loses, and the empty one is the last for 7g."""
    empty, half = rooms(h100(0, is_mig=True), h100(1, is_mig=True))
    held = Share(gpu="g1", profile="3g.40gb", start=4, memory_bytes=1)
    wanted = found(DeviceRequest(profile="1g.10gb", milli=0), (empty, less(half, (held,), "other")))
    assert min(wanted, key=lambda option: option.lost).shares[0].gpu == "g1"


@pytest.mark.parametrize("profile", ["1g.20gb", "2g.20gb"])
def test_where_large_instances_are_rare_small_ones_do_not_open_an_empty_gpu_each(profile: str) -> None:
    """Each would cost one GPU its place for 7g, which counts for little where few ask for it, until none is left."""
    small = {"1g.10gb": 30, "1g.20gb": 25, "2g.20gb": 20, "3g.40gb": 10, "4g.40gb": 10, "7g.80gb": 5.0}
    request = DeviceRequest(profile=profile, milli=0)
    gpus = rooms(h100(0, is_mig=True), h100(1, is_mig=True))
    first = options((request,), gpus, Asker(), small)[0]
    assert isinstance(first, Option)
    second = options((request,), first.left, Asker(), small)
    assert not isinstance(second, str)
    assert min(second, key=lambda option: option.lost).shares[0].gpu == first.shares[0].gpu


@given(st.lists(st.sampled_from(sorted(PROFILES)), max_size=9))
def test_instances_never_overlap_and_never_exceed_the_gpu(names: list[str]) -> None:
    left, held = rooms(h100(0, is_mig=True)), 0
    compute = 0
    for name in names:
        answer = options((DeviceRequest(profile=name, milli=0),), left, Asker())
        if isinstance(answer, str):
            assert not starts_of(PROFILES[name], left[0].slices, left[0].compute_slices)
            continue
        profile, share = PROFILES[name], answer[0].shares[0]
        bits = ((1 << profile.memory_slices) - 1) << share.start
        assert not held & bits
        assert share.start in profile.starts
        held |= bits
        compute += profile.compute_slices
        left = answer[0].left
    assert compute <= FULL
    assert left[0].slices == EMPTY & ~held


def test_fewer_slices_never_leave_more_options() -> None:
    assert options_left(H100, 0, 7) == 0
    assert options_left(H100, EMPTY, 7) > options_left(H100, EMPTY & ~1, 6)
