from __future__ import annotations

import pytest

from penstock.contracts.devices import UNSHARED, Sharing
from penstock.decide.device_plugin import PluginConfig, read_plugin_config


def sharing(kind: str, extra: str = "", resource: str = "{name: nvidia.com/gpu, replicas: 4}") -> str:
    return f"version: v1\nsharing:\n  {kind}:\n    {extra}\n    resources:\n    - {resource}\n"


def test_time_slices_keep_the_name_unless_it_is_asked_otherwise() -> None:
    assert read_plugin_config(sharing("timeSlicing")).sharing == Sharing(strategy="time-slicing", replicas=4)
    renamed = read_plugin_config(
        sharing("timeSlicing", "renameByDefault: true\n    failRequestsGreaterThanOne: true")
    )
    assert renamed.sharing == Sharing(
        strategy="time-slicing", replicas=4, resource="nvidia.com/gpu.shared", refuses_many=True
    )


def test_mps_always_refuses_more_than_one_replica() -> None:
    assert read_plugin_config(sharing("mps")).sharing == Sharing(
        strategy="mps", replicas=4, refuses_many=True
    )


def test_a_configuration_without_sharing_says_how_mig_devices_are_named() -> None:
    assert read_plugin_config("version: v1\nflags: {migStrategy: single}") == PluginConfig(
        mig_strategy="single"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version: v2", "version: found 'v2', expected v1"),
        ("flags: {}", "version: Required value"),
        (
            "version: v1\nflags: {migStrategy: many}",
            "flags.migStrategy: found 'many', expected none, single, mixed",
        ),
        ("version: v1\nsharing: {timeslicing: {}}", 'did you mean "timeSlicing"'),
        (
            sharing("timeSlicing", resource="{name: nvidia.com/gpu, replicas: 1}"),
            "replicas: found 1, expected 2 to",
        ),
        (
            sharing("timeSlicing", resource="{name: nvidia.com/gpu, replicas: four}"),
            "sharing.timeSlicing.resources[0].replicas",
        ),
        (
            sharing("timeSlicing", resource="{name: nvidia.com/mig-1g.5gb, replicas: 2}"),
            "only whole GPUs are shared",
        ),
        (sharing("timeSlicing", resource="{name: nvidia.com/gpu, replicas: 2, devices: 1}"), "expected all"),
        (sharing("mps", "failRequestsGreaterThanOne: false"), "MPS always refuses"),
        ("version: v1\nsharing: {timeSlicing: {resources: []}}", "found 0 entries"),
        (
            sharing("timeSlicing") + "  mps: {resources: [{name: nvidia.com/gpu, replicas: 2}]}",
            "they exclude each other",
        ),
        ("a: [", "line 2"),
        ("", "found 0 documents"),
    ],
)
def test_a_mistake_is_named_by_its_field(text: str, words: str) -> None:
    config = read_plugin_config(text)
    assert words in "; ".join(config.mistakes)
    assert config.sharing == UNSHARED
