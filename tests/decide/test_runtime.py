"""KServe's order of runtimes, case by case."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import model, offers, runtime, service

from penstock.decide.runtime import Choice, choose_runtime
from penstock.resources.admission import admit
from penstock.resources.documents import documents
from penstock.resources.runtime import ClusterServingRuntime

SAMPLES = Path(__file__).parents[3] / "shared" / "kserve-samples"


def choose(asked: dict, *cluster: ClusterServingRuntime, own: tuple = ()) -> Choice:
    return choose_runtime(service(**asked), own, cluster)


def test_a_runtime_of_the_namespace_goes_before_those_of_the_cluster() -> None:
    own = runtime("own", offers("x", priority=1), namespace="default")
    assert choose(model("x"), runtime("wide", offers("x", priority=9)), own=(own,)).runtime is own


def test_the_highest_priority_wins_and_none_comes_last() -> None:
    low, high, none = (
        runtime("a", offers("x", priority=1)),
        runtime("b", offers("x", priority=2)),
        runtime("c", offers("x")),
    )
    chosen = choose(model("x"), none, low, high)
    assert chosen.runtime is high
    assert [name for name, _ in chosen.refused] == ["a", "c"]


def test_a_format_that_is_not_offered_for_selection_needs_to_be_named() -> None:
    shy = runtime("shy", offers("x", auto=False))
    assert choose(model("x"), shy).reason == "NoSupportingRuntime"
    assert choose(model("x", runtime="shy"), shy).runtime is shy


def test_a_version_that_is_asked_for_must_be_offered_exactly() -> None:
    first, second = runtime("first", offers("x", "1")), runtime("second", offers("x", "2"))
    assert choose(model("x", "2"), first, second).runtime is second
    assert choose(model("x", "3"), first, second).reason == "NoSupportingRuntime"
    assert choose(model("X", "2"), first, second).runtime is second, "names of formats have no case"


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"disabled": True}, "is disabled"),
        ({"multiModel": True}, "several models"),
        ({"protocolVersions": ["v2"]}, "speaks v2, not v1"),
    ],
)
def test_what_cannot_serve_is_left_out_with_the_reason(spec: dict, why: str) -> None:
    chosen = choose(model("x"), runtime("r", offers("x"), **spec))
    assert chosen.runtime is None
    assert why in chosen.refused[0][1]


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    chosen = choose(model("x", runtime="penstok-cpu"), runtime("penstock-cpu", offers("x")))
    assert chosen.reason == "RuntimeNotRecognized"
    assert "penstock-cpu" in chosen.message


def test_a_disabled_runtime_that_is_named_says_so() -> None:
    chosen = choose(model("x", runtime="off"), runtime("off", offers("x"), disabled=True))
    assert (chosen.reason, chosen.runtime) == ("RuntimeDisabled", None)


def test_an_unknown_format_is_told_with_what_is_served() -> None:
    message = choose(model("sklaern"), runtime("a", offers("sklearn")), runtime("b", offers("onnx"))).message
    assert message.startswith("No runtime found to support specified framework/version")
    assert "did you mean 'sklearn'" in message


def test_tensorflow_over_v1_is_served_by_openvino_among_kserves_own_runtimes() -> None:
    if not SAMPLES.exists():
        pytest.skip("../shared is absent")
    runtimes = [
        admit(document).object
        for path in sorted(SAMPLES.glob("config__runtimes__*.yaml"))
        for document in documents(path.read_text())
    ]
    chosen = choose(model("tensorflow"), *runtimes)
    assert chosen.runtime
    assert chosen.runtime.metadata.name == "kserve-openvino"


@given(
    st.permutations(
        [runtime(n, offers("x", priority=p)) for n, p in [("a", 1), ("b", 1), ("c", 2), ("d", None)]]
    )
)
def test_the_choice_does_not_depend_on_the_order_in_which_runtimes_are_listed(runtimes: list) -> None:
    chosen = choose(model("x"), *runtimes)
    assert chosen.runtime
    assert chosen.runtime.metadata.name == "c"
    assert [name for name, _ in chosen.refused] == ["a", "b", "d"]
