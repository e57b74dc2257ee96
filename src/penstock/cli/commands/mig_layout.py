"""Plan which MIG instances the GPUs should have for the demand that is expected.

Prints for each GPU what would be destroyed and created, what that gains and costs; nothing is changed. With -o mig-parted the layouts are printed
as NVIDIA's configuration, with the label of each node on standard error.

Example: penstock mig-layout --demand 3g.40gb=2 --demand 1g.10gb=5
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import isfinite
from typing import Annotated

import msgspec
import typer

from penstock.cli.api import connect
from penstock.cli.console import check_output, print_json, print_table, print_yaml
from penstock.cli.devices import every, gpus_by_node, unfinished_pods
from penstock.cli.options import Context, Kubeconfig
from penstock.contracts.devices import Gpu
from penstock.decide.device_resources import profile_of
from penstock.decide.inventory import take_stock
from penstock.decide.mig import Plan, plan_layouts
from penstock.decide.mig_layout import Layout
from penstock.decide.mig_parted import CONFIG_LABEL, mig_parted
from penstock.kit.errors import InvalidInput, nearest
from penstock.kit.quantity import parse_quantity
from penstock.resources.core import Node
from penstock.resources.pod import Pod

OUTPUTS = ("json", "mig-parted")


def run(
    demand: Annotated[
        list[str] | None,
        typer.Option(
            "--demand",
            help="PROFILE=INSTANCES that would be in use at a time; repeat. Without: what the pods that exist ask for.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="json or mig-parted; without, a table", show_default=False)
    ] = "",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """What pods hold stays where it is."""
    check_output(output, OUTPUTS)
    api = connect(kubeconfig, context)
    gpus = gpus_by_node(api)
    pods = unfinished_pods(api)
    wanted = _demand(demand, gpus.values()) if demand else _asked(pods)
    bound = [pod for pod in pods if pod.spec.node_name]
    plan = plan_layouts(take_stock(every(api, Node), bound, gpus), wanted)
    if output == "json":
        print_json(msgspec.to_builtins(plan))
    elif output == "mig-parted":
        _parted(gpus, plan)
    else:
        _table(plan)


def _demand(words: list[str], nodes: Iterable[tuple[Gpu, ...]]) -> dict[str, float]:
    known = {one.name for gpus in nodes for gpu in gpus if gpu.is_mig for one in gpu.type.profiles}
    found: dict[str, float] = {}
    for word in words:
        profile, _, number = word.partition("=")
        try:
            count = float(number)
        except ValueError:
            count = -1.0
        if not isfinite(count) or count < 0:
            raise InvalidInput(f"--demand: found {word!r}, expected PROFILE=INSTANCES, as in 1g.10gb=5")
        if profile not in known:
            close = nearest(profile, sorted(known), 1)
            raise InvalidInput(
                f"--demand: no GPU in MIG mode has the profile {profile!r}",
                hint=f"did you mean {close[0]}?" if close else f"profiles are: {', '.join(sorted(known))}",
            )
        found[profile] = count
    return found


def _asked(pods: Iterable[Pod]) -> dict[str, float]:
    """Instances by profile that the pods' limits name."""
    found: Counter[str] = Counter()
    for pod in pods:
        for container in pod.spec.containers:
            for resource, count in (container.resources.limits if container.resources else {}).items():
                if profile := profile_of(resource):
                    found[profile] += int(parse_quantity(count))
    return {profile: float(count) for profile, count in found.items()}


def _table(plan: Plan) -> None:
    if plan.changes:
        rows = [
            (one.node, one.index, _words(one.destroyed), _words(one.created), one.reason)
            for one in plan.changes
        ]
        print_table(("node", "gpu", "destroy", "create", "because"), rows)
    print(f"{plan.message[:1].upper()}{plan.message[1:]}.")
    for gpu, why in plan.left:
        print(f"{gpu} stays: {why}.")


def _parted(gpus: dict[str, tuple[Gpu, ...]], plan: Plan) -> None:
    divided = {node: some for node, some in gpus.items() if any(gpu.is_mig for gpu in some)}
    found = mig_parted(divided, plan.layouts, plan.held)
    print_yaml(found.document)
    for node, name in found.labels.items():
        typer.echo(f"kubectl label node {node} {CONFIG_LABEL}={name}", err=True)
    for gpu in found.left:
        typer.echo(f"{gpu} is left out: pods hold a part of it, and mig-parted would empty it", err=True)


def _words(layout: Layout) -> str:
    starts: dict[str, list[str]] = {}
    for profile, start in layout:
        starts.setdefault(profile, []).append(str(start))
    return "; ".join(f"{profile} at {', '.join(at)}" for profile, at in starts.items())
