"""Conditions in the Common Expression Language, in the forms that select devices.

    device.attributes['gpu.nvidia.com'].productName.lowerAscii().contains('h100')
        && device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('40Gi')) >= 0

Literals, lists, names, members, indices, `== != < <= > >= in ! && ||`, `has(…)`, `cel.bind(name, value, condition)`, and the functions and
methods of `kit/cel_values.py`. Anything else of CEL is refused with its place. Length and depth are bounded and nothing loops, so a condition
may come from anybody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from penstock.kit.cel_values import (
    CelError,
    call,
    call_method,
    check_function,
    check_method,
    compare,
    index,
    is_in,
    member,
)

MAX_LENGTH = 10 << 10
"""Kubernetes' bound of a selector's expression."""
MAX_DEPTH = 40
Scope: TypeAlias = Mapping[str, Any]
Node: TypeAlias = Callable[[Scope], Any]
_COMPARISONS = ("==", "!=", "<=", ">=", "<", ">")
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?\d+)(?![\w.])|(?P<text>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")|(?P<name>[A-Za-z_]\w*)"""
    r"""|(?P<sign>==|!=|<=|>=|&&|\|\||[<>!().,\[\]]))"""
)


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


@lru_cache(maxsize=512)
def parse_condition(text: str, names: frozenset[str] = frozenset(("device",))) -> Callable[[Scope], bool]:
    """The condition as a function of the values of `names`. Raises CelError, whose `at` is the place of the first fault.

    The function raises CelError where the condition has no value, as for an attribute that is not there.
    """
    if len(text) > MAX_LENGTH:
        raise CelError(f"the expression has {len(text)} characters, at most {MAX_LENGTH} are taken", 0)
    parser = _Parser(_tokens(text), names)
    root = _at(0, parser.either(0))
    parser.end()

    def holds(scope: Scope) -> bool:
        value = root(scope)
        if not isinstance(value, bool):
            raise CelError("the expression is not true or false", 0)
        return value

    return holds


def _tokens(text: str) -> list[_Token]:
    found, position = [], 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            at = position + len(text[position:]) - len(text[position:].lstrip())
            raise CelError(f"{text[at : at + 12]!r} is not taken here", at)
        kind = match.lastgroup or ""
        found.append(_Token(kind, match[kind], match.start(kind)))
        position = match.end()
    return [*found, _Token("end", "the end", len(text))]


class _Parser:
    """By descent; every method takes the depth at which it is."""

    def __init__(self, tokens: list[_Token], names: frozenset[str]) -> None:
        self._tokens = tokens
        self._names = names
        self._next = 0

    def either(self, depth: int) -> Node:
        node = self._both(depth)
        while self._takes("||"):
            node = _either(node, self._both(depth))
        return node

    def end(self) -> None:
        token = self._peek()
        if token.kind != "end":
            raise CelError(f"{token.text!r} is not taken here", token.at)

    def _both(self, depth: int) -> Node:
        node = self._relation(depth)
        while self._takes("&&"):
            node = _both(node, self._relation(depth))
        return node

    def _relation(self, depth: int) -> Node:
        left = self._unary(depth)
        token = self._peek()
        if token.kind == "sign" and token.text in _COMPARISONS:
            self._next += 1
            right = self._unary(depth)
            return _at(token.at, lambda scope: compare(token.text, left(scope), right(scope)))
        if (token.kind, token.text) == ("name", "in"):
            self._next += 1
            where = self._unary(depth)
            return _at(token.at, lambda scope: is_in(left(scope), where(scope)))
        return left

    def _unary(self, depth: int) -> Node:
        token = self._peek()
        if depth > MAX_DEPTH:
            raise CelError(f"nested deeper than {MAX_DEPTH} levels", token.at)
        if self._takes("!"):
            inner = self._unary(depth + 1)
            return _at(token.at, lambda scope: not _boolean(inner(scope)))
        return self._postfix(self._primary(depth), depth)

    def _postfix(self, node: Node, depth: int) -> Node:
        while True:
            token = self._peek()
            if self._takes("."):
                name = self._name()
                if self._takes("("):
                    self._checked(check_method, name, token.at)
                    node = _method(token.at, node, name, self._arguments(")", depth))
                else:
                    node = _member(token.at, node, name)
            elif self._takes("["):
                key = self.either(depth + 1)
                self._expect("]")
                node = _index(token.at, node, key)
            else:
                return node

    def _primary(self, depth: int) -> Node:
        token = self._peek()
        self._next += 1
        if token.kind == "number":
            number = int(token.text)
            return lambda scope: number
        if token.kind == "text":
            text = _unquoted(token)
            return lambda scope: text
        if token.kind == "name":
            return self._named(token, depth)
        if token.text == "(" and token.kind == "sign":
            inner = self.either(depth + 1)
            self._expect(")")
            return inner
        if token.text == "[" and token.kind == "sign":
            items = self._arguments("]", depth)
            return lambda scope: [item(scope) for item in items]
        raise CelError(f"found {token.text!r}, expected a value", token.at)

    def _named(self, token: _Token, depth: int) -> Node:
        if token.text in ("true", "false"):
            value = token.text == "true"
            return lambda scope: value
        if token.text == "has" and self._takes("("):
            return self._has(token, depth)
        if token.text == "cel" and self._takes("."):
            return self._bound(depth)
        if self._takes("("):
            self._checked(check_function, token.text, token.at)
            arguments = self._arguments(")", depth)
            return _at(token.at, lambda scope: call(token.text, [one(scope) for one in arguments]))
        if token.text not in self._names:
            raise CelError(
                f"{token.text} is not known here; known is {', '.join(sorted(self._names))}", token.at
            )
        return lambda scope: scope[token.text]

    def _checked(self, check: Callable[[str], None], name: str, at: int) -> None:
        try:
            check(name)
        except CelError as error:
            raise CelError(error.message, at) from None

    def _has(self, token: _Token, depth: int) -> Node:
        node = self._postfix(self._primary(depth + 1), depth + 1)
        self._expect(")")
        dot, last = self._tokens[self._next - 3 : self._next - 1]
        if (dot.text, last.kind) != (".", "name"):
            raise CelError(
                "has takes a member, as in has(device.attributes['gpu.nvidia.com'].profile)", token.at
            )

        def has(scope: Scope) -> bool:
            try:
                node(scope)
            except CelError as error:
                if error.message == f"no such key: {last.text}":
                    return False
                raise
            return True

        return has

    def _bound(self, depth: int) -> Node:
        word = self._peek()
        if self._name() != "bind":
            raise CelError(f"cel.{word.text} is not known here; known is cel.bind", word.at)
        self._expect("(")
        name = self._name()
        self._expect(",")
        value = self.either(depth + 1)
        self._expect(",")
        outside, self._names = self._names, self._names | {name}
        inner = self.either(depth + 1)
        self._names = outside
        self._expect(")")
        return lambda scope: inner({**scope, name: value(scope)})

    def _arguments(self, end: str, depth: int) -> list[Node]:
        found: list[Node] = []
        while not self._takes(end):
            if found:
                self._expect(",")
            found.append(self.either(depth + 1))
        return found

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _takes(self, sign: str) -> bool:
        token = self._peek()
        if (token.kind, token.text) != ("sign", sign):
            return False
        self._next += 1
        return True

    def _expect(self, sign: str) -> None:
        token = self._peek()
        if not self._takes(sign):
            raise CelError(f"found {token.text!r}, expected {sign!r}", token.at)

    def _name(self) -> str:
        token = self._peek()
        if token.kind != "name":
            raise CelError(f"found {token.text!r}, expected a name", token.at)
        self._next += 1
        return token.text


def _at(place: int, node: Node) -> Node:
    """The node, whose faults are at this place unless they say another."""

    def value(scope: Scope) -> Any:
        try:
            return node(scope)
        except CelError as error:
            raise CelError(error.message, place if error.at < 0 else error.at) from None

    return value


def _member(place: int, node: Node, name: str) -> Node:
    return _at(place, lambda scope: member(node(scope), name))


def _index(place: int, node: Node, key: Node) -> Node:
    return _at(place, lambda scope: index(node(scope), key(scope)))


def _method(place: int, node: Node, name: str, arguments: list[Node]) -> Node:
    return _at(place, lambda scope: call_method(node(scope), name, [one(scope) for one in arguments]))


def _either(left: Node, right: Node) -> Node:
    """As CEL: what one side says decides, also where the other has no value."""
    return lambda scope: _shortcut(left, right, scope, decisive=True)


def _both(left: Node, right: Node) -> Node:
    return lambda scope: _shortcut(left, right, scope, decisive=False)


def _shortcut(left: Node, right: Node, scope: Scope, *, decisive: bool) -> bool:
    try:
        first = _boolean(left(scope))
    except CelError:
        if _boolean(right(scope)) is decisive:
            return decisive
        raise
    return decisive if first is decisive else _boolean(right(scope))


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise CelError("found a value that is not true or false where one is needed")
    return value


def _unquoted(token: _Token) -> str:
    def plain(match: re.Match[str]) -> str:
        known = {"n": "\n", "t": "\t", "r": "\r"}
        if match[1] in known or match[1] in "'\"\\":
            return known.get(match[1], match[1])
        raise CelError(f"{match[0]} is not taken in a text", token.at)

    return re.sub(r"\\(.)", plain, token.text[1:-1])
