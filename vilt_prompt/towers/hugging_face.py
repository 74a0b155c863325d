"""Hugging Face's text encoders inside open_clip's `HFTextEncoder`: BERT, RoBERTa, XLM-R, mT5, and NLLB's M2M100.

They mask padding, and none is causal. Prompts stand after the first token; in front in mT5, which has no start token.

Shapes: C texts, L their columns, b batch, l tokens, n prompts, d width, D features.
"""

from __future__ import annotations

from typing import Any

import torch
from open_clip.hf_model import ClsLastHiddenStatePooler, ClsPooler, HFTextEncoder
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vilt_prompt.checks import is_readable
from vilt_prompt.towers.bidirectional import run_bidirectional
from vilt_prompt.towers.blocks import Block
from vilt_prompt.towers.hugging_face_encoders import ENCODERS
from vilt_prompt.towers.layers import Prompts, prompt_length
from vilt_prompt.towers.token_ids import check_ids, check_room, check_start, check_values, keep_for


class HuggingFaceTextTower:
    """A frozen `HFTextEncoder`."""

    module_classes: tuple[type[nn.Module], ...] = (HFTextEncoder,)

    def __init__(self, text: HFTextEncoder) -> None:
        self.text: Any = text
        self.stands_for = (text, text.transformer)
        self.family = f"Hugging Face {text.config.model_type}"
        self.encoder = ENCODERS[text.config.model_type](text.transformer)
        self.embedding = self.encoder.embedding
        self.vocabulary, self.width = self.embedding.weight.shape
        self.layers = len(self.encoder.modules)
        self.positions = self.encoder.positions
        self.pad_id = text.config.pad_token_id

    @classmethod
    def owns(cls, text: nn.Module) -> bool:
        """Whether a text tower is of this family."""
        return isinstance(text, HFTextEncoder) and text.config.model_type in ENCODERS

    @staticmethod
    def refusal(text: Any) -> str | None:
        """Why this tower cannot take prompts, or None."""
        return None

    @property
    def blocks(self) -> list[Block]:
        """The layers, for whoever asks which kind they are."""
        return self.encoder.blocks(1)

    def check(self, text: Any) -> int | None:
        """Checks (C, L) token ids, and says how many columns are left without padding at their end; None: unknown."""
        check_ids(text, self.positions, self.embedding.weight)
        keep_for(text, ("values", self.vocabulary), lambda: check_values(text, self.vocabulary))
        if not is_readable(text):
            return None
        counted = torch.arange(1, text.shape[1] + 1, device=text.device)
        filled = ((text != self.pad_id) * counted).amax(dim=1)
        least, most = torch.stack([filled.amin(), filled.amax()]).tolist()
        if least == 0:
            raise ValueError(
                f"text {int(filled.argmin())} is nothing but padding (id {self.pad_id}): pass tokenizer(texts)"
            )
        return int(most)

    def runs_alone(self, columns: int) -> bool:
        """Whether the tower's own forward takes texts of so many columns."""
        return True

    def encode(self, text: Tensor, prompts: Prompts, with_tokens: bool) -> tuple[Tensor, Tensor | None]:
        """(C, L) token ids and the (n, d) prompt of each layer -> (C, D), not normalised, and the tokens if wanted."""
        n = prompt_length(prompts)
        columns = self.check(text)
        if columns is not None:
            check_room(columns, self.positions, n)
        if n and self.encoder.skips_padding:  # behind padding, prompts would have other positions in each text
            check_start(text, self.pad_id)
        # Padding at the end is seen by nobody; it runs where its outputs are wanted or its length is not known.
        ids = text[:, : self.positions - n if with_tokens or columns is None else columns]
        mask = ids != self.pad_id
        pools_first = isinstance(self.text.pooler, ClsPooler | ClsLastHiddenStatePooler)
        x = run_bidirectional(
            self.encoder.blocks(ids.shape[1]),
            self.encoder.embed(self.embedding(ids), self._places(mask, n)),
            prompts,
            enter=self._enter,
            seen=mask[:, None, None],
            pooled=1 if pools_first and not with_tokens else None,
            checkpointing=self._checkpointing(),
        )
        x = self.encoder.finish(x)
        pool_first = getattr(self.text.transformer, "pooler", None)
        output = BaseModelOutputWithPooling(x, None if pool_first is None else pool_first(x))
        features = self.text.proj(self.text.pooler(output, mask.long()))
        if not with_tokens:
            return features, None
        tokens = F.pad(x, (0, 0, 0, text.shape[1] - ids.shape[1]))
        return features, tokens[:, 1:] if type(self.text.pooler) is ClsPooler else tokens  # as open_clip does

    def _checkpointing(self) -> bool:
        # Which module carries the flag differs between releases.
        return any(getattr(module, "gradient_checkpointing", False) for module in self.text.transformer.modules())

    def _places(self, mask: Tensor, n: int) -> Tensor:
        """Where tokens stand (C, l) once n prompts are in, which count as tokens."""
        encoder = self.encoder
        columns = torch.arange(mask.shape[1], device=mask.device)
        moved = n * (columns >= encoder.before)
        if encoder.skips_padding:
            return ((mask.cumsum(1) + moved) * mask) + encoder.first_place - 1
        return (columns + moved + encoder.first_place).expand(mask.shape[0], -1)

    def _enter(self, prompt: Tensor) -> Tensor:
        first = self.encoder.first_place + self.encoder.before
        places = torch.arange(first, first + prompt.shape[1], device=prompt.device).unsqueeze(0)
        return self.encoder.embed(prompt, places)
