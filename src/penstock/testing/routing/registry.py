"""Finds policies by listing their folder: a new one is a new file, whose first line says whose rule it is."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol, cast

import penstock.testing.routing.policies
from penstock.kit.errors import InvalidInput, nearest
from penstock.testing.routing.policy import Policy, Setup


class PolicyModule(Protocol):
    """A module of `policies/`."""

    __doc__: str | None

    def open_policy(self, setup: Setup) -> Policy:
        """A router that knows nothing yet."""
        ...


def policy_names() -> tuple[str, ...]:
    """All, as `kthena-prefix` is the file `kthena_prefix.py`."""
    found = pkgutil.iter_modules(penstock.testing.routing.policies.__path__)
    return tuple(sorted(module.name.replace("_", "-") for module in found))


def policy_module(name: str) -> PolicyModule:
    """Raises InvalidInput for one that is not there."""
    known = policy_names()
    if name not in known:
        close = nearest(name, known, 1)
        raise InvalidInput(
            f"policy: found {name!r}, expected one of {', '.join(known)}",
            hint=f"did you mean {close[0]}?" if close else "",
        )
    package = penstock.testing.routing.policies.__name__
    return cast("PolicyModule", importlib.import_module(f"{package}.{name.replace('-', '_')}"))
