"""What does a model in OpenVINO IR keep of each token?

The .xml says it itself: a stateful model has variables for keys and values, with their shapes. It is searched with one pattern, not
parsed, so that no document can do more than not match.
"""

from __future__ import annotations

import re

from penstock.decide.model_shape import Layers, grouped

MAX_LAYERS = 4096
_STATE = re.compile(
    r'variable_id="past_key_values\.(\d{1,4})\.[^"]{0,80}?(key|value)"[^>]{0,200}?variable_shape="\?,(\d{1,6}),\?,(\d{1,6})"'
)


def layers_of_ir(xml: str) -> tuple[Layers, ...]:
    """Nothing for a model without state (encoders, classifiers)."""
    kept: dict[str, dict[str, tuple[int, int]]] = {}
    for found in _STATE.finditer(xml):
        kept.setdefault(found[1], {})[found[2]] = int(found[3]), int(found[4])
    whole = [one for one in kept.values() if {"key", "value"} <= one.keys()][:MAX_LAYERS]
    return grouped(
        Layers(count=1, kv_heads=one["key"][0], key_dim=one["key"][1], value_dim=one["value"][1])
        for one in whole
    )
