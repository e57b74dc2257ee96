"""Show the nodes: what they offer, what pods reserve of it, their GPUs, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Annotated

import typer

from penstock.cli.api import connect
from penstock.cli.console import check_output, print_json, print_table
from penstock.cli.devices import every, gib, gpus_by_node, unfinished_pods
from penstock.cli.options import Context, Kubeconfig
from penstock.contracts.devices import Gpu
from penstock.decide.pod_requests import Units, needs_of, offered
from penstock.kit.quantity import format_quantity
from penstock.resources.core import Node
from penstock.resources.pod import Pod

OUTPUTS = ("json",)
Row = dict[str, str]


def run(
    output: Annotated[
        str, typer.Option("--output", "-o", help="json; without, a table", show_default=False)
    ] = "",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Reserved and whole amounts stand as `2 / 8`. Who holds which GPU, `penstock gpus` says."""
    check_output(output, OUTPUTS)
    api = connect(kubeconfig, context)
    gpus = gpus_by_node(api)
    pods = unfinished_pods(api)
    rows = [_row(node, gpus.get(node.metadata.name, ()), pods) for node in every(api, Node)]
    if output == "json":
        print_json(rows)
    else:
        print_table(list(rows[0]) if rows else ["node"], [list(row.values()) for row in rows])


def _row(node: Node, gpus: tuple[Gpu, ...], pods: list[Pod]) -> Row:
    here = [pod for pod in pods if pod.spec.node_name == node.metadata.name]
    reserved: Counter[str] = Counter()
    for pod in here:
        reserved.update(needs_of(pod))
    whole = offered(node.status.allocatable)
    kinds = Counter(gpu.type.name for gpu in gpus)
    return {
        "node": node.metadata.name,
        "ready": _condition(node, "Ready"),
        "cpu": _amount("cpu", reserved, whole),
        "memory": f"{gib(reserved['memory'])} / {gib(whole.get('memory', 0))}",
        "pods": f"{len(here)} / {whole.get('pods', 0)}",
        "gpus": ", ".join(f"{count} {kind}" for kind, count in kinds.items()),
        "taints": ", ".join(f"{taint.key}:{taint.effect}" for taint in node.spec.taints),
        "problem": _problem(node),
    }


def _amount(name: str, reserved: Counter[str], whole: Units) -> str:
    parts = (Decimal(reserved[name]) / 1000, Decimal(whole.get(name, 0)) / 1000)
    return " / ".join(format_quantity(part) for part in parts)


def _condition(node: Node, type_: str) -> str:
    return next((one.status for one in node.status.conditions if one.type == type_), "Unknown")


def _problem(node: Node) -> str:
    """Every condition but Ready that holds, and that nothing may be placed there."""
    found = [
        one.message or one.type
        for one in node.status.conditions
        if one.type != "Ready" and one.status == "True"
    ]
    return "; ".join([*(["unschedulable"] if node.spec.unschedulable else []), *found])
