"""`penstock explain` shows what placements stand on."""

import msgspec
import pytest

from penstock.cli.commands.explain import _print_fits
from penstock.decide.pod_fit import CERTIFICATE_ANNOTATION, PodCertificate
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Pod, PodSpec

CERTIFICATE = PodCertificate(
    container="main",
    model="hf://o/m",
    engine="vllm",
    gpu="l4",
    need_bytes=1,
    usable_bytes=2,
    footprint_bytes=3,
    inequality="14.96 weights + 1.00 kv cache = 15.96 <= 20.18 GiB",
    accuracy="learned from 7 runs",
)


def pod(name: str, certificate: PodCertificate | None) -> Pod:
    said = {CERTIFICATE_ANNOTATION: msgspec.json.encode(certificate).decode()} if certificate else {}
    return Pod(metadata=ObjectMeta(name=name, annotations=said), spec=PodSpec(containers=()))


def test_pods_that_stand_on_the_same_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    other = msgspec.structs.replace(CERTIFICATE, gpu="t4", inequality="1 <= 2")
    _print_fits([pod("a", CERTIFICATE), pod("b", CERTIFICATE), pod("c", other), pod("d", None)])
    assert capsys.readouterr().out == (
        "\nMemory of each GPU:\n"
        "  a, b: hf://o/m fits: 14.96 weights + 1.00 kv cache = 15.96 <= 20.18 GiB\n"
        "  learned from 7 runs\n"
        "  c: hf://o/m fits: 1 <= 2\n"
        "  learned from 7 runs\n"
    )


def test_without_certificates_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    _print_fits([pod("d", None)])
    assert capsys.readouterr().out == ""
