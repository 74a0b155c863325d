"""Hugging Face's text encoders inside open_clip's `HFTextEncoder`: BERT, RoBERTa, XLM-R, mT5, and NLLB's M2M100.

They mask padding, and none is causal. Prompts stand after the first token, or in front in mT5, which has no start
token.

Shapes: C texts, L their columns, b batch, l tokens, n prompts, d width, D features.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from open_clip.hf_model import ClsLastHiddenStatePooler, ClsPooler, HFTextEncoder
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vilt_prompt.checks import is_readable
from vilt_prompt.towers.bidirectional import run_bidirectional
from vilt_prompt.towers.blocks import Block
from vilt_prompt.towers.hugging_face_encoders import ENCODERS, Encoder
from vilt_prompt.towers.layers import Prompts, prompt_length
from vilt_prompt.towers.token_ids import check_ids, check_room, check_start, check_values, once_for


class HuggingFaceTextTower:
    """A frozen `HFTextEncoder`."""

    module_classes: ClassVar[tuple[type[nn.Module], ...]] = (HFTextEncoder,)

    def __init__(self, text: HFTextEncoder) -> None:
        self.text = text

    @classmethod
    def owns(cls, text: nn.Module) -> bool:
        """Whether a text tower belongs to this family."""
        return isinstance(text, HFTextEncoder) and text.config.model_type in ENCODERS

    @staticmethod
    def refusal(text: nn.Module) -> str | None:
        """None: all of them can take prompts."""
        return None

    @property
    def encoder(self) -> Encoder:
        """The encoder inside, with its blocks and positions."""
        return ENCODERS[self.text.config.model_type](self.text.transformer)

    @property
    def family(self) -> str:
        """The name of the family."""
        return f"Hugging Face {self.text.config.model_type}"

    @property
    def stands_for(self) -> tuple[nn.Module, ...]:
        """The modules whose forward `encode` replaces."""
        return self.text, self.text.transformer

    @property
    def layers(self) -> int:
        """The number of layers."""
        return len(self.encoder.modules)

    @property
    def blocks(self) -> list[Block]:
        """The layers. They fit texts of one token, and show which class each is of."""
        return self.encoder.blocks(1)

    @property
    def embedding(self) -> nn.Embedding:
        """The embedding of tokens."""
        return self.encoder.embedding

    @property
    def vocabulary(self) -> int:
        """The number of token ids."""
        return self.embedding.weight.shape[0]

    @property
    def width(self) -> int:
        """The width d of a token."""
        return self.embedding.weight.shape[1]

    @property
    def positions(self) -> int:
        """The number of positions, for ids and prompts together."""
        return self.encoder.positions

    @property
    def pad_id(self) -> int:
        """The id of padding."""
        return self.text.config.pad_token_id

    def check(self, text: Tensor) -> int | None:
        """Check token ids (C, L).

        Returns:
            How many columns are left without the padding at their ends; None: the values cannot be read.
        """
        check_ids(text, self.positions, self.embedding.weight)
        return once_for(text, ("values", self.vocabulary, self.pad_id), lambda: self._check_values(text))

    def pack(self, text: Tensor) -> Tensor:
        """The token ids (C, L) as they are: texts without a causal mask cannot share tokens."""
        self.check(text)
        return text

    def runs_alone(self, columns: int) -> bool:
        """Whether the tower's own forward takes texts of this many columns: always."""
        return True

    def encode(self, text: Tensor, prompts: Prompts, with_tokens: bool) -> tuple[Tensor, Tensor | None]:
        """Encode token ids (C, L) with the (n, d) prompt of each layer.

        Returns:
            Features (C, D), not normalised, and the tokens (C, L, d) if they are wanted, 0 for an id that was dropped.
        """
        encoder = self.encoder
        n = prompt_length(prompts)
        columns = self.check(text)
        if columns is not None:
            check_room(columns, self.positions, n)
        if n and encoder.skips_padding:  # behind padding, prompts would have other positions in each text
            check_start(text, self.pad_id)
        # No token sees the padding at the end. It runs only if its outputs are wanted or its length is not known.
        ids = text[:, : self.positions - n if with_tokens or columns is None else columns]
        mask = ids != self.pad_id
        pools_first = isinstance(self.text.pooler, ClsPooler | ClsLastHiddenStatePooler)
        x = run_bidirectional(
            encoder.blocks(ids.shape[1]),
            encoder.embed(self.embedding(ids), self._places(mask, n)),
            prompts,
            enter=self._enter,
            seen=mask[:, None, None],
            pooled=1 if pools_first and not with_tokens else None,
            checkpointing=self._checkpointing(),
        )
        x = encoder.finish(x)  # [C l d]
        pool_first = getattr(self.text.transformer, "pooler", None)
        output = BaseModelOutputWithPooling(x, None if pool_first is None else pool_first(x))
        features = self.text.proj(self.text.pooler(output, mask.long()))
        if not with_tokens:
            return features, None
        tokens = F.pad(x, (0, 0, 0, text.shape[1] - ids.shape[1]))
        return features, tokens[:, 1:] if type(self.text.pooler) is ClsPooler else tokens  # as open_clip does

    def _check_values(self, text: Tensor) -> int | None:
        check_values(text, self.vocabulary)
        if not is_readable(text):
            return None
        counted = torch.arange(1, text.shape[1] + 1, device=text.device)
        filled = ((text != self.pad_id) * counted).amax(dim=1)  # [C]
        least, most = torch.stack([filled.amin(), filled.amax()]).tolist()
        if least == 0:
            raise ValueError(
                f"text {int(filled.argmin())} is nothing but padding (id {self.pad_id}): pass tokenizer(texts)"
            )
        return int(most)

    def _checkpointing(self) -> bool:
        # Which module carries the flag differs between releases.
        return any(getattr(module, "gradient_checkpointing", False) for module in self.text.transformer.modules())

    def _places(self, mask: Tensor, n: int) -> Tensor:
        """The positions of tokens once n prompts are in, which count as tokens.

        Args:
            mask: (C, l) bool, False for padding.
            n: The number of prompts.

        Returns:
            (C, l).
        """
        encoder = self.encoder
        columns = torch.arange(mask.shape[1], device=mask.device)
        moved = n * (columns >= encoder.before)
        if encoder.skips_padding:
            return ((mask.cumsum(1) + moved) * mask) + encoder.first_place - 1
        return (columns + moved + encoder.first_place).expand(mask.shape[0], -1)

    def _enter(self, prompt: Tensor) -> Tensor:
        """Embed the prompt (1, n, d) of the first layer at its positions."""
        encoder = self.encoder
        first = encoder.first_place + encoder.before
        places = torch.arange(first, first + prompt.shape[1], device=prompt.device).unsqueeze(0)  # [1 n]
        return encoder.embed(prompt, places)
