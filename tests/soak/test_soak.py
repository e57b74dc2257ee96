"""A short soak: what `make soak` does for half an hour."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter

import pytest
from soak_client import Reply
from soak_engine import Book, checksum
from soak_load import Ledger

from soak import soak

ASKED = {"nonce": "a", "events": 0, "want": 1, "pad": "p"}
SECONDS = 30 if os.environ.get("CI") else 10


@pytest.mark.timeout(SECONDS + 90)
def test_under_faults_nothing_is_lost_or_doubled_and_nothing_is_left_over() -> None:
    figures = asyncio.run(soak(SECONDS, seed=1))
    print(json.dumps(figures, indent=2))
    assert not figures["violations"], figures
    assert figures["ends"]["right"] > 20 * SECONDS
    assert len(figures["faults"]) >= 10, "faults of every kind came about"


def told(nonce: str, total: int) -> Reply:
    return Reply(200, {}, json.dumps({"nonce": nonce, "sum": total, "pad": "x"}).encode())


def test_the_ledger_finds_what_must_never_be() -> None:
    ledger = Ledger(Book(whole=Counter(a=1, twice=2)))
    ledger.answer(ASKED, told("a", checksum(ASKED)))
    assert not ledger.violations
    ledger.answer(ASKED, told("b", checksum(ASKED)))
    ledger.answer(ASKED, told("a", 0))
    ledger.cut(ASKED, "early")
    ledger.lost(ASKED)
    ledger.close()
    assert set(ledger.violations) == {
        "another's answer",
        "a changed body",
        "lost although answered",
        "lost",
        "answered twice",
        "asked twice after an answer",
    }


def test_a_fault_of_the_engine_excuses_a_cut() -> None:
    ledger = Ledger(Book(whole=Counter(a=1), faults={"a": ["restart"]}))
    ledger.cut(ASKED, "early")
    assert not ledger.violations
