"""The subjects of the stills: pictures grouped by concept, with their words."""

import csv
import io
import re
import zipfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm  # type: ignore[import-untyped]

PERSON_WORD = re.compile(r"\b(man|woman|person|men|women|people)('s)?\b")
ACTION_SUBGROUPS = frozenset({"person-activity", "person-gesture", "person-resting", "person-sport"})


@dataclass
class Concept:
    """One thing that can be drawn, whoever draws it and whoever does it.

    Attributes:
        name: The label without gender words and direction, such as "climbing".
        subgroup: Unicode's subgroup, such as "person-activity".
        tags: Keywords without gender words.
        labels: Every full label met, such as "woman climbing".
        pictures: Row numbers of its pictures.
    """

    name: str
    subgroup: str
    tags: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    pictures: list[int] = field(default_factory=list)

    @property
    def is_person(self) -> bool:
        """Whether the pictures show people: half of each batch is drawn from these."""
        return self.subgroup == "family" or self.subgroup.startswith("person")

    @property
    def is_action(self) -> bool:
        """Whether somebody is doing something: what recipes are compared on."""
        return self.subgroup in ACTION_SUBGROUPS


def concept_name(label: str) -> str:
    """Strips who does it and which way they face, since a mirrored picture must keep its concept.

    >>> concept_name("woman walking: facing right")
    'walking'
    >>> concept_name("person")
    'person'
    """
    name = PERSON_WORD.sub("", label.lower().replace(": facing right", ""))
    name = re.sub(r"([:,])[\s,]+", r"\1 ", name)
    name = re.sub(r"^and\b", "", re.sub(r"\s+", " ", name).strip(" ,:")).strip(" ,:")
    return name or label.lower()


def load_stills(archive: Path, houses: Collection[str]) -> tuple[list[Concept], torch.Tensor, list[str]]:
    """Reads the pictures of the given houses, and the concepts of all houses.

    Concepts come from every house so that their numbers do not depend on the training data.

    Args:
        archive: A zip with `labels.csv` (file, label, full_label, tags, subgroup) and RGBA pictures.
        houses: First folders of the files to read, such as "noto".

    Returns:
        The concepts; the pictures, RGBA uint8 (N, 4, H, W); the house of each picture.
    """
    concepts: dict[str, Concept] = {}
    pictures: list[torch.Tensor] = []
    origins: list[str] = []
    with zipfile.ZipFile(archive) as stills:
        rows = list(csv.DictReader(io.StringIO(stills.read("labels.csv").decode("utf-8"))))
        for row in tqdm(rows, desc="reading stills", leave=False):
            name = concept_name(row["label"])
            concept = concepts.setdefault(name, Concept(name, row["subgroup"]))
            concept.tags += [
                tag for tag in row["tags"].split() if tag not in concept.tags and not PERSON_WORD.fullmatch(tag)
            ]
            if row["label"] not in concept.labels:
                concept.labels.append(row["label"])
            house = row["file"].split("/")[0]
            if house in houses:
                concept.pictures.append(len(pictures))
                with Image.open(stills.open(row["file"])) as picture:
                    pictures.append(torch.from_numpy(np.array(picture.convert("RGBA"))).permute(2, 0, 1))
                origins.append(house)
    return list(concepts.values()), torch.stack(pictures), origins
