"""The training and test clips of one run. Clips are numbers here, without pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

from examples.data.clips import Clip
from examples.miniature.actions import PERSONS, base_and_novel, complete_actions
from examples.paper.protocols.shots import sample_shots

RATE_SEED = 1000  # of the draw of base actions that learning rates are chosen on; runs have 0, 1, ...


@dataclass(frozen=True)
class Examples:
    """Clips with what belongs to each.

    Attributes:
        classes: C texts.
        clips: Numbers of N clips.
        labels: Their classes, N numbers into `classes`.
        persons: Who is in each, N names.
    """

    classes: list[str]
    clips: list[int]
    labels: list[int]
    persons: list[str]

    def some(self, chosen: list[int]) -> "Examples":
        """A part of them."""
        clips, labels = [self.clips[n] for n in chosen], [self.labels[n] for n in chosen]
        return Examples(self.classes, clips, labels, [self.persons[n] for n in chosen])


@dataclass(frozen=True)
class Task:
    """Examples to train on, and several sets of examples to test on, by name."""

    shots: Examples
    tests: dict[str, Examples]


class Tasks:
    """The tasks that can be made of a list of clips."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.clips = clips
        self.actions = complete_actions(clips)

    def base_to_novel(self, person: str, seed: int, shots: int) -> Task:
        """K shots of base actions by two kinds of person; base and novel actions by the third."""
        base, novel = base_and_novel(self.actions, seed)
        tests = {"base": self._test(base, person), "novel": self._test(novel, person)}
        return Task(self._shots(base, self._others(person), seed, shots), tests)

    def few_shot(self, person: str, seed: int, shots: int) -> Task:
        """K shots of all actions by two kinds of person; the same actions by the third."""
        tests = {"all": self._test(self.actions, person)}
        return Task(self._shots(self.actions, self._others(person), seed, shots), tests)

    def rate(self, person: str) -> Task:
        """Base actions by one kind of training person; the same by the other. The person under test is left out."""
        base, _ = base_and_novel(self.actions, RATE_SEED)
        first, second = self._others(person)
        return Task(self._of(base, [first]), {"validation": self._of(base, [second])})

    def zero_shot(self) -> Task:
        """No shots; all actions, by whoever does them."""
        actions = sorted({clip.label for clip in self.clips})
        return Task(Examples(actions, [], [], []), {"all": self._of(actions, PERSONS)})

    def retrieval(self, seed: int) -> Task:
        """Captions "{person} {label}". Base actions to train on, base and novel ones to search.

        The clips to search in have other skin tones than the training clips, if there are training clips.
        """
        base, novel = base_and_novel(self.actions, seed)
        known = self._captions(base)
        chosen = sample_shots(known.labels, 3, seed)
        rest = sorted(set(range(len(known.clips))) - set(chosen))
        return Task(known.some(chosen), {"base": known.some(rest), "novel": self._captions(novel)})

    def _others(self, person: str) -> list[str]:
        return [other for other in PERSONS if other != person]

    def _of(self, actions: list[str], persons: Sequence[str]) -> Examples:
        found = [n for n, clip in enumerate(self.clips) if clip.label in actions and clip.person in persons]
        labels = [actions.index(self.clips[n].label) for n in found]
        return Examples(actions, found, labels, [self.clips[n].person for n in found])

    def _test(self, actions: list[str], person: str) -> Examples:
        """Every second skin tone: the others are near-copies, and the scenes vary far more."""
        every = self._of(actions, [person])
        return every.some(list(range(0, len(every.clips), 2)))

    def _shots(self, actions: list[str], persons: Sequence[str], seed: int, shots: int) -> Examples:
        everything = self._of(actions, persons)
        return everything.some(sample_shots(everything.labels, shots, seed, groups=everything.persons, nested=True))

    def _captions(self, actions: list[str]) -> Examples:
        examples = self._of(actions, PERSONS)
        captions = [f"{self.clips[n].person} {self.clips[n].label}" for n in examples.clips]
        classes = sorted(set(captions))
        return Examples(classes, examples.clips, [classes.index(text) for text in captions], examples.persons)
