"""Patches."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.kit.errors import Invalid, InvalidInput
from penstock.kit.patch import json_patch, merge_patch, strategic_merge

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


# The table of RFC 7386, appendix A.
@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_do_what_the_rfc_says(document, patch, result):
    before = copy.deepcopy((document, patch))
    assert merge_patch(document, patch) == result
    assert (document, patch) == before


@given(JSON, JSON)
def test_a_merge_patch_applied_twice_is_applied_once(document, patch):
    once = merge_patch(document, patch)
    assert merge_patch(once, patch) == once


OPERATIONS = [
    ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
    ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
    ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
    ({"a": [1]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2]}),
    ({"a": 1}, [{"op": "add", "path": "", "value": [2]}], [2]),
    ({"a": 1, "b": 2}, [{"op": "remove", "path": "/a"}], {"b": 2}),
    ({"a": [1, 2]}, [{"op": "remove", "path": "/a/0"}], {"a": [2]}),
    ({"a": 1}, [{"op": "replace", "path": "/a", "value": None}], {"a": None}),
    ({"a": [1]}, [{"op": "replace", "path": "/a/0", "value": 9}], {"a": [9]}),
    ({"a": {"b": 1}}, [{"op": "move", "from": "/a/b", "path": "/c"}], {"a": {}, "c": 1}),
    ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
    ({"a": [1, 2, 3]}, [{"op": "move", "from": "/a/0", "path": "/a/2"}], {"a": [2, 3, 1]}),
    (
        {"a/b": 1, "m~n": 2},
        [{"op": "test", "path": "/a~1b", "value": 1}, {"op": "remove", "path": "/m~0n"}],
        {"a/b": 1},
    ),
    ({"": 1}, [{"op": "test", "path": "/", "value": 1}], {"": 1}),
    ({"a": 1}, [{"op": "test", "path": "/a", "value": 1.0}], {"a": 1}),
    ({"a": [{"b": None}]}, [{"op": "test", "path": "/a", "value": [{"b": None}]}], {"a": [{"b": None}]}),
    ({"a": 1}, [], {"a": 1}),
]


@pytest.mark.parametrize(("document", "operations", "result"), OPERATIONS)
def test_operations_do_what_the_rfc_says(document, operations, result):
    before = copy.deepcopy((document, operations))
    assert json_patch(document, operations) == result
    assert (document, operations) == before


@pytest.mark.parametrize(
    ("document", "operations", "error", "message"),
    [
        (
            {},
            [{"op": "ad", "path": "/a"}],
            InvalidInput,
            "operation 0: op: found 'ad', expected one of add, replace,",
        ),
        ({}, ["x"], InvalidInput, "operation 0: op: found None"),
        ({}, [{"op": "add", "path": "/a"}], InvalidInput, "operation 0: add needs 'value'"),
        ({}, [{"op": "move", "path": "/a"}], InvalidInput, "operation 0: move needs 'from'"),
        ({}, [{"op": "remove"}], InvalidInput, "operation 0: remove needs 'path'"),
        (
            {},
            [{"op": "remove", "path": "a"}],
            InvalidInput,
            "operation 0: found the path 'a', expected one such as",
        ),
        (
            {"name": 1},
            [{"op": "remove", "path": "/nam"}],
            Invalid,
            "operation 0: remove '/nam': there is no 'nam'",
        ),
        ({"a": [1]}, [{"op": "remove", "path": "/a/1"}], Invalid, "there is no position 1, the list has 1"),
        (
            {"a": [1]},
            [{"op": "add", "path": "/a/3", "value": 1}],
            Invalid,
            "there is no position 3, the list has 2",
        ),
        ({"a": [1]}, [{"op": "remove", "path": "/a/-"}], Invalid, "'-' is not a position of a list"),
        ({"a": [1]}, [{"op": "remove", "path": "/a/01"}], Invalid, "'01' is not a position of a list"),
        ({"a": [1]}, [{"op": "remove", "path": "/a/¹"}], Invalid, "is not a position of a list"),
        (
            {"a": 1},
            [{"op": "add", "path": "/a/b", "value": 1}],
            Invalid,
            "leads into a value that is neither",
        ),
        (
            {"a": 1},
            [{"op": "replace", "path": "/a/b/c", "value": 1}],
            Invalid,
            "leads into a value that is neither",
        ),
        ({"a": 1}, [{"op": "remove", "path": ""}], Invalid, "the whole document cannot be removed"),
        ({"a": {}}, [{"op": "move", "from": "/a", "path": "/a/b"}], Invalid, "cannot be moved into itself"),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": True}], Invalid, "found 1, expected True"),
        ({"a": [1]}, [{"op": "test", "path": "/a", "value": [1, 2]}], Invalid, "found [1], expected [1, 2]"),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": "1"}], Invalid, "found 1, expected '1'"),
        ({}, [{"op": "test", "path": "", "value": {}}] * 10_001, InvalidInput, "at most 10000 are taken"),
    ],
)
def test_operations_that_do_not_fit_are_refused_in_words_and_change_nothing(
    document, operations, error, message
):
    before = copy.deepcopy(document)
    with pytest.raises(error) as caught:
        json_patch(document, operations)
    assert message in caught.value.message
    assert document == before


def test_a_failed_operation_undoes_the_ones_before_it_and_guesses_what_was_meant():
    document = {"spec": {"replicas": 1}}
    with pytest.raises(Invalid) as caught:
        json_patch(document, [{"op": "remove", "path": "/spec"}, {"op": "remove", "path": "/spec/replica"}])
    assert "operation 1" in caught.value.message
    assert document == {"spec": {"replicas": 1}}
    with pytest.raises(Invalid) as caught:
        json_patch(document, [{"op": "remove", "path": "/spec/replica"}])
    assert caught.value.hint == "did you mean 'replicas'?"


@given(JSON, JSON)
def test_a_value_that_was_added_can_be_tested_moved_and_removed(document, value):
    holder = {"x": document}
    operations = [
        {"op": "add", "path": "/y", "value": value},
        {"op": "test", "path": "/y", "value": json.loads(json.dumps(value))},
        {"op": "move", "from": "/y", "path": "/z"},
        {"op": "remove", "path": "/z"},
    ]
    assert json_patch(holder, operations) == holder


POD = {
    "spec": {
        "containers": [
            {"name": "a", "image": "x", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"name": "b", "image": "y", "args": ["--one"]},
        ],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "tolerations": [{"key": "k"}],
    }
}


@pytest.mark.parametrize(
    ("patch", "path", "result"),
    [
        ({"containers": [{"name": "b", "image": "z"}]}, "containers", [POD["spec"]["containers"][0], {"name": "b", "image": "z", "args": ["--one"]}]),
        (
            {"containers": [{"name": "a", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}]},
            "containers.0.env",
            [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C", "value": "4"}],
        ),
        ({"containers": [{"name": "c"}]}, "containers.2", {"name": "c"}),
        ({"containers": [{"name": "b", "args": ["--two"]}]}, "containers.1.args", ["--two"]),
        ({"containers": [{"name": "a", "$patch": "delete"}]}, "containers", [POD["spec"]["containers"][1]]),
        ({"containers": [{"name": "n"}, {"$patch": "replace"}]}, "containers", [{"name": "n"}]),
        ({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}, "volumes.0", {"name": "v", "hostPath": {"path": "/"}}),
        ({"volumes": [{"name": "v", "$patch": "replace", "csi": {}}]}, "volumes.0", {"name": "v", "csi": {}}),
        ({"tolerations": [{"key": "z"}]}, "tolerations", [{"key": "z"}]),
        ({"tolerations": None}, "", {key: value for key, value in POD["spec"].items() if key != "tolerations"}),
        ({"$patch": "replace", "containers": []}, "", {"containers": []}),
        ({"$patch": "delete"}, "", {}),
        ({"nodeName": "n"}, "nodeName", "n"),
        ({"nodeSelector": {"a": "b", "c": None}}, "nodeSelector", {"a": "b"}),
    ],
)  # fmt: skip
def test_strategic_merges_follow_kubernetes_merge_keys(patch, path, result):
    before = copy.deepcopy(POD)
    found = strategic_merge(POD, {"spec": patch})["spec"]
    for step in filter(None, path.split(".")):
        found = found[int(step)] if step.isdecimal() else found[step]
    assert found == result
    assert before == POD


def test_order_and_primitive_lists_are_directed():
    document = {"metadata": {"finalizers": ["a", "b"]}, "spec": copy.deepcopy(POD["spec"])}
    patch = {
        "metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["b", "c"], "$setElementOrder/finalizers": ["c", "b"]},
        "spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}], "containers": [{"name": "c"}]},
    }  # fmt: skip
    result = strategic_merge(document, patch)
    assert result["metadata"] == {"finalizers": ["c", "b"]}
    assert [container["name"] for container in result["spec"]["containers"]] == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"spec": {"containers": [{"image": "x"}]}}, "containers: an item of the patch has no 'name'"),
        ({"spec": {"$patch": "melt"}}, "$patch: found 'melt', expected merge, replace or delete"),
        ({"spec": {"$retainKeys": "x"}}, "$retainKeys: expected a list"),
        ([], "a strategic merge patch is an object"),
    ],
)
def test_strategic_merges_that_are_none_are_refused(patch, message):
    with pytest.raises(InvalidInput) as caught:
        strategic_merge(POD, patch)
    assert message in caught.value.message


def test_a_bottomless_patch_is_refused():
    patch: dict = {}
    for _ in range(2000):
        patch = {"a": patch}
    for apply in (merge_patch, strategic_merge):
        with pytest.raises(InvalidInput, match="nested deeper"):
            apply({}, patch)


@given(JSON.filter(lambda value: isinstance(value, dict)))
def test_without_named_lists_and_directives_a_strategic_merge_is_a_merge(patch):
    if "$" not in json.dumps(patch):
        document = {"a": {"b": 1}}
        assert strategic_merge(document, patch) == merge_patch(document, patch)
