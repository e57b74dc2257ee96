"""How fast a simulated engine is, what it costs, and how long it takes to start; where each figure comes from.

Shipped profiles lie in `profiles/*.yaml`; a file of one's own has the same fields. A figure without a word in `sources` is refused, so
that nobody reads a guess as a measurement.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from penstock.kit.errors import InvalidInput, NotFound

PROFILES = Path(__file__).parent / "profiles"
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
    """One model on one replica's GPUs; see `model.py` for what the figures do.

    `overhead_s` passes before a prompt enters the engine (HTTP, tokenising). `gpu_hour_price` is in `currency` for one GPU.
    `sources` says by field where the figure is from.

    `step_per_sequence_s` is the price of a sequence of usual length, for the coarse model of `penstock simulate`. The exact one counts
    `step_per_context_token_s` instead, for each token whose KV a decoding step reads, and `attention_pair_s` for each pair of a token that
    is prefilled and one before it, beside `prefill_tokens_per_s`. `context_tokens` bounds prompt and answer together (0: nothing but
    the KV memory does). `transfer_token_s` is what a token's KV takes from another engine. `adapter_slots` 0 means no LoRA.
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
    block_tokens: int = 16
    context_tokens: int = 0
    step_per_context_token_s: float = 0.0
    attention_pair_s: float = 0.0
    transfer_token_s: float = 0.0
    adapter_slots: int = 0
    adapter_load_s: float = 0.0


POSITIVE = (
    "gpus",
    "prefill_tokens_per_s",
    "step_base_s",
    "max_batched_tokens",
    "max_sequences",
    "kv_tokens",
)
NOT_NEGATIVE = ("gpu_hour_price", "step_per_sequence_s", "overhead_s")
MAY_LACK = (
    "block_tokens",
    "context_tokens",
    "step_per_context_token_s",
    "attention_pair_s",
    "transfer_token_s",
    "adapter_slots",
    "adapter_load_s",
)
"""A source is due only where a profile says them."""
_DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(EngineProfile)}


def profile_names() -> tuple[str, ...]:
    """Those that come with Penstock."""
    return tuple(sorted(path.stem for path in PROFILES.glob("*.yaml")))


def load_profile(name: str, option: str = "--engine") -> EngineProfile:
    """A shipped profile by name, or any `.yaml` or `.json` file; `option` is how it was asked for. Raises NotFound and InvalidInput."""
    if name in profile_names():
        return _read(PROFILES / f"{name}.yaml")
    path = Path(name)
    if path.suffix in (".yaml", ".yml", ".json") and path.is_file():
        return _read(path)
    near = get_close_matches(name, profile_names(), 1, 0.3)
    raise NotFound(
        f"{option}: found {name!r}, expected a file (.yaml, .json) or one of {', '.join(profile_names())}",
        hint=f"did you mean {near[0]}?" if near else "",
    )


def _read(path: Path) -> EngineProfile:
    try:
        raw: Any = msgspec.yaml.decode(path.read_bytes())
        profile = msgspec.convert(raw, EngineProfile)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: {error}") from None
    _check(profile, path)
    _check_sources(profile, path)
    return profile


def _check(profile: EngineProfile, path: Path) -> None:
    for field in (*POSITIVE, "block_tokens"):
        if not getattr(profile, field) > 0:
            raise InvalidInput(f"{path}: {field}: found {getattr(profile, field)}, expected more than 0")
    for field in (*NOT_NEGATIVE, *MAY_LACK):
        if not getattr(profile, field) >= 0:
            raise InvalidInput(f"{path}: {field}: found {getattr(profile, field)}, expected 0 or more")
    for phase in PHASES:
        if not getattr(profile.start, f"{phase}_s") >= 0:
            raise InvalidInput(f"{path}: start.{phase}_s: expected 0 or more")


def _check_sources(profile: EngineProfile, path: Path) -> None:
    said = [field for field in MAY_LACK if getattr(profile, field) != _DEFAULTS[field]]
    for field in ("start", *POSITIVE, *NOT_NEGATIVE, *said):
        if not profile.sources.get(field):
            raise InvalidInput(
                f"{path}: sources.{field}: missing, expected where the figure comes from",
                hint="say so too where it is an assumption",
            )
    unknown = set(profile.sources) - {"start", *POSITIVE, *NOT_NEGATIVE, *MAY_LACK}
    if unknown:
        raise InvalidInput(f"{path}: sources: found {sorted(unknown)[0]!r}, which is no figure of a profile")
