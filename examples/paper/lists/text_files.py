"""Text as editors and spreadsheets save it: UTF-8 or UTF-16, with or without a byte order mark."""

import codecs
from pathlib import Path


def read_text(file: Path) -> str:
    """Returns the text of a file, without its byte order mark.

    Args:
        file: A text file.

    Raises:
        ValueError: There is no such file, it is empty, or its encoding is neither UTF-8 nor UTF-16.
    """
    if not file.is_file():
        raise ValueError(f"there is no {file}")
    content = file.read_bytes()
    try:
        text = content.decode(_encoding(content))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{file} is not UTF-8 text, see line {line}: save it with the encoding UTF-8") from error
    if not text.strip():
        raise ValueError(f"{file} is empty")
    return text


def _encoding(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    # Text holds no zero bytes, but in UTF-16 one of the two bytes of every Latin letter and digit is zero.
    if b"\0" in content[:2]:
        return "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    return "utf-8-sig"


def read_lines(file: Path) -> list[tuple[int, str]]:
    """Returns the lines that are not blank, each with its number from 1, without blanks at both ends.

    Raises:
        ValueError: As for `read_text`.
    """
    # Not `splitlines`: it also splits at characters that are part of a name, such as the line separator U+2028.
    lines = read_text(file).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
