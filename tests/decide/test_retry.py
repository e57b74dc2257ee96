"""What may be tried again, and what may not however much one would like to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.retry import (
    LEAST_ATTEMPT_S,
    MAX_ATTEMPTS,
    RETRIABLE_STATUS,
    Failure,
    is_free,
    is_repeatable,
    retry,
)

FAILURES: tuple[Failure, ...] = (
    "not_sent", "no_answer_reused", "no_answer", "status_502", "status_503", "status_504", "late", "cut_off",
)  # fmt: skip


@pytest.mark.parametrize(
    ("failure", "others", "repeatable", "budget", "action", "outcome", "aside"),
    [
        ("not_sent", True, True, 9, "elsewhere", "retried", True),
        ("not_sent", True, False, 0, "elsewhere", "retried", True),
        ("not_sent", False, True, 9, "give_up", "alone", True),
        ("no_answer_reused", False, True, 9, "again", "retried", False),
        ("no_answer_reused", True, False, 9, "give_up", "not_repeatable", False),
        ("no_answer_reused", True, True, 0.9, "give_up", "budget_exhausted", False),
        ("no_answer", True, True, 9, "elsewhere", "retried", True),
        ("no_answer", True, False, 9, "give_up", "not_repeatable", True),
        ("no_answer", True, True, 0, "give_up", "budget_exhausted", True),
        ("status_502", True, True, 9, "elsewhere", "retried", True),
        ("status_503", True, True, 9, "elsewhere", "retried", True),
        ("status_503", False, True, 9, "give_up", "alone", True),
        ("status_504", True, False, 9, "give_up", "not_repeatable", True),
        ("cut_off", True, True, 9, "give_up", "passed_on", True),
        ("late", True, True, 9, "give_up", "deadline", True),
    ],
)
def test_what_may_be_tried_again(
    failure: Failure, others: bool, repeatable: bool, budget: float, action: str, outcome: str, aside: bool
) -> None:
    answer = retry(failure, 1, others=others, repeatable=repeatable, budget=budget)
    assert (answer.action, answer.outcome, answer.set_aside) == (action, outcome, aside)
    assert answer.reason


@given(
    st.sampled_from(FAILURES),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
    st.floats(0, 5),
    st.floats(0, 5),
)
def test_a_retry_keeps_every_bound(
    failure: Failure, attempt: int, others: bool, repeatable: bool, budget: float, remaining_s: float
) -> None:
    answer = retry(
        failure, attempt, others=others, repeatable=repeatable, budget=budget, remaining_s=remaining_s
    )
    assert (answer.action == "give_up") == (answer.outcome != "retried")
    if answer.action != "give_up":
        assert failure not in ("cut_off", "late")
        assert attempt < MAX_ATTEMPTS
        assert remaining_s >= LEAST_ATTEMPT_S
        assert is_free(failure) or (repeatable and budget >= 1)
    if answer.action == "elsewhere":
        assert others


def test_only_what_the_upstream_says_of_itself_is_retried_never_its_judgement_of_the_request() -> None:
    assert set(RETRIABLE_STATUS) == {502, 503, 504}
    assert all(failure in FAILURES for failure in RETRIABLE_STATUS.values())


@pytest.mark.parametrize(
    ("method", "path", "repeatable"),
    [
        (b"GET", "/anything/at/all", True),
        (b"HEAD", "/v1/models", True),
        (b"POST", "/v1/chat/completions", True),
        (b"POST", "/openai/v1/embeddings", True),
        (b"POST", "/v1/messages/count_tokens", True),
        (b"POST", "/api/generate", True),
        (b"POST", "/v1/models/iris:predict", True),
        (b"POST", "/v2/models/iris/versions/1/infer", True),
        (b"POST", "/v1/responses", False),
        (b"POST", "/v1/load_lora_adapter", False),
        (b"POST", "/v1/files", False),
        (b"DELETE", "/v1/files/x", False),
        (b"PUT", "/v1/chat/completions", False),
    ],
)
def test_reads_and_inference_may_run_twice_and_nothing_else(
    method: bytes, path: str, repeatable: bool
) -> None:
    assert is_repeatable(method, path) is repeatable
