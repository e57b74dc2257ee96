"""KServe's rules of canaries, in its exact words."""

import pytest
from written_manifests import OWN, STANDARD, service

from penstock.kit.errors import Invalid
from penstock.resources.admission import admit

DENIED = {
    # rule 15
    "canary in Knative mode": (
        service(canary=[{"trafficPercent": 10, "predictor": {"name": "c"}}]),
        "spec.canary",
        "canary is only supported in Standard deployment mode",
    ),
    "canary of one's own containers": (
        service(
            {"model": None, "containers": OWN},
            STANDARD,
            canary=[{"trafficPercent": 10, "predictor": {"name": "c"}}],
        ),
        "spec.predictor.model",
        "canary requires a stable predictor with a model for the canary to override",
    ),
    **{
        f"canary {text}": (
            service(
                {"name": "stable", **stable},
                STANDARD,
                canary=[*before, {"trafficPercent": percent, "predictor": own}],
            ),
            field,
            text,
        )
        for stable, before, percent, own, field, text in (
            ({}, [], 1, {}, "spec.canary[0].predictor.name", "canary[0] predictor.name is required"),
            (
                {},
                [{"trafficPercent": 1, "predictor": {"name": "c"}}],
                1,
                {"name": "c"},
                "spec.canary[1].predictor.name",
                'canary[1] predictor.name "c" is a duplicate',
            ),
            (
                {},
                [],
                1,
                {"name": "stable"},
                "spec.canary[0].predictor.name",
                'canary[0] predictor.name "stable" conflicts with the stable predictor\'s name',
            ),
            (
                {},
                [],
                101,
                {"name": "c"},
                "spec.canary[0].trafficPercent",
                'canary "c" trafficPercent must be between 0 and 100, got 101',
            ),
            (
                {},
                [],
                1,
                {"name": "c", "maxReplicas": 3},
                "spec.canary[0].predictor.maxReplicas",
                'canary "c" must not set maxReplicas: canary uses fixed replicas',
            ),
            (
                {},
                [],
                1,
                {"name": "c", "workerSpec": {}},
                "spec.canary[0].predictor.workerSpec",
                'canary "c" must not set workerSpec: canary uses fixed replicas',
            ),
            (
                {},
                [],
                1,
                {"name": "c", "minReplicas": 2},
                "spec.canary[0].predictor.minReplicas",
                'canary "c" minReplicas (2) must be <= stable minReplicas (1)',
            ),
            (
                {"minReplicas": 4},
                [{"trafficPercent": 60, "predictor": {"name": "b", "minReplicas": 4}}],
                41,
                {"name": "c"},
                "spec.canary",
                "sum of canary trafficPercent values (101) must be <= 100",
            ),
        )
    },
}


@pytest.mark.parametrize(("document", "field", "text"), DENIED.values(), ids=DENIED)
def test_a_canary_that_kserve_refuses_is_refused_in_its_words(document, field, text):
    with pytest.raises(Invalid) as caught:
        admit(document)
    error = caught.value
    assert (error.message, [(cause.field, cause.message) for cause in error.causes]) == (
        text,
        [(field, text)],
    )
