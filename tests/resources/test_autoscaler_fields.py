"""The reference of Knative's settings says what the code does."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from penstock.resources.autoscaler_config import DEFAULTS, KEYS, parse_config
from penstock.resources.autoscaler_fields import (
    ANNOTATION_FIELDS,
    CONFIG_FIELDS,
    OWN_FIELDS,
    aliases_of,
    profile_rows,
)
from penstock.resources.autoscaler_settings import ALIASES, DOMAIN, PROFILES, annotations_of, settings_of
from penstock.resources.serving import Component
from penstock.resources.validate_autoscaling import scaling_problems


def test_every_key_of_the_configuration_is_told_once() -> None:
    assert sorted(name for name, *_ in CONFIG_FIELDS) == sorted(KEYS)


def test_the_defaults_that_are_told_are_those_that_hold() -> None:
    assert parse_config({name: default for name, default, *_ in CONFIG_FIELDS}) == (DEFAULTS, ())


def test_every_annotation_is_told_once_with_its_other_spellings() -> None:
    names = [name for name, *_ in ANNOTATION_FIELDS]
    assert len(set(names)) == len(names)
    assert set(ALIASES.values()) <= set(names)
    assert {alias for name in names for alias in aliases_of(name)} == set(ALIASES)


class Asked(Mapping[str, str]):
    """Annotations that remember which were looked for."""

    def __init__(self, held: Mapping[str, str]) -> None:
        self.held, self.names = held, set[str]()

    def __getitem__(self, key: str) -> str:
        self.names.add(key)
        return self.held[key]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.held)

    def __len__(self) -> int:
        return len(self.held)


def test_what_is_read_beside_knatives_domain_is_told() -> None:
    asked = Asked({})
    settings_of(asked, 0, DEFAULTS)
    assert {name for name in asked.names if not name.startswith(DOMAIN)} == {name for name, *_ in OWN_FIELDS}


@pytest.mark.parametrize("name", [name for name, *_ in ANNOTATION_FIELDS])
def test_every_annotation_that_is_told_is_checked(name: str) -> None:
    given = {DOMAIN + "class": "kpa.autoscaling.knative.dev", DOMAIN + name: "nonsense.knative.dev"}
    assert scaling_problems(given), name


def test_every_annotation_of_ours_reaches_the_revision() -> None:
    given = {name: "1s" for name, *_ in OWN_FIELDS}
    assert given.items() <= annotations_of(given, Component()).items()


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_told_whole(name: str) -> None:
    assert len(profile_rows(name)) == len(PROFILES[name])
