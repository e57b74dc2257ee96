"""What the files of a model that makes embeddings say: the encoder's sizes, and how its tokens become one vector.

Pooling is what sentence-transformers' files beside the weights say: `1_Pooling/config.json` (mean or the first token), and unit
length if `modules.json` lists Normalize. Without those files: the mean, at unit length.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.engine.convert.config import count, read_document
from penstock.kit.errors import InvalidInput

ARCHITECTURES = ("BertModel", "BertForMaskedLM", "RobertaModel", "XLMRobertaModel")


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """The encoder's sizes. `first_position` is 0, or the padding token's number plus one for RoBERTa."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    positions: int
    first_position: int
    types: int
    eps: float
    mean: bool
    unit_length: bool

    @property
    def context_tokens(self) -> int:
        """How many tokens a text may have."""
        return self.positions - self.first_position


def is_encoder(folder: Path) -> bool:
    """Whether the folder's model makes embeddings. Raises PlatformError for a config.json that is none."""
    names = read_document(folder).get("architectures")
    return isinstance(names, list) and bool(names) and names[0] in ARCHITECTURES


def read_encoder(folder: Path) -> EncoderConfig:
    """Raises InvalidInput for what the graph lacks."""
    document = read_document(folder)
    for field, wanted in (("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        if document.get(field, wanted) != wanted:
            raise InvalidInput(
                f"config.json: {field} {document[field]!r}, expected {wanted}", code="unsupported_config"
            )
    roberta = "oberta" in str(document["architectures"][0])
    mean, unit_length = _pooling(folder)
    return EncoderConfig(
        vocab_size=count(document, "vocab_size"),
        hidden_size=count(document, "hidden_size"),
        intermediate_size=count(document, "intermediate_size"),
        layers=count(document, "num_hidden_layers"),
        heads=count(document, "num_attention_heads"),
        positions=count(document, "max_position_embeddings"),
        first_position=count(document, "pad_token_id", 1) + 1 if roberta else 0,
        types=count(document, "type_vocab_size", 1 if roberta else 2),
        eps=float(document.get("layer_norm_eps", 1e-12)),
        mean=mean,
        unit_length=unit_length,
    )


def _pooling(folder: Path) -> tuple[bool, bool]:
    """Whether the mean is taken (else the first token), and whether vectors get unit length."""
    modules, pooling = _optional(folder / "modules.json"), _optional(folder / "1_Pooling" / "config.json")
    first = isinstance(pooling, dict) and bool(pooling.get("pooling_mode_cls_token"))
    if isinstance(pooling, dict) and not first and not pooling.get("pooling_mode_mean_tokens", True):
        raise InvalidInput(
            "1_Pooling/config.json: expected the mean or the first token", code="unsupported_config"
        )
    named = (
        [str(m.get("type", "")) for m in modules if isinstance(m, dict)]
        if isinstance(modules, list)
        else None
    )
    return not first, named is None or any(name.endswith("Normalize") for name in named)


def _optional(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InvalidInput(f"{path.name} is not JSON: {error}", code="corrupt_config") from None
