"""Who of a component's revisions gets which share of the traffic?

KServe's rules for `canaryTrafficPercent` p in Knative mode: p percent to the latest ready revision, the rest to the one that was
rolled out last, tagged `prev`. Absent promotes, 0 pins, and a history of one lets a share that is set after everything was
rolled out take it back. In Standard mode the field has no say. Where a revision would be named twice, it is named once with all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from penstock.decide.revision import can_serve
from penstock.resources.annotations import STANDARD, mode_of
from penstock.resources.serving import Component, ComponentStatus, InferenceService, TrafficTarget
from penstock.resources.workload import Deployment

TAG_ROUTING = "serving.kserve.io/enable-tag-routing"
LATEST_TAG, PREVIOUS_TAG = "latest", "prev"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a component's revisions besides their Deployments; all are sets of, or keyed by, revisions' names.

    `initialized` were ready once, so that at zero pods they only sleep. `sized_elsewhere` have an autoscaler, which owns their
    size while they have traffic. `failed` get neither traffic nor pods. `enough` serve with whatever pods they have. `shares` is None without a rollout policy; with one, a new
    revision gets the percent that is given for it, and none while none is given. `initial_scale` is how many pods a new one starts with.
    """

    initialized: frozenset[str] = frozenset()
    sized_elsewhere: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    shares: Mapping[str, int] | None = None
    initial_scale: int = 1
    enough: frozenset[str] = frozenset()


NOTHING = Known(shares=None)


def share_traffic(
    service: InferenceService,
    component: Component,
    before: ComponentStatus,
    current: str,
    deployments: Iterable[Deployment],
    known: Known = NOTHING,
) -> ComponentStatus:
    """The component's status with its traffic; `current` is the revision of the present template, "" if there is none."""
    by_name = {deployment.metadata.name: deployment for deployment in deployments}
    settled = _settled(before, current, by_name, known)
    rolled, previous = settled.latest_rolledout_revision, settled.previous_rolledout_revision
    latest = settled.latest_ready_revision
    if takes_back(service, component, settled) and _serves(previous, by_name, known):
        rolled = previous
        if latest in known.failed:
            latest = rolled
    percent = _percent(service, component, latest, known)
    tagged = service.metadata.annotations.get(TAG_ROUTING) == "true"
    newest = TrafficTarget(
        revision_name=latest, percent=100, latest_revision=True, tag=LATEST_TAG if tagged else ""
    )
    targets: tuple[TrafficTarget, ...] = ()
    if percent < 100 and rolled and rolled != latest:
        targets = (
            msgspec.structs.replace(newest, percent=percent),
            TrafficTarget(
                revision_name=rolled, percent=100 - percent, latest_revision=False, tag=PREVIOUS_TAG
            ),
        )
    elif latest:
        targets = (newest,)
        if latest != rolled:
            previous, rolled = rolled or previous, latest
    return msgspec.structs.replace(
        settled,
        latest_ready_revision=latest,
        latest_rolledout_revision=rolled,
        previous_rolledout_revision=previous,
        traffic=targets,
    )


def _settled(
    before: ComponentStatus, current: str, by_name: Mapping[str, Deployment], known: Known
) -> ComponentStatus:
    """Without revisions that are gone or failed, and with the present one as the latest ready if it is."""
    rolled = before.latest_rolledout_revision if before.latest_rolledout_revision in by_name else ""
    kept = before.latest_ready_revision in by_name and before.latest_ready_revision not in known.failed
    latest = before.latest_ready_revision if kept else rolled
    if current not in known.failed and _serves(current, by_name, known):
        latest = current
    return msgspec.structs.replace(
        before,
        latest_created_revision=current,
        latest_ready_revision=latest,
        latest_rolledout_revision=rolled,
    )


def _serves(revision: str, by_name: Mapping[str, Deployment], known: Known) -> bool:
    deployment = by_name.get(revision)
    if deployment is None:
        return False
    some = revision in known.enough and deployment.status.available_replicas > 0
    return some or can_serve(deployment, known.initialized)


def _percent(service: InferenceService, component: Component, latest: str, known: Known) -> int:
    """What the latest ready revision gets: what the user says, else what the policy's rollout says, else all."""
    asked = asked_percent(service, component)
    if asked is not None:
        return asked
    return 100 if known.shares is None else known.shares.get(latest, 0)


def asked_percent(service: InferenceService, component: Component) -> int | None:
    """`canaryTrafficPercent` where it has a say."""
    return None if mode_of(service) == STANDARD else component.canary_traffic_percent


def takes_back(service: InferenceService, component: Component, status: ComponentStatus) -> bool:
    """Whether a share below 100 is asked of the newest revision after it had all: then the one before comes back.

    It gets its traffic when its pods are there. While a newer revision still starts, the share is meant for that one.
    """
    percent = asked_percent(service, component)
    rolled = status.latest_rolledout_revision
    newest = rolled == status.latest_ready_revision == status.latest_created_revision
    return percent is not None and percent < 100 and bool(rolled) and newest
