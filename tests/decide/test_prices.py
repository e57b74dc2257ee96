from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.app.gpu_types import find_gpu_type
from penstock.contracts.devices import Gpu, Share, Sharing
from penstock.decide.inventory import take_stock
from penstock.decide.prices import (
    Price,
    Quote,
    cost_of,
    dollars,
    gpu_hour,
    gpu_part,
    node_part,
    node_price,
    node_prices,
)
from penstock.resources.core import Node
from penstock.resources.meta import ObjectMeta

H100, L4 = find_gpu_type("h100-80gb"), find_gpu_type("l4")
TWO = tuple(Gpu(index=i, uuid=f"G{i}", type=H100) for i in range(2))
CLOUD = {"penstock.dev/provider": "cloud"}


def row(usd: float, **fields: object) -> Price:
    return Price(usd_micros=round(usd * 1e6), date="2026-01-01", source="a test", **fields)


def test_a_node_costs_what_its_instance_type_costs() -> None:
    prices = (row(9, provider="cloud", instance="big"), row(1, provider="cloud", gpu="h100-80gb"))
    named = {"node.kubernetes.io/instance-type": "big"}
    assert node_price(named, TWO, prices) == Quote(9_000_000, "cloud big of 2026-01-01")
    assert node_price({**CLOUD, **named}, (), prices).usd_micros == 9_000_000


def test_an_instance_type_of_two_providers_means_neither_until_the_node_says_whose() -> None:
    prices = (row(9, provider="a", instance="big"), row(8, provider="b", instance="big"))
    named = {"node.kubernetes.io/instance-type": "big"}
    assert node_price(named, (), prices).usd_micros is None
    assert node_price({**named, "penstock.dev/provider": "b"}, (), prices).usd_micros == 8_000_000


def test_a_node_costs_what_its_gpus_cost_at_its_provider() -> None:
    prices = (row(3, provider="cloud", gpu="h100-80gb"), row(20, provider="cloud", gpu="h100-80gb", count=8))
    assert node_price(CLOUD, TWO, prices).usd_micros == 6_000_000
    assert node_price(CLOUD, TWO * 4, prices).usd_micros == 20_000_000
    assert node_price({}, TWO, prices) == Quote(None, "there is no price of h100-80gb")
    assert node_price({}, TWO, (row(2, gpu="h100-80gb"),)).usd_micros == 4_000_000


def test_one_gpu_without_a_price_makes_the_node_unknown_and_says_which() -> None:
    mixed = (*TWO, Gpu(index=2, uuid="L", type=L4))
    quote = node_price(CLOUD, mixed, (row(3, provider="cloud", gpu="h100-80gb"),))
    assert quote == Quote(None, "there is no price of l4 at cloud")


def test_a_spot_node_costs_the_spot_price_or_what_is_not_known() -> None:
    spot = {**CLOUD, "karpenter.sh/capacity-type": "spot"}
    known = row(3, provider="cloud", gpu="h100-80gb", spot_usd_micros=1_000_000)
    assert node_price(spot, TWO, (known,)) == Quote(2_000_000, "cloud h100-80gb spot of 2026-01-01")
    assert node_price(spot, TWO, (row(3, provider="cloud", gpu="h100-80gb"),)).usd_micros is None


@pytest.mark.parametrize(
    ("share", "part"),
    [
        (Share(gpu="G0", milli=1000), 1),
        (Share(gpu="G0", memory_bytes=H100.memory_bytes // 4), 0.25),
        (Share(gpu="G0", milli=500), 0.5),
        (Share(gpu="G0", profile="3g.40gb", start=4), 0.5),
        (Share(gpu="G0", profile="1g.10gb", start=0), 0.125),
        (Share(gpu="G0", profile="7g.80gb", start=0), 1),
    ],
)
def test_a_share_costs_its_part_of_the_gpu(share: Share, part: float) -> None:
    assert gpu_part(share, TWO[0]) == part
    cost = cost_of(Quote(6_000_000, "x"), node_part([share], {}, TWO, {}))
    assert cost.usd_micros == round(3_000_000 * part)


def test_a_replica_of_a_shared_gpu_costs_as_much_as_the_others() -> None:
    sharing = Sharing(strategy="mps", replicas=4)
    assert gpu_part(Share(gpu="G0", replica=2), Gpu(index=0, uuid="G0", type=H100, sharing=sharing)) == 0.25


def test_a_node_without_gpus_is_paid_for_by_the_larger_part_that_is_reserved() -> None:
    whole = {"cpu": 8000, "memory": 32 << 30}
    assert node_part((), {"cpu": 2000, "memory": 16 << 30}, (), whole) == 0.5
    assert node_part((), {"cpu": 2000}, TWO, whole) == 0


def test_gpus_that_are_only_counted_are_paid_for_by_their_number() -> None:
    whole = {"cpu": 64000, "nvidia.com/gpu": 8}
    assert node_part((), {"cpu": 32000, "nvidia.com/gpu": 2}, (), whole) == 0.25


def test_what_has_no_price_is_unknown_and_not_free() -> None:
    part = node_part([Share(gpu="G0", milli=1000)], {}, TWO, {})
    assert cost_of(node_price({}, TWO, ()), part).usd_micros is None
    assert gpu_hour(node_price({}, TWO, ()), 2) is None


@given(st.lists(st.integers(1, 1000), max_size=20))
def test_parts_of_a_gpu_never_cost_more_than_the_gpu(millis: list[int]) -> None:
    taken = []
    for milli in millis:
        if sum(taken) + milli <= 1000:
            taken.append(milli)
    shares = [Share(gpu="G0", milli=milli) for milli in taken]
    assert node_part(shares, {}, TWO, {}) <= 0.5


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "0.00 USD/h"),
        (1, "under 0.0001 USD/h"),
        (362_500, "0.3625 USD/h"),
        (2_950_000, "2.95 USD/h"),
        (23_600_000, "23.60 USD/h"),
        (1_999_999, "2.00 USD/h"),
    ],
)
def test_amounts_are_shown_in_dollars(micros: int, text: str) -> None:
    assert dollars(micros) == text


def test_nodes_that_are_alike_cost_the_same_and_others_do_not() -> None:
    def known(name: str, provider: str) -> Node:
        return Node(metadata=ObjectMeta(name=name, labels={"penstock.dev/provider": provider}))

    l4 = Gpu(index=0, uuid="L", type=L4)
    gpus = {"a": TWO, "b": TWO, "c": TWO[:1], "d": TWO, "e": (l4,), "f": (TWO[0], l4)}
    nodes = [known(name, "other" if name == "d" else "cloud") for name in gpus]
    rows = (row(3, provider="cloud", gpu="h100-80gb"), row(1, provider="cloud", gpu="l4"))
    found = node_prices(take_stock(nodes, [], gpus).rooms, rows)
    assert [found[name].usd_micros for name in gpus] == [
        6_000_000, 6_000_000, 3_000_000, None, 1_000_000, 4_000_000,
    ]  # fmt: skip
