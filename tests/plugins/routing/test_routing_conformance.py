"""What every filter, scorer and picker keeps to."""

from __future__ import annotations

from copy import deepcopy
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from views import prompts, view, views

from penstock.app.registry import open_filter, open_picker, open_profile, open_scorer, routing_plugins
from penstock.contracts.exchange import PluginRoute, RoutingRoute
from penstock.contracts.scheduling import Prompt, View
from penstock.kit.errors import InvalidInput
from penstock.kit.hashing import draw
from penstock.resources.routing_plugins import PARTS, Family

OPENERS = {"filters": open_filter, "scorers": open_scorer, "pickers": open_picker}
EVERY = [(family, name) for family in get_args(Family) for name in routing_plugins(family)]
FEW = settings(max_examples=25, deadline=None)


@pytest.mark.parametrize("family", get_args(Family))
def test_every_part_that_admission_knows_is_a_plugin_and_the_other_way_round(family: Family) -> None:
    assert {*routing_plugins(family)} == {*PARTS[family]}


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_a_part_refuses_a_parameter_that_it_does_not_know(family: Family, name: str) -> None:
    with pytest.raises(InvalidInput, match="no such parameter"):
        OPENERS[family](PluginRoute(name=name, parameters=(("nosuch", 1.0),)))


@pytest.mark.parametrize(
    ("family", "name", "parameter"),
    [(family, name, one.name) for family, name in EVERY for one in PARTS[family][name].parameters],
)
def test_a_part_takes_each_parameter_from_its_least_to_its_most_and_nothing_beyond(
    family: Family, name: str, parameter: str
) -> None:
    [one] = [known for known in PARTS[family][name].parameters if known.name == parameter]
    assert one.least <= one.default <= one.most
    for value in (one.least, one.most):
        OPENERS[family](PluginRoute(name=name, parameters=((parameter, value),)))
    for value in (one.least - 1, one.most * 2, float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match=parameter):
            OPENERS[family](PluginRoute(name=name, parameters=((parameter, value),)))


@pytest.mark.parametrize("family", get_args(Family))
def test_a_name_that_is_not_there_is_refused_with_the_nearest(family: Family) -> None:
    some = routing_plugins(family)[0]
    with pytest.raises(InvalidInput) as caught:
        OPENERS[family](PluginRoute(name=some + "s"))
    assert caught.value.hint == f"did you mean {some}?"
    assert some in caught.value.message


@pytest.mark.parametrize("name", routing_plugins("scorers"))
@FEW
@given(prompt=prompts(), seen=views())
def test_a_scorer_gives_each_endpoint_a_score_from_0_to_1_and_changes_nothing(
    name: str, prompt: Prompt, seen: View
) -> None:
    scorer, before = open_scorer(PluginRoute(name=name)), deepcopy(seen)
    scores = scorer.score(prompt, seen)
    assert len(scores) == len(seen.loads)
    assert all(0.0 <= score <= 1.0 for score in scores)
    assert list(scores) == list(scorer.score(prompt, seen))
    assert seen == before


@pytest.mark.parametrize("name", routing_plugins("scorers"))
def test_a_scorer_of_no_endpoints_gives_no_scores(name: str) -> None:
    assert (
        list(open_scorer(PluginRoute(name=name)).score(Prompt(draw=1, tokens=9, session="s"), view())) == []
    )


@pytest.mark.parametrize("name", routing_plugins("filters"))
@FEW
@given(prompt=prompts(), seen=views())
def test_a_filter_leaves_places_in_order_and_changes_nothing(name: str, prompt: Prompt, seen: View) -> None:
    one, before = open_filter(PluginRoute(name=name)), deepcopy(seen)
    kept = one.keep(prompt, seen)
    if kept is not None:
        assert list(kept) == sorted(set(kept))
        assert set(kept) <= set(range(len(seen.loads)))
        again = View([seen.loads[i] for i in kept], [seen.cached_tokens[i] for i in kept])
        twice = one.keep(prompt, again)
        assert twice is None or list(twice) == list(range(len(kept)))
    assert seen == before


@pytest.mark.parametrize("name", routing_plugins("pickers"))
@FEW
@given(prompt=prompts(), scores=st.lists(st.floats(0, 50), min_size=1, max_size=9))
def test_a_picker_takes_one_always_the_same_for_the_same_draw(
    name: str, prompt: Prompt, scores: list[float]
) -> None:
    picker = open_picker(PluginRoute(name=name))
    index = picker.pick(prompt, scores)
    assert 0 <= index < len(scores)
    assert index == picker.pick(prompt, tuple(scores))


@pytest.mark.parametrize("name", routing_plugins("pickers"))
def test_equals_are_shared_out_by_the_draw(name: str) -> None:
    picker = open_picker(PluginRoute(name=name))
    taken = [picker.pick(Prompt(draw=draw(f"id-{number}")), [0.5] * 4) for number in range(2000)]
    assert all(400 < taken.count(index) < 600 for index in range(4))


def test_what_the_caller_leaves_holds_also_where_a_profile_does_not_say_so() -> None:
    assert [name for name, _ in open_profile(RoutingRoute()).filters] == ["subset", "healthy", "saturation"]
    said = RoutingRoute(filters=(PluginRoute(name="healthy"), PluginRoute(name="subset")))
    assert [name for name, _ in open_profile(said).filters] == ["healthy", "subset"]
