"""Small formulas over named numbers, in the words of expr-lang: `max(queue, 2 * rate) > 10 ? queue / 5 : spare ?? 1`.

Numbers, `true`, `false`, `nil`, names, lists, `+ - * / % **`, comparisons, `and or not`, `a ? b : c`, `a ?? b` (b where a is
nil), and the functions of FUNCTIONS, which take numbers or lists of them. `count` may take a predicate: `count([a, b], {# > 1})`.
Nothing else can be said, so a formula may come from anybody; its length and depth are bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from statistics import fmean, median
from typing import TypeAlias, Union

from penstock.kit.errors import InvalidInput, nearest

MAX_LENGTH = 1000
MAX_DEPTH = 40
MAX_MAGNITUDE = 1e300

Value: TypeAlias = Union[float, bool, tuple["Value", ...], None]  # noqa: UP007  a name in quotes has no "|"
_Scope = Mapping[str, Value]
_Node = Callable[[_Scope], Value]


def _only(numbers: list[float]) -> float:
    if len(numbers) != 1:
        raise InvalidInput(f"the formula gives {len(numbers)} numbers to a function that takes one")
    return numbers[0]


FUNCTIONS: Mapping[str, Callable[[list[float]], float]] = {
    "min": min,
    "max": max,
    "sum": math.fsum,
    "avg": fmean,
    "mean": fmean,
    "median": median,
    "count": lambda numbers: float(len(numbers)),
    "abs": lambda numbers: abs(_only(numbers)),
    "ceil": lambda numbers: float(math.ceil(_only(numbers))),
    "floor": lambda numbers: float(math.floor(_only(numbers))),
    "round": lambda numbers: float(math.floor(_only(numbers) + 0.5)),
    "int": lambda numbers: float(math.trunc(_only(numbers))),
    "float": _only,
}
_PRECEDENCE = {
    **dict.fromkeys(("||", "or"), 10),
    **dict.fromkeys(("&&", "and"), 15),
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), 20),
    **dict.fromkeys(("+", "-"), 30),
    **dict.fromkeys(("*", "/", "%"), 60),
    **dict.fromkeys(("**", "^"), 100),
    "??": 500,
}
_UNARY = {"not": 50, "!": 50, "-": 90, "+": 90}
_ITEM = "#"
_TOKEN = re.compile(
    r"\s*(?:(\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+)|([A-Za-z_]\w*)|(\?\?|\*\*|\|\||&&|[=!<>]=|[-+*/%^<>!?:(),\[\]{}#]))",
    re.ASCII,
)


class Formula:
    """A formula that was understood. `names` are those that it takes."""

    def __init__(self, text: str) -> None:
        """Raises InvalidInput for what is no formula."""
        parser = _Parser(text)
        self._node = parser.whole()
        self.names = frozenset(parser.names)

    def evaluate(self, values: Mapping[str, float | None]) -> float:
        """The result, a finite number. Raises InvalidInput if there is none for these values; None is nil."""
        try:
            return _finite(_number(self._node(values)))
        except (ArithmeticError, ValueError) as error:
            what = "divides by zero" if isinstance(error, ZeroDivisionError) else "has no finite value"
            raise InvalidInput(f"the formula {what}") from None


class _Parser:
    """Precedence climbing over tokens; each method answers with a function of the scope."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise InvalidInput(f"the formula has {len(text)} characters, at most {MAX_LENGTH} are allowed")
        self.names: set[str] = set()
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0
        self._predicates = 0

    def whole(self) -> _Node:
        node = self._ternary()
        if self._peek():
            raise InvalidInput(f"found {self._peek()!r} in the formula, expected an operator or its end")
        return node

    def _ternary(self) -> _Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InvalidInput(f"the formula is nested more than {MAX_DEPTH} deep")
        node = self._binary(0)
        if self._take("?"):
            yes = self._ternary()
            self._expect(":")
            node = _choice(node, yes, self._ternary())
        self._depth -= 1
        return node

    def _binary(self, least: int) -> _Node:
        left = self._unary()
        while (precedence := _PRECEDENCE.get(self._peek(), -1)) > least:
            operator = self._next()
            # the power is the only operator that is taken from the right
            right = self._binary(precedence - 1 if operator in ("**", "^") else precedence)
            left = _operation(operator, left, right)
        return left

    def _unary(self) -> _Node:
        word = self._peek()
        if word not in _UNARY:
            return self._primary()
        self._next()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InvalidInput(f"the formula is nested more than {MAX_DEPTH} deep")
        operand = self._binary(_UNARY[word])
        self._depth -= 1
        if word in ("not", "!"):
            return lambda scope: not _truth(operand(scope))
        sign = -1.0 if word == "-" else 1.0
        return lambda scope: sign * _number(operand(scope))

    def _primary(self) -> _Node:
        word = self._next()
        if word == "(":
            node = self._ternary()
            self._expect(")")
            return node
        if word == "[":
            return _listed(self._until("]"))
        if word == _ITEM and self._predicates:
            return lambda scope: scope[_ITEM]
        if word[:1].isdigit() or word[:1] == ".":
            number = float(word)
            return lambda scope: number
        if word in ("true", "false", "nil"):
            constant = {"true": True, "false": False, "nil": None}[word]
            return lambda scope: constant
        if not word or not (word[0].isalpha() or word[0] == "_") or word in _PRECEDENCE:
            raise InvalidInput(f"found {word or 'the end'!r} in the formula, expected a number or a name")
        if self._take("("):
            return self._call(word)
        self.names.add(word)
        return _named(word)

    def _call(self, name: str) -> _Node:
        if name not in FUNCTIONS:
            close = nearest(name, tuple(FUNCTIONS), 1)
            raise InvalidInput(
                f"the formula calls {name}, known are {', '.join(FUNCTIONS)}",
                hint=f"did you mean {close[0]}?" if close else "",
            )
        arguments = self._until(")")
        function = FUNCTIONS[name]
        if name == "count" and len(arguments) == 2 and self._had_predicate:
            return _counted(arguments[0], arguments[1])

        def call(scope: _Scope) -> Value:
            numbers = [number for argument in arguments for number in _numbers(argument(scope))]
            if not numbers and name not in ("sum", "count"):
                raise InvalidInput(f"the formula asks for {name} of nothing")
            return function(numbers)

        return call

    _had_predicate = False

    def _until(self, end: str) -> list[_Node]:
        nodes: list[_Node] = []
        predicate = False
        while not self._take(end):
            if nodes:
                self._expect(",")
            predicate = self._take("{")
            self._predicates += predicate
            nodes.append(self._ternary())
            if predicate:
                self._predicates -= 1
                self._expect("}")
        self._had_predicate = predicate
        return nodes

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        word = self._peek()
        self._at += 1
        return word

    def _take(self, word: str) -> bool:
        found = self._peek() == word
        self._at += found
        return found

    def _expect(self, word: str) -> None:
        if not self._take(word):
            raise InvalidInput(f"found {self._peek() or 'the end'!r} in the formula, expected {word!r}")


def _tokens(text: str) -> list[str]:
    tokens, at, text = [], 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise InvalidInput(f"found {text[at:].lstrip()[:20]!r} in the formula, which means nothing")
        tokens.append(match[match.lastindex or 0])
        at = match.end()
    return tokens


def _named(name: str) -> _Node:
    def node(scope: _Scope) -> Value:
        if name not in scope:
            raise InvalidInput(f"the formula names {name}, which is not there")
        return scope[name]

    return node


def _listed(nodes: list[_Node]) -> _Node:
    return lambda scope: tuple(node(scope) for node in nodes)


def _choice(condition: _Node, yes: _Node, no: _Node) -> _Node:
    return lambda scope: yes(scope) if _truth(condition(scope)) else no(scope)


def _counted(items: _Node, predicate: _Node) -> _Node:
    return lambda scope: float(
        sum(_truth(predicate({**scope, _ITEM: item})) for item in _numbers(items(scope)))
    )


def _operation(operator: str, left: _Node, right: _Node) -> _Node:
    if operator == "??":
        return lambda scope: right(scope) if (value := left(scope)) is None else value
    if operator in ("||", "or"):
        return lambda scope: _truth(left(scope)) or _truth(right(scope))
    if operator in ("&&", "and"):
        return lambda scope: _truth(left(scope)) and _truth(right(scope))
    if operator in ("==", "!="):
        return lambda scope: (left(scope) == right(scope)) == (operator == "==")
    function = _ARITHMETIC[operator]
    return lambda scope: function(_number(left(scope)), _number(right(scope)))


_ARITHMETIC: Mapping[str, Callable[[float, float], Value]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "%": math.fmod,
    "**": math.pow,
    "^": math.pow,
}


def _number(value: Value) -> float:
    if value is None:
        raise InvalidInput("the formula needs a value that is not there", hint="give another one with ??")
    if isinstance(value, bool | tuple):
        found = "a list" if isinstance(value, tuple) else "true or false"
        raise InvalidInput(f"the formula gives {found} where a number must be")
    return float(value)


def _numbers(value: Value) -> list[float]:
    return [_number(item) for item in value] if isinstance(value, tuple) else [_number(value)]


def _truth(value: Value) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidInput("the formula gives a number where true or false must be")


def _finite(number: float) -> float:
    if not math.isfinite(number) or abs(number) > MAX_MAGNITUDE:
        raise InvalidInput("the formula has no finite value")
    return number
