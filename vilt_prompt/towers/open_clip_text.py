"""open_clip's own text tower, also where it is spread over `CLIP`.

Shapes: C texts, L their columns, l tokens, n prompts, d width, D features.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from open_clip import CLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from vilt_prompt.towers.bidirectional import run_bidirectional
from vilt_prompt.towers.blocks import Block, WholeBlock
from vilt_prompt.towers.causal import run_causal
from vilt_prompt.towers.layers import Prompts, prompt_length
from vilt_prompt.towers.open_clip_blocks import block_refusal, pieces
from vilt_prompt.towers.packing import Packing
from vilt_prompt.towers.padded import Padded
from vilt_prompt.towers.token_ids import (
    Facts,
    check_ids,
    check_room,
    check_start,
    check_values,
    keep_for,
    make_room,
)


class Texts(NamedTuple):
    """Token ids (C, l) that fit, with what the layers have to know about them."""

    given: Tensor  # (C, L), the caller's own tensor
    ids: Tensor
    facts: Facts | None
    seen: Tensor | None  # (C, 1, 1, l), or l + 1 with the class embedding


class TextTower:
    """A frozen text tower, `TextTransformer` or spread over `CLIP`.

    Causal towers: [SOS, P, name, EOS]. Without a causal mask the prompts stand in front where the last token is
    pooled, else after the first. A class embedding (CoCa) stays last.
    """

    family = "open_clip TextTransformer"
    module_classes: tuple[type[nn.Module], ...] = (CLIP, TextTransformer)

    def __init__(self, text: CLIP | TextTransformer) -> None:
        self.text = text
        self.transformer = text.transformer
        self.layers = len(text.transformer.resblocks)
        self.embedding: nn.Embedding = text.token_embedding
        self.vocabulary: int = len(self.embedding.weight)
        rows, self.width = text.positional_embedding.shape
        self.positions: int = rows if self.class_embedding is None else rows - 1  # for ids and prompts
        # CLIP holds the parts of its text tower itself and calls these two by longer names.
        self.in_clip = isinstance(text, CLIP)
        self.stands_for = (self.transformer,) if self.in_clip else (text, self.transformer)
        # open_clip before 3.0 pools no end token by its id.
        self.eos_id: int | None = getattr(text, "text_eos_id" if self.in_clip else "eos_id", None)
        self.pool_type: str = text.text_pool_type if self.in_clip else text.pool_type
        if self.class_embedding is not None:
            self.pool_type = "class embedding"
        self.causal = text.attn_mask is not None

    @property
    def class_embedding(self) -> Tensor | None:
        """CoCa's (d,); read anew each time, for `fully_shard` replaces parameters."""
        return getattr(self.text, "cls_emb", None)

    @classmethod
    def owns(cls, text: nn.Module) -> bool:
        """Whether a text tower is of this family."""
        return isinstance(text, cls.module_classes)

    @staticmethod
    def refusal(text: Any) -> str | None:
        """Why this tower cannot take prompts, or None."""
        return block_refusal(text.transformer)

    @property
    def blocks(self) -> list[Block | WholeBlock]:
        """The layers, in pieces where they can be taken apart."""
        return pieces(self.transformer)

    def check(self, text: Any) -> Facts | None:
        """Checks (C, L) token ids, and says what is known of them; see `token_ids`."""
        check_ids(text, self.positions, self.embedding.weight)
        key = ("values", self.vocabulary, self.end_rule)
        return keep_for(text, key, lambda: check_values(text, self.vocabulary, self._end(text)))

    @property
    def end_rule(self) -> tuple[str, int | None]:
        """How the end token is found: the pooling, and its id where the tower looks for one id."""
        return self.pool_type, self.eos_id if self.pool_type == "eos" else None

    def runs_alone(self, columns: int) -> bool:
        """Whether the tower's own forward takes texts of so many columns."""
        return columns == self.positions or not (self.in_clip or (self.causal and self.class_embedding is None))

    def encode(self, text: Tensor, prompts: Prompts, with_tokens: bool) -> tuple[Tensor, Tensor | None]:
        """(C, L) token ids and the (n, d) prompt of each layer -> (C, D), not normalised, and the tokens if wanted.

        Tokens come back one for each id; 0 where an id was dropped to make room for the prompts.
        """
        n = prompt_length(prompts)
        texts = self._fit(text, n, with_tokens)
        keep_all = with_tokens or self.pool_type in ("first", "none")
        run = self._run_causal if self.causal else self._run_bidirectional
        x = run(texts, prompts, n, keep_all)
        dropped = (0, 0, 0, text.shape[1] - texts.ids.shape[1])  # the columns that made room
        if self.class_embedding is not None:
            # open_clip norms the class embedding alone, after pooling.
            return self._project(self.text.ln_final(x[:, -1])), F.pad(x[:, :-1], dropped) if with_tokens else None
        x = self.text.ln_final(x)
        tokens = F.pad(x, dropped) if with_tokens else None
        if self.pool_type == "none":
            return self._project(x), tokens
        if keep_all:
            x = x[torch.arange(x.shape[0], device=x.device), self._pooled(text, texts)].unsqueeze(1)
        return self._project(x.squeeze(1)), tokens

    def _fit(self, text: Tensor, n: int, with_tokens: bool) -> Texts:
        facts = self.check(text)
        if self.class_embedding is not None:
            check_start(text, self.text.pad_id)
        ids = text
        if self.pool_type == "none" or (self.causal and self.pool_type == "last"):
            check_room(text.shape[1], self.positions, n)
        elif self.causal and self.pool_type in ("argmax", "eos") and not with_tokens and facts is not None:
            assert facts.last_end is not None
            check_room(facts.last_end + 1, self.positions, n)
            ids = text[:, : facts.last_end + 1]  # nothing after the last end token counts
        else:
            ids = make_room(text, facts, self.positions, n)
        seen = self._seen(ids)
        if self.class_embedding is not None and seen is not None and facts is not None and not with_tokens:
            # Only the class embedding is wanted, which sees nothing behind these columns.
            columns = int(seen[:, 0, 0, :-1].any(0).nonzero().amax()) + 1
            ids, seen = ids[:, :columns], torch.cat([seen[..., :columns], seen[..., -1:]], dim=-1)
        return Texts(text, ids, facts, seen)

    def _seen(self, ids: Tensor) -> Tensor | None:
        """Which tokens are seen where the tower masks padding, as if prompts were valid tokens: (C, 1, 1, l)."""
        if self.class_embedding is None and not getattr(self.text, "use_pad_mask", False):
            return None
        valid = ids != self.text.pad_id
        if self.class_embedding is not None:
            always = valid.new_ones(valid.shape[0], 1)
            # open_clip's older mask is one column off: a token is seen if the one before it is valid.
            valid = torch.cat([valid, always] if self.text.correct_cls_mask else [always, valid], dim=1)
        return valid[:, None, None]

    def _run_causal(self, texts: Texts, prompts: Prompts, n: int, keep_all: bool) -> Tensor:
        """The tokens of [SOS, P, name, EOS] without P, all of them or the pooled one: (C, l, d)."""
        ids, blocks = texts.ids, self.blocks
        packing = None if keep_all else self._packing(texts, blocks, 1 + n)  # made once for each tensor of ids
        position = self.text.positional_embedding.to(self.transformer.get_cast_dtype())
        shared = texts.facts is not None and texts.facts.shared_start
        if packing is None:
            x = self.embedding(ids[:, 1:]).to(position.dtype) + position[n + 1 : n + ids.shape[1]]
            x = self._append_class_embedding(x, position)  # [C l d], where they stand once the prompts are in
            ends = None if keep_all else self._pooled(ids, texts) - 1
            seen = None if texts.seen is None else texts.seen[..., 1:]
            where: Packing | Padded = Padded(x.shape[0], x.shape[1], ends, 1 + n, seen, x.device)
        else:
            x = self.embedding(ids[:, 1:].flatten()[packing.tokens]).to(position.dtype)
            x, where = x + position[packing.columns + n + 1], packing  # [t d]
        return run_causal(
            blocks,
            self.embedding(ids[: 1 if shared else None, :1]).to(position.dtype) + position[:1],
            x.reshape(1, -1, self.width),
            prompts,
            where,
            enter=lambda prompt: prompt + position[1 : n + 1],
            checkpointing=self.transformer.grad_checkpointing,
        )

    def _packing(self, texts: Texts, blocks: list[Block | WholeBlock], before: int) -> Packing | None:
        """How the names are packed behind that many keys, if that saves anything."""
        facts, columns = texts.facts, texts.ids.shape[1]
        if facts is None or not facts.shared_start or texts.seen is not None:
            return None
        if any(isinstance(block, WholeBlock) for block in blocks):
            return None
        return keep_for(texts.given, ("packing", columns, before, self.end_rule), lambda: self._pack(texts.ids, before))

    def _pack(self, ids: Tensor, before: int) -> Packing | None:
        end = self._end(ids)
        if end is None:
            return None
        rows = zip(ids.tolist(), end.tolist(), strict=True)
        columns = ids.shape[1] - 1
        packing = Packing([row[1 : last + 1] for row, last in rows], columns, before, ids.device)
        return packing if len(packing.tokens) < columns * len(ids) else None

    def _run_bidirectional(self, texts: Texts, prompts: Prompts, n: int, keep_all: bool) -> Tensor:
        """The tokens without the prompts, all of them or the pooled one: (C, l, d)."""
        ids = texts.ids
        position = self.text.positional_embedding.to(self.transformer.get_cast_dtype())
        before = 0 if self.pool_type == "last" else 1  # tokens in front of the prompts
        places = torch.cat([position[:before], position[n + before : n + ids.shape[1]]])
        x = self._append_class_embedding(self.embedding(ids).to(position.dtype) + places, position)
        return run_bidirectional(
            self.blocks,
            x,
            prompts,
            enter=lambda prompt: prompt + position[before : n + before],
            seen=texts.seen,
            pooled=None if keep_all else self._pooled(ids, texts),
            checkpointing=self.transformer.grad_checkpointing,
        )

    def _append_class_embedding(self, x: Tensor, position: Tensor) -> Tensor:
        if self.class_embedding is None:
            return x
        last = self.class_embedding.to(x.dtype) + position[-1]
        return torch.cat([x, last.expand(x.shape[0], 1, -1)], dim=1)

    def _pooled(self, ids: Tensor, texts: Texts) -> Tensor:
        """The column of the pooled token, counted without prompts: (C,)."""
        columns = texts.ids.shape[1]
        column = {"first": 0, "last": columns - 1, "class embedding": columns}.get(self.pool_type)
        if column is not None:
            return ids.new_full((ids.shape[0],), column)
        end = self._end(ids)
        assert end is not None
        return end

    def _end(self, text: Tensor) -> Tensor | None:
        """The column of the end token (C,), 0 where none follows; None: the tower looks for none."""
        if self.pool_type in ("argmax", "eos"):
            return (text.eq(self.eos_id).int() if self.eos_id is not None and self.pool_type == "eos" else text).argmax(
                dim=-1
            )
        return None

    def _project(self, pooled: Tensor) -> Tensor:
        projection = self.text.text_projection
        if projection is None:
            return pooled
        return projection(pooled) if isinstance(projection, nn.Module) else pooled @ projection
