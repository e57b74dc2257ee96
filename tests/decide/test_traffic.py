"""Shares by KServe's rules, by a rollout's word, and with revisions that sleep or failed."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from worlds import NOW, offers, runtime, service, stored

from penstock.decide.plan import Surroundings, plan_service
from penstock.decide.revision import COMPONENT_SPEC, IDLE_SINCE, can_serve
from penstock.decide.rollout import plan_rollout
from penstock.decide.traffic import Known, share_traffic
from penstock.resources.meta import ObjectMeta
from penstock.resources.serving import ComponentStatus, TrafficTarget
from penstock.resources.workload import Deployment, DeploymentSpec

OLD, NEW = "iris-predictor-00001", "iris-predictor-00002"


def revision(name: str, size: int = 1, *, ready: bool = True, idle: bool = False) -> Deployment:
    annotations = {IDLE_SINCE: "2025-06-15T00:00:00Z"} if idle else {}
    meta = ObjectMeta(name=name, annotations=annotations)
    return stored(Deployment(metadata=meta, spec=DeploymentSpec(replicas=size)), ready=ready)


def shared(
    *deployments: Deployment,
    current: str = NEW,
    known: Known | None = None,
    before: ComponentStatus | None = None,
    annotations: dict[str, str] | None = None,
    **predictor: Any,
) -> ComponentStatus:
    wished = service(annotations=annotations, **predictor)
    old = ComponentStatus(
        latest_created_revision=OLD, latest_ready_revision=OLD, latest_rolledout_revision=OLD
    )
    return share_traffic(
        wished,
        wished.spec.predictor,
        old if before is None else before,
        current,
        deployments,
        known or Known(),
    )


def percents(status: ComponentStatus) -> dict[str, int]:
    return {target.revision_name: target.percent or 0 for target in status.traffic}


def test_both_parts_of_a_split_have_tags_where_tag_routing_is_on() -> None:
    both = (revision(OLD), revision(NEW))
    plain = shared(*both, canaryTrafficPercent=10)
    assert [(t.percent, t.tag) for t in plain.traffic] == [(10, ""), (90, "prev")]
    on = {"serving.kserve.io/enable-tag-routing": "true"}
    assert [t.tag for t in shared(*both, annotations=on, canaryTrafficPercent=10).traffic] == [
        "latest",
        "prev",
    ]
    assert shared(*both, annotations=on).traffic == (
        TrafficTarget(revision_name=NEW, percent=100, latest_revision=True, tag="latest"),
    )


def test_a_share_of_a_hundred_leaves_the_second_out_and_rolls_out() -> None:
    status = shared(revision(OLD), revision(NEW), canaryTrafficPercent=100)
    assert percents(status) == {NEW: 100}
    assert (status.latest_rolledout_revision, status.previous_rolledout_revision) == (NEW, OLD)


def test_setting_the_share_again_toggles_between_the_last_two() -> None:
    both = (revision(OLD), revision(NEW))
    status = shared(*both)
    for _ in range(3):
        status = shared(*both, before=status, canaryTrafficPercent=0)
        assert percents(status) == {NEW: 0, OLD: 100}
        status = shared(*both, before=status)
        assert percents(status) == {NEW: 100}


def test_a_revision_that_its_autoscaler_let_sleep_counts_as_ready_and_one_at_rest_does_not() -> None:
    known = frozenset({NEW})
    assert can_serve(revision(NEW, 0, ready=False), known)
    assert not can_serve(revision(NEW, 0, ready=False), frozenset())
    assert not can_serve(revision(NEW, 0, ready=False, idle=True), known), "the rollout put it to rest"
    assert not can_serve(revision(NEW, 1, ready=False), known), "it is waking; what serves goes on"
    status = shared(revision(OLD), revision(NEW, 0, ready=False), known=Known(initialized=known))
    assert percents(status) == {NEW: 100}


def test_sleeping_takes_no_share_away() -> None:
    before = shared(revision(OLD), revision(NEW), canaryTrafficPercent=30)
    asleep = (revision(OLD, 0, ready=False), revision(NEW, 0, ready=False))
    assert percents(shared(*asleep, before=before, canaryTrafficPercent=30)) == {NEW: 30, OLD: 70}


@given(st.integers(0, 100), st.sampled_from([None, 0, 35, 100]))
def test_with_a_policy_a_new_revision_gets_what_its_rollout_says_unless_the_user_says_otherwise(
    share: int, asked: int | None
) -> None:
    said: dict[str, Any] = {} if asked is None else {"canaryTrafficPercent": asked}
    both = (revision(OLD), revision(NEW))
    new = share if asked is None else asked
    assert percents(shared(*both, known=Known(shares={NEW: share}), **said)).get(NEW, 0) == new
    unsaid = 0 if asked is None else asked
    assert percents(shared(*both, known=Known(shares={}), **said)).get(NEW, 0) == unsaid


def test_with_a_policy_the_first_revision_gets_all_as_there_is_nothing_to_compare_with() -> None:
    status = shared(revision(OLD), current=OLD, before=ComponentStatus(), known=Known(shares={}))
    assert percents(status) == {OLD: 100}


def test_a_failed_revision_loses_its_share_to_what_was_rolled_out_before() -> None:
    both = (revision(OLD), revision(NEW))
    before = shared(*both, known=Known(shares={NEW: 30}))
    status = shared(*both, before=before, known=Known(shares={NEW: 30}, failed=frozenset({NEW})))
    assert percents(status) == {OLD: 100}
    assert (status.latest_created_revision, status.latest_ready_revision) == (NEW, OLD)


def test_in_standard_mode_only_the_rollout_splits() -> None:
    standard = {"serving.kserve.io/deploymentMode": "Standard"}
    both = (revision(OLD), revision(NEW))
    assert percents(shared(*both, annotations=standard, canaryTrafficPercent=10)) == {NEW: 100}
    split = shared(*both, annotations=standard, known=Known(shares={NEW: 10}))
    assert percents(split) == {NEW: 10, OLD: 90}


def planned(known: Known, *deployments: Deployment, before: ComponentStatus) -> Any:
    wished = service()
    status = msgspec.structs.replace(wished.status, components={"predictor": before})
    wished = msgspec.structs.replace(wished, status=status)
    return plan_rollout(wished, "predictor", wished.spec.predictor, None, deployments, NOW, known)


def test_the_size_of_what_has_an_autoscaler_is_left_alone_until_it_loses_its_traffic() -> None:
    before = ComponentStatus(
        latest_created_revision=NEW, latest_ready_revision=NEW, latest_rolledout_revision=NEW
    )
    known = Known(initialized=frozenset({OLD, NEW}), sized_elsewhere=frozenset({OLD, NEW}))
    assert planned(known, revision(NEW, 0, ready=False), before=before).scale == ()
    assert planned(known, revision(NEW, 9), before=before).scale == ()
    assert planned(Known(), revision(NEW, 0), before=before).scale == ((NEW, 1),)
    retired = planned(known, revision(OLD, 3, idle=True), revision(NEW), before=before)
    assert retired.scale == ((OLD, 0),)


def test_what_comes_back_from_its_rest_gets_pods_from_the_rollout_and_then_its_autoscaler() -> None:
    before = ComponentStatus(latest_created_revision=OLD, latest_ready_revision=NEW)
    known = Known(initialized=frozenset({OLD, NEW}), sized_elsewhere=frozenset({OLD, NEW}))
    plan = planned(known, revision(OLD, 0, ready=False, idle=True), revision(NEW), before=before)
    assert plan.scale == ((OLD, 1),)
    assert (OLD, None) in plan.mark_idle
    assert percents(plan.status) == {NEW: 100}, "until it answers"


def test_a_failed_revision_gets_no_pods() -> None:
    before = ComponentStatus(
        latest_created_revision=NEW, latest_ready_revision=OLD, latest_rolledout_revision=OLD
    )
    failed = Known(failed=frozenset({NEW}))
    plan = planned(failed, revision(OLD), revision(NEW, idle=True), before=before)
    assert plan.scale == ((NEW, 0),)
    assert plan.delete == ()


def test_each_revision_keeps_what_the_user_wrote_without_what_belongs_to_the_service() -> None:
    wished = service(minReplicas=2, canaryTrafficPercent=10, timeout=7)
    known = Surroundings("127.0.0.1:1", cluster_runtimes=(runtime("r", offers("huggingface")),))
    [part] = plan_service(wished, known, NOW).components
    assert part.rollout.create is not None
    kept = msgspec.json.decode(part.rollout.create.metadata.annotations[COMPONENT_SPEC])
    assert kept == {
        "model": {"modelFormat": {"name": "huggingface"}, "storageUri": "hf://a/b"},
        "timeout": 7,
    }


def test_the_progress_deadline_is_what_the_annotation_says_else_ten_minutes() -> None:
    known = Surroundings("127.0.0.1:1", cluster_runtimes=(runtime("r", offers("huggingface")),))
    for given_annotations, expected in (({}, 600), ({"serving.knative.dev/progress-deadline": "20m"}, 1200)):
        [part] = plan_service(service(annotations=given_annotations), known, NOW).components
        assert part.rollout.create is not None
        assert part.rollout.create.spec.progress_deadline_seconds == expected


def test_a_failed_revision_that_is_taken_back_is_named_no_more() -> None:
    before = ComponentStatus(
        latest_created_revision=NEW, latest_rolledout_revision=NEW, previous_rolledout_revision=OLD
    )
    known = Known(failed=frozenset({NEW}))
    status = shared(revision(OLD), revision(NEW, 0), known=known, before=before, canaryTrafficPercent=0)
    assert percents(status) == {OLD: 100}
    assert status.latest_ready_revision == OLD
    again = shared(revision(OLD), revision(NEW, 0), known=known, before=status, canaryTrafficPercent=0)
    assert again.traffic == status.traffic


NAMES = tuple(f"iris-predictor-0000{n}" for n in range(1, 5))
names = st.sampled_from(("", *NAMES))
some = st.frozensets(st.sampled_from(NAMES))


@given(
    deployments=st.lists(
        st.tuples(st.sampled_from(NAMES), st.integers(0, 2), st.booleans(), st.booleans()),
        unique_by=lambda made: made[0],
    ),
    before=st.tuples(names, names, names, names),
    current=names,
    known=st.builds(
        Known,
        initialized=some,
        failed=some,
        enough=some,
        shares=st.none() | st.dictionaries(st.sampled_from(NAMES), st.integers(0, 100)),
    ),
    asked=st.sampled_from([None, 0, 35, 100]),
)
def test_whatever_is_known_shares_sum_to_all_and_go_only_to_what_there_is(
    deployments: list[tuple[str, int, bool, bool]],
    before: tuple[str, str, str, str],
    current: str,
    known: Known,
    asked: int | None,
) -> None:
    made = [revision(name, size, ready=ready, idle=idle) for name, size, ready, idle in deployments]
    created, ready, rolled, previous = before
    old = ComponentStatus(
        latest_created_revision=created,
        latest_ready_revision=ready,
        latest_rolledout_revision=rolled,
        previous_rolledout_revision=previous,
    )
    said: dict[str, Any] = {} if asked is None else {"canaryTrafficPercent": asked}
    status = shared(*made, current=current, known=known, before=old, **said)
    assert sum(percents(status).values()) == (100 if status.traffic else 0)
    assert len(percents(status)) == len(status.traffic), "nobody is named twice"
    assert set(percents(status)) <= {one.metadata.name for one in made}
    newly = {name for name, percent in percents(status).items() if percent} - {ready, rolled}
    assert all(
        can_serve(one, known.initialized) or one.metadata.name in known.enough
        for one in made
        if one.metadata.name in newly
    )
    assert not newly & known.failed or newly <= {previous}
    again = shared(*made, current=current, known=known, before=status, **said)
    settled = status.latest_rolledout_revision == again.latest_rolledout_revision
    assert not settled or again.traffic == status.traffic, "to look again changes nothing"
