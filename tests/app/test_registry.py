"""Which source a URI belongs to."""

import pytest

from penstock.app.registry import open_source, source_modules
from penstock.contracts.source import public
from penstock.kit.errors import InvalidInput
from penstock.plugins.sources.s3 import S3Source


def test_sources_are_found_by_listing_their_folder() -> None:
    assert {module.__name__.rpartition(".")[2] for module in source_modules()} == {
        "file",
        "http",
        "huggingface",
        "s3",
    }


def test_the_scheme_says_which_source_it_is() -> None:
    assert isinstance(open_source("s3://bucket/x", {}), S3Source)


def test_an_unknown_scheme_is_told_with_the_nearest_known() -> None:
    with pytest.raises(InvalidInput, match="has no known scheme, expected one of file://, http://") as caught:
        open_source("htps://h/x", {})
    assert caught.value.hint == "did you mean https://?"


@pytest.mark.parametrize(
    "uri", ["ftp://user:hunter2@h/x", "ftp://h/x?key=hunter2", "user:hunter2@h/x", "h/x?key=hunter2", ""]
)
def test_no_error_tells_a_secret(uri: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        open_source(uri, {})
    assert "hunter2" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://user:hunter2@h:80/x.bin?sig=1#f", "https://h:80/x.bin"),
        ("https://u:p/hunter2@h/x", "https://h/x"),
        ("https://u:p?hunter2@h/x", "https://h/x"),
        ("https://h/x@v1/y.bin", "https://h/x@v1/y.bin"),
        ("https://u:hunter2@h/x@v1", "https://h/x@v1"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
        ("http://u:hunter2@[::1/x", "http://[::1/x"),
        ("hf://owner/model:main", "hf://owner/model:main"),
        ("file:///a@b/c", "file:///a@b/c"),
        ("", ""),
    ],
)
def test_what_is_shown_of_a_uri_has_no_secrets(uri: str, shown: str) -> None:
    assert public(uri) == shown
