"""Tables in Markdown, and the places in pages to which commands write them."""

import re
import textwrap
from collections.abc import Callable, Collection, Sequence

WITHOUT = "-"  # what stands where there is no number


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [list(header), ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def marked(kind: str) -> re.Pattern[str]:
    """The pattern of the marked places of a kind, with the name of the table as the group "name".

    A place is between two comments. A page with a single table of its kind needs no name: `<!-- kind -->`.

        <!-- kind: name -->
        <!-- /kind -->
    """
    start = rf"(?P<start><!-- {kind}(?:: (?P<name>[\w-]+))? -->)"
    return re.compile(rf"^(?P<indent> *){start}\n.*?(?P<end><!-- /{kind} -->)", flags=re.DOTALL | re.MULTILINE)


def fill(page: str, kind: str, known: Collection[str], make: Callable[[str], str | None]) -> str:
    """Replace what stands in the marked places of a page.

    Args:
        page: The text of the page.
        kind: The kind of the places. All others stay as they are.
        known: The names of the tables of this kind; "" for a place without a name.
        make: Returns the table of a name, or None if its place is to stay as it is.

    Raises:
        ValueError: If a mark names no table.
    """

    def made(place: re.Match[str]) -> str:
        name = place["name"] or ""
        if name not in known:
            raise ValueError(f"there is no table {name!r}: choose one of {', '.join(known)}")
        table = make(name)
        if table is None:
            return place[0]
        return textwrap.indent(f"{place['start']}\n\n{table}\n\n{place['end']}", place["indent"])

    return marked(kind).sub(made, page)
