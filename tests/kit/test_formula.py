"""Formulas over metrics: expr-lang's precedence, and nothing that a stranger's formula could do but compute."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.kit.errors import InvalidInput
from penstock.kit.formula import MAX_DEPTH, MAX_LENGTH, Formula

VALUES = {"a": 3.0, "b": 4.0, "zero": 0.0, "gone": None}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a + b * 2", 11),
        ("(a + b) * 2", 14),
        ("-a ** 2", -9),
        ("2 ** 3 ** 2", 512),
        ("2 ^ 3", 8),
        ("10 - 4 - 3", 3),
        ("10 % 4", 2),
        ("1.5e1 / .5", 30),
        ("a > 2 ? 5 : 6", 5),
        ("a > 2 and b < 3 ? 1 : 0", 0),
        ("a > 2 || b < 3 ? 1 : 0", 1),
        ("not (a == 3) ? 1 : 2", 2),
        ("!(a != 3) ? 1 : 2", 1),
        ("a == 3 ? b >= 4 ? 1 : 2 : 3", 1),
        ("true ? 1 : 1 / 0", 1),
        ("gone ?? a", 3),
        ("gone ?? gone ?? 7", 7),
        ("gone ?? a + 1", 4),
        ("a ?? (1 / 0)", 3),
        ("gone == nil ? 1 : 0", 1),
        ("max(a, b, 2)", 4),
        ("min([a, b])", 3),
        ("sum([a, b], 1)", 8),
        ("avg(a, b)", 3.5),
        ("median([1, 9, 2])", 2),
        ("count([a, b, zero])", 3),
        ("count([a, b, zero], {# > 1})", 2),
        ("count([a, b], {# > 1}) > 1 ? 5 : 0", 5),
        ("ceil(a / 2) + floor(a / 2) + round(a / 2) + int(-1.5) + abs(-2) + float(1)", 7),
    ],
)
def test_a_formula_has_the_value_that_expr_lang_gives_it(text: str, value: float) -> None:
    assert Formula(text).evaluate(VALUES) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "", "a b", "a +", "(a", "a)", "[a", "a ? b", "a : b", "max(a,", "foo(a)", "__import__('os')", "a.b", "a['b']",
        "a; b", "a = 3", "{# > 1}", "#", "count([a], {#", "lambda: 1", "and", "max", "1_000 'x'", "√4",
        "(" * 400, "-" * 400 + "1", "[" * 400, "1?" * 200 + "1" + ":1" * 200, "1+" * MAX_LENGTH + "1",
    ],
)  # fmt: skip
def test_what_is_no_formula_is_refused_or_has_no_value(text: str) -> None:
    with pytest.raises(InvalidInput):
        Formula(text).evaluate(VALUES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a / zero", "divides by zero"),
        ("a % zero", "finite"),
        ("10 ** 400", "finite"),
        ("(-1) ** 0.5", "finite"),
        ("zero ** -1", "finite"),
        ("9 ** 9 ** 9 ** 9", "finite"),
        ("1e400", "finite"),
        ("ceil(1e400)", "finite"),
        ("gone + 1", "not there"),
        ("gone", "not there"),
        ("unknown + 1", "names unknown"),
        ("a > 1", "true or false"),
        ("a ? 1 : 2", "true or false must be"),
        ("[a] + 1", "a list"),
        ("[a]", "a list"),
        ("min()", "of nothing"),
        ("avg([])", "of nothing"),
        ("abs(a, b)", "takes one"),
    ],
)
def test_a_formula_without_a_finite_number_says_why(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Formula(text).evaluate(VALUES)


def test_the_names_that_a_formula_takes_are_known_before_it_is_evaluated() -> None:
    assert Formula("max(a, b) > 3 ? c : count([d], {# > e})").names == {"a", "b", "c", "d", "e"}


def test_a_function_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidInput) as caught:
        Formula("maxx(a, b)")
    assert caught.value.hint == "did you mean max?"


def test_the_longest_formula_of_each_shape_can_be_evaluated() -> None:
    half = MAX_LENGTH // 2
    assert Formula("+".join("1" * half)).evaluate({}) == half
    assert Formula("**".join("1" * (MAX_LENGTH // 3))).evaluate({}) == 1
    assert Formula("??".join("1" * (MAX_LENGTH // 3))).evaluate({}) == 1
    deep = MAX_DEPTH - 1
    assert Formula("(" * deep + "1" + ")" * deep).evaluate({}) == 1


@given(st.text(alphabet="ab01.+-*/%^<>=!?:&|(),[]{}# nilandortruemxcou", max_size=60))
def test_any_text_is_a_formula_or_invalid_input_and_any_value_is_finite(text: str) -> None:
    try:
        value = Formula(text).evaluate({"a": 2.0, "b": None})
    except InvalidInput:
        return
    assert math.isfinite(value)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0.1, 1e6))
def test_arithmetic_is_that_of_floats(a: float, b: float, c: float) -> None:
    values = {"a": a, "b": b, "c": c}
    assert Formula("a + b * c - a / c").evaluate(values) == a + b * c - a / c
    assert Formula("max(a, b, c)").evaluate(values) == max(a, b, c)
