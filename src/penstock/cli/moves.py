"""Shows what defragmentation would move now, and why the others stay."""

from __future__ import annotations

import os
import time

import msgspec
import typer

from penstock.app.dry_cluster import DryCluster
from penstock.app.settings import load
from penstock.cli.api import Api
from penstock.cli.console import print_json, print_table
from penstock.cli.snapshot import Snapshot
from penstock.decide.defragment import Defragmentation
from penstock.decide.defragment_round import plan_round
from penstock.decide.move_budget import Limits
from penstock.host.defragmentation import scene_of
from penstock.host.move_ledger import NAME, NAMESPACE, spent_of
from penstock.host.preemption_ledger import history_of
from penstock.resources.core import ConfigMap
from penstock.resources.workload import Job, ReplicaSet


def show_moves(api: Api, output: str) -> None:
    """As the platform would plan this moment, if it was to move pods always; within what is left of this hour's budget."""
    settings, cache = load(os.environ), Snapshot(api)
    dry = DryCluster(cache)
    limits = Limits(
        moves=settings.defragment_moves_per_hour, gpu_seconds=settings.defragment_gpu_seconds_per_hour
    )
    found = plan_round(
        dry.pods,
        cache.list(ReplicaSet),
        {job.metadata.uid: history_of(job) for job in cache.list(Job)},
        scene_of(dry),
        limits,
        spent_of(cache.get(ConfigMap, NAME, NAMESPACE)),
        dry.place,
        time.time(),
    )
    if output == "json":
        print_json(_plain(found))
        return
    if found.moves:
        headers = ("pod", "from", "to", "how", "GPU-seconds", "because")
        print_table(headers, [_row(found, at) for at in range(len(found.moves))])
    else:
        typer.echo(f"Nothing would move: {found.message}.")
    for name, why in found.kept:
        typer.echo(f"{name} stays: {why}.")
    if settings.defragment == "never":
        typer.echo("Nothing is moved without being asked for: set PENSTOCK_DEFRAGMENT.", err=True)


def _row(found: Defragmentation, at: int) -> tuple[object, ...]:
    move = found.moves[at]
    name = f"{move.pod.metadata.namespace}/{move.pod.metadata.name}"
    return name, move.pod.spec.node_name, move.to, move.way.lower(), f"{move.cost:.0f}", found.message


def _plain(found: Defragmentation) -> object:
    moves = [
        {
            "namespace": move.pod.metadata.namespace,
            "pod": move.pod.metadata.name,
            "from": move.pod.spec.node_name,
            "to": move.to,
            "how": move.way.lower(),
            "gpuSeconds": move.cost,
        }
        for move in found.moves
    ]
    return {
        "moves": moves,
        "message": found.message,
        "gpus": found.gpus,
        "madeFor": found.made_for,
        "kept": msgspec.to_builtins(found.kept),
    }
