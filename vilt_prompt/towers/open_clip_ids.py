"""How open_clip's own text tower reads token ids: which columns run, which are masked, and where a text ends.

Shapes: C texts, L their columns, l columns that run, n prompts, d width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from open_clip import CLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from vilt_prompt.towers.packing import PackedTexts, pack
from vilt_prompt.towers.token_ids import (
    TokenStatistics,
    check_ids,
    check_room,
    check_start,
    check_values,
    make_room,
    once_for,
)

CLASS_EMBEDDING = "class embedding"  # our name for CoCa's way to pool


class Texts(NamedTuple):
    """Token ids that fit, and their masks.

    Attributes:
        given: (C, L), the caller's own tensor.
        ids: (C, l), the columns of it that run.
        statistics: Statistics of the values; None: they cannot be read.
        seen: (C, 1, 1, l) bool, or l + 1 with the class embedding, False for masked padding. None: all are seen.
    """

    given: Tensor
    ids: Tensor
    statistics: TokenStatistics | None
    seen: Tensor | None


class IdReader:
    """A view of a text tower's module that knows its vocabulary, masks and pooling, but neither prompts nor layers."""

    def __init__(self, text: CLIP | TextTransformer) -> None:
        self.text = text

    @property
    def embedding(self) -> nn.Embedding:
        """The embedding of tokens."""
        return self.text.token_embedding

    @property
    def vocabulary(self) -> int:
        """The number of token ids."""
        return len(self.embedding.weight)

    @property
    def positions(self) -> int:
        """The number of positions, for ids and prompts together. The class embedding has one of its own."""
        return len(self.text.positional_embedding) - (self.class_embedding is not None)

    @property
    def class_embedding(self) -> Tensor | None:
        """CoCa's (d,), or None."""
        return getattr(self.text, "cls_emb", None)

    @property
    def pool_type(self) -> str:
        """How the tower pools its tokens."""
        if self.class_embedding is not None:
            return CLASS_EMBEDDING
        return self.text.text_pool_type if self.is_in_clip else self.text.pool_type

    @property
    def end_rule(self) -> tuple[str, int | None]:
        """How the end token is found: the pooling, and the token's id if the tower looks for one id."""
        if self.pool_type != "eos":
            return self.pool_type, None
        return self.pool_type, self.text.text_eos_id if self.is_in_clip else self.text.eos_id

    @property
    def causal(self) -> bool:
        """Whether a token sees only itself and what stands before it."""
        return self.text.attn_mask is not None

    @property
    def is_in_clip(self) -> bool:
        """Whether the module is a `CLIP`, which holds the parts of its text tower itself, some under longer names."""
        return isinstance(self.text, CLIP)

    def check(self, text: Tensor) -> TokenStatistics | None:
        """Check token ids (C, L), and return their statistics; None: their values cannot be read."""
        check_ids(text, self.positions, self.embedding.weight)
        key = ("values", self.vocabulary, self.end_rule)
        return once_for(text, key, lambda: check_values(text, self.vocabulary, self._end(text)))

    def fit(self, text: Tensor, n: int, with_tokens: bool) -> Texts:
        """Check token ids, and keep the columns that have to run.

        Args:
            text: (C, L) token ids.
            n: The number of prompts, which take positions.
            with_tokens: Whether the outputs of all tokens are read. If not, only pooled tokens are.

        Raises:
            TypeError: If `text` is not an integer tensor.
            ValueError: If it does not fit together with the prompts, has unknown ids, or a text has no end token.
        """
        statistics = self.check(text)
        if self.class_embedding is not None:
            check_start(text, self.text.pad_id)
        if self.pool_type == "none" or (self.causal and self.pool_type == "last"):
            check_room(text.shape[1], self.positions, n)
            ids = text
        elif self.causal and self.pool_type in ("argmax", "eos") and not with_tokens and statistics is not None:
            assert statistics.last_end is not None
            check_room(statistics.last_end + 1, self.positions, n)
            ids = text[:, : statistics.last_end + 1]  # under a causal mask nothing after the last end token is read
        else:
            ids = make_room(text, statistics, self.positions, n)
        seen = self._seen(ids)
        if self.class_embedding is not None and seen is not None and statistics is not None and not with_tokens:
            # Only the class embedding is read, which sees nothing behind these columns.
            valid = seen[:, 0, 0, :-1]  # [C l]
            key = ("seen", ids.shape[1], self.text.pad_id, self.text.correct_cls_mask)
            columns = once_for(text, key, lambda: int(valid.any(0).nonzero().amax()) + 1)
            ids, seen = ids[:, :columns], torch.cat([seen[..., :columns], seen[..., -1:]], dim=-1)
        return Texts(text, ids, statistics, seen)

    def _seen(self, ids: Tensor) -> Tensor | None:
        """Which tokens are seen if the tower masks padding, as if prompts were valid tokens: (C, 1, 1, l)."""
        if self.class_embedding is None and not getattr(self.text, "use_pad_mask", False):
            return None
        valid = ids != self.text.pad_id
        if self.class_embedding is not None:
            always = valid.new_ones(valid.shape[0], 1)
            # open_clip's older mask is one column off: a token is seen if the token before it is valid.
            valid = torch.cat([valid, always] if self.text.correct_cls_mask else [always, valid], dim=1)  # [C l+1]
        return valid[:, None, None]

    def packed(self, texts: Texts) -> PackedTexts | None:
        """The texts, packed, or None if they cannot be."""
        statistics, columns = texts.statistics, texts.ids.shape[1]
        if statistics is None or not statistics.shared_start or texts.seen is not None:
            return None
        return once_for(texts.given, ("packed", columns, self.end_rule), lambda: self._pack(texts.ids))

    def _pack(self, ids: Tensor) -> PackedTexts | None:
        end = self._end(ids)
        if end is None:
            return None
        rows = zip(ids.tolist(), end.tolist(), strict=True)
        return pack([row[1 : last + 1] for row, last in rows], ids[:1, :1].clone())

    def pooled(self, ids: Tensor, texts: Texts) -> Tensor:
        """The column of each text's pooled token, counted without prompts: (C,).

        Args:
            ids: (C, l) or (C, L), the token ids among which an end token is looked for.
            texts: The texts, as `fit` returned them.
        """
        columns = texts.ids.shape[1]
        column = {"first": 0, "last": columns - 1, CLASS_EMBEDDING: columns}.get(self.pool_type)
        if column is not None:
            return ids.new_full((ids.shape[0],), column)
        end = self._end(ids)
        assert end is not None
        return end

    def _end(self, text: Tensor) -> Tensor | None:
        """The column of each text's end token (C,), 0 if it has none; None: the tower looks for no end token."""
        rule, eos_id = self.end_rule
        if eos_id is not None:
            return text.eq(eos_id).int().argmax(dim=-1)
        return text.argmax(dim=-1) if rule in ("argmax", "eos") else None
