"""open_clip's own text tower: a `TextTransformer`, or its parts in a `CLIP`. `open_clip_ids.py` reads its token ids.

Shapes: C texts, L their columns, l tokens, n prompts, d width, D features.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from open_clip import CLIP
from open_clip.transformer import TextTransformer, Transformer
from torch import Tensor, nn
from torch.nn import functional as F

from vilt_prompt.checks import check_placed
from vilt_prompt.towers.bidirectional import pick_pooled, run_bidirectional
from vilt_prompt.towers.causal import run_causal
from vilt_prompt.towers.layers import Prompts, prompt_length
from vilt_prompt.towers.open_clip_blocks import OpenClipBlock, block_refusal, blocks_of
from vilt_prompt.towers.open_clip_ids import IdReader, Texts
from vilt_prompt.towers.packing import Packed, PackedTexts
from vilt_prompt.towers.padded import Padded
from vilt_prompt.towers.token_ids import TokenStatistics, check_room
from vilt_prompt.towers.whole import WholeBlocks


class OpenClipTextTower:
    """A frozen text tower.

    Under a causal mask: [SOS, P, name, EOS]. Without one, the prompts stand in front if the last token is pooled, else
    after the first token. A class embedding (CoCa) stays last.
    """

    family = "open_clip TextTransformer"
    module_classes: ClassVar[tuple[type[nn.Module], ...]] = (CLIP, TextTransformer)

    def __init__(self, text: CLIP | TextTransformer) -> None:
        self.text = text
        self.reader = IdReader(text)

    @classmethod
    def owns(cls, text: nn.Module) -> bool:
        """Whether a text tower belongs to this family."""
        return isinstance(text, cls.module_classes)

    @staticmethod
    def refusal(text: CLIP | TextTransformer) -> str | None:
        """Why this tower cannot take prompts, or None."""
        return block_refusal(text.transformer)

    @property
    def transformer(self) -> Transformer:
        """The module that holds the layers."""
        return self.text.transformer

    @property
    def layers(self) -> int:
        """The number of layers."""
        return len(self.transformer.resblocks)

    @property
    def blocks(self) -> list[OpenClipBlock] | WholeBlocks:
        """The layers."""
        return blocks_of(self.transformer)

    @property
    def stands_for(self) -> tuple[nn.Module, ...]:
        """The modules whose forward `encode` replaces."""
        return (self.transformer,) if self.reader.is_in_clip else (self.text, self.transformer)

    @property
    def embedding(self) -> nn.Embedding:
        """The embedding of tokens."""
        return self.reader.embedding

    @property
    def vocabulary(self) -> int:
        """The number of token ids."""
        return self.reader.vocabulary

    @property
    def width(self) -> int:
        """The width d of a token."""
        return self.text.positional_embedding.shape[1]

    @property
    def positions(self) -> int:
        """The number of positions, for ids and prompts together. The class embedding has one of its own."""
        return self.reader.positions

    @property
    def before(self) -> int:
        """The number of tokens in front of the prompts."""
        return 0 if self.reader.pool_type == "last" and not self.reader.causal else 1

    def check(self, text: Tensor) -> TokenStatistics | None:
        """Check token ids (C, L), and return their statistics; None: their values cannot be read."""
        return self.reader.check(text)

    def runs_alone(self, columns: int) -> bool:
        """Whether the tower's own forward takes texts of this many columns."""
        if columns == self.positions:
            return True
        # The others slice their masks and positions.
        return not self.reader.is_in_clip and (not self.reader.causal or self.reader.class_embedding is not None)

    def pack(self, text: Tensor) -> PackedTexts | Tensor:
        """Pack token ids (C, L), or drop the columns that no text needs if they cannot be packed."""
        texts = self.reader.fit(text, 0, with_tokens=False)
        can_pack = self.reader.causal and not isinstance(self.blocks, WholeBlocks)
        packed = self.reader.packed(texts) if can_pack else None
        return texts.ids if packed is None else packed

    def encode(self, text: Tensor | PackedTexts, prompts: Prompts, with_tokens: bool) -> tuple[Tensor, Tensor | None]:
        """Encode token ids (C, L), or packed texts, with the (n, d) prompt of each layer.

        Returns:
            Features (C, D), not normalised, and the tokens (C, L, d) if they are wanted: one for each id, 0 for an id
            that was dropped to make room for the prompts.
        """
        if isinstance(text, PackedTexts):
            return self._encode_packed(text, prompts, with_tokens), None
        texts = self.reader.fit(text, prompt_length(prompts), with_tokens)
        keep_all = with_tokens or self.reader.pool_type in ("first", "none")
        x = self._run(texts, prompts, keep_all)  # [C l d], or [C 1 d] if only the pooled token is kept
        dropped = (0, 0, 0, text.shape[1] - texts.ids.shape[1])  # the columns that made room
        if self.reader.class_embedding is not None:
            # open_clip norms only the class embedding, after pooling.
            return self._project(self.text.ln_final(x[:, -1])), F.pad(x[:, :-1], dropped) if with_tokens else None
        x = self.text.ln_final(x)
        tokens = F.pad(x, dropped) if with_tokens else None
        if self.reader.pool_type == "none":
            return self._project(x), tokens
        if keep_all:
            x = pick_pooled(x, self.reader.pooled(text, texts))  # [C 1 d]
        return self._project(x.squeeze(1)), tokens

    def _encode_packed(self, text: PackedTexts, prompts: Prompts, with_tokens: bool) -> Tensor:
        blocks, reader = self.blocks, self.reader
        if with_tokens or isinstance(blocks, WholeBlocks) or not reader.causal or reader.class_embedding is not None:
            raise TypeError("this model does not run packed texts: pass tokenizer(texts), or its own pack_text(...)")
        check_placed("text", text.ids, self.embedding.weight)
        check_room(text.longest, self.positions, prompt_length(prompts))
        x = self._run_packed(blocks, text, prompts)  # [C 1 d]
        return self._project(self.text.ln_final(x).squeeze(1))

    def _run(self, texts: Texts, prompts: Prompts, keep_all: bool) -> Tensor:
        """Run the layers.

        Args:
            texts: The texts.
            prompts: The (n, d) prompt of each layer.
            keep_all: Whether all tokens of the last layer are read, or only the pooled ones.

        Returns:
            All tokens without the prompts, (C, l, d), or the pooled ones, (C, 1, d).
        """
        blocks = self.blocks
        if isinstance(blocks, WholeBlocks):
            x = blocks.run(
                self._embed(texts.ids, prompt_length(prompts)),
                prompts,
                before=self.before,
                enter=self._enter,
                seen=texts.seen,
                causal=self.reader.causal,
                checkpointing=self.transformer.grad_checkpointing,
            )
            return x if keep_all else pick_pooled(x, self.reader.pooled(texts.ids, texts))
        if self.reader.causal:
            return self._run_causal(blocks, texts, prompts, keep_all)
        return run_bidirectional(
            blocks,
            self._embed(texts.ids, prompt_length(prompts)),
            prompts,
            enter=self._enter,
            seen=texts.seen,
            pooled=None if keep_all else self.reader.pooled(texts.ids, texts),
            checkpointing=self.transformer.grad_checkpointing,
        )

    def _run_causal(self, blocks: list[OpenClipBlock], texts: Texts, prompts: Prompts, keep_all: bool) -> Tensor:
        """Run decomposed layers under a causal mask, packed if the texts can be and tokens are saved."""
        packed = None if keep_all else self.reader.packed(texts)
        if packed is not None and len(packed.ids) < texts.ids[:, 1:].numel():
            return self._run_packed(blocks, packed, prompts)
        ids, n, position = texts.ids, prompt_length(prompts), self._position()
        x = self.embedding(ids[:, 1:]).to(position.dtype) + position[n + 1 : n + ids.shape[1]]
        x = self._append_class_embedding(x)  # [C l d]
        ends = None if keep_all else self.reader.pooled(ids, texts) - 1  # without the first token
        seen = None if texts.seen is None else texts.seen[..., 1:]
        is_shared = texts.statistics is not None and texts.statistics.shared_start
        return run_causal(
            blocks,
            self.embedding(ids[: 1 if is_shared else None, :1]).to(position.dtype) + position[:1],
            x.reshape(1, -1, self.width),
            prompts,
            Padded(x.shape[0], x.shape[1], ends, 1 + n, seen, x.device),
            enter=self._enter,
            checkpointing=self.transformer.grad_checkpointing,
        )

    def _run_packed(self, blocks: list[OpenClipBlock], texts: PackedTexts, prompts: Prompts) -> Tensor:
        """Run decomposed layers on packed texts."""
        n, position = prompt_length(prompts), self._position()
        x = self.embedding(texts.ids).to(position.dtype) + position[texts.columns + n + 1]  # [t d]
        return run_causal(
            blocks,
            self.embedding(texts.first).to(position.dtype) + position[:1],
            x.unsqueeze(0),
            prompts,
            Packed(texts, 1 + n),
            enter=self._enter,
            checkpointing=self.transformer.grad_checkpointing,
        )

    def _position(self) -> Tensor:
        """The position embeddings (positions, d), in the type in which the tower runs."""
        return self.text.positional_embedding.to(self.transformer.get_cast_dtype())

    def _embed(self, ids: Tensor, n: int) -> Tensor:
        """Embed token ids (C, l) at their positions around n prompts: (C, l, d), or l + 1 with the class embedding."""
        position, before = self._position(), self.before
        positions = torch.cat([position[:before], position[n + before : n + ids.shape[1]]])  # [l d]
        return self._append_class_embedding(self.embedding(ids).to(position.dtype) + positions)

    def _enter(self, prompt: Tensor) -> Tensor:
        """Embed the prompt (1, n, d) of the first layer at its positions."""
        return prompt + self._position()[self.before : self.before + prompt.shape[1]]

    def _append_class_embedding(self, x: Tensor) -> Tensor:
        """Put the class embedding, if there is one, behind tokens (C, l, d), at the last position."""
        if self.reader.class_embedding is None:
            return x
        last = self.reader.class_embedding.to(x.dtype) + self._position()[-1]
        return torch.cat([x, last.expand(x.shape[0], 1, -1)], dim=1)  # [C l+1 d]

    def _project(self, pooled: Tensor) -> Tensor:
        """Project pooled tokens (C, d), or all tokens, to features (C, D)."""
        projection = self.text.text_projection
        if projection is None:
            return pooled
        return projection(pooled) if isinstance(projection, nn.Module) else pooled @ projection
