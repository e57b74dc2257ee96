"""Tables are laid out as kubectl's."""

from __future__ import annotations

import pytest

from penstock.cli.console import print_table


def test_columns_are_as_wide_as_their_widest_cell_on_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "ready", "age"], [["a", "True", "9s"], ["模型", None, ""], ["longer"]])
    assert capsys.readouterr().out.splitlines() == [
        "NAME     READY    AGE",
        "a        True     9s",
        "模型     <none>",
        "longer",
    ]


def test_what_looks_like_markup_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["message"], [["[bold]not a style[/bold]"]])
    assert capsys.readouterr().out == "MESSAGE\n[bold]not a style[/bold]\n"
