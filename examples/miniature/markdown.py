"""Tables in Markdown."""

from collections.abc import Sequence

WITHOUT = "-"  # what stands where there is no number


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [list(header), ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
