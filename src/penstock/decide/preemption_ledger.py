"""What did this preemption destroy, and who answers for it?

One entry for each pod that gave way, written when its processes are gone: the GPU-seconds of work since its last verified checkpoint, or since its
start. Totals never shrink; entries are the newest `MAX_ENTRIES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from penstock.decide.checkpoint import Checkpoint
from penstock.decide.lost_work import Faith, History, gpus_of, job_of
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.checkpoint import Notice, contract_of
from penstock.resources.pod import Pod

MAX_ENTRIES = 200
HOUR_S = 3600.0
N = TypeVar("N", int, float)
Outcome = Literal["Saved", "LastCheckpoint", "Ignored", "NothingSaved", "Stateless"]
"""Saved: after its notice. LastCheckpoint: only before it. Ignored: it promised to save when told, and did not. NothingSaved: it has no whole
checkpoint. Stateless: it had nothing to lose."""


class Entry(Struct, frozen=True, kw_only=True, rename="camel"):
    """One pod that gave way. Times in Unix seconds; `victim` and `by` are NAMESPACE/NAME.

    `lost_usd_micros` is what the lost work cost, None where the node has no price; `broken` says why a newer checkpoint does not count.
    """

    at: float
    ended_at: float
    victim: str
    by: str
    node: str
    gpus: float
    outcome: Outcome
    lost_gpu_seconds: float
    step: int = -1
    lost_usd_micros: int | None = None
    broken: str = ""


class Totals(Struct, frozen=True, kw_only=True, rename="camel"):
    """Since the data folder was made. `lost_gpu_seconds` and `preempted_pods` by outcome; `by` names what was lost for whom, by namespace,
    `of` who lost it, and the others the same in millionths of a US dollar, where prices are known."""

    preempted_pods: dict[str, int] = {}
    lost_gpu_seconds: dict[str, float] = {}
    by: dict[str, float] = {}
    of: dict[str, float] = {}
    by_usd_micros: dict[str, int] = {}
    of_usd_micros: dict[str, int] = {}


class Ledger(Struct, frozen=True, kw_only=True, rename="camel"):
    """The record of all preemptions, newest last."""

    totals: Totals = Totals()
    entries: tuple[Entry, ...] = ()

    def with_(self, entry: Entry) -> Ledger:
        """With one more; an entry that is already there, by its victim and time, changes nothing."""
        if any((known.victim, known.at) == (entry.victim, entry.at) for known in self.entries):
            return self
        totals, usd = self.totals, entry.lost_usd_micros
        by, of = entry.by.split("/")[0], entry.victim.split("/")[0]
        after = Totals(
            preempted_pods=_more(totals.preempted_pods, entry.outcome, 1),
            lost_gpu_seconds=_more(totals.lost_gpu_seconds, entry.outcome, entry.lost_gpu_seconds),
            by=_more(totals.by, by, entry.lost_gpu_seconds),
            of=_more(totals.of, of, entry.lost_gpu_seconds),
            by_usd_micros=_more(totals.by_usd_micros, by, usd),
            of_usd_micros=_more(totals.of_usd_micros, of, usd),
        )
        return Ledger(totals=after, entries=(*self.entries, entry)[-MAX_ENTRIES:])


def _more(known: Mapping[str, N], key: str, amount: N | None) -> dict[str, N]:
    """What is not known adds nothing, and is no zero either."""
    if amount is None:
        return dict(known)
    return {**known, key: known.get(key, amount - amount) + amount}


def entry_of(
    pod: Pod, notice: Notice, checkpoint: Checkpoint | None, ended_at: float, usd_micros: int | None = None
) -> Entry:
    """`checkpoint` is the newest whole one, read after the pod's processes were gone; `usd_micros` what the pod cost per hour."""
    started = parse_rfc3339(pod.status.start_time) if pod.status.start_time else ended_at
    promise = contract_of(pod.metadata)
    outcome: Outcome = "NothingSaved"
    since = started
    if promise is None and not job_of(pod):
        outcome, since = "Stateless", ended_at
    elif checkpoint is not None:
        since = max(started, checkpoint.saved_at)
        outcome = "Saved" if checkpoint.saved_at >= notice.at else "LastCheckpoint"
    if promise is not None and promise.on_demand and outcome in ("LastCheckpoint", "NothingSaved"):
        outcome = "Ignored"
    lost_s = max(0.0, ended_at - since)
    return Entry(
        at=notice.at,
        ended_at=ended_at,
        victim=f"{pod.metadata.namespace}/{pod.metadata.name}",
        by=notice.by,
        node=pod.spec.node_name,
        gpus=round(gpus_of(pod), 4),
        outcome=outcome,
        lost_gpu_seconds=round(gpus_of(pod) * lost_s, 3),
        step=checkpoint.step if checkpoint else -1,
        lost_usd_micros=None if usd_micros is None else round(usd_micros * lost_s / HOUR_S),
        broken=checkpoint.instead_of if checkpoint else "",
    )


def faith_in(totals: Totals) -> Faith:
    """What promises to save when told were worth so far, counted by pods."""
    pods = totals.preempted_pods
    return Faith(kept=pods.get("Saved", 0), broken=pods.get("Ignored", 0))


def gone_through(history: History, entry: Entry) -> History:
    """A Job's history with this entry: pods of one gang that gave way together count once."""
    again = entry.at > history.last_at
    return replace(
        history,
        count=history.count + again,
        ignored=history.ignored + (again and entry.outcome == "Ignored"),
        saved=history.saved + (again and entry.outcome == "Saved"),
        lost_gpu_seconds=round(history.lost_gpu_seconds + entry.lost_gpu_seconds, 3),
        last_at=max(history.last_at, entry.at),
    )
