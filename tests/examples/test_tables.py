"""CSV files: every dialect reads alike, and a damaged row is shown."""

from __future__ import annotations

import pytest

from examples.paper.lists.tables import read_table

ROWS = [{"video": "a b.mp4", "label": "run, fast", "split": "train"}, {"video": "b.mp4", "label": "jump", "split": ""}]


@pytest.mark.parametrize(
    "text",
    [
        'video,label,split\na b.mp4,"run, fast",train\nb.mp4,jump,\n',
        "video;label;split\na b.mp4;run, fast;train\nb.mp4;jump;\n",
        "video\tlabel\tsplit\na b.mp4\trun, fast\ttrain\nb.mp4\tjump\n",
        "video|label|split\na b.mp4|run, fast|train\nb.mp4|jump|\n",
        "sep=;\nvideo;label;split\na b.mp4;run, fast;train\nb.mp4;jump;\n",
        '\ufeff Video , LABEL , Split \r\n\r\n a b.mp4 , "run, fast" , train \r\n\r\nb.mp4,jump\r\n',
        'video,label,split\ra b.mp4,"run, fast",train\rb.mp4,jump,\r',
        "\n\nvideo;label;split;\na b.mp4;run, fast;train;\nb.mp4;jump;;\n",
    ],
)
def test_every_dialect_reads_alike(tmp_path, text):
    (tmp_path / "a.csv").write_bytes(text.encode())
    table = read_table(tmp_path / "a.csv")
    assert table.columns == ["video", "label", "split"]
    assert [row.cells for row in table.rows] == ROWS
    assert [row.number for row in table.rows] == [1, 2]
    (tmp_path / "b.csv").write_bytes(text.replace("\ufeff", "").encode("utf-16"))  # "Unicode text" of a spreadsheet
    assert [row.cells for row in read_table(tmp_path / "b.csv").rows] == ROWS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.csv is empty"),
        ("\ufeff\n \n", "a.csv is empty"),
        ("video,Video\na,b\n", "a.csv has two columns named 'video'"),
        ("video,label\na.mp4,run,train\n", "has 3 cells in row 1, the header 2: a.mp4,run,train; put cells that hold"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "a.csv")


def test_missing_columns_and_cells(tmp_path):
    (tmp_path / "a.csv").write_text("a.mp4,run\nb.mp4,jump\n")
    with pytest.raises(ValueError, match=r"a.csv has the columns a.mp4, run: expected video,label\[,split\]"):
        read_table(tmp_path / "a.csv").check_columns("video", "label", optional=("split",))
    (tmp_path / "a.csv").write_text("video,label\na.mp4,run\nb.mp4,\n,walk\n")
    with pytest.raises(ValueError, match=r"a.csv has no label in row 2: b.mp4,"):
        read_table(tmp_path / "a.csv").check_filled("video", "label")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_byte_order_mark(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes("video,label\ncafé.mp4,run\n".encode(encoding))
    assert [row.cells for row in read_table(tmp_path / "a.csv").rows] == [{"video": "café.mp4", "label": "run"}]


def test_names_of_columns_in_words(tmp_path):
    (tmp_path / "a.csv").write_text("File Name; Class-Name ;SPLIT\na.mp4;run;train\n")
    assert read_table(tmp_path / "a.csv").columns == ["file_name", "class_name", "split"]
