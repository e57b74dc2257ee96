"""Tell whether another node is needed, and of which pool it is cheapest for the pods that wait.

FILE declares pools of nodes that could be had. Pods that fit nowhere are placed on nodes like those, with the code that places pods on real ones;
nothing is created. With -o karpenter the pools are printed as NodePool objects for Karpenter, without asking any cluster.

Example: penstock node-pools pools.yaml
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from penstock.app.home import Home
from penstock.app.node_pools import Pools, growth, karpenter_objects, read_pools
from penstock.app.prices import load_prices
from penstock.app.settings import load
from penstock.cli.api import connect
from penstock.cli.console import check_output, print_json, print_table, print_yaml
from penstock.cli.costs import shown
from penstock.cli.options import Context, Kubeconfig
from penstock.cli.snapshot import Snapshot
from penstock.decide.node_pools import Growth
from penstock.decide.prices import dollars

OUTPUTS = ("json", "karpenter")


def run(
    file: Annotated[Path, typer.Argument(help="YAML with `pools`.", show_default=False)],
    output: Annotated[
        str, typer.Option("--output", "-o", help="json or karpenter; without, a table", show_default=False)
    ] = "",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Prices are the shipped ones and those of prices.yaml in the data folder."""
    check_output(output, OUTPUTS)
    pools = read_pools(file, load_prices(Home(load(os.environ).home).prices))
    if output == "karpenter":
        for number, document in enumerate(karpenter_objects(pools)):
            if number:
                print("---")
            print_yaml(document)
        return
    found = growth(Snapshot(connect(kubeconfig, context)), pools.known)
    if output == "json":
        print_json(msgspec.to_builtins(found))
    else:
        _print(found, pools)


def _print(found: Growth, pools: Pools) -> None:
    if not found.add:
        print("No node is needed." if not found.left else "No node of these pools would help.")
    else:
        quotes = {pool.name: pool.quote for pool in pools.known}
        print_table(
            ("add", "pool", "each"),
            [(count, name, shown(quotes[name])) for name, count in found.add.items()],
        )
        cost = "an amount that is not known" if found.usd_micros is None else dollars(found.usd_micros)
        print(f"\nTogether they cost {cost}. Because:")
        for reason in found.reasons:
            print(f"  {reason}")
        if found.runner_up:
            print(f"Second for the first: {found.runner_up}")
        print("\nWho gets room:")
        print_table(("who", "on"), [(who, ", ".join(nodes)) for who, nodes in found.served])
    if found.left:
        print("\nWho does not:")
        print_table(("who", "because"), found.left)
    if found.unseen:
        print(f"\n{found.unseen} more wait that were not looked at: ask again when these have their nodes.")
