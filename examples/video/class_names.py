"""Class names as data sets write them, made into words that a text encoder knows."""

import re


def clean_name(name: str) -> str:
    """Turns `brush_hair`, `ApplyEyeMakeup` or `Holding [something]` into plain lower-case words.

    Example:
        >>> clean_name("brush_hair"), clean_name("ApplyEyeMakeup"), clean_name("Holding [something] up")
        ('brush hair', 'apply eye makeup', 'holding something up')
        >>> clean_name("YoYo"), clean_name("playing TV games")
        ('yo yo', 'playing tv games')
        >>> clean_name("BMXRiding"), clean_name("HorseRiding_Outdoor")
        ('bmx riding', 'horse riding outdoor')
    """
    words = re.sub(r"[\[\]]", "", name)
    if " " not in words:  # If there are spaces, capitals inside a word belong to an abbreviation.
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})", " ", words)
    return " ".join(words.replace("_", " ").lower().split())


def clean_names(names: list[str]) -> list[str]:
    """Cleans every name.

    Raises:
        ValueError: Two of them become one, so that no text tells their classes apart.
    """
    cleaned = [clean_name(name) for name in names]
    for number, name in enumerate(cleaned):
        if not name:
            raise ValueError(f"class {names[number]!r} has no words in its name")
        if name in cleaned[:number]:
            raise ValueError(f"classes {names[cleaned.index(name)]!r} and {names[number]!r} both read {name!r}")
    return cleaned
