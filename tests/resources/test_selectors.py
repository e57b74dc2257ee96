"""Selectors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.kit.errors import InvalidInput
from penstock.resources.meta import LabelSelector, LabelSelectorRequirement
from penstock.resources.selectors import matches, matches_label_selector, parse_fields, parse_labels

LABELS = {"app": "web", "tier": "front", "n": "5", "k8s.io/x": "y", "empty": ""}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True), ("app=web", True), ("app==web", True), ("app = web , tier=front", True), ("app=api", False),
        ("app!=api", True), ("app!=web", False), ("other!=x", True), ("app in (api, web)", True), ("app in (api)", False),
        ("app notin (api)", True), ("app notin (web,api)", False), ("other notin (a)", True), ("app", True), ("other", False),
        ("!other", True), ("! app", False), ("n>4", True), ("n > 5", False), ("n<6", True), ("app>1", False), ("other<1", False),
        ("k8s.io/x=y,app in (a,web),!zz", True), ("empty=", True), ("app in ()", False), ("empty in (,a)", True),
    ],
)  # fmt: skip
def test_label_selectors_mean_what_kubectl_means(text, holds):
    assert matches(parse_labels(text), LABELS) is holds


@pytest.mark.parametrize(
    "text", ["=x", "a b", "a in x", "a=b c", "a>x", "-a", "a in (b c)", "a,,b", ",", "a=é", "a=b,"]
)
def test_a_label_selector_that_is_none_is_refused_with_an_example(text):
    with pytest.raises(InvalidInput) as caught:
        parse_labels(text)
    assert repr(text) in caught.value.message
    assert "app=web" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("metadata.name=x", [("metadata.name", "=", "x")]),
        ("a==b,c!=d", [("a", "=", "b"), ("c", "!=", "d")]),
        (r"a=b\,c\=d\\", [("a", "=", "b,c=d\\")]),
        ("a=", [("a", "=", "")]),
        ("a=b=c", [("a", "=", "b=c")]),
    ],
)
def test_field_selectors(text, terms):
    assert list(parse_fields(text)) == terms


@pytest.mark.parametrize("text", ["a", "=b", "a=b,c"])
def test_a_field_selector_that_is_none_is_refused(text):
    with pytest.raises(InvalidInput, match="is not a requirement"):
        parse_fields(text)


@given(st.text(max_size=40))
def test_any_text_is_a_selector_or_refused(text):
    for parse in (parse_labels, parse_fields):
        try:
            parse(text)
        except InvalidInput as error:
            assert error.hint


def want(operator, *values, key="app"):
    return LabelSelector(
        match_expressions=(LabelSelectorRequirement(key=key, operator=operator, values=values),)
    )


@pytest.mark.parametrize(
    ("selector", "holds"),
    [
        (LabelSelector(), True),
        (LabelSelector(match_labels={"app": "web"}), True),
        (LabelSelector(match_labels={"app": "web", "zz": "x"}), False),
        (want("In", "web", "api"), True),
        (want("NotIn", "web"), False),
        (want("Exists"), True),
        (want("DoesNotExist"), False),
        (want("DoesNotExist", key="zz"), True),
    ],
)
def test_label_selectors_of_objects(selector, holds):
    assert matches_label_selector(selector, LABELS) is holds
