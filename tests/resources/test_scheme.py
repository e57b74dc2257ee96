"""Names of kinds."""

import pytest

from penstock.resources.core import Node
from penstock.resources.scheme import KINDS, by_path, find, kind_of, resolve, words
from penstock.resources.serving import InferenceService


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_kind_is_found_by_each_of_its_names(kind):
    assert kind_of(kind.type) is kind
    assert find(kind.api_version, kind.kind) is kind
    assert by_path(kind.group, kind.version, kind.plural) is kind
    for name in (kind.plural, kind.singular, kind.kind, *kind.short_names, kind.plural.upper()):
        assert resolve(name) is kind
        assert resolve(f"{name}.{kind.group}") is kind or not kind.group
        assert name.lower() in words()


def test_no_two_kinds_share_a_name():
    names = [name for kind in KINDS for name in {kind.plural, kind.singular, *kind.short_names}]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("word", "type_"), [("isvc", InferenceService), ("inferenceservices.v1beta1.serving.kserve.io", InferenceService), ("no", Node)]
)  # fmt: skip
def test_people_use_short_and_full_names(word, type_):
    assert resolve(word) is kind_of(type_)


def test_unknown_names_find_nothing():
    assert (resolve("zz"), find("v1", "Zz"), by_path("", "v1", "zzs")) == (None, None, None)


def test_what_a_type_says_it_is_agrees_with_the_scheme():
    for kind in KINDS:
        fields = dict.fromkeys(("api_version", "kind"), kind.type.__struct_defaults__)
        assert fields
        defaults = [
            d.factory()
            for d in kind.type.__struct_defaults__
            if hasattr(d, "factory") and d.factory.__name__ == "<lambda>"
        ]
        assert defaults == [kind.api_version, kind.kind]


def test_names_in_messages_carry_the_group():
    assert (kind_of(InferenceService).qualified, kind_of(Node).qualified) == (
        "InferenceService.serving.kserve.io",
        "Node",
    )
