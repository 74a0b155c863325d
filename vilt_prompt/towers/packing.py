"""The packed layout: no layer runs padding, and a beginning that several texts share is run once.

Under a causal mask a token's state depends only on the tokens before it. So texts that begin alike share the tokens of
that beginning. They are the paths of a tree whose nodes are run once, packed along one axis. Only attention takes the
nodes in rows: a row has the nodes of some whole texts, and each token sees the nodes of its own path.

Shapes: c texts, t packed tokens, g rows of a group, l their places, a their queries, m keys before all texts, h heads,
d channels of a head.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import pairwise, takewhile
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from vilt_prompt.towers.blocks import Block, join

# The tokens of a row, unless one of its texts has more. Scores between different texts are computed and masked, a
# hundredth of a token's work in a tower 512 wide; but a few large products take less time than many small ones.
ROW = 32
# Rows of up to 1, 2, 4, 8, ... tokens are groups of their own, unless filling up the shorter rows of a joint group adds
# no more scores than this: they take about as long as launching the operations of one more group.
WORTH_A_GROUP = 8192
# From this many tokens on, the rows are computed again in the backward pass instead of being kept, to save memory. With
# fewer tokens, the time of small operations matters more.
TOO_MANY_TO_KEEP = 1024


class Row(NamedTuple):
    """Some whole texts. A place is the number of a token in the row.

    Attributes:
        nodes: The packed token at each place.
        above: For each place, the place of the token before it, or the place itself if a text begins there.
        new: The places of tokens that no earlier row has.
        ends: For each text, the place of its last token.
    """

    nodes: list[int]
    above: list[int]
    new: list[int]
    ends: list[int]

    @classmethod
    def of(cls, paths: Sequence[list[int]], known: int) -> Row:
        """Make a row.

        Args:
            paths: The path of each text in the tree.
            known: The first node that no earlier row has.
        """
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
    """The queries of a group's rows. A row with fewer queries than others is filled up with one whose output is unused.

    Attributes:
        standing: (g a,), the number of the query at each place.
        answers: For each query, in their order, the place of its output among the g a.
        seen: (g, 1, a, m + l) bool, the keys that each query sees: those before all texts, and some of the row.
        masks: `seen` as numbers that are added to the scores, made once for each type.
    """

    standing: Tensor
    answers: Tensor
    seen: Tensor
    masks: dict[torch.dtype, Tensor]

    def mask(self, dtype: torch.dtype) -> Tensor:
        """(g, 1, a, m + l): 0 where a key is seen, minus infinity elsewhere."""
        # From a bool mask, attention would make these numbers again in every layer.
        if dtype not in self.masks:
            with torch.inference_mode(False):  # training may use the mask that inference made
                hidden = torch.zeros_like(self.seen, dtype=dtype)
                self.masks[dtype] = hidden.masked_fill_(~self.seen, float("-inf"))
        return self.masks[dtype]


class Group(NamedTuple):
    """Rows that attention takes together, filled up to the longest of them.

    Attributes:
        nodes: (g l,), the packed token at each place.
        of_tokens: The queries of all tokens.
        of_ends: The queries of the tokens that end the texts, for the last layer.
    """

    nodes: Tensor
    of_tokens: Queries
    of_ends: Queries

    @classmethod
    def of(cls, rows: Sequence[Row], first_end: int, before: int, device: torch.device) -> Group:
        """Make a group.

        Args:
            rows: Its rows.
            first_end: The number of texts in all earlier groups.
            before: m.
            device: Where the indices go.
        """
        nodes, above, new, ends = (  # [g l] or fewer columns, -1 where a row is filled up
            pad_sequence([torch.tensor(row, dtype=torch.long, device="cpu") for row in part], True, padding_value=-1)
            for part in zip(*rows, strict=True)
        )
        standing, seen = nodes.clamp(min=0).flatten(), _paths(above.clamp(min=0)).unsqueeze(1)  # [g*l], [g 1 l l]
        first_places = torch.arange(0, nodes.numel(), nodes.shape[1], device="cpu").unsqueeze(1)
        ended = (ends >= 0).flatten()
        of_ends = seen.take_along_dim(ends.clamp(min=0)[:, None, :, None], dim=2)  # [g 1 a l]
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
        tokens: (t,), the index of each packed token in the flattened texts.
        columns: (t,), its column.
        ends: (c,), the packed token that ends each text, in the order of the rows of all groups.
        groups: The rows.
    """

    def __init__(self, texts: Sequence[list[int]], columns: int, before: int, device: torch.device) -> None:
        """Pack texts.

        Args:
            texts: The ids of each of c texts, without padding.
            columns: The number of columns of the batch from which they are.
            before: m.
            device: Where the indices go.
        """
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
        """Let the tokens that end the texts, with queries (1, h, c, d), see their own texts: (1, h, c, d)."""
        return self._run(block, [group.of_ends for group in self.groups], q, before, kv)

    def at_ends(self, x: Tensor) -> Tensor:
        """The tokens of (1, t, d) that end the texts, in the order of `ends`: (1, c, d)."""
        return x[:, self.ends]

    def in_order(self, pooled: Tensor) -> Tensor:
        """Tokens (1, c, d), as `at_ends` orders them, in the order of the texts: (c, 1, d)."""
        return pooled[0, self._order].unsqueeze(1)

    def _run(self, block: Block, queries: Sequence[Queries], q: Tensor, before: Tensor, kv: Tensor) -> Tensor:
        """Attend, and keep only the inputs for the backward pass if there are many tokens."""
        attend = self._attend
        if torch.is_grad_enabled() and len(self.tokens) >= TOO_MANY_TO_KEEP:
            attend = partial(checkpoint, attend, use_reentrant=False, preserve_rng_state=block.dropout > 0)
        return attend(block, queries, q, before, kv)

    def _attend(self, block: Block, queries: Sequence[Queries], q: Tensor, before: Tensor, kv: Tensor) -> Tensor:
        """Attend with queries (1, h, ., d), in the order of the groups: (1, h, ., d)."""
        answers = []
        for group, asked in zip(self.groups, queries, strict=True):
            rows = len(asked.seen)
            seen_keys = join(before, _in_places(kv, group.nodes, rows))  # [2 g h m+l d]
            queried = _in_places(q, asked.standing, rows)  # [g h a d]
            answer = block.attend(queried, seen_keys, asked.mask(queried.dtype))  # [g h a d]
            answers.append(answer.transpose(1, 2).flatten(0, 1).index_select(0, asked.answers))  # [. h d]
        return torch.cat(answers).transpose(0, 1).unsqueeze(0)  # [1 h . d]


def in_rows(texts: Sequence[list[int]]) -> tuple[list[list[int]], list[int]]:
    """Put texts that begin alike next to each other, in rows.

    Args:
        texts: The ids of each text.

    Returns:
        The numbers of each row's texts, and its number of tokens.
    """
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
    """Put rows of similar length together.

    Args:
        lengths: The number of tokens of each row.

    Returns:
        The numbers of each group's rows, shorter rows first.
    """
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
    """Copy packed tokens to their places: (..., 1, h, t, d) -> (..., g, h, l, d), tokens outermost in memory."""
    tokens = packed.movedim(-2, 0)  # [t ... 1 h d]
    rows_of_tokens = tokens.index_select(0, standing).unflatten(0, (rows, -1))  # [g l ... 1 h d]
    return rows_of_tokens.squeeze(-3).movedim((0, 1), (-4, -2))  # [... g h l d]


def _paths(above: Tensor) -> Tensor:
    """Which places are on the path to each place.

    Args:
        above: (g, l), for each place, the place before it, or the place itself if a text begins there.

    Returns:
        (g, l, l) bool.
    """
    length = above.shape[1]
    seen = torch.eye(length, dtype=torch.bool, device="cpu").repeat(len(above), 1, 1)  # [g l l]
    for _ in range(length.bit_length()):  # each time, twice as many tokens of each path
        seen |= seen.take_along_dim(above.unsqueeze(2), dim=1)
        above = above.gather(1, above)
    return seen
