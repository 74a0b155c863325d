"""The packed layout: no layer runs padding, and a beginning that several texts share is run once.

Under a causal mask a token's state depends only on the tokens before it. So texts that begin alike share the tokens of
that beginning. They are the paths of a tree whose nodes are run once, packed along one axis. Only attention takes the
nodes in rows: a row has the nodes of some whole texts, and each token sees the nodes of its own path.

Shapes: c texts, t packed tokens, g rows, l places of a row, a the most texts of a row, m keys in front of each text,
h heads, d width or channels of a head. The page of `PackedTexts`, which stands alone, has C, N, G, L and A for c, t,
g, l and a.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from vilt_prompt.towers.blocks import Block, join

# The most tokens of a row; if one text has more, every row may be that long. Several texts share a row because a few
# large products take less time than many small ones. The masked scores between them are a hundredth of a token's work
# in a tower 512 wide. With 36 or 44, rows of the names of HMDB-51 fill badly.
ROW = 40


class PackedTexts(NamedTuple):
    """Token ids of texts that begin with the same token, packed. `pack_text` of a wrapped model makes them.

    All but one of the fields are tensors, so that a compiled graph can take them as inputs: one graph serves all lists.
    Shapes: C texts, N packed tokens, G rows of L places, at most A texts in a row. Rows that are not full are padded
    with zeros that nothing reads.

    Attributes:
        first: (1, 1), the id with which all texts begin.
        ids: (N,), the id of each packed token.
        columns: (N,), its column among the tokens after the first.
        row_tokens: (G, L), the packed token at each place.
        token_places: (N,), the first place of each packed token, counted through all G * L places.
        seen: (G, L, L) bool, the places of its row that the token at each place sees.
        ends: (C,), the packed token that ends each text.
        row_texts: (G, A), the texts of each row.
        text_places: (C,), the place of each text in `row_texts`, counted through all rows.
        seen_at_ends: (G, A, L) bool, the places of its row that the last token of each text sees.
        longest: The most columns of a text, with its first token.
    """

    first: Tensor
    ids: Tensor
    columns: Tensor
    row_tokens: Tensor
    token_places: Tensor
    seen: Tensor
    ends: Tensor
    row_texts: Tensor
    text_places: Tensor
    seen_at_ends: Tensor
    longest: int


class Packed:
    """Where packed texts find their keys.

    Attributes:
        ends: (c,), the packed token that ends each text.
    """

    def __init__(self, texts: PackedTexts, before: int) -> None:
        """Lay out texts.

        Args:
            texts: The texts.
            before: m, the number of keys in front of each text. All tokens see them.
        """
        self.texts, self.before, self.ends = texts, before, texts.ends
        self._masks: dict[str, Tensor] = {}

    def attend(self, block: Block, q: Tensor, prefix_kv: Tensor, kv: Tensor) -> Tensor:
        """Let each token see the tokens of its own text.

        Args:
            block: The layer.
            q: (1, h, t, d) queries.
            prefix_kv: (2, 1, h, m, d) keys and values in front of each text.
            kv: (2, 1, h, t, d) keys and values.

        Returns:
            (1, h, t, d).
        """
        queries = _in_places(q, self.texts.row_tokens)  # [g h l d]
        attended = block.attend(queries, self._keys(prefix_kv, kv), self._mask("tokens", self.texts.seen, q.dtype))
        return _picked(attended, self.texts.token_places)

    def attend_at_ends(self, block: Block, q: Tensor, prefix_kv: Tensor, kv: Tensor) -> Tensor:
        """Let the tokens that end the texts, with queries (1, h, c, d), see their own texts: (1, h, c, d)."""
        queries = _in_places(q, self.texts.row_texts)  # [g h a d]
        attended = block.attend(
            queries, self._keys(prefix_kv, kv), self._mask("ends", self.texts.seen_at_ends, q.dtype)
        )
        return _picked(attended, self.texts.text_places)

    def at_ends(self, x: Tensor) -> Tensor:
        """The tokens of (1, t, d) that end the texts: (1, c, d)."""
        return x[:, self.ends]

    def _keys(self, prefix_kv: Tensor, kv: Tensor) -> Tensor:
        """Keys and values of each row and in front of it: (2, g, h, m + l, d)."""
        return join(prefix_kv, _in_places(kv, self.texts.row_tokens))

    def _mask(self, name: str, seen: Tensor, dtype: torch.dtype) -> Tensor:
        """(g, 1, ., m + l): 0 where a key is seen, minus infinity elsewhere."""
        # From a bool mask, attention would make these numbers again in every layer.
        if name not in self._masks:
            seen = F.pad(seen, (self.before, 0), value=True).unsqueeze(1)
            self._masks[name] = torch.where(seen, 0.0, float("-inf")).to(dtype)
        return self._masks[name]


def pack(texts: Sequence[list[int]], first: Tensor) -> PackedTexts:
    """Pack texts.

    Args:
        texts: The ids of each of c texts, without the first token and without padding.
        first: (1, 1), the id of the first token. All index tensors are made on its device.
    """
    node_of: dict[tuple[int, int], int] = {}  # (parent, id) -> node; -1 is the parent of a text's first token
    ids: list[int] = []
    columns: list[int] = []
    token_places: list[tuple[int, int]] = []  # (row, its place)
    ends, text_places = [0] * len(texts), [(0, 0)] * len(texts)
    tokens_of_rows, parents_of_rows, ends_of_rows = [], [], []
    texts_of_rows = in_rows(texts)
    for row, numbers in enumerate(texts_of_rows):
        place_of: dict[int, int] = {}  # node -> its place in the row
        parents: list[int] = []  # for each place, the place of its parent, or the place itself if a text begins there
        for turn, number in enumerate(numbers):
            node = -1
            for column, token in enumerate(texts[number]):
                parent, node = node, node_of.setdefault((node, token), len(ids))
                if node == len(ids):
                    ids.append(token)
                    columns.append(column)
                    token_places.append((row, len(place_of)))
                if node not in place_of:
                    parents.append(place_of.get(parent, len(place_of)))
                    place_of[node] = len(place_of)
            ends[number], text_places[number] = node, (row, turn)
        tokens_of_rows.append([*place_of])
        parents_of_rows.append(parents)
        ends_of_rows.append([place_of[ends[number]] for number in numbers])
    row_tokens, row_texts, end_places = _filled(tokens_of_rows), _filled(texts_of_rows), _filled(ends_of_rows)
    seen = _paths(_filled(parents_of_rows))
    device = first.device
    return PackedTexts(
        first=first,
        ids=torch.tensor(ids, device=device),
        columns=torch.tensor(columns, device=device),
        row_tokens=row_tokens.to(device),
        token_places=_flat(token_places, row_tokens.shape[1]).to(device),
        seen=seen.to(device),
        ends=torch.tensor(ends, device=device),
        row_texts=row_texts.to(device),
        text_places=_flat(text_places, row_texts.shape[1]).to(device),
        seen_at_ends=seen.take_along_dim(end_places.unsqueeze(2), dim=1).to(device),
        longest=1 + max(map(len, texts)),
    )


def let_sizes_change(texts: PackedTexts | Tensor) -> None:
    """Tell `torch.compile` that every size of packed texts, or of token ids, may be another one in the next list.

    Otherwise a size counts as fixed until it first changes, and lists that change it later than the others, such as the
    one whose rows first are shorter, cost a graph each.
    """
    if torch.compiler.is_compiling():  # the mark is for inputs of a graph
        return
    for tensor in texts if isinstance(texts, PackedTexts) else (texts,):
        if isinstance(tensor, Tensor):
            torch._dynamo.maybe_mark_dynamic(tensor, list(range(tensor.ndim)))


def in_rows(texts: Sequence[list[int]]) -> list[list[int]]:
    """Put texts that begin alike next to each other, in rows of up to `ROW` tokens, or as many as the longest text has.

    Args:
        texts: The ids of each text.

    Returns:
        The numbers of each row's texts.
    """
    most = max(ROW, *map(len, texts))
    rows: list[list[int]] = []
    length = most  # of the last row: full at the start, so that the first text opens one
    previous: list[int] = []
    for number in sorted(range(len(texts)), key=texts.__getitem__):
        text = texts[number]
        shared = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(previous, text, strict=False))))
        if length + len(text) - shared <= most:
            rows[-1].append(number)
            length += len(text) - shared
        else:
            rows.append([number])
            length = len(text)
        previous = text
    return rows


def _filled(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of different lengths, filled up with zeros."""
    return pad_sequence([torch.tensor(row, device="cpu") for row in rows], batch_first=True)


def _flat(places: Sequence[tuple[int, int]], length: int) -> Tensor:
    """Places (row, column) in rows of this length, counted through all rows."""
    return torch.tensor([row * length + column for row, column in places], device="cpu")


def _in_places(packed: Tensor, rows: Tensor) -> Tensor:
    """Copy packed tokens to the places (g, l): (..., 1, h, t, d) -> (..., g, h, l, d), tokens outermost in memory."""
    tokens = packed.movedim(-2, 0)  # [t ... 1 h d]
    placed = tokens.index_select(0, rows.flatten()).unflatten(0, rows.shape)  # [g l ... 1 h d]
    return placed.squeeze(-3).movedim((0, 1), (-4, -2))  # [... g h l d]


def _picked(attended: Tensor, places: Tensor) -> Tensor:
    """The outputs at the given places of (g, h, l, d): (1, h, t, d)."""
    return rearrange(rearrange(attended, "g h l d -> (g l) h d").index_select(0, places), "t h d -> 1 h t d")


def _paths(parents: Tensor) -> Tensor:
    """Which places are on the path to each place.

    Args:
        parents: (g, l), for each place, the place of its parent, or the place itself if a text begins there.

    Returns:
        (g, l, l) bool.
    """
    length = parents.shape[1]
    seen = torch.eye(length, dtype=torch.bool, device="cpu").repeat(len(parents), 1, 1)  # [g l l]
    for _ in range(length.bit_length()):  # each time, twice as many tokens of each path
        seen |= seen.take_along_dim(parents.unsqueeze(2), dim=1)
        parents = parents.gather(1, parents)
    return seen
