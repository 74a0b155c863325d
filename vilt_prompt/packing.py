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
from itertools import takewhile
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from vilt_prompt.attention import Block, join

# Tokens of a row that has more than one text. Those of one text ask those of another in vain, which is a hundredth of
# their work at most; but a few large products take less time than many small ones.
ROW = 32
# Attention takes rows of different lengths together, filled up to the longest, while that adds no more scores than
# this: about what launching the operations of one more group costs.
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


class Asking(NamedTuple):
    """Queries of a group's rows, filled up where a row has fewer."""

    spread: Tensor  # (g a,), which query stands where
    own: Tensor  # those of the g a places at which each query finds its answer
    seen: Tensor  # (g, 1, a, m + l) bool, which keys it sees: those before all texts, and the row's


class Group(NamedTuple):
    """Rows that attention takes together, filled up to the longest of them."""

    spread: Tensor  # (g l,), which packed token stands where
    tokens: Asking  # all tokens ask
    ends: Asking  # those that end texts ask

    @classmethod
    def of(cls, rows: Sequence[Row], first_end: int, before: int, device: torch.device) -> Group:
        """Makes a group. `first_end`: the number of its first text, among the texts in the order of all rows."""
        nodes, above, new, ends = (
            pad_sequence([torch.tensor(row, dtype=torch.long) for row in part], batch_first=True, padding_value=-1)
            for part in zip(*rows, strict=True)
        )
        spread, seen = nodes.clamp(min=0).flatten(), _paths(above.clamp(min=0)).unsqueeze(1)
        first_places = torch.arange(0, nodes.numel(), nodes.shape[1]).unsqueeze(1)
        ended = (ends >= 0).flatten()
        tokens = (spread, (first_places + new)[new >= 0], seen)
        of_ends = seen.take_along_dim(ends.clamp(min=0)[:, None, :, None], dim=2)
        asking = (tokens, (first_end + ended.cumsum(0) - 1, ended.nonzero().squeeze(1), of_ends))
        made = [
            Asking(queries.to(device), own.to(device), F.pad(sees, (before, 0), value=True).to(device))
            for queries, own, sees in asking
        ]
        return cls(spread.to(device), *made)


class Packing:
    """Which tokens of some texts are run, and how attention finds the keys of each.

    Attributes:
        tokens: (t,), where in the texts, flattened, each packed token stands.
        columns: (t,), its column.
        ends: (c,), the packed token that ends each text, text after text, row after row, group after group.
    """

    def __init__(self, texts: Sequence[list[int]], columns: int, before: int, device: torch.device) -> None:
        """Args: the c texts' ids without padding, the columns of the batch that they are from, m, where indices go."""
        nodes: dict[tuple[int, int], int] = {}  # (the node before, the id) -> node; a text is a path in the tree
        tokens: list[int] = []
        ends: list[int] = []
        order: list[int] = []
        self.groups: list[Group] = []
        rows, lengths = in_rows(texts)
        for numbers in group_by_length(lengths):
            first_end = len(ends)
            group: list[Row] = []
            for number in numbers:
                row = Row([], [], [], [])
                places: dict[int, int] = {}
                for text in rows[number]:
                    node = -1
                    for column, token in enumerate(texts[text]):
                        above, node = node, nodes.setdefault((node, token), len(nodes))
                        if node == len(tokens):
                            tokens.append(text * columns + column)
                            row.new.append(len(places))
                        if node not in places:
                            row.above.append(places.get(above, len(places)))
                            places[node] = len(places)
                    row.ends.append(places[node])
                    ends.append(node)
                    order.append(text)
                row.nodes.extend(places)
                group.append(row)
            self.groups.append(Group.of(group, first_end, before, device))
        self.tokens = torch.tensor(tokens, device=device)
        self.columns = self.tokens % columns
        self.ends = torch.tensor(ends, device=device)
        self._order = torch.tensor(order, device=device).argsort()

    def attend(self, block: Block, q: Tensor, before: tuple[Tensor, Tensor], k: Tensor, v: Tensor) -> Tensor:
        """Queries, keys and values (1, h, t, d), and the (1, h, m, d) that stand before each text -> (1, h, t, d)."""
        return self._run(block, [group.tokens for group in self.groups], q, *before, k, v)

    def attend_at_ends(self, block: Block, q: Tensor, before: tuple[Tensor, Tensor], k: Tensor, v: Tensor) -> Tensor:
        """The same for the queries of the tokens that end the texts: (1, h, c, d)."""
        return self._run(block, [group.ends for group in self.groups], q, *before, k, v)

    def at_ends(self, x: Tensor) -> Tensor:
        """(1, t, d) -> (1, c, d), the tokens that end the texts, in the order of `ends`."""
        return x[:, self.ends]

    def in_order(self, x: Tensor) -> Tensor:
        """What `at_ends` gave, a layer on -> (c, 1, d), in the order of the texts."""
        return x[0, self._order].unsqueeze(1)

    def _run(self, block: Block, asking: Sequence[Asking], *parts: Tensor) -> Tensor:
        if torch.is_grad_enabled() and len(self.tokens) >= TOO_MANY_TO_KEEP:
            return checkpoint(
                self._attend, block, asking, *parts, use_reentrant=False, preserve_rng_state=block.dropout > 0
            )
        return self._attend(block, asking, *parts)

    def _attend(
        self,
        block: Block,
        asking: Sequence[Asking],
        q: Tensor,
        before_k: Tensor,
        before_v: Tensor,
        k: Tensor,
        v: Tensor,
    ) -> Tensor:
        """Queries (1, h, ., d), in the order in which they are asked -> the same."""
        answers = []
        for group, asks in zip(self.groups, asking, strict=True):
            rows = len(asks.seen)
            keys, values = (
                join(before_k, _in_places(k, group.spread, rows)),
                join(before_v, _in_places(v, group.spread, rows)),
            )
            answer = block.attend(_in_places(q, asks.spread, rows), keys, values, asks.seen)
            answers.append(answer.transpose(1, 2).flatten(0, 1).index_select(0, asks.own))
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


def _in_places(packed: Tensor, spread: Tensor, rows: int) -> Tensor:
    """(1, h, t, d) -> (g, h, l, d), tokens outermost in memory."""
    return packed[0].transpose(0, 1).index_select(0, spread).unflatten(0, (rows, -1)).transpose(1, 2)


def _paths(above: Tensor) -> Tensor:
    """The place before each place, (g, l), its own where a text begins -> (g, l, l), whether it stands on its path."""
    seen = torch.eye(above.shape[1], dtype=torch.bool).repeat(len(above), 1, 1)
    reached = above
    while not seen.gather(2, reached.unsqueeze(2)).all():
        seen.scatter_(2, reached.unsqueeze(2), True)
        reached = above.gather(1, reached)
    return seen
