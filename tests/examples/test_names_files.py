"""Files of class names: every form, and the errors of invalid ones."""

from __future__ import annotations

import pytest

from examples.paper.lists.names_files import read_names

THREE = {0: "run", 1: "brush hair", 2: "jump, then fall"}


@pytest.mark.parametrize(
    ("file", "text", "names", "numbered"),
    [
        ("a.csv", 'id,name\n0,run\n1,brush hair\n2,"jump, then fall"\n', THREE, True),  # ViFi-CLIP, X-CLIP
        ("a.csv", "name,id\nbrush hair,1\nrun,0\n", {0: "run", 1: "brush hair"}, True),
        ("a.csv", "0,run\n1,brush hair\n2,jump, then fall\n", THREE, True),  # without a header, and unquoted
        ("a.csv", "run,0\nbrush hair,1\n", {0: "run", 1: "brush hair"}, True),
        ("a.csv", "\ufeffId;Name\r\n0;run\r\n1;brush hair\r\n", {0: "run", 1: "brush hair"}, True),
        ("a.csv", "label,count,name\n1,7,brush hair\n0,5,run\n", {0: "run", 1: "brush hair"}, True),
        ("classInd.txt", "1 ApplyEyeMakeup\n2 YoYo\n", {1: "ApplyEyeMakeup", 2: "YoYo"}, True),  # UCF-101
        ("a.txt", "abseiling 0\nair drumming 1\n", {0: "abseiling", 1: "air drumming"}, True),
        ("a.txt", "run\n\n brush hair \njump, then fall\n", THREE, False),
        ("a.txt", "name\nrun\nbrush hair\n", {0: "run", 1: "brush hair"}, False),
        ("a.csv", 'run\n"jump, then fall"\n', {0: "run", 1: "jump, then fall"}, False),
        ("a.txt", "360 flip\nrun\n", {0: "360 flip", 1: "run"}, False),  # a number that is part of a name
        ("a.json", '{"run": 0, "brush hair": "1"}', {0: "run", 1: "brush hair"}, True),  # SSv2, SlowFast
        ("a.json", '{"1": "brush hair", "0": "run"}', {0: "run", 1: "brush hair"}, True),
        ("a.json", '["run", "brush hair"]', {0: "run", 1: "brush hair"}, False),
    ],
)
def test_every_form(tmp_path, file, text, names, numbered):
    (tmp_path / file).write_bytes(text.encode())
    found = read_names(tmp_path / file)
    assert list(found.names.items()) == sorted(names.items())
    assert found.numbered is numbered


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.txt", "", "a.txt is empty"),
        ("a.txt", "run\njump\nrun\n", "a.txt holds 'run' twice, in line 1 and line 3"),
        ("a.csv", "id,name\n0,run\n0,jump\n", "gives the number 0 to 'run' and, in row 2, to 'jump'"),
        ("a.csv", "id,name\n0,run\n1,\n", "a.csv has no name in row 2"),
        ("a.txt", "name\n", "a.txt holds no class names: expected id,name rows, one name a line"),
        ("a.json", "{", "a.json is damaged"),
        (
            "a.json",
            '{"0": ["run"], "1": ["jump"]}',
            "a.json must be JSON from name to number, from number to name, or a",
        ),
        ("a.json", '{"0": "run", "0": "jump"}', "a.json gives '0' twice, as 'run' and as 'jump': keep one"),
        ("a.json", '{"a": "b"}', "a.json must be JSON from name to number, from number to name, or a list"),
        ("nowhere.txt", None, "there is no .*nowhere.txt"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, file, text, message):
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_names(tmp_path / file)


def test_other_encodings(tmp_path):
    (tmp_path / "a.txt").write_bytes("café\nrun\n".encode("utf-16"))
    assert list(read_names(tmp_path / "a.txt").names.values()) == ["café", "run"]
    (tmp_path / "a.txt").write_bytes("run\ncafé\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a.txt is not UTF-8 text, see line 2: save it with the encoding UTF-8"):
        read_names(tmp_path / "a.txt")
