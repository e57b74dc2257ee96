"""Annotations out of range are refused with Knative's messages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.kit.durations import go_duration, parse_go_duration_s
from penstock.kit.errors import Forbidden, Invalid, InvalidInput, PlatformError
from penstock.resources.admission import admit
from penstock.resources.autoscaler_config import DEFAULTS
from penstock.resources.autoscaler_settings import DOMAIN
from penstock.resources.validate_autoscaling import scaling_problems

LIMITED = replace(DEFAULTS, max_scale_limit=10)


def problems(config: object = DEFAULTS, **annotations: str) -> str:
    given = {DOMAIN + key.replace("_", "-"): value for key, value in annotations.items()}
    return "\n".join(scaling_problems(given, config)).replace(DOMAIN, "")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({"min_scale": "-1"}, "expected 0 <= -1 <= 2147483647: min-scale"),
        ({"max_scale": "2147483648"}, "expected 0 <= 2147483648 <= 2147483647: max-scale"),
        ({"min_scale": "four"}, "invalid value: four: min-scale"),
        ({"min_scale": "5", "max_scale": "2"}, "max-scale=2 is less than min-scale=5: max-scale, min-scale"),
        ({"minScale": "-1"}, "expected 0 <= -1 <= 2147483647: minScale"),
        ({"initial_scale": "0"}, "invalid value: 0: initial-scale=0 not allowed by cluster"),
        ({"initial_scale": "-1"}, "invalid value: -1: initial-scale must be greater than 0"),
        ({"minScale": "5", "maxScale": "2"}, "max-scale=2 is less than min-scale=5: max-scale, min-scale"),
        ({"min_scale": "1_0"}, "invalid value: 1_0: min-scale"),
        ({"min_scale": "-1", "max_scale": "no"}, "expected 0 <= -1 <= 2147483647: min-scale\ninvalid value: no: max-scale"),
        ({"activation_scale": "1"}, "activation-scale=1 must be greater than 1: activation-scale"),
        ({"activation_scale": "three"}, "invalid value: three: activation-scale"),
        ({"activation_scale": "3", "min_scale": "5"}, "min-scale=5 is greater than activation-scale=3: activation-scale"),
        ({"activation_scale": "3", "max_scale": "2"}, "max-scale=2 is less than activation-scale=3: activation-scale"),
        ({"metric": "cpu"}, "invalid value: cpu: metric"),
        ({"class": "hpa.autoscaling.knative.dev", "metric": ""}, "invalid value: : metric"),
        ({"class": "hpa.autoscaling.knative.dev", "window": "5s"}, "expected 6s <= 5s <= 1h0m0s: window"),
        ({"window": "1", "target": "10", "target_burst_capacity": "10a"}, "invalid value: 1: window\ninvalid value: 10a: target-burst-capacity"),
        ({"window": "10", "target_burst_capacity": "1x", "initial_scale": "1"}, "invalid value: 10: window\ninvalid value: 1x: target-burst-capacity"),
        ({"scale_down_delay": "-1s"}, "expected 0s <= -1s <= 1h0m0s: scale-down-delay"),
        ({"scale_down_delay": "2h"}, "expected 0s <= 2h <= 1h0m0s: scale-down-delay"),
        ({"scale_down_delay": "1500ms"}, "must be specified with at most second precision: scale-down-delay"),
        ({"scale_to_zero_pod_retention_period": "twenty"}, "invalid value: twenty: scale-to-zero-pod-retention-period"),
        ({"metric": "unicorns"}, "invalid value: unicorns: metric"),
        ({"target": "0"}, "target 0 should be at least 0.01: target"),
        ({"target": "nan"}, "invalid value: nan: target"),
        ({"target_utilization_percentage": "0"}, "expected 1 <= 0 <= 100: target-utilization-percentage"),
        ({"target_burst_capacity": "-2"}, "invalid value: -2: target-burst-capacity"),
        ({"panic_window_percentage": "0.5"}, "expected 1 <= 0.5 <= 100: panic-window-percentage"),
        ({"panic_threshold_percentage": "109"}, "expected 110 <= 109 <= 1000: panic-threshold-percentage"),
        ({"window": "5s"}, "expected 6s <= 5s <= 1h0m0s: window"),
        ({"window": "6s500ms"}, "must be specified with at most second precision: window"),
        ({"class": "mpa.knative.dev"}, "invalid value: mpa.knative.dev: class"),
        ({"class": "mpa.autoscaling.knative.dev"}, "invalid value: mpa.autoscaling.knative.dev: class"),
        (
            {"class": "kpa.autoscaling.knative.dev", "metric_aggregation_algorithm": "mean"},
            "invalid value: mean: metric-aggregation-algorithm",
        ),
        (
            {"min_scale": "-1", "window": "no", "max_scale": "-1"},
            "expected 0 <= -1 <= 2147483647: max-scale, min-scale\ninvalid value: no: window",
        ),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_told_as_knative_tells_it(annotations: dict[str, str], message: str) -> None:
    assert problems(**annotations) == message


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({}, ""),
        ({"max_scale": "11"}, "expected 1 <= 11 <= 10: max-scale"),
        ({"max_scale": "0"}, "max-scale=0 (unlimited), must be less than 10: max-scale"),
        ({"max_scale": "10"}, ""),
        (
            {"max_scale": "ten"},
            "invalid value: ten: max-scale\nmax-scale=0 (unlimited), must be less than 10: max-scale",
        ),
    ],
)
def test_the_limit_of_the_cluster_holds(annotations: dict[str, str], message: str) -> None:
    assert problems(LIMITED, **annotations) == message


@pytest.mark.parametrize(
    "annotations",
    [
        {},
        {"min_scale": "0", "max_scale": "0"},
        {"class": "kpa.autoscaling.knative.dev", "metric": "rps"},
        {"class": "hpa.autoscaling.knative.dev", "metric": "cpu", "window": "6s"},
        {"class": "forecast.penstock.dev", "metric": "anything"},
        {"class": "someone.else.dev"},
        {"target_burst_capacity": "-1"},
        {"metric_aggregation_algorithm": "mean"},
        {"activation_scale": "3", "min_scale": "2", "max_scale": "4"},
        {"window": "1h"},
    ],
)
def test_what_knative_takes_is_taken(annotations: dict[str, str]) -> None:
    assert problems(**annotations) == ""


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("penstock.dev/autoscaling-profile", "gpus", "invalid value: gpus, did you mean gpu?"),
        (
            "penstock.dev/autoscaling-metric",
            "tokens",
            "invalid value: tokens, did you mean in-flight-tokens?",
        ),
        (
            "penstock.dev/resume-within",
            "soon",
            "invalid value: soon, expected a duration above 0 such as 30s",
        ),
        ("autoscaling.knative.dev/class", "forecst.penstock.dev", "did you mean forecast.penstock.dev?"),
    ],
)
def test_a_wrong_name_of_ours_comes_with_the_nearest_right_one(key: str, value: str, message: str) -> None:
    [problem] = scaling_problems({key: value})
    assert message in problem
    assert problem.endswith(f": {key}")


def service(**annotations: str) -> dict[str, object]:
    model = {"modelFormat": {"name": "huggingface"}, "storageUri": "file:///m"}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "iris",
            "namespace": "default",
            "annotations": {DOMAIN + key.replace("_", "-"): value for key, value in annotations.items()},
        },
        "spec": {"predictor": {"model": model}},
    }


def test_a_service_with_such_annotations_is_refused_with_every_problem_and_what_to_do() -> None:
    with pytest.raises(PlatformError) as refused:
        admit(service(window="5s", target="0"))
    assert "expected 6s <= 5s <= 1h0m0s" in str(refused.value)
    assert "target 0 should be at least 0.01" in str(refused.value)
    assert isinstance(refused.value, Invalid | Forbidden | InvalidInput)


def test_annotations_must_agree_with_the_fields_of_the_component() -> None:
    document = service(activation_scale="2")
    document["spec"]["predictor"]["minReplicas"] = 3  # type: ignore[index]
    with pytest.raises(PlatformError, match="min-scale=3 is greater than activation-scale=2"):
        admit(document)


def test_a_service_whose_initial_scale_the_cluster_does_not_allow_is_taken_and_the_annotation_dropped() -> (
    None
):
    assert admit(service(initial_scale="0")).object is not None


def test_a_cluster_configuration_out_of_range_is_refused_by_key() -> None:
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "config-autoscaler", "namespace": "knative-serving"},
        "data": {"stable-window": "2s", "unknown": "x"},
    }
    with pytest.raises(Invalid) as refused:
        admit(document)
    assert [cause.field for cause in refused.value.causes] == ["data[stable-window]"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("1.5m", 90),
        ("-1s", -1),
        ("0", 0),
        ("100us", 1e-4),
        (".5s", 0.5),
    ],
)
def test_go_durations_are_read(text: str, seconds: float) -> None:
    assert parse_go_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "s", "1 s", "1d", "--1s", "1s-", "٣s"])
def test_what_is_no_go_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_go_duration_s(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (6, "6s"),
        (3600, "1h0m0s"),
        (90, "1m30s"),
        (1.5, "1.5s"),
        (-1, "-1s"),
        (0.25, "250ms"),
        (0, "0s"),
        (7200, "2h0m0s"),
    ],
)
def test_go_durations_are_written(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text
