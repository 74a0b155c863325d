"""Batches of distinct concepts, most of them people, many of those doing something."""

import torch
from torch import Tensor

from examples.small_clip.concepts import Concept

ACTIONS, OTHER_PEOPLE = 0.45, 0.25


class ConceptSampler:
    """Draws concepts, then one picture of each, so that concepts with many variants are not seen more often.

    Args:
        concepts: Those without pictures are never drawn.
    """

    def __init__(self, concepts: list[Concept]) -> None:
        self.pictures = [torch.tensor(concept.pictures) for concept in concepts]
        drawn = [number for number, concept in enumerate(concepts) if concept.pictures]
        self.actions = torch.tensor([number for number in drawn if concepts[number].is_action])
        self.people = torch.tensor(
            [number for number in drawn if concepts[number].is_person and not concepts[number].is_action]
        )
        self.others = torch.tensor([number for number in drawn if not concepts[number].is_person])

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Returns concept numbers and picture numbers, (size,) each; concepts repeat only if there are too few."""
        actions, people = round(size * ACTIONS), round(size * OTHER_PEOPLE)
        parts = ((self.actions, actions), (self.people, people), (self.others, size - actions - people))
        chosen = torch.cat([self._distinct(pool, count) for pool, count in parts])
        pictures = [self.pictures[number][torch.randint(len(self.pictures[number]), ())] for number in chosen.tolist()]
        return chosen, torch.stack(pictures)

    @staticmethod
    def _distinct(pool: Tensor, count: int) -> Tensor:
        order = torch.cat([torch.randperm(len(pool)) for _ in range(-(-count // len(pool)))])
        return pool[order[:count]]
