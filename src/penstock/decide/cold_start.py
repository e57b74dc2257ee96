"""How long does a start of this revision take, and in which phase is this pod?

A start has four phases, told apart by what every cluster writes into a pod's status: placing (until it has a node), downloading (until
its init containers are done), loading (until its startup probe passed), warming (until it is ready). Without a startup probe nobody
sees where loading ends, and all of it counts as loading.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Literal

from penstock.decide.replica_set import is_ended, ready_since
from penstock.resources.pod import Pod
from penstock.resources.pod_autoscaler import ColdStart

StartPhase = Literal["placing", "downloading", "loading", "warming"]
PHASES: tuple[StartPhase, ...] = ("placing", "downloading", "loading", "warming")
KEPT = 16
"""Starts that the expectation rests on."""
QUANTILE = 0.9
RESIDENT = "penstock.dev/weights-resident"
"""Annotation of a pod: the share of its weights' bytes that were in memory when its containers started, 0 to 1."""
MOSTLY = 0.9


def phase_of(pod: Pod) -> StartPhase | None:
    """Where the pod's start is; None for a pod that is ready, ended, or about to go."""
    if is_ended(pod) or pod.metadata.deletion_timestamp is not None or ready_since(pod) is not None:
        return None
    if not pod.spec.node_name:
        return "placing"
    if not any(c.type == "Initialized" and c.status == "True" for c in pod.status.conditions):
        return "downloading"
    probed = {container.name for container in pod.spec.containers if container.startup_probe is not None}
    started = {status.name for status in pod.status.container_statuses if status.started}
    return "warming" if probed and probed <= started else "loading"


def weights_were_cached(pod: Pod) -> bool:
    """Whether the machine says that the weights were in memory when the pod started; True where it says nothing."""
    said = pod.metadata.annotations.get(RESIDENT, "")
    try:
        return float(said) >= MOSTLY if said else True
    except ValueError:
        return True


def after_start(
    known: ColdStart | None, pod: str, took_s: Mapping[StartPhase, float], *, cached: bool = True
) -> ColdStart:
    """What is known once `pod` became ready; phases that nobody saw took no time. `cached`: its weights were in memory already.

    What is expected next is the last download, since the files are there now or are brought every time, and a high quantile of the rest.
    """
    before = known or ColdStart()
    total_s, download_s = sum(took_s.values()), took_s.get("downloading", 0.0)
    rest = (round(total_s - download_s, 3),)
    totals = (*before.totals_s, *(rest if cached else ()))[-KEPT:]
    uncached = (*before.uncached_totals_s, *(() if cached else rest))[-KEPT:]
    return ColdStart(
        placing_s=round(took_s.get("placing", 0.0), 3),
        downloading_s=round(download_s, 3),
        loading_s=round(took_s.get("loading", 0.0), 3),
        warming_s=round(took_s.get("warming", 0.0), 3),
        total_s=round(total_s, 3),
        expected_s=_expected(totals or uncached, download_s),
        totals_s=totals,
        uncached_expected_s=_expected(uncached, download_s),
        uncached_totals_s=uncached,
        last_pod=pod,
    )


def _expected(totals: tuple[float, ...], download_s: float) -> float:
    if not totals:
        return 0.0
    return round(sorted(totals)[ceil(QUANTILE * len(totals)) - 1] + download_s, 3)
