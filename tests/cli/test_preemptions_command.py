"""What `penstock preemptions` prints; only the server is pretended."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from penstock.cli.commands import preemptions
from penstock.decide.preemption_ledger import Entry, Ledger
from penstock.kit.errors import NotFound

PAID = Entry(
    at=1_795_000_000.0,
    ended_at=1_795_000_030.0,
    victim="research/tune-x",
    by="shop/chat-0",
    node="n1",
    gpus=4,
    outcome="LastCheckpoint",
    lost_gpu_seconds=7200.0,
    step=40,
    lost_usd_micros=5_000_000,
    broken="step-41 is absent",
)
UNPRICED = Entry(
    at=1_795_000_100.0,
    ended_at=1_795_000_101.0,
    victim="research/probe",
    by="shop/chat-1",
    node="n2",
    gpus=0.5,
    outcome="NothingSaved",
    lost_gpu_seconds=50.0,
)


def serve(monkeypatch: pytest.MonkeyPatch, ledger: Ledger | None) -> None:
    class Server:
        def get(self, path: str) -> dict[str, Any]:
            assert path == "/api/v1/namespaces/penstock-system/configmaps/preemptions"
            if ledger is None:
                raise NotFound("no such ConfigMap")
            data = {
                "totals": msgspec.json.encode(ledger.totals).decode(),
                "entries": msgspec.json.encode(ledger.entries).decode(),
            }
            return {"metadata": {"name": "preemptions"}, "data": data}

    monkeypatch.setattr(preemptions, "connect", lambda *_: Server())


def test_who_lost_what_for_whom_is_shown_in_work_and_money(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(monkeypatch, Ledger().with_(PAID).with_(UNPRICED))
    preemptions.run()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["research", "7250", "GPU-s", "5.0000", "USD", "0", "GPU-s", "unknown"] in lines
    assert ["shop", "0", "GPU-s", "unknown", "7250", "GPU-s", "5.0000", "USD"] in lines
    newest, oldest = (line for line in lines if "n1" in line or "n2" in line)
    assert newest[-3:] == ["50", "GPU-s", "unknown"]
    assert oldest[1:4] == ["research/tune-x", "shop/chat-0", "n1"]
    assert oldest[-5:] == ["40", "7200", "GPU-s", "5.0000", "USD"]
    assert "step-41" in oldest


def test_as_json_it_is_the_ledger_and_without_one_it_is_empty(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(monkeypatch, Ledger().with_(PAID))
    preemptions.run(output="json")
    shown = json.loads(capsys.readouterr().out)
    assert shown["totals"]["ofUsdMicros"] == {"research": 5_000_000}
    serve(monkeypatch, None)
    preemptions.run()
    assert capsys.readouterr().out == "Nobody gave way yet.\n"
