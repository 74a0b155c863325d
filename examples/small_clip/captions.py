"""Captions of every length, so that each position of the text tower learns something.

A tower that has only seen short captions handicaps text prompts, which move the end-of-text token to the right.
"""

import random

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from examples.small_clip.concepts import PERSON_WORD, Concept

SHORTEST = 4
TEMPLATES = (
    "{}",
    "{}.",
    "a {}.",
    "a photo of {}.",
    "a photo of a {}.",
    "a picture of {}.",
    "a drawing of a {}.",
    "an icon of {}.",
    "an emoji of {}.",
    "a small picture of {}.",
    "this is {}.",
    "a video of {}.",
)
PEOPLE_TEMPLATES = (
    "a video of a person doing {}.",
    "a photo of a person {}.",
    "a person {}.",
    "a man {}.",
    "a woman {}.",
    "someone {}.",
    "people {}.",
    "a person who is {}.",
    "the action of {}.",
    "a video of someone doing {}.",
)
FILLERS = (
    "on a plain background",
    "in front of a colourful background",
    "seen from the side",
    "seen from the front",
    "a flat and simple drawing",
    "one of many small pictures",
    "with bright colours",
    "partly hidden",
    "a little blurred",
    "large",
    "small",
    "in the middle",
    "close up",
    "from far away",
    "turned to the left",
    "turned to the right",
    "drawn by an artist",
    "as used in messages",
)


class CaptionWriter:
    """Writes random captions about concepts as rows of token ids.

    Args:
        concepts: What there is to write about.
        tokenizer: Words to ids.
    """

    def __init__(self, concepts: list[Concept], tokenizer: SimpleTokenizer) -> None:
        self.concepts = concepts
        self.tokenizer = tokenizer
        self._ids: dict[str, list[int]] = {}

    def batch(self, numbers: list[int]) -> Tensor:
        """One caption for each concept number, (B, L): all near one random length, padded with 0 to the longest."""
        length = random.randint(SHORTEST, self.tokenizer.context_length)
        rows = [self.caption(self.concepts[number], length) for number in numbers]
        longest = max(map(len, rows))
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows])

    def caption(self, concept: Concept, length: int) -> list[int]:
        """Writes one caption of at most `length` ids, or a longer one if the name alone needs more.

        The name in a template, keywords and stock phrases follow each other in any order. No context is exceeded.
        """
        room = length - 2
        phrases = [self._name(concept, room)]
        room -= len(phrases[0])
        extras = [*random.sample(concept.tags, len(concept.tags)), *random.sample(FILLERS, 8)]
        if random.random() < 0.5:
            random.shuffle(extras)
        for extra in extras:
            ids = self._encode(random.choice((extra, extra + ",")))
            if len(ids) <= room:
                phrases.append(ids)
                room -= len(ids)
        random.shuffle(phrases)
        words = [number for phrase in phrases for number in phrase][: self.tokenizer.context_length - 2]
        return [self.tokenizer.sot_token_id, *words, self.tokenizer.eot_token_id]

    def _name(self, concept: Concept, room: int) -> list[int]:
        """The concept's name, in a template if that fits."""
        bare = self._encode(concept.name)
        label = random.choice(concept.labels).lower().replace(": facing right", "")
        # Unicode says "in lotus position" where a class list says "sitting in lotus position": neither an article
        # nor the person may matter.
        name = random.choice((concept.name, concept.name, label, PERSON_WORD.sub("person", label)))
        if concept.is_person and random.random() < 0.3:
            name = name.replace(" ", " a ", 1)
        templates = TEMPLATES + PEOPLE_TEMPLATES if concept.is_person else TEMPLATES
        dressed = self._encode(random.choice(templates).format(name))
        return dressed if len(dressed) <= room else bare

    def _encode(self, text: str) -> list[int]:
        if text not in self._ids:
            self._ids[text] = self.tokenizer.encode(text)
        return self._ids[text]
