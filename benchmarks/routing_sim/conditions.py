"""What an index that is wrong, or known in parts, costs: events lost, an engine restarted, several gateways."""

from __future__ import annotations

from penstock.gateway.gossip import EXCHANGE_S
from penstock.testing.routing.world import Conditions

RESTARTS = ((0, 20.0), (3, 30.0))

CONDITIONS = (
    ("all well", Conditions()),
    ("1 % of events lost, replayed", Conditions(loss=0.01)),
    ("10 % of events lost, replayed", Conditions(loss=0.10)),
    ("1 % of events lost for good", Conditions(loss=0.01, replays=False)),
    ("10 % of events lost for good", Conditions(loss=0.10, replays=False)),
    ("two engines restarted", Conditions(restarts=RESTARTS)),
    ("2 gateways", Conditions(gateways=2)),
    ("4 gateways", Conditions(gateways=4)),
    ("2 gateways that gossip", Conditions(gateways=2, gossip_s=EXCHANGE_S)),
    ("4 gateways that gossip", Conditions(gateways=4, gossip_s=EXCHANGE_S)),
    (
        "4 that gossip, 1 % lost for good",
        Conditions(gateways=4, gossip_s=EXCHANGE_S, loss=0.01, replays=False),
    ),
)
POLICIES = ("penstock", "penstock-approximate", "llm-d-precise", "dynamo")
CASES = ("mooncake-conversation", "multi-turn", "llm-d-73")
REPLICAS = 8
