"""What pods cost where they are, by the prices that hold on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable

from penstock.app.home import Home
from penstock.app.prices import load_prices
from penstock.app.settings import load
from penstock.cli.api import Api
from penstock.cli.devices import every, gpus_or_none
from penstock.decide.inventory import shares_of
from penstock.decide.pod_requests import needs_of, offered
from penstock.decide.prices import Quote, cost_of, dollars, node_part, node_price
from penstock.resources.core import Node
from penstock.resources.pod import Pod

UNKNOWN = "unknown"


def costs(api: Api, pods: Iterable[Pod]) -> dict[str, Quote]:
    """By the pod's uid, of those that have a node. What is unknown says why."""
    prices = load_prices(Home(load(os.environ).home).prices)
    nodes = {node.metadata.name: node for node in every(api, Node)}
    gpus = gpus_or_none(api)  # without any, what has a price is known by its instance type
    found = {}
    for pod in pods:
        node = nodes.get(pod.spec.node_name)
        if node is not None:
            here = gpus.get(node.metadata.name, ())
            part = node_part(shares_of(pod), needs_of(pod), here, offered(node.status.allocatable))
            found[pod.metadata.uid] = cost_of(node_price(node.metadata.labels, here, prices), part)
    return found


def shown(quote: Quote | None) -> str:
    """In dollars, or that it is not known."""
    return UNKNOWN if quote is None or quote.usd_micros is None else dollars(quote.usd_micros)
