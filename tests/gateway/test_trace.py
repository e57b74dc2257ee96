"""A trace goes on where it was begun well, and begins anew where not."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from penstock.gateway.trace import MAX_STATE_BYTES, Traces

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
REFUSED = [
    b"",
    b"00",
    b"ff" + PARENT[2:],
    PARENT.upper(),
    PARENT + b"-",
    PARENT + b"-more",
    PARENT + b" ",
    PARENT[:-1],
    b"00-" + b"0" * 32 + PARENT[35:],
    PARENT[:36] + b"0" * 16 + b"-01",
    b"cc" + PARENT[2:] + b"more",
]


@pytest.mark.parametrize(
    "given", [PARENT, b"cc" + PARENT[2:], b"cc" + PARENT[2:] + b"-more", PARENT[:-2] + b"ff"]
)
def test_a_good_parent_is_gone_on_with_under_a_span_of_our_own(given: bytes) -> None:
    trace = Traces().begin(given, b"vendor=1")
    assert (trace.id, trace.parent, trace.sampled) == (PARENT[3:35], PARENT[36:52], True)
    assert trace.span != trace.parent
    assert trace.headers == [
        (b"traceparent", b"00-%b-%b-01" % (trace.id, trace.span)),
        (b"tracestate", b"vendor=1"),
    ]


@pytest.mark.parametrize("given", REFUSED)
def test_a_malformed_parent_counts_as_none_and_its_state_goes_with_it(given: bytes) -> None:
    trace = Traces().begin(given, b"vendor=1")
    assert trace.id != PARENT[3:35]
    assert (trace.parent, trace.sampled) == (b"", False)
    assert trace.headers == [(b"traceparent", b"00-%b-%b-00" % (trace.id, trace.span))]


@pytest.mark.parametrize("flags", [b"00", b"02", b"fe"])
def test_the_callers_decision_not_to_sample_holds(flags: bytes) -> None:
    assert not Traces(1.0).begin(PARENT[:-2] + flags).sampled


@pytest.mark.parametrize("state", [b"x" * (MAX_STATE_BYTES + 1), b"a=\x01", "a=ü".encode()])
def test_a_state_that_is_too_long_or_no_text_is_dropped(state: bytes) -> None:
    assert [name for name, _ in Traces().begin(PARENT, state).headers] == [b"traceparent"]


@given(st.integers(0, 1 << 32), st.booleans())
def test_others_read_what_we_write(seed: int, sampled: bool) -> None:
    trace = Traces(float(sampled), random=Random(seed)).begin()
    carrier = {name.decode(): value.decode() for name, value in trace.headers}
    context = TraceContextTextMapPropagator().extract(carrier)
    (span,) = context.values()
    read = span.get_span_context()  # type: ignore[attr-defined]
    assert (read.trace_id, read.span_id) == (int(trace.id, 16), int(trace.span, 16))
    assert read.trace_flags.sampled == trace.sampled == sampled


def test_the_share_of_new_traces_that_is_sampled_is_the_ratio_and_follows_the_trace_id() -> None:
    traces = Traces(0.25, random=Random(1))
    drawn = [traces.begin() for _ in range(4000)]
    assert 900 < Counter(trace.sampled for trace in drawn)[True] < 1100
    assert all(trace.sampled == (int(trace.id[16:], 16) < 2**62) for trace in drawn)
