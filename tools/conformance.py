"""What the endpoint picker protocol asks for, what Penstock does, and which test shows it: read from the tests' own marks, so that nothing is told that is not tested.

`make conformance` runs those tests (this is then a plugin of pytest) and prints the table with their outcomes; `make docs` writes it as a page.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console
from rich.table import Table

TESTS = Path(__file__).parents[1] / "tests"
WITH_ENVOY, ALONE = TESTS / "e2e" / "test_envoy.py", TESTS / "gateway" / "test_epp.py"
MARK = "conformance"
GIE = "endpoint picker protocol"
LLM_D = "llm-d"


class Clause(NamedTuple):
    """`asks` is what `source` says, in our words."""

    source: str
    asks: str
    ours: str


CLAUSES = {
    "ext-proc": Clause(
        GIE,
        "MUST implement Envoy's external processing service",
        "answers heads, bodies and trailers in every body mode; bytes that are no message are refused, and the picker goes on",
    ),
    "streaming": Clause(
        GIE,
        "MUST support streaming of requests and answers, token by token",
        "FULL_DUPLEX_STREAMED both ways; the request goes on when its prompt is whole, the answer piece by piece as it comes",
    ),
    "subset": Clause(
        f"{GIE}, Endpoint Subset",
        "With `x-gateway-destination-endpoint-subset` in the metadata `envoy.lb.subset_hint`, MUST select only from it",
        "selects from it, fallbacks too; a list or a text with commas; where there is no metadata, the header of that name counts",
    ),
    "subset-empty": Clause(
        f"{GIE}, Endpoint Subset",
        "If none of the subset is eligible, or it is empty, MUST answer 503",
        "503 `no_endpoint`, at once",
    ),
    "whole-pool": Clause(
        f"{GIE}, Endpoint Subset",
        "Without a subset MUST select from the pool's endpoints",
        "selects from all of them; a caller's own `x-gateway-destination-endpoint` is overwritten",
    ),
    "destination": Clause(
        f"{GIE}, Destination Endpoint",
        "MUST name one or more `ip:port` in the header and in the metadata `envoy.lb`, never different ones",
        "both, the same; up to three, best first (`--fallbacks`)",
    ),
    "fallbacks": Clause(
        f"{GIE}, Destination Endpoint",
        "If retries are configured, the proxy goes down the list",
        "the next of the list answers, and the dead one is set aside",
    ),
    "no-endpoint": Clause(
        f"{GIE}, Destination Endpoint",
        "503 if there are no ready endpoints",
        "503 with the reason; a service that sleeps is woken and waited for first",
    ),
    "shed": Clause(
        f"{GIE}, Destination Endpoint",
        "429 if the request should be dropped",
        "429 with `Retry-After`, in the shape of OpenAI's errors",
    ),
    "served": Clause(
        f"{GIE}, Destination Endpoint Served",
        "The data plane says which endpoint served",
        "those before it in the list count as failed; what is learned of the answer is learned of the one that served",
    ),
    "health": Clause(
        f"{GIE}, Health Checking",
        "`grpc.health.v1` for `liveness`, `readiness` and the service's own name; not ready before endpoints are known",
        "so; any other name is NOT_FOUND",
    ),
    "failure-mode": Clause(
        "InferencePool, `endpointPickerRef.failureMode`",
        "While no picker answers: FailClose refuses, FailOpen serves",
        "Envoy's `failure_mode_allow`; a picker that comes back is asked at once. With streamed bodies FailOpen serves but for requests whose body Envoy had already sent to the picker; with `BUFFERED` all",
    ),
    "dropped-reason": Clause(
        LLM_D,
        "`x-llm-d-request-dropped-reason` says why a request was shed",
        "`rejected-saturated`, `rejected-ttl-expired`",
    ),
    "objective": Clause(
        LLM_D,
        "`x-llm-d-inference-objective` names the priority",
        "who has less gives up its place",
    ),
    "prefix": Clause(
        LLM_D,
        "Prompts that begin alike go where their beginning is cached",
        "so, by the gateway's own decision; those with nothing in common are spread",
    ),
    "identity": Clause(
        "callers",
        "Answers are the engine's, and refusals are the client's own errors",
        "nothing of an answer is changed but the usage that only the picker asked for; OpenAI's client raises its own classes",
    ),
    "gone": Clause(
        "callers",
        "A caller that goes costs nothing more",
        "the engine's work ends, the place in the queue is given back, nothing stays counted",
    ),
    "models": Clause(
        "callers",
        "One port for several models",
        "the model, the path or the Host names the service; 404 for one that is unknown",
    ),
    "bounds": Clause(
        "operators",
        "Bodies beyond the limit, buffers that are full, a port that is taken",
        "413, 429 and a message; over TLS where it has a certificate",
    ),
}


class Case(NamedTuple):
    """One test function; `has_worlds` if it runs with every configuration of Envoy."""

    clause: str
    file: Path
    name: str
    has_worlds: bool


def cases() -> list[Case]:
    """Every marked test. Raises ValueError for a mark that names no clause, and for a clause without a test."""
    found = [case for file in (WITH_ENVOY, ALONE) for case in _marked(file)]
    tested = {case.clause for case in found}
    if tested != CLAUSES.keys():
        raise ValueError(f"conformance: clauses and tests differ in {sorted(tested ^ CLAUSES.keys())}")
    return found


def _marked(file: Path) -> Iterator[Case]:
    for node in ast.parse(file.read_text()).body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == f"pytest.mark.{MARK}":
                for argument in mark.args:
                    worlds = any(one.arg == "world" for one in node.args.args)
                    yield Case(ast.literal_eval(argument), file, node.name, worlds)


def rows() -> Iterator[tuple[str, str, str, str, str]]:
    """Source, what it asks, what we do, the tests with a real Envoy, the tests that ask the picker as Envoy does."""
    every = cases()
    for key, clause in CLAUSES.items():
        mine = [case for case in every if case.clause == key]
        told = [", ".join(_said(case) for case in mine if case.file == file) for file in (WITH_ENVOY, ALONE)]
        yield (*clause, told[0] or "-", told[1] or "-")


def _said(case: Case) -> str:
    return case.name.removeprefix("test_").replace("_", " ") + ("" if not case.has_worlds else " (×3)")


class Outcomes:
    """How each clause's tests ended, for the table after a run."""

    def __init__(self) -> None:
        """Nothing has run."""
        self._clauses: dict[str, tuple[str, ...]] = {}
        self._ended: dict[str, list[str]] = {key: [] for key in CLAUSES}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Which test is of which clause."""
        for item in items:
            marks = item.iter_markers(MARK)
            self._clauses[item.nodeid] = tuple(key for mark in marks for key in mark.args)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test has ended: passed, failed or skipped; one whose preparation fails has failed."""
        if report.when == "call" or report.outcome != "passed":
            for key in self._clauses.get(report.nodeid, ()):
                self._ended[key].append(report.outcome)

    def pytest_terminal_summary(self) -> None:
        """The table."""
        shown = Table(
            "protocol", "asks for", "Penstock", "tests", title="Endpoint picker: conformance", show_lines=True
        )
        for key, clause in CLAUSES.items():
            ended = self._ended[key]
            counts = [f"{ended.count(one)} {one}" for one in ("passed", "failed", "skipped") if one in ended]
            shown.add_row(*clause, ", ".join(counts) or "not run")
        Console(width=max(Console().width, 150)).print(shown)


def pytest_configure(config: pytest.Config) -> None:
    """Loaded with `-p conformance`."""
    config.pluginmanager.register(Outcomes())
