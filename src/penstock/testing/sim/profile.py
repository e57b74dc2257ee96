"""How fast a simulated engine is, what it costs, and how long it takes to start; where each figure comes from.

Shipped profiles lie in `engines/*.yaml`; a file of one's own has the same fields. A figure without a word in `sources` is refused, so
that nobody reads a guess as a measurement.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from penstock.kit.errors import InvalidInput, NotFound

PROFILES = Path(__file__).parent / "engines"
PHASES = ("placing", "downloading", "loading", "warming")


class StartTimes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds that each phase of a cold start takes, once the replica has room on a node."""

    placing_s: float = 0.0
    downloading_s: float = 0.0
    loading_s: float = 0.0
    warming_s: float = 0.0

    @property
    def total_s(self) -> float:
        """From asking to ready."""
        return self.placing_s + self.downloading_s + self.loading_s + self.warming_s


class EngineProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model on one replica's GPUs; see `engine.py` for what the figures do.

    `overhead_s` passes before a prompt enters the engine (HTTP, tokenising). `gpu_hour_price` is in `currency` for one GPU.
    `sources` says by field where the figure is from.
    """

    name: str
    description: str
    gpus: int
    gpu_hour_price: float
    start: StartTimes
    prefill_tokens_per_s: float
    step_base_s: float
    step_per_sequence_s: float
    overhead_s: float
    max_batched_tokens: int
    max_sequences: int
    kv_tokens: int
    sources: dict[str, str]
    currency: str = "USD"


POSITIVE = (
    "gpus",
    "prefill_tokens_per_s",
    "step_base_s",
    "max_batched_tokens",
    "max_sequences",
    "kv_tokens",
)
NOT_NEGATIVE = ("gpu_hour_price", "step_per_sequence_s", "overhead_s")


def profile_names() -> tuple[str, ...]:
    """Those that come with Penstock."""
    return tuple(sorted(path.stem for path in PROFILES.glob("*.yaml")))


def load_profile(name: str) -> EngineProfile:
    """A shipped profile by name, or any `.yaml` or `.json` file. Raises NotFound and InvalidInput."""
    if name in profile_names():
        return _read(PROFILES / f"{name}.yaml")
    path = Path(name)
    if path.suffix in (".yaml", ".yml", ".json") and path.is_file():
        return _read(path)
    near = get_close_matches(name, profile_names(), 1, 0.3)
    raise NotFound(
        f"--engine: found {name!r}, expected a file (.yaml, .json) or one of {', '.join(profile_names())}",
        hint=f"did you mean {near[0]}?" if near else "",
    )


def _read(path: Path) -> EngineProfile:
    try:
        raw: Any = msgspec.yaml.decode(path.read_bytes())
        profile = msgspec.convert(raw, EngineProfile)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: {error}") from None
    _check(profile, path)
    return profile


def _check(profile: EngineProfile, path: Path) -> None:
    for field in POSITIVE:
        if not getattr(profile, field) > 0:
            raise InvalidInput(f"{path}: {field}: found {getattr(profile, field)}, expected more than 0")
    for field in NOT_NEGATIVE:
        if not getattr(profile, field) >= 0:
            raise InvalidInput(f"{path}: {field}: found {getattr(profile, field)}, expected 0 or more")
    for phase in PHASES:
        if not getattr(profile.start, f"{phase}_s") >= 0:
            raise InvalidInput(f"{path}: start.{phase}_s: expected 0 or more")
    for field in ("start", *POSITIVE, *NOT_NEGATIVE):
        if not profile.sources.get(field):
            raise InvalidInput(
                f"{path}: sources.{field}: missing, expected where the figure comes from",
                hint="say so too where it is an assumption",
            )
    unknown = set(profile.sources) - {"start", *POSITIVE, *NOT_NEGATIVE}
    if unknown:
        raise InvalidInput(f"{path}: sources: found {sorted(unknown)[0]!r}, which is no figure of a profile")
