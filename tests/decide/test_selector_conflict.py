from __future__ import annotations

import pytest

from penstock.decide.selector_conflict import REQUIRED, contradiction
from penstock.resources.pod import Pod, PodSpec

Term = list[tuple[str, str, list[str]]]


def pod(selector: dict[str, str], *terms: Term) -> Pod:
    made = [
        {
            "matchExpressions": [
                {"key": key, "operator": operator, "values": values} for key, operator, values in term
            ]
        }
        for term in terms
    ]
    affinity = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": made}}} if terms else None
    return Pod(spec=PodSpec(node_selector=selector, affinity=affinity))


@pytest.mark.parametrize(
    ("selector", "term", "words"),
    [
        ({"disk": "ssd"}, [("disk", "In", ["hdd"])], "disk In [ssd] together with disk In [hdd]"),
        ({"disk": "ssd"}, [("disk", "NotIn", ["ssd"])], "disk NotIn [ssd]"),
        ({"disk": "ssd"}, [("disk", "DoesNotExist", [])], "disk DoesNotExist"),
        ({}, [("zone", "In", ["a", "b"]), ("zone", "In", ["c"])], "zone In [a, b] together with zone In [c]"),
        ({}, [("cores", "Gt", ["8"]), ("cores", "Lt", ["9"])], "cores Gt [8] together with cores Lt [9]"),
        ({"cores": "4"}, [("cores", "Gt", ["8"])], "cores In [4] together with cores Gt [8]"),
        ({"cores": "many"}, [("cores", "Gt", ["8"])], "cores In [many]"),
    ],
)
def test_what_no_node_can_satisfy_is_named(selector: dict[str, str], term: Term, words: str) -> None:
    assert words in contradiction(pod(selector, term))


@pytest.mark.parametrize(
    ("selector", "terms"),
    [
        ({"disk": "ssd"}, []),
        ({"disk": "ssd"}, [[("disk", "In", ["ssd", "hdd"])]]),
        ({"disk": "ssd"}, [[("disk", "In", ["hdd"])], [("zone", "Exists", [])]]),
        ({}, [[("disk", "NotIn", ["ssd"]), ("disk", "DoesNotExist", [])]]),
        ({"cores": "9"}, [[("cores", "Gt", ["8"]), ("cores", "Lt", ["10"])]]),
    ],
)
def test_what_some_node_could_satisfy_is_left_to_placement(
    selector: dict[str, str], terms: list[Term]
) -> None:
    assert contradiction(pod(selector, *terms)) == ""
