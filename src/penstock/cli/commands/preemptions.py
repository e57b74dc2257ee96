"""Show what preemptions cost: work lost in GPU-seconds and money, by namespace, and who gave way to whom.

Money is by the list prices of the nodes (penstock node-pools tells where they come from); what has no price is left out.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from penstock.cli.api import connect
from penstock.cli.console import check_output, print_json, print_table
from penstock.cli.options import Context, Kubeconfig
from penstock.decide.preemption_ledger import Entry, Ledger, Totals
from penstock.decide.prices import MICROS
from penstock.host.preemption_ledger import NAME, NAMESPACE, read_ledger
from penstock.kit.errors import NotFound
from penstock.kit.timestamps import rfc3339
from penstock.resources.core import ConfigMap


def run(
    last: Annotated[
        int, typer.Option("--last", help="How many preemptions to show, newest first.", min=0)
    ] = 20,
    output: Annotated[
        str, typer.Option("--output", "-o", help="json; without, tables", show_default=False)
    ] = "",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Totals are since the data folder was made; the last 200 preemptions are kept one by one."""
    check_output(output, ("json",))
    ledger = _ledger(kubeconfig, context)
    if output == "json":
        print_json(msgspec.to_builtins(ledger))
    elif not ledger.entries:
        print("Nobody gave way yet.")
    else:
        headers = ("namespace", "lost", "cost", "lost for it", "cost of that")
        print_table(headers, _by_namespace(ledger.totals))
        if last:
            print()
            newest = tuple(reversed(ledger.entries))[:last]
            one_by_one = (
                "ended",
                "gave way",
                "to",
                "on",
                "GPUs",
                "what became of it",
                "step",
                "lost",
                "cost",
            )
            print_table(one_by_one, [_row(entry) for entry in newest])


def _ledger(kubeconfig: Kubeconfig, context: Context) -> Ledger:
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{NAME}"
    try:
        return read_ledger(msgspec.convert(connect(kubeconfig, context).get(path), ConfigMap))
    except NotFound:
        return Ledger()


def _by_namespace(totals: Totals) -> list[tuple[object, ...]]:
    return [
        (
            name,
            _gpu_time(totals.of.get(name, 0.0)),
            _usd(totals.of_usd_micros.get(name)),
            _gpu_time(totals.by.get(name, 0.0)),
            _usd(totals.by_usd_micros.get(name)),
        )
        for name in sorted({*totals.of, *totals.by})
    ]


def _row(entry: Entry) -> tuple[object, ...]:
    became = f"{entry.outcome}: {entry.broken}" if entry.broken else entry.outcome
    return (
        rfc3339(entry.ended_at),
        entry.victim,
        entry.by,
        entry.node,
        f"{entry.gpus:g}",
        became,
        entry.step if entry.step >= 0 else "-",
        _gpu_time(entry.lost_gpu_seconds),
        _usd(entry.lost_usd_micros),
    )


def _gpu_time(seconds: float) -> str:
    return f"{seconds:.0f} GPU-s"


def _usd(micros: int | None) -> str:
    return "unknown" if micros is None else f"{micros / MICROS:.4f} USD"
