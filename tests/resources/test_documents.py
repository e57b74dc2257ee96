"""YAML and JSON texts."""

import json

import pytest
import yaml
from generated_manifests import JSON_VALUES
from hypothesis import given
from hypothesis import strategies as st
from kserve_files import samples

from penstock.kit.errors import InvalidInput, TooLarge
from penstock.resources.documents import documents


def value_of(text):
    return documents(f"x: {text}")[0]["x"]


@given(st.lists(st.dictionaries(st.text(), JSON_VALUES, min_size=1), min_size=1, max_size=3))
def test_what_was_written_as_yaml_is_read_back(values):
    text = yaml.safe_dump_all(values, default_style='"')
    assert documents(text) == tuple(values)


@given(st.dictionaries(st.text(), JSON_VALUES))
def test_what_was_written_as_json_is_read_back(value):
    assert documents(json.dumps(value, indent="\t")) == (value,)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True), ("Off", False), ("'yes'", "yes"), ("~", None), ("", None), ("null", None),
        ("0644", 420), ("0o17", 15), ("0x1F", 31), ("-0x1F", -31), ("0b11", 3), ("1_000", 1000), ("+5", 5), ("-7", -7), ("-07", -7),
        ("089", 89.0), ("1e3", 1000.0), ("1.50", 1.5), (".5", 0.5), ("1.2.3", "1.2.3"), ("-", "-"), ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"), ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"), ("500m", "500m"),
        ("!!str 5", "5"), ("!!int '5'", 5), ("!!float 5", 5.0), ("! 5", "5"), ("|\n  a\n  b", "a\nb"),
    ],
)  # fmt: skip
def test_scalars_are_read_as_kubernetes_reads_them(text, value):
    if text == "-":
        text = '"-"'
    found = value_of(text)
    assert (type(found), found) == (type(value), value)


def test_keys_are_texts_as_they_were_written():
    assert documents("1.10: a\non: b\nnull: c\n&k d: e\n") == (
        {"1.10": "a", "on": "b", "null": "c", "d": "e"},
    )


def test_empty_documents_are_skipped_and_lists_unfolded():
    text = "---\n# nothing\n---\na: 1\n---\napiVersion: v1\nkind: List\nitems:\n- b: 2\n- c: 3\n"
    assert documents(text) == ({"a": 1}, {"b": 2}, {"c": 3})


def test_aliases_and_merges_are_expanded():
    text = "base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\ntwo: {<<: [*b, {z: 4}]}\nthree: *b\ntext: &t hello\nagain: *t\n"
    assert documents(text)[0] == {
        "base": {"x": 1, "y": 2},
        "one": {"x": 1, "y": 3},
        "two": {"x": 1, "y": 2, "z": 4},
        "three": {"x": 1, "y": 2},
        "text": "hello",
        "again": "hello",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "line 4: key 'c' is given twice"),
        ('{"a": {"b": 1, "b": 2}}', "key 'b' is given twice"),
        ("a: 1\n- b\n", "line 2: "),
        ("a: [1\n", "line 2: "),
        ("a:\n\t- b", "line 2: "),
        ("a: *b\n", "line 1: alias *b was never defined"),
        ("a: &a [*a]\n", "line 1: alias *a refers to itself"),
        ("[a]: 1\n", "line 1: a key must be a word, found a list or a mapping"),
        ("x: &x [1]\n*x : 2\n", "line 2: a key must be a word, found a list or a mapping"),
        ("a: .nan\n", "line 1: found .nan, which is not a JSON number"),
        ("a: 1e999\n", "line 1: the number 1e999 is too large"),
        (f"a: {'9' * 100}\n", "line 1: the number 999"),
        ('{"a": NaN}', "found NaN, which is not a JSON number"),
        ("a: !!python/name:os.system x\n", "line 1: 'x' cannot be read as !!python/name:os.system"),
        ("a: !!int x\n", "line 1: 'x' cannot be read as !!int"),
        ("a: {<<: 5}\n", "line 1: << merges mappings, found a number"),
        ("- a\n", "document 1 is a list, expected an object with apiVersion and kind"),
        ("a: 1\n---\nhello\n", "document 2 is a text, expected an object"),
        ("apiVersion: v1\nkind: List\nitems: [1]\n", "items: expected a list of objects"),
        ("a: \x00\n", "the text is not YAML"),
    ],
)
def test_a_text_that_is_wrong_is_refused_with_its_line(text, message):
    with pytest.raises(InvalidInput) as caught:
        documents(text)
    assert caught.value.message.startswith(message)


def test_a_bomb_of_aliases_is_refused_before_it_is_built():
    levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(TooLarge, match="200000 values"):
        documents("\n".join(["l0: &l0 [x, x]", *levels]))


@pytest.mark.parametrize("text", ["a: " + "[" * 200_000, '{"a":' * 200_000, "a: " + "{a: " * 5_000])
def test_depth_is_bounded(text):
    with pytest.raises((TooLarge, InvalidInput)):
        documents(text)


def test_length_is_bounded():
    with pytest.raises(TooLarge, match="at most"):
        documents("a: " + "x" * (3 << 20))


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_words(text):
    try:
        documents(text)
    except (InvalidInput, TooLarge) as error:
        assert error.message


@pytest.mark.parametrize("path", samples(), ids=lambda path: path.stem)
def test_the_samples_read_as_another_reader_reads_them(path):
    if not path.exists():
        pytest.skip("../shared is absent")
    expected = [document for document in yaml.safe_load_all(path.read_text()) if document]
    assert list(documents(path.read_text())) == expected
