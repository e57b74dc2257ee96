"""Workloads by their names. Those that are made up: prefixes shared by groups of prompts, conversations of several turns, and prompts that share nothing.

Named after the figures they are known by: `kthena-4096` and `kthena-256` of Kthena's benchmark (docs/kthena/blog/2025-09-09-benchmark),
`llm-d-73` and `llm-d-37` of llm-d's (llm-d-kv-cache/benchmarking/{73,37}-capacity); the output lengths of Kthena's are not published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from random import Random

from msgspec import Struct

from penstock.kit.errors import InvalidInput, nearest
from penstock.testing.load.conversation import Conversation, Turn, Workload
from penstock.testing.load.text import Piece
from penstock.testing.load.trace import trace_of

MAX_TOKENS = 2_000_000
MAX_COUNT = 10_000_000


class SharedPrefix(Struct, frozen=True, kw_only=True):
    """`groups` of `prompts` each, in random order; a group's share their first `prefix` tokens. After the last it begins anew.

    With a `skew` groups differ: the k-th is drawn in proportion to k ** -skew (Zipf). With `hot` only so many groups are asked for at a time:
    after each `prompts` prompts the next group joins them, and the one that has been there for longest leaves, until its turn comes again.
    The one that joined last is the first by skew.
    """

    name: str = "shared-prefix"
    groups: int = 32
    prompts: int = 16
    prefix: int = 2048
    own: int = 256
    output: int = 128
    skew: float = 0.0
    hot: int = 0

    timed = False

    def conversations(self, seed: int) -> Iterator[Conversation]:
        """Own texts never come again."""
        chance = Random(f"shared-prefix {seed}")  # noqa: S311  reproducible, not secret
        number = 0
        for newest in count(self.hot - 1):
            for group in self._drifting(newest, chance) if self.hot else self._order(chance):
                number += 1
                own = Turn((Piece(f"own {seed} {number}", self.own),), self.output)
                yield Conversation((own,), (Piece(f"prefix {group}", self.prefix),))

    def _order(self, chance: Random) -> list[int]:
        if self.skew > 0:
            weights = [(group + 1) ** -self.skew for group in range(self.groups)]
            return chance.choices(range(self.groups), weights, k=self.groups * self.prompts)
        order = [group for group in range(self.groups) for _ in range(self.prompts)]
        chance.shuffle(order)
        return order

    def _drifting(self, newest: int, chance: Random) -> list[int]:
        """Of so many prompts in a row, while the groups up to `newest` are asked for."""
        weights = [(place + 1) ** -self.skew for place in range(self.hot)]
        ages = chance.choices(range(self.hot), weights, k=self.prompts)
        return [(newest - age) % self.groups for age in ages]


class MultiTurn(Struct, frozen=True, kw_only=True):
    """Conversations of `turns` turns; `think` seconds pass on average before a next one (exponential). `groups` system prompts are shared."""

    name: str = "multi-turn"
    turns: int = 5
    think: float = 1.0
    groups: int = 4
    prefix: int = 512
    own: int = 128
    output: int = 128

    timed = False

    def conversations(self, seed: int) -> Iterator[Conversation]:
        """Each with a system prompt by chance."""
        chance = Random(f"multi-turn {seed}")  # noqa: S311
        number = 0
        while True:
            number += 1
            turns = tuple(
                Turn(
                    (Piece(f"turn {seed} {number} {turn}", self.own),),
                    self.output,
                    chance.expovariate(1.0 / self.think) if turn and self.think > 0 else 0.0,
                )
                for turn in range(self.turns)
            )
            system = (Piece(f"prefix {chance.randrange(self.groups)}", self.prefix),)
            yield Conversation(turns, system if self.prefix else ())


class Unshared(Struct, frozen=True, kw_only=True):
    """Prompts that share nothing, of lengths evenly spread around the mean by at most `spread` of it."""

    name: str = "random"
    prompt: int = 512
    output: int = 128
    spread: float = 0.5

    timed = False

    def conversations(self, seed: int) -> Iterator[Conversation]:
        """One turn each."""
        chance = Random(f"random {seed}")  # noqa: S311
        number = 0
        while True:
            number += 1
            prompt, output = (
                max(1, round(mean * chance.uniform(1.0 - self.spread, 1.0 + self.spread)))
                for mean in (self.prompt, self.output)
            )
            yield Conversation((Turn((Piece(f"random {seed} {number}", prompt),), output),))


KINDS: Mapping[str, Callable[..., SharedPrefix | MultiTurn | Unshared]] = {
    "shared-prefix": SharedPrefix,
    "multi-turn": MultiTurn,
    "random": Unshared,
}
PRESETS: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "kthena-4096": (
        "shared-prefix",
        {"groups": 256, "prompts": 32, "prefix": 4096, "own": 256, "output": 128},
    ),
    "kthena-256": ("shared-prefix", {"groups": 256, "prompts": 32, "prefix": 256, "own": 256, "output": 128}),
    "llm-d-73": ("shared-prefix", {"groups": 150, "prompts": 5, "prefix": 6000, "own": 1200, "output": 1000}),
    "llm-d-37": ("shared-prefix", {"groups": 83, "prompts": 3, "prefix": 8000, "own": 1200, "output": 1000}),
}
TRACE = "trace"
NAMES = (*KINDS, TRACE, *PRESETS)


def workload_of(text: str) -> Workload:
    """Of `NAME:KEY=VALUE,KEY=VALUE`, or `trace:FILE,KEY=VALUE`. Raises InvalidInput with the nearest name, NotFound."""
    name, _, tail = text.partition(":")
    if name == TRACE:
        return trace_of(tail)
    kind, given = PRESETS.get(name, (name, {}))
    build = KINDS.get(kind)
    if build is None:
        close = nearest(name, NAMES)
        hint = f"did you mean {' or '.join(close)}?" if close else ""
        raise InvalidInput(f"--workload: found {name!r}, expected one of {', '.join(NAMES)}", hint=hint)
    defaults = build()
    known = {field: getattr(defaults, field) for field in defaults.__struct_fields__ if field != "name"}
    settings: dict[str, int | float] = dict(given)
    for part in filter(None, tail.split(",")):
        key, _, value = part.partition("=")
        settings[key] = _number(f"--workload {name}", key, value, known)
    return build(name=text, **settings)


def _number(where: str, key: str, value: str, known: Mapping[str, int | float]) -> int | float:
    if key not in known:
        close = nearest(key, tuple(known))
        hint = f"did you mean {' or '.join(close)}?" if close else ""
        raise InvalidInput(f"{where}: found {key!r}, expected one of {', '.join(known)}", hint=hint)
    kind = type(known[key])
    low, high = bounds_of(key)
    try:
        number = kind(value)
    except ValueError:
        number = -1
    if not low <= number <= high:
        raise InvalidInput(
            f"{where}: {key}: found {value!r}, expected {'a whole number' if kind is int else 'a number'} from {low:g} to {high:g}"
        )
    return number


def bounds_of(key: str) -> tuple[float, float]:
    """The least and the greatest value of a setting."""
    if key == "think":
        return 0.0, 86_400.0
    if key == "spread":
        return 0.0, 1.0
    if key in ("hot", "skew"):
        return 0, MAX_COUNT if key == "hot" else 10.0
    return (0, MAX_TOKENS) if key == "prefix" else (1, MAX_TOKENS if key in _TOKENS else MAX_COUNT)


_TOKENS = frozenset(("own", "output", "prompt"))
