"""A service has the profile that it names, else its namespace's, else everybody's, else the built-in one."""

from __future__ import annotations

from typing import Any

import pytest
from routed_services import FIRST, iris, pod, with_meta

from penstock.contracts.exchange import (
    CONTEXT_LENGTH_LABELS,
    PluginRoute,
    PromptClassRoute,
    RoutingRoute,
)
from penstock.decide.route_table import service_routes
from penstock.decide.routing_profile import (
    SYSTEM_NAMESPACE,
    Platform,
    needed_labels,
    profiles_of,
    routing_route,
)
from penstock.kit.errors import Invalid
from penstock.resources.admission import admit
from penstock.resources.routing import PROFILE, PROFILE_CANARY, RoutingProfile, profile_canary

PLAIN = iris()
NAMING = with_meta(PLAIN, annotations={PROFILE: "mine"})


def profile(name: str, namespace: str = "default", **spec: Any) -> RoutingProfile:
    document = {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "RoutingProfile",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    made = admit(document).object
    assert isinstance(made, RoutingProfile)
    return made


MINE = profile("mine")
OURS, ZZZ = profile("ours", default=True), profile("zzz", default=True)
EVERYBODYS = profile("everybodys", SYSTEM_NAMESPACE, default=True)
OTHERS = profile("others", "other", default=True)


@pytest.mark.parametrize(
    ("profiles", "named", "plain"),
    [
        ([], "", ""),
        ([MINE], "mine", ""),
        ([MINE, ZZZ, OURS, EVERYBODYS], "mine", "ours"),
        ([EVERYBODYS, OTHERS], "everybodys", "everybodys"),
        ([OTHERS], "", ""),
    ],
)
def test_the_nearest_profile_holds(profiles: list[RoutingProfile], named: str, plain: str) -> None:
    known = profiles_of(profiles)
    assert routing_route(PLAIN, known).profile == plain
    assert routing_route(NAMING, known).profile == named


def test_a_profile_that_is_not_there_is_named_and_the_built_in_one_holds() -> None:
    said = routing_route(NAMING, profiles_of([profile("mine", "other")]))
    assert said.message == f"annotation {PROFILE}: there is no RoutingProfile 'mine' in this namespace"
    assert said.scorers == RoutingRoute().scorers


def test_without_kv_awareness_only_a_service_that_is_given_a_profile_has_one() -> None:
    off = Platform(kv_aware=False)
    assert routing_route(PLAIN, profiles_of([], off)) is None
    assert routing_route(NAMING, profiles_of([MINE], off)).profile == "mine"
    assert routing_route(PLAIN, profiles_of([OURS], off)).profile == "ours"


def test_the_platforms_threshold_holds_where_a_profile_says_none() -> None:
    known = profiles_of(
        [MINE, profile("ours", default=True, promptClasses={"thresholdTokens": 9})], Platform(True, 4096)
    )
    assert routing_route(NAMING, known).prompt_token_threshold == 4096
    assert routing_route(PLAIN, known).prompt_token_threshold == 9


def test_all_that_a_profile_says_reaches_the_gateway() -> None:
    said = profile(
        "mine",
        filters=[{"name": "saturation", "parameters": {"maxWaiting": 5}}],
        scorers=[{"name": "prefix", "weight": 3}, {"name": "queue"}],
        picker={"name": "power-of-two"},
        promptClasses={"long": {"pool": {"tier": "long"}, "maxTokens": 100}, "batch": {"maxRequests": 2}},
        kvIndex={"blockTokens": 16, "events": False},
    )
    assert routing_route(NAMING, profiles_of([said])) == RoutingRoute(
        profile="mine",
        filters=(PluginRoute(name="saturation", parameters=(("maxWaiting", 5.0),)),),
        scorers=(PluginRoute(name="prefix", weight=3.0), PluginRoute(name="queue")),
        picker=PluginRoute(name="power-of-two"),
        long=PromptClassRoute(pool=(("tier", "long"),), max_tokens=100),
        batch=PromptClassRoute(max_requests=2),
        block_tokens=16,
        kv_events=False,
    )
    assert routing_route(NAMING, profiles_of([profile("mine", filters=[])])).filters == ()


def test_endpoints_are_told_with_the_labels_that_routing_asks_for_and_no_others() -> None:
    said = profile(
        "mine", filters=[{"name": "context-length"}], promptClasses={"long": {"pool": {"tier": "long"}}}
    )
    known = profiles_of([said])
    assert needed_labels(routing_route(NAMING, known)) == {"tier", *CONTEXT_LENGTH_LABELS}
    assert needed_labels(RoutingRoute()) == needed_labels(None) == set()
    labelled = pod("p1")
    labels = {**labelled.metadata.labels, "tier": "long", CONTEXT_LENGTH_LABELS[0]: "0-9"}
    [route] = service_routes([NAMING], [with_meta(labelled, labels=labels)], (), known)
    [endpoint] = route.revisions[0].endpoints
    assert route.revisions[0].name == FIRST
    assert endpoint.labels == ((CONTEXT_LENGTH_LABELS[0], "0-9"), ("tier", "long"))
    [bare] = service_routes([PLAIN], [with_meta(labelled, labels=labels)])
    assert bare.revisions[0].endpoints[0].labels == ()


def test_a_profile_is_tried_beside_the_one_that_holds_and_its_labels_are_asked_for() -> None:
    labelled = profile("new", scorers=[{"name": "context-length"}])
    trying = with_meta(PLAIN, annotations={PROFILE: "mine", PROFILE_CANARY: "new=10"})
    said = routing_route(trying, profiles_of([MINE, labelled]))
    assert (said.profile, said.candidate.profile, said.candidate_percent) == ("mine", "new", 10)
    assert needed_labels(said) >= set(CONTEXT_LENGTH_LABELS)


def test_a_profile_to_be_tried_that_is_not_there_is_named_and_all_stays_as_it_is() -> None:
    trying = with_meta(PLAIN, annotations={PROFILE_CANARY: "new=10"})
    said = routing_route(trying, profiles_of([profile("new", "other")]))
    assert said.candidate is None
    assert said.message == f"annotation {PROFILE_CANARY}: there is no RoutingProfile 'new' in this namespace"


@pytest.mark.parametrize(
    "text", ["", "new", "new=", "=10", "new=0", "new=100", "new=-1", "new=1.5", "new=x", "new=²"]
)
def test_what_is_no_name_with_a_share_tries_nothing_and_is_refused(text: str) -> None:
    assert profile_canary({PROFILE_CANARY: text}) is None
    with pytest.raises(Invalid, match="1 to 99 percent"):
        admit(
            {
                "apiVersion": "serving.kserve.io/v1beta1",
                "kind": "InferenceService",
                "metadata": {"name": "m", "namespace": "default", "annotations": {PROFILE_CANARY: text}},
                "spec": {
                    "predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "hf://a/b"}}
                },
            }
        )
