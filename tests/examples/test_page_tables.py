"""Tables in Markdown, and their places in pages."""

from __future__ import annotations

import pytest

from examples.page_tables import fill, markdown, marked

PAGE = """A page.

<!-- one: first -->
old
<!-- /one -->
Text.
- A list:

  <!-- one: second-table -->
  <!-- /one -->

<!-- other: first -->
stays
<!-- /other -->
<!-- alone -->
<!-- /alone -->
"""


def test_a_table() -> None:
    assert markdown(["a", "b"], [["1", "2"], ["3", "4"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |"


def test_places_of_one_kind_are_filled_with_the_tables_of_their_names() -> None:
    once = fill(PAGE, "one", ["first", "second-table"], lambda name: f"| {name} |\n| - |")
    expected = PAGE.replace("first -->\nold\n<!-- /one", "first -->\n\n| first |\n| - |\n\n<!-- /one")
    assert once == expected.replace("-table -->\n", "-table -->\n\n  | second-table |\n  | - |\n\n")
    assert fill(once, "one", ["first", "second-table"], lambda name: f"| {name} |\n| - |") == once


def test_places_of_tables_that_are_not_made_stay() -> None:
    assert fill(PAGE, "one", ["first", "second-table"], {}.get) == PAGE


def test_a_place_may_have_no_name() -> None:
    filled = fill(PAGE, "alone", [""], lambda name: f"made{name}")
    assert filled == PAGE.replace("<!-- alone -->\n", "<!-- alone -->\n\nmade\n\n")


def test_a_mark_must_name_a_table() -> None:
    with pytest.raises(ValueError, match=r"^there is no table 'second-table': choose one of first, third$"):
        fill(PAGE, "one", ["first", "third"], lambda name: "")


def test_places_are_found() -> None:
    assert [place["name"] for place in marked("one").finditer(PAGE)] == ["first", "second-table"]
    assert not marked("two").search(PAGE)
