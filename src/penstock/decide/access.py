"""May this caller do this?

Two questions in the order of a request: is there a key where one is asked for, and does it hold now (`may_enter`); does it
reach as far as what is asked of it (`may_use`, `may_administer`, `may_explain`). Whether a token belongs to a key is cryptography, and the
caller's: it gives the key and the hash that its token met.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from penstock.contracts.exchange import KeyHash, KeyRoute

Reason = Literal[
    "",
    "missing_api_key",
    "invalid_api_key",
    "namespace_not_allowed",
    "model_not_allowed",
    "admin_required",
    "explain_not_allowed",
]
MAX_PATTERNS = 4096
"""Compiled patterns that are kept."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` "" is yes; else why not, in a word that stays and in words for the caller."""

    reason: Reason = ""
    message: str = ""
    hint: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the caller may."""
        return not self.reason


YES = Verdict()
MISSING = Verdict(
    "missing_api_key",
    "no API key was given",
    "send `Authorization: Bearer psk-…`; `penstock keys create NAME` makes a key",
)
UNKNOWN = Verdict(
    "invalid_api_key",
    "the API key is not known here: it was mistyped, revoked, rotated or deleted",
    "`penstock keys list` shows the keys, `penstock keys rotate NAME` makes a new one",
)


def may_enter(
    key: KeyRoute | None, met: KeyHash | None, *, given: bool, required: bool, now: float
) -> Verdict:
    """Whether a caller is let in at all. `given`: it sent something that claims to be a key; `met`: the hash that this has.

    A token that is no key of ours counts as not given where none is asked for: clients that insist on a key send any text.
    """
    if not given:
        return MISSING if required else YES
    if key is None or met is None:
        return UNKNOWN
    if met.expires_at and met.expires_at <= now:
        return Verdict(
            "invalid_api_key",
            f"the API key {key.namespace}/{key.name} has expired or was replaced by a newer one",
            f"`penstock keys rotate {key.name} --namespace {key.namespace}` makes a new one",
        )
    return YES


def may_use(key: KeyRoute, namespace: str, name: str) -> Verdict:
    """Whether the key reaches this service: its namespace and `namespace/name` must each match a pattern."""
    if not matches_any(key.namespaces, namespace):
        return Verdict(
            "namespace_not_allowed",
            f"the API key {key.namespace}/{key.name} may not use models of the namespace {namespace!r}",
            f"spec.namespaces of the ApiKey allows {_listed(key.namespaces)}",
        )
    if not matches_any(key.models, f"{namespace}/{name}"):
        return Verdict(
            "model_not_allowed",
            f"the API key {key.namespace}/{key.name} may not use the model {namespace}/{name}",
            f"spec.models of the ApiKey allows {_listed(key.models)}",
        )
    return YES


def may_administer(key: KeyRoute | None, *, required: bool) -> Verdict:
    """Whether the caller may see what concerns the whole gateway; where no key is asked for, everybody may."""
    if not required or (key is not None and key.admin):
        return YES
    return Verdict(
        "admin_required",
        "this path needs an API key with `admin: true`",
        "`penstock keys create NAME --admin` makes one",
    )


def may_explain(key: KeyRoute | None, *, required: bool) -> Verdict:
    """Whether the caller may know how its own requests are routed, which tells of endpoints; where no key is asked for, everybody may."""
    if not required or (key is not None and (key.admin or key.explain)):
        return YES
    return Verdict(
        "explain_not_allowed",
        "the header x-penstock-explain needs an API key with `explain: true` or `admin: true`",
        "`penstock keys create NAME --explain` makes one",
    )


def matches_any(patterns: Iterable[str], text: str) -> bool:
    """Whether one of the patterns matches all of `text`: `*` is any run of characters, `?` any single one."""
    return any(pattern == "*" or _compiled(pattern).fullmatch(text) for pattern in patterns)


@lru_cache(maxsize=MAX_PATTERNS)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def _listed(patterns: tuple[str, ...]) -> str:
    return ", ".join(patterns[:8]) + (", …" if len(patterns) > 8 else "") or "nothing"
