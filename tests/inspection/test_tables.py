"""Tables of `describe` and `nearest_tokens`, as text and as HTML."""

from __future__ import annotations

import vilt_prompt
from tests.support.architectures import build
from vilt_prompt import describe


def test_rows_are_aligned_and_escaped():
    model = vilt_prompt.wrap(build("5/3"), K=1, n_ctx=3, adapter_name="a<b")
    description = describe(model)
    lines = str(description).splitlines()
    assert repr(description) == str(description)
    heading, *rows = lines[-6:]
    assert len(rows) == 5
    for column in ("text", "shape", "vision"):
        at = heading.index(column)
        assert all(row[at - 1 : at] in (" ", "") and row[at : at + 1] != "" for row in rows[:3])
    html = description._repr_html_()
    assert "a&lt;b" in html
    assert html.count("<tr>") == 6
    assert html.count("<th>") == 9
    assert html.count("<td>") == 5 * 9
    assert "<td>F(P_1)</td>" in html
