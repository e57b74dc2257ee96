"""Bounds on data from outside."""

import pytest

from penstock.kit.bounds import MAX_DEPTH, check_depth
from penstock.kit.errors import InvalidInput


def nest(depth):
    value = 1
    for level in range(depth):
        value = {"a": value} if level % 2 else [value]
    return value


def test_depth_is_counted_over_lists_and_objects():
    check_depth(nest(MAX_DEPTH), "the patch")
    with pytest.raises(InvalidInput, match="the patch is nested deeper than 100 levels"):
        check_depth(nest(MAX_DEPTH + 1), "the patch")
