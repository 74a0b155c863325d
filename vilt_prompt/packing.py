"""Texts as packed tokens, so that no layer works on padding, nor twice on what several texts begin with.

Under a causal mask a token depends on those before it alone. So texts are the paths of a tree whose nodes are run once,
packed along one axis. Only attention spreads them out, a group of texts of similar length at a time; the keys before
all texts, those of the prefix and the prompt, are never copied.

Shapes: c texts, t packed tokens, g texts of a group, l their tokens, m keys before them, h heads, d channels of a head.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vilt_prompt.attention import Block

# Attention takes texts of different lengths together while that adds no more scores than this: what a group costs.
WORTH_A_GROUP = 8192
# With so many tokens memory counts more than time: they are spread out anew for the backward pass.
TOO_MANY_TO_KEEP = 1024


class Group(NamedTuple):
    """Texts that attention takes together, filled up to the longest of them."""

    spread: Tensor  # (g l,), which packed token stands where; what stands behind a text's end is seen by nobody
    own: Tensor  # those of the g l places at which a packed token is computed, in packed order
    ends: Tensor  # (g,), the column of each text's last token
    length: int  # l

    def spread_out(self, packed: Tensor) -> Tensor:
        """(h, t, d) -> (h, g, l, d)."""
        return packed.index_select(1, self.spread).unflatten(1, (-1, self.length))

    def own_places(self, spread: Tensor) -> Tensor:
        """(h, g, l, d) -> (h, t of this group, d)."""
        return spread.flatten(1, 2).index_select(1, self.own)


class Packing:
    """Which tokens of some texts are run, and how attention finds the keys of each.

    Attributes:
        tokens: (t,), where in the texts, flattened, each packed token stands.
        columns: (t,), its column.
        ends: (c,), the packed token that ends each text, group after group.
    """

    def __init__(self, texts: Sequence[Sequence[int]], columns: int, device: torch.device) -> None:
        """Args: the c texts' ids without padding, the columns of their batch, where indices go."""
        nodes: dict[tuple[int, int], int] = {}  # (the node before, the id) -> node
        tokens: list[int] = []
        ends: list[int] = []
        order: list[int] = []
        self.groups: list[Group] = []
        for numbers in group_by_length([len(text) for text in texts]):
            length = len(texts[numbers[-1]])
            spread: list[int] = []
            own: list[int] = []
            last = [len(texts[number]) - 1 for number in numbers]
            for row, number in enumerate(numbers):
                node = -1
                for column, token in enumerate(texts[number]):
                    node = nodes.setdefault((node, token), len(nodes))
                    if node == len(tokens):
                        tokens.append(number * columns + column)
                        own.append(row * length + column)
                    spread.append(node)
                spread += [node] * (length - len(texts[number]))
                ends.append(node)
                order.append(number)
            indices = [torch.tensor(index, device=device) for index in (spread, own, last)]
            self.groups.append(Group(indices[0], indices[1], indices[2], length))
        self.tokens = torch.tensor(tokens, device=device)
        self.columns = self.tokens % columns
        self.ends = torch.tensor(ends, device=device)
        self._order = torch.tensor(order, device=device).argsort()

    def prepare(self, before: int, seen: Tensor | None, x: Tensor) -> None:
        """Nothing has to be known beforehand: all tokens are seen by those that follow."""
        assert seen is None

    def attend(self, block: Block, q: Tensor, before: tuple[Tensor, Tensor], k: Tensor, v: Tensor) -> Tensor:
        """Queries, keys and values (1, h, t, d), and those before each text (1, h, m, d) -> (1, h, t, d)."""
        return self._run(self._attend, block, q, *before, k, v)

    def attend_at_ends(self, block: Block, q: Tensor, before: tuple[Tensor, Tensor], k: Tensor, v: Tensor) -> Tensor:
        """The same for the queries of the pooled tokens: (1, h, c, d)."""
        return self._run(self._attend_at_ends, block, q, *before, k, v)

    def at_ends(self, x: Tensor) -> Tensor:
        """(1, t, d) -> (1, c, d), in the order of `ends`."""
        return x[:, self.ends]

    def in_order(self, x: Tensor) -> Tensor:
        """(1, c, d), in the order of `ends` -> (c, 1, d), in that of the texts."""
        return x[0, self._order].unsqueeze(1)

    def _attend(self, block: Block, q: Tensor, before_k: Tensor, before_v: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(h, t, d) queries -> (h, t, d)."""
        to_before = q @ before_k.mT  # [h t m]
        attended = []
        for group in self.groups:
            behind = torch.ones(group.length, group.length, dtype=torch.bool, device=q.device).triu(1)
            to_own = (group.spread_out(q) @ group.spread_out(k).mT).masked_fill(behind, float("-inf"))  # [h g l l]
            of_before, of_own = _weights(block, q.shape[-1], group.spread_out(to_before), to_own)
            out = group.own_places(of_own @ group.spread_out(v))
            attended.append(out + group.own_places(of_before) @ before_v)
        return torch.cat(attended, dim=1)

    def _attend_at_ends(
        self, block: Block, q: Tensor, before_k: Tensor, before_v: Tensor, k: Tensor, v: Tensor
    ) -> Tensor:
        """(h, c, d) queries, in the order of `ends` -> (h, c, d)."""
        attended = []
        for group, some in zip(self.groups, q.split([len(group.ends) for group in self.groups], dim=1), strict=True):
            behind = torch.arange(group.length, device=q.device) > group.ends[:, None]  # [g l]
            to_own = (some.unsqueeze(2) @ group.spread_out(k).mT).squeeze(2).masked_fill(behind, float("-inf"))
            of_before, of_own = _weights(block, q.shape[-1], some @ before_k.mT, to_own)
            attended.append(of_before @ before_v + (of_own.unsqueeze(2) @ group.spread_out(v)).squeeze(2))
        return torch.cat(attended, dim=1)

    def _run(self, attend: Callable[..., Tensor], block: Block, *parts: Tensor) -> Tensor:
        """Attention on (1, h, ., d), in float32 at least."""
        dtype = parts[0].dtype
        if dtype in (torch.float16, torch.bfloat16):
            parts = tuple(part.float() for part in parts)
        with torch.autocast(parts[0].device.type, enabled=False):
            parts = tuple(part[0] for part in parts)
            if torch.is_grad_enabled() and sum(len(group.spread) for group in self.groups) >= TOO_MANY_TO_KEEP:
                out = checkpoint(attend, block, *parts, use_reentrant=False, preserve_rng_state=block.dropout > 0)
            else:
                out = attend(block, *parts)
        return out.unsqueeze(0).to(dtype)


def _weights(block: Block, channels: int, to_before: Tensor, to_own: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (..., m) and (..., l) of the keys before the texts and of their own -> weights."""
    scale = channels**-0.5 if block.scale is None else block.scale
    weights = F.dropout((torch.cat([to_before, to_own], dim=-1) * scale).softmax(dim=-1), block.dropout)
    of_before, of_own = weights.split([to_before.shape[-1], to_own.shape[-1]], dim=-1)
    return of_before, of_own


def group_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """The numbers of texts of similar length together, shorter ones first."""
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
