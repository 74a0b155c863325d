"""JSON files of annotations, read so that every mistake is named with its file and its entry."""

import json
from pathlib import Path
from typing import Any

from examples.paper.lists.text_files import read_text


def read_json(file: Path) -> Any:
    """Returns the content of a JSON file.

    Raises:
        ValueError: There is no such file, it is empty, it is not JSON, or an object has one key twice.
    """
    try:
        return json.loads(read_text(file), object_pairs_hook=lambda pairs: _unique(file, pairs))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is damaged: {error}") from error


def read_entries(file: Path, key: str | None = None) -> list[Any]:
    """Returns the list that a JSON file holds, or the list under a key of its object.

    Raises:
        ValueError: As for `read_json`, or the file holds something else.
    """
    content = read_json(file)
    if key is not None:
        content = content.get(key) if isinstance(content, dict) else None
    if not isinstance(content, list):
        raise ValueError(f"{file} must hold a list{f' under {key!r}' if key is not None else ''}")
    return content


def text_of(entry: Any, key: str, where: str) -> str:
    """Returns the text, or the number as text, under a key of an entry.

    Args:
        entry: Any part of a JSON file; it must be an object with that key.
        key: The key.
        where: What a message calls the entry, such as "train.json, entry 3".

    Raises:
        ValueError: It is something else.
    """
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise ValueError(f"{where} has no {key!r}, which must be a text: {json.dumps(entry, ensure_ascii=False)[:80]}")


def _unique(file: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{file} gives {key!r} twice, as {found[key]!r:.60} and as {value!r:.60}: keep one")
        found[key] = value
    return found
