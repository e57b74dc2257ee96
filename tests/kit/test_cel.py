from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.kit.cel import parse_condition
from penstock.kit.cel_values import CelError, Quantity, Version

GPU = "gpu.nvidia.com"
DEVICE: dict[str, Any] = {
    "driver": GPU,
    "attributes": {
        GPU: {
            "productName": "NVIDIA H100 80GB HBM3",
            "type": "gpu",
            "cudaComputeCapability": Version((9, 0, 0)),
            "numaNode": 1,
            "healthy": True,
        }
    },
    "capacity": {GPU: {"memory": Quantity(Decimal(80 << 30))}},
}


def holds(expression: str) -> bool:
    return parse_condition(expression)({"device": DEVICE})


@pytest.mark.parametrize(
    "expression",
    [
        "device.driver == 'gpu.nvidia.com'",
        "device.attributes['gpu.nvidia.com'].productName == 'NVIDIA H100 80GB HBM3'",
        "device.attributes['gpu.nvidia.com'].productName.lowerAscii().contains('h100')",
        "device.attributes[\"gpu.nvidia.com\"].productName.lowerAscii().matches('^.*(a100|h100).*$')",
        "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('40Gi')) >= 0",
        "device.capacity['gpu.nvidia.com'].memory.isGreaterThan(quantity('79Gi'))",
        "device.capacity['gpu.nvidia.com'].memory == quantity('80Gi')",
        "device.attributes['gpu.nvidia.com'].cudaComputeCapability.compareTo(semver('8.0.0')) > 0",
        "device.attributes['gpu.nvidia.com'].type == 'gpu' && !(device.driver != 'gpu.nvidia.com')",
        "device.attributes['gpu.nvidia.com'].type in ['gpu', 'mig']",
        "'gpu.nvidia.com' in device.attributes && device.attributes['gpu.nvidia.com'].healthy",
        "has(device.attributes['gpu.nvidia.com'].productName) && !has(device.attributes['gpu.nvidia.com'].profile)",
        "cel.bind(gpu, device.attributes['gpu.nvidia.com'], gpu.numaNode == 1 && gpu.numaNode > -1)",
        "device.attributes['gpu.nvidia.com'].profile == '1g' || true",
        "true || device.attributes['gpu.nvidia.com'].profile == '1g'",
        "device\n  .driver\n  .startsWith('gpu') && device.driver.endsWith('com') && size(device.driver) == 14",
        "'it\\'s' == \"it's\"",
    ],
)
def test_the_common_forms_hold_for_a_device_that_meets_them(expression: str) -> None:
    assert holds(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "device.attributes['gpu.nvidia.com'].type == 'mig'",
        "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('81Gi')) >= 0",
        "device.attributes['gpu.nvidia.com'].profile == '1g' && false",
    ],
)
def test_they_do_not_hold_for_one_that_does_not(expression: str) -> None:
    assert not holds(expression)


@pytest.mark.parametrize(
    ("expression", "at", "words"),
    [
        ("device.driver = 'x'", 14, "is not taken here"),
        ("device.attributes.map(a, a)", 17, "method map is not known here"),
        ("device.driver == 'a' ? true : false", 21, "'? true : fal' is not taken here"),
        ("1 + 1 == 2", 2, "is not taken here"),
        ("1.5 == 1.5", 0, "is not taken here"),
        ("device.driver == ", 17, "expected a value"),
        ("(device.driver == 'a'", 21, "expected ')'"),
        ("driver == 'a'", 0, "driver is not known here; known is device"),
        ("device.driver == 1", 14, "cannot compare a text and a number"),
        ("device.driver.contain('a')", 13, "did you mean contains?"),
        ("quantty('1') == quantity('1')", 0, "did you mean quantity?"),
        ("quantity('many') == quantity('1')", 0, "many"),
        ("device.driver.matches('(a+)+')", 13, "repeated groups"),
        ("device.driver.matches('a*b*c*d*')", 13, "at most 3"),
        ("device.driver.matches('[')", 13, "is none"),
        ("device.attributes['other.com'].x == 1", 17, "no such key: other.com"),
        ("device.attributes['gpu.nvidia.com'].profile == '1g'", 35, "no such key: profile"),
        ("device.driver", 0, "is not true or false"),
        ("has(device)", 0, "has takes a member"),
        ("cel.map(a, b, c)", 4, "known is cel.bind"),
        ("'a\\q' == 'b'", 0, "is not taken in a text"),
        ("!" * 50 + "true", 41, "nested deeper"),
        ("(" * 50 + "true" + ")" * 50, 41, "nested deeper"),
        ("", 0, "expected a value"),
        ("true" + " " * 11_000, 0, "at most 10240"),
    ],
)
def test_anything_else_is_refused_with_its_place(expression: str, at: int, words: str) -> None:
    with pytest.raises(CelError) as caught:
        holds(expression)
    assert words in caught.value.message
    assert caught.value.at == at


@given(st.text(alphabet="device.()[]'\"!&|=<>in1 ,x", max_size=60))
def test_whatever_is_written_is_a_condition_or_a_fault(text: str) -> None:
    try:
        assert holds(text) in (True, False)
    except CelError as error:
        assert 0 <= error.at <= len(text)
