"""Filters leave endpoints, scorers weigh them, a picker takes one; and the same is told when somebody asks."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.contracts.exchange import Endpoint
from penstock.contracts.scheduling import Load, Pipeline, Prompt, View
from penstock.decide.choice import Choice, choose, explain


class Keep:
    def __init__(self, *names: str, insists: bool = False) -> None:
        self.names, self.insists = names, insists

    def keep(self, prompt: Prompt, view: View) -> Sequence[int] | None:
        return [i for i, load in enumerate(view.loads) if load.endpoint.name in self.names]


class Score:
    def __init__(self, **scores: float) -> None:
        self.scores = scores

    def score(self, prompt: Prompt, view: View) -> Sequence[float]:
        return [self.scores[load.endpoint.name] for load in view.loads]


class Best:
    def pick(self, prompt: Prompt, scores: Sequence[float]) -> int:
        return scores.index(max(scores))


PROMPT = Prompt(draw=7)
FIRST = ("first", 1.0, Score(a=0.1, b=0.5, c=0.9))
SECOND = ("second", 2.0, Score(a=1.0, b=0.0, c=0.0))


def seen(names: str = "abc") -> View:
    loads = [Load(endpoint=Endpoint(name=name, address="127.0.0.1", port=1)) for name in names]
    return View(loads, [float(i) for i in range(len(loads))])


def pipeline(*scorers: tuple[str, float, Score], filters: Sequence[Keep] = ()) -> Pipeline:
    return Pipeline(tuple((f"f{i}", one) for i, one in enumerate(filters)), scorers, Best())


def test_the_weighted_sum_decides() -> None:
    assert choose(PROMPT, seen(), pipeline(FIRST)) == Choice(2, 0.9, 3)
    assert choose(PROMPT, seen(), pipeline(FIRST, SECOND)) == Choice(0, 2.1, 3)


def test_a_place_is_that_in_the_view_whatever_filters_took_out() -> None:
    assert choose(PROMPT, seen(), pipeline(FIRST, filters=[Keep("b", "c"), Keep("a", "b")])) == Choice(
        1, 0.0, 1
    )
    assert choose(PROMPT, seen("abca"), pipeline(FIRST, filters=[Keep("a", "c")])) == Choice(2, 0.9, 3)


def test_a_filter_that_leaves_none_is_overruled_unless_it_insists() -> None:
    assert choose(PROMPT, seen(), pipeline(FIRST, filters=[Keep()])) == Choice(2, 0.9, 3)
    assert choose(PROMPT, seen(), pipeline(FIRST, filters=[Keep(insists=True)])) is None
    assert choose(PROMPT, seen(""), pipeline(FIRST)) is None


def test_a_profile_without_scorers_lets_the_picker_choose_among_equals() -> None:
    assert choose(PROMPT, seen(), pipeline()) == Choice(0, 0.0, 3)


def test_the_reasons_name_what_was_taken_out_and_each_term_and_the_runner_up() -> None:
    said = explain(PROMPT, seen(), pipeline(FIRST, SECOND, filters=[Keep(), Keep("a", "b")]))
    assert (said.chosen, said.runner_up) == ("a", "b")
    assert said.weights == {"first": 1.0, "second": 2.0}
    assert [(one.filter, one.endpoints, one.overruled) for one in said.removed] == [
        ("f0", ("a", "b", "c"), True),
        ("f1", ("c",), False),
    ]
    assert [(one.endpoint, one.score, one.terms, one.cached_tokens) for one in said.weighed] == [
        ("a", 2.1, {"first": 0.1, "second": 1.0}, 0.0),
        ("b", 0.5, {"first": 0.5, "second": 0.0}, 1.0),
    ]


def test_the_reasons_are_those_of_the_choice() -> None:
    for filters in ([], [Keep("a", "b")], [Keep("b")], [Keep()]):
        asked = pipeline(FIRST, SECOND, filters=filters)
        choice = choose(PROMPT, seen(), asked)
        assert choice is not None
        assert explain(PROMPT, seen(), asked).chosen == "abc"[choice.index]


def test_nobody_is_chosen_where_none_is_left() -> None:
    said = explain(PROMPT, seen(), pipeline(FIRST, filters=[Keep(insists=True)]))
    assert (said.chosen, said.runner_up, said.weighed) == ("", "", ())
    assert said.removed[0].endpoints == ("a", "b", "c")
