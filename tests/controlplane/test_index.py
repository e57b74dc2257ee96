"""Objects are found by namespace, label and owner, whatever happened to them before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.controlplane.index import Index
from penstock.resources.core import ConfigMap
from penstock.resources.meta import ObjectMeta, OwnerReference
from penstock.resources.selectors import matches, parse_labels

LABELS = st.dictionaries(st.sampled_from(["app", "owner", "namespace"]), st.sampled_from(["a", "b"]))
SELECTORS = st.sampled_from(["", "app=a", "owner=a", "namespace=b,app=a", "app in (a,b)", "!app", "app!=a"])


@st.composite
def config_maps(draw: st.DrawFn) -> ConfigMap:
    owner = draw(st.sampled_from(["", "u1", "u2"]))
    reference = OwnerReference(api_version="v1", kind="x", name="o", uid=owner, controller=True)
    meta = ObjectMeta(
        name=draw(st.sampled_from("xyz")),
        namespace=draw(st.sampled_from("mn")),
        labels=draw(LABELS),
        owner_references=(reference,) if owner else (),
    )
    return ConfigMap(metadata=meta)


@given(
    st.lists(st.tuples(config_maps(), st.booleans()), max_size=30),
    st.sampled_from([None, "m", "n", "none"]),
    SELECTORS,
    st.sampled_from(["", "u1", "u2"]),
)
def test_a_look_up_yields_what_looking_at_every_object_would(
    changes: list[tuple[ConfigMap, bool]], namespace: str | None, selector: str, owner: str
) -> None:
    index, plain = Index(), dict[tuple[str, str], ConfigMap]()
    for obj, stays in changes:
        place = (obj.metadata.namespace, obj.metadata.name)
        assert index.put(place, obj if stays else None) is plain.pop(place, None)
        if stays:
            plain[place] = obj
    terms = parse_labels(selector)
    expected = [
        plain[place]
        for place in sorted(plain)
        if (namespace is None or place[0] == namespace)
        and matches(terms, plain[place].metadata.labels)
        and (not owner or any(o.uid == owner for o in plain[place].metadata.owner_references))
    ]
    assert list(index.find(namespace, terms, owner)) == expected
    assert list(index) == sorted(plain)
