"""Manifests generated from the types themselves: every field may appear, with every kind of value it may hold."""

from typing import Any

from hypothesis import strategies as st

from penstock.resources.scheme import Kind
from penstock.resources.structure import _fields, _Shape

TEXTS = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=12)
INTEGERS = st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1)
QUANTITIES = st.sampled_from(["1", "500m", "4Gi", "0.5", "1e3", 2, 1.5])
JSON_VALUES = st.recursive(
    st.booleans() | INTEGERS | TEXTS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3) | st.dictionaries(TEXTS, inner, min_size=1, max_size=3)
    ),
    max_leaves=4,
)


@st.composite
def values(draw: st.DrawFn, shape: _Shape, depth: int) -> Any:
    if shape.any:
        return draw(JSON_VALUES)
    if shape.struct is not None:
        fields = _fields(shape.struct)
        few = draw(st.sets(st.sampled_from(sorted(fields)), max_size=4)) if depth > 0 and fields else set()
        names = sorted(name for name in fields if fields[name].required or name in few)
        return {name: draw(values(fields[name].shape, depth - 1)) for name in names}
    if shape.items is not None:
        return draw(st.lists(values(shape.items, depth - 1), min_size=1, max_size=2))
    if shape.values is not None:
        return draw(st.dictionaries(TEXTS, values(shape.values, depth - 1), min_size=1, max_size=2))
    if shape.is_quantity:
        return draw(QUANTITIES)
    kinds = {
        str: TEXTS,
        int: INTEGERS,
        bool: st.booleans(),
        float: st.floats(allow_nan=False, allow_infinity=False),
    }
    return draw(st.one_of(*(kinds[scalar] for scalar in shape.scalars)))


def manifests(kind: Kind) -> st.SearchStrategy[dict[str, Any]]:
    """Documents of the kind that fit its type, though not always its rules."""
    return values(_Shape(struct=kind.type), 6).map(
        lambda document: {**document, "apiVersion": kind.api_version, "kind": kind.kind}
    )
