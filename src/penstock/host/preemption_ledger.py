"""The ledger of preemptions: a ConfigMap that outlives restarts, the history on each Job, and counters for `/metrics`."""

from __future__ import annotations

import msgspec
from prometheus_client import Counter

from penstock.contracts.cluster import Cluster
from penstock.decide.lost_work import Faith, History
from penstock.decide.preemption_ledger import Entry, Ledger, Totals, faith_in, gone_through
from penstock.decide.prices import MICROS
from penstock.kit.errors import AlreadyExists, NotFound
from penstock.resources.core import ConfigMap
from penstock.resources.meta import ObjectMeta
from penstock.resources.workload import Job

NAMESPACE, NAME = "penstock-system", "preemptions"
HISTORY = "penstock.dev/preemptions"
"""On a Job: its `History` as JSON."""
PODS = Counter(
    "penstock_preempted_pods", "Pods that gave way to others, by what became of their work.", ("outcome",)
)
LOST = Counter(
    "penstock_preemption_lost_gpu_seconds",
    "GPU-seconds of work that pods lost when they gave way, by what became of it.",
    ("outcome",),
)

OF_NAMESPACE = Counter(
    "penstock_preemption_namespace_gpu_seconds",
    "GPU-seconds of work that pods of a namespace lost when they gave way (role lost), or that were lost for its pods (role caused).",
    ("namespace", "role"),
)
USD = Counter(
    "penstock_preemption_namespace_usd",
    "The same in US dollars, by the list prices of the nodes; what has no price is left out.",
    ("namespace", "role"),
)


def history_of(job: Job) -> History:
    """What the Job went through so far."""
    text = job.metadata.annotations.get(HISTORY)
    if not text:
        return History()
    try:
        return msgspec.json.decode(text, type=History)
    except msgspec.DecodeError:
        return History()


def read_ledger(found: ConfigMap) -> Ledger:
    """What the ConfigMap holds. What cannot be read is begun anew."""
    try:
        return Ledger(
            totals=msgspec.json.decode(found.data.get("totals", "{}"), type=Totals),
            entries=msgspec.json.decode(found.data.get("entries", "[]"), type=tuple[Entry, ...]),
        )
    except msgspec.DecodeError:
        return Ledger()


class PreemptionLedger:
    """Writes entries, each once. Counters begin with what the ledger holds, so that a restart does not set them back."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._is_counted = False
        self.faith = Faith()
        """How often those who promised to save when told did, as of the last reading or entry."""

    async def enter(self, entry: Entry, job: str) -> None:
        """Add an entry; `job` is the name of the victim's Job, "" for none. Raises Conflict where another wrote at the same time."""
        found = await self._find()
        ledger = read_ledger(found) if found else Ledger()
        self._count_old(ledger)
        after = ledger.with_(entry)
        if after is ledger:
            return None
        data = {
            "totals": msgspec.json.encode(after.totals).decode(),
            "entries": msgspec.json.encode(after.entries).decode(),
        }
        if found is None:
            try:
                await self._cluster.create(
                    ConfigMap(metadata=ObjectMeta(name=NAME, namespace=NAMESPACE), data=data)
                )
            except AlreadyExists:
                return await self.enter(entry, job)
        else:
            await self._cluster.replace(msgspec.structs.replace(found, data=data))
        self.faith = faith_in(after.totals)
        PODS.labels(entry.outcome).inc()
        LOST.labels(entry.outcome).inc(entry.lost_gpu_seconds)
        for name, role in ((entry.victim, "lost"), (entry.by, "caused")):
            namespace = name.split("/")[0]
            OF_NAMESPACE.labels(namespace, role).inc(entry.lost_gpu_seconds)
            USD.labels(namespace, role).inc((entry.lost_usd_micros or 0) / MICROS)
        if job:
            await self._note(entry, job)
        return None

    async def begin(self) -> None:
        """Let the counters begin with what is kept; once, before they are read."""
        if not self._is_counted:
            self._count_old(await self.read())

    async def read(self) -> Ledger:
        """All that is kept."""
        found = await self._find()
        return read_ledger(found) if found else Ledger()

    async def _find(self) -> ConfigMap | None:
        try:
            return await self._cluster.get(ConfigMap, NAME, NAMESPACE)
        except NotFound:
            return None

    async def _note(self, entry: Entry, name: str) -> None:
        namespace = entry.victim.split("/")[0]
        try:
            job = await self._cluster.get(Job, name, namespace)
            history = gone_through(history_of(job), entry)
            patch = {"metadata": {"annotations": {HISTORY: msgspec.json.encode(history).decode()}}}
            await self._cluster.patch(Job, name, namespace, patch)
        except NotFound:
            return

    def _count_old(self, ledger: Ledger) -> None:
        if self._is_counted:
            return
        self._is_counted = True
        self.faith = faith_in(ledger.totals)
        for outcome, count in ledger.totals.preempted_pods.items():
            PODS.labels(outcome).inc(count)
        for outcome, lost in ledger.totals.lost_gpu_seconds.items():
            LOST.labels(outcome).inc(lost)
        totals = ledger.totals
        for role, seconds, micros in (
            ("lost", totals.of, totals.of_usd_micros),
            ("caused", totals.by, totals.by_usd_micros),
        ):
            for namespace, amount in seconds.items():
                OF_NAMESPACE.labels(namespace, role).inc(amount)
            for namespace, usd in micros.items():
                USD.labels(namespace, role).inc(usd / MICROS)
