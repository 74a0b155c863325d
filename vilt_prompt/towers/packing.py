"""Texts as packed tokens, so that no layer works on padding, nor twice on what several texts begin with.

Under a causal mask a token's state depends on what stands before it alone. So texts that begin alike share the tokens
of that beginning: they are the paths of a tree whose nodes are run once, packed along one axis. Only attention takes
them in rows: a row has the nodes of some whole texts, and each token sees those of its own path.

Shapes: c texts, t packed tokens, g rows of a group, l their places, a of them that ask, m keys before all texts, h
heads, d channels of a head.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import pairwise, takewhile
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from vilt_prompt.towers.blocks import Block, join

# Tokens of a row, unless one of its texts has more. Those of one text ask those of another in vain, a hundredth of
# their work in a tower 512 wide; but a few large products take less time than many small ones.
ROW = 32
# Attention takes rows of up to 1, 2, 4, 8, ... tokens by themselves, unless filling shorter ones up adds no more scores
# than this: about what launching the operations of one more group costs.
WORTH_A_GROUP = 8192
# With so many tokens, the rows are made anew for the backward pass rather than kept: the memory counts then, and with
# fewer the time of small operations.
TOO_MANY_TO_KEEP = 1024


class Row(NamedTuple):
    """Some whole texts. A place is the number of a token in the row."""

    nodes: list[int]  # the packed token at each place
    above: list[int]  # the place of the token before it; its own where a text begins
    new: list[int]  # the places of tokens that no row before this one has
    ends: list[int]  # the place of the token that ends each text

    @classmethod
    def of(cls, paths: Sequence[list[int]], known: int) -> Row:
        """The texts' paths in the tree -> the row; nodes from `known` on are new."""
        places: dict[int, int] = {}
        above: list[int] = []
        for path in paths:
            for before, node in pairwise([-1, *path]):
                if node not in places:
                    above.append(places.get(before, len(places)))
                    places[node] = len(places)
        new = [place for node, place in places.items() if node >= known]
        return cls([*places], above, new, [places[path[-1]] for path in paths])


class Queries(NamedTuple):
    """Who asks in a group's rows. Where a row has fewer than others, some query stands whose answer is not read."""

    standing: Tensor  # (g a,), the number of the query at each place
    answers: Tensor  # the place at which each query finds its answer, of the g a
    seen: Tensor  # (g, 1, a, m + l) bool, which keys it sees: those before all texts, and the row's
    masks: dict[torch.dtype, Tensor]  # the same as numbers that are added to the scores, made once for each type

    def mask(self, dtype: torch.dtype) -> Tensor:
        """(g, 1, a, m + l): 0 where a key is seen, minus infinity elsewhere."""
        # From a bool mask, attention would make these numbers anew in every layer.
        if dtype not in self.masks:
            with torch.inference_mode(False):  # training may use the mask that inference made
                hidden = torch.zeros_like(self.seen, dtype=dtype)
                self.masks[dtype] = hidden.masked_fill_(~self.seen, float("-inf"))
        return self.masks[dtype]


class Group(NamedTuple):
    """Rows that attention takes together, filled up to the longest of them."""

    nodes: Tensor  # (g l,), the packed token at each place
    of_tokens: Queries
    of_ends: Queries

    @classmethod
    def of(cls, rows: Sequence[Row], first_end: int, before: int, device: torch.device) -> Group:
        """Makes a group. `first_end`: how many texts the groups before it have."""
        nodes, above, new, ends = (
            pad_sequence([torch.tensor(row, dtype=torch.long, device="cpu") for row in part], True, padding_value=-1)
            for part in zip(*rows, strict=True)
        )
        standing, seen = nodes.clamp(min=0).flatten(), _paths(above.clamp(min=0)).unsqueeze(1)
        first_places = torch.arange(0, nodes.numel(), nodes.shape[1], device="cpu").unsqueeze(1)
        ended = (ends >= 0).flatten()
        of_ends = seen.take_along_dim(ends.clamp(min=0)[:, None, :, None], dim=2)
        queries = [
            Queries(each.to(device), answers.to(device), F.pad(sees, (before, 0), value=True).to(device), {})
            for each, answers, sees in (
                (standing, (first_places + new)[new >= 0], seen),
                (first_end + ended.cumsum(0) - 1, ended.nonzero().squeeze(1), of_ends),
            )
        ]
        return cls(queries[0].standing, *queries)


class Packing:
    """Which tokens of some texts are run, and how attention finds the keys of each.

    Attributes:
        tokens: (t,), where in the texts, flattened, each packed token stands.
        columns: (t,), its column.
        ends: (c,), the packed token that ends each text, in the order of the rows of all groups.
    """

    def __init__(self, texts: Sequence[list[int]], columns: int, before: int, device: torch.device) -> None:
        """Args: the c texts' ids without padding, the columns of the batch that they are from, m, where indices go."""
        nodes: dict[tuple[int, int], int] = {}  # (the node before, the id) -> node; a text is a path in the tree
        tokens: list[int] = []

        def path(number: int) -> list[int]:
            found = [-1]
            for column, token in enumerate(texts[number]):
                found.append(nodes.setdefault((found[-1], token), len(nodes)))
                if found[-1] == len(tokens):
                    tokens.append(number * columns + column)
            return found[1:]

        ends: list[int] = []
        order: list[int] = []
        self.groups: list[Group] = []
        rows, lengths = in_rows(texts)
        for numbers in group_by_length(lengths):
            first_end = len(ends)
            group: list[Row] = []
            for number in numbers:
                known, paths = len(tokens), [path(text) for text in rows[number]]
                group.append(Row.of(paths, known))
                ends += [each[-1] for each in paths]
                order += rows[number]
            self.groups.append(Group.of(group, first_end, before, device))
        self.tokens = torch.tensor(tokens, device=device)
        self.columns = self.tokens % columns
        self.ends = torch.tensor(ends, device=device)
        self._order = torch.tensor(order, device=device).argsort()

    def attend(self, block: Block, q: Tensor, before: Tensor, kv: Tensor) -> Tensor:
        """Lets each token see the tokens of its own text.

        Args:
            block: The layer.
            q: (1, h, t, d) queries.
            before: (2, 1, h, m, d) keys and values that stand before each text.
            kv: (2, 1, h, t, d) keys and values.

        Returns:
            (1, h, t, d).
        """
        return self._run(block, [group.of_tokens for group in self.groups], q, before, kv)

    def attend_at_ends(self, block: Block, q: Tensor, before: Tensor, kv: Tensor) -> Tensor:
        """The same for the queries of the tokens that end the texts: (1, h, c, d)."""
        return self._run(block, [group.of_ends for group in self.groups], q, before, kv)

    def at_ends(self, x: Tensor) -> Tensor:
        """(1, t, d) -> (1, c, d), the tokens that end the texts, in the order of `ends`."""
        return x[:, self.ends]

    def in_order(self, x: Tensor) -> Tensor:
        """What `at_ends` gave, a layer on -> (c, 1, d), in the order of the texts."""
        return x[0, self._order].unsqueeze(1)

    def _run(self, block: Block, *parts: Any) -> Tensor:
        attend = self._attend
        if torch.is_grad_enabled() and len(self.tokens) >= TOO_MANY_TO_KEEP:
            attend = partial(checkpoint, attend, use_reentrant=False, preserve_rng_state=block.dropout > 0)
        return attend(block, *parts)

    def _attend(self, block: Block, queries: Sequence[Queries], q: Tensor, before: Tensor, kv: Tensor) -> Tensor:
        """Queries (1, h, ., d), in the order in which they are asked -> the same."""
        answers = []
        for group, asked in zip(self.groups, queries, strict=True):
            rows = len(asked.seen)
            seen_keys = join(before, _in_places(kv, group.nodes, rows))  # [2 g h m+l d]
            queried = _in_places(q, asked.standing, rows)
            answer = block.attend(queried, seen_keys, asked.mask(queried.dtype))
            answers.append(answer.transpose(1, 2).flatten(0, 1).index_select(0, asked.answers))
        return torch.cat(answers).transpose(0, 1).unsqueeze(0)


def in_rows(texts: Sequence[list[int]]) -> tuple[list[list[int]], list[int]]:
    """Puts texts that begin alike next to each other, in rows: the numbers of each row's texts, and its tokens."""
    rows: list[list[int]] = []
    lengths: list[int] = []
    before: list[int] = []
    for number in sorted(range(len(texts)), key=texts.__getitem__):
        text = texts[number]
        shared = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(before, text, strict=False))))
        if rows and lengths[-1] + len(text) - shared <= max(ROW, lengths[-1]):
            rows[-1].append(number)
            lengths[-1] += len(text) - shared
        else:
            rows.append([number])
            lengths.append(len(text))
        before = text
    return rows, lengths


def group_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Puts rows of similar length together: lists of their numbers, shorter ones first in each."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        by_size[(lengths[number] - 1).bit_length()].append(number)  # up to 1, 2, 4, 8, ... tokens
    groups: list[list[int]] = []
    for numbers in by_size.values():
        length = lengths[numbers[-1]]
        if groups and len(groups[-1]) * (length**2 - lengths[groups[-1][-1]] ** 2) <= WORTH_A_GROUP:
            groups[-1] += numbers
        else:
            groups.append(numbers)
    return groups


def _in_places(packed: Tensor, standing: Tensor, rows: int) -> Tensor:
    """(..., 1, h, t, d) -> (..., g, h, l, d), tokens outermost in memory."""
    tokens = packed.movedim(-2, 0)  # [t ... 1 h d]
    rows_of_tokens = tokens.index_select(0, standing).unflatten(0, (rows, -1))  # [g l ... 1 h d]
    return rows_of_tokens.squeeze(-3).movedim((0, 1), (-4, -2))  # [... g h l d]


def _paths(above: Tensor) -> Tensor:
    """The place before each place, (g, l), its own where a text begins -> (g, l, l), whether it stands on its path."""
    length = above.shape[1]
    seen = torch.eye(length, dtype=torch.bool, device="cpu").repeat(len(above), 1, 1)
    for _ in range(length.bit_length()):  # twice as many tokens of each path every time
        seen |= seen.take_along_dim(above.unsqueeze(2), dim=1)
        above = above.gather(1, above)
    return seen
