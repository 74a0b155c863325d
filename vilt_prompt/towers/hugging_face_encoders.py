"""Hugging Face's text encoders and their decomposed blocks: BERT, RoBERTa, XLM-R, mT5, and NLLB's M2M100.

Shapes: b batch, l tokens, h heads, c channels of a head, d width.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vilt_prompt.towers.blocks import Block, join_heads, project_each
from vilt_prompt.towers.sharding import gathered


class BertBlock(Block):
    """A layer of BERT's kind: post-norm."""

    def __init__(self, module: Any) -> None:
        attn = module.attention.self
        super().__init__(module, attn, attn.dropout.p)

    def project(self, x: Tensor, first: int, last: int) -> Tensor:
        """Three linear maps."""
        attn = self.attn
        return project_each((attn.query, attn.key, attn.value)[first:last], x, attn.num_attention_heads)

    def update(self, x: Tensor, attended: Tensor) -> Tensor:
        """The modules add the residuals themselves."""
        x = self.module.attention.output(join_heads(attended), x)
        return self.module.output(self.module.intermediate(x), x)


class M2M100Block(Block):
    """A layer of M2M100's encoder: pre-norm."""

    def __init__(self, module: Any) -> None:
        super().__init__(module, module.self_attn, module.self_attn.dropout)
        self.scale = self.attn.scaling

    def project(self, x: Tensor, first: int, last: int) -> Tensor:
        """Three linear maps."""
        attn = self.attn
        maps = (attn.q_proj, attn.k_proj, attn.v_proj)[first:last]
        return project_each(maps, self.module.self_attn_layer_norm(x), attn.num_heads)

    def update(self, x: Tensor, attended: Tensor) -> Tensor:
        """Output map and MLP, which this layer spells out."""
        module = self.module
        x = x + F.dropout(self.attn.out_proj(join_heads(attended)), module.dropout, module.training)
        out = module.activation_fn(module.fc1(module.final_layer_norm(x)))
        out = module.fc2(F.dropout(out, module.activation_dropout, module.training))
        return _finite(x + F.dropout(out, module.dropout, module.training))


class MT5Block(Block):
    """A layer of mT5's encoder: pre-norm, unscaled scores, a relative position bias that all layers share."""

    scale = 1.0

    def __init__(self, module: Any, bias: Tensor) -> None:
        attn = module.layer[0].SelfAttention
        super().__init__(module, attn, attn.dropout)
        self.bias = bias

    def project(self, x: Tensor, first: int, last: int) -> Tensor:
        """Three linear maps."""
        attn = self.attn
        return project_each((attn.q, attn.k, attn.v)[first:last], self.module.layer[0].layer_norm(x), attn.n_heads)

    def update(self, x: Tensor, attended: Tensor) -> Tensor:
        """Output map; the MLP module adds its residual itself."""
        attention, mlp = self.module.layer[0], self.module.layer[-1]
        x = _finite(x + attention.dropout(self.attn.o(join_heads(attended))))
        return _finite(mlp(x))


class BertEncoder:
    """BERT, RoBERTa and XLM-R; the latter two count positions from the id of padding on, without padding."""

    before = 1  # tokens in front of the prompts

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer
        self.embedding = transformer.embeddings.word_embeddings
        self.modules = transformer.encoder.layer
        self.skips_padding = transformer.config.model_type != "bert"
        self.first_place = transformer.config.pad_token_id + 1 if self.skips_padding else 0
        self.positions = transformer.config.max_position_embeddings - self.first_place

    def embed(self, words: Tensor, places: Tensor) -> Tensor:
        """Word embeddings (b, l, d) and where they stand (b, l) -> what enters the first layer (b, l, d)."""
        return self.transformer.embeddings(inputs_embeds=words, position_ids=places)

    def blocks(self, tokens: int) -> list[Block]:
        """The layers, for texts of so many tokens."""
        return [BertBlock(module) for module in self.modules]

    def finish(self, x: Tensor) -> Tensor:
        """What comes after the last layer: (b, l, d) -> (b, l, d)."""
        return x


class M2M100Encoder:
    """M2M100's: sinusoids, counted as RoBERTa counts. Layers, which have prompts of their own, are not dropped."""

    before = 1
    skips_padding = True

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer
        self.embedding = transformer.embed_tokens
        self.modules = transformer.layers
        self.first_place = transformer.config.pad_token_id + 1
        self.positions = transformer.config.max_position_embeddings

    def embed(self, words: Tensor, places: Tensor) -> Tensor:
        """Word embeddings (b, l, d) and where they stand (b, l) -> what enters the first layer (b, l, d)."""
        x = words + self.transformer.embed_positions.weights[places].to(words.device)
        return F.dropout(x, self.transformer.dropout, self.transformer.training)

    def blocks(self, tokens: int) -> list[Block]:
        """The layers, for texts of so many tokens."""
        return [M2M100Block(module) for module in self.modules]

    def finish(self, x: Tensor) -> Tensor:
        """What comes after the last layer: (b, l, d) -> (b, l, d)."""
        return self.transformer.layer_norm(x)


class MT5Encoder:
    """mT5's: no position embeddings, a relative position bias between tokens, texts of any length."""

    before = 0
    skips_padding = False
    first_place = 0
    positions = sys.maxsize

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer
        self.embedding = transformer.embed_tokens
        self.modules = transformer.block

    def embed(self, words: Tensor, places: Tensor) -> Tensor:
        """Word embeddings (b, l, d), wherever they stand -> what enters the first layer (b, l, d)."""
        return self.transformer.dropout(words)

    def blocks(self, tokens: int) -> list[Block]:
        """The layers, for texts of so many tokens."""
        first = self.modules[0]
        bias = gathered([first], first.layer[0].SelfAttention.compute_bias, tokens, tokens)
        return [MT5Block(module, bias) for module in self.modules]

    def finish(self, x: Tensor) -> Tensor:
        """What comes after the last layer: (b, l, d) -> (b, l, d)."""
        return self.transformer.dropout(self.transformer.final_layer_norm(x))


ENCODERS: dict[str, Any] = {
    "bert": BertEncoder,
    "roberta": BertEncoder,
    "xlm-roberta": BertEncoder,
    "m2m_100": M2M100Encoder,
    "mt5": MT5Encoder,
}


def _finite(x: Tensor) -> Tensor:
    """Keeps half precision from overflowing, as the encoders do."""
    if x.dtype != torch.float16:
        return x
    largest = torch.finfo(x.dtype).max - 1000
    return x.clamp(-largest, largest)
