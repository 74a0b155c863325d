"""Hugging Face's text encoders and their decomposed blocks: BERT, RoBERTa, XLM-R, mT5, and NLLB's M2M100.

Shapes: b batch, l tokens, h heads, c channels of a head, d width.
"""

from __future__ import annotations

import sys
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vilt_prompt.towers.blocks import Block, ForeignModule, join_heads, project_each
from vilt_prompt.towers.sharding import gathered


class BertBlock(Block):
    """A layer of BERT's kind: post-norm."""

    def __init__(self, module: ForeignModule) -> None:
        attn = module.attention.self
        super().__init__(module, attn, attn.dropout.p)

    def project(self, x: Tensor, first: int, last: int) -> Tensor:
        """Project with a linear map for each part."""
        attn = self.attn  # post-norm: tokens enter the maps as they are
        return project_each((attn.query, attn.key, attn.value)[first:last], x, attn.num_attention_heads)

    def add_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """Run the output map, whose module adds the residual."""
        return self.module.attention.output(join_heads(attended), x)

    def add_mlp(self, x: Tensor) -> Tensor:
        """Run the MLP, whose second module adds the residual."""
        return self.module.output(self.module.intermediate(x), x)


class M2M100Block(Block):
    """A layer of M2M100's encoder: pre-norm."""

    def __init__(self, module: ForeignModule) -> None:
        super().__init__(module, module.self_attn, module.self_attn.dropout)
        self.scale = self.attn.scaling

    def project(self, x: Tensor, first: int, last: int) -> Tensor:
        """Project with a linear map for each part."""
        attn = self.attn
        maps = (attn.q_proj, attn.k_proj, attn.v_proj)[first:last]
        return project_each(maps, self.module.self_attn_layer_norm(x), attn.num_heads)

    def add_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """Run the output map, and add the residual."""
        return x + F.dropout(self.attn.out_proj(join_heads(attended)), self.module.dropout, self.module.training)

    def add_mlp(self, x: Tensor) -> Tensor:
        """Run the MLP, which has no module of its own, and add the residual."""
        module = self.module
        out = module.activation_fn(module.fc1(module.final_layer_norm(x)))
        out = module.fc2(F.dropout(out, module.activation_dropout, module.training))
        return _finite(x + F.dropout(out, module.dropout, module.training))


class MT5Block(Block):
    """A layer of mT5's encoder: pre-norm, unscaled scores, a relative position bias that all layers share."""

    scale = 1.0

    def __init__(self, module: ForeignModule, bias: Tensor) -> None:
        attn = module.layer[0].SelfAttention
        super().__init__(module, attn, attn.dropout)
        self._bias = bias

    @property
    def bias(self) -> Tensor:
        """(1, h, l, l), added to the scores."""
        return self._bias

    def project(self, x: Tensor, first: int, last: int) -> Tensor:
        """Project with a linear map for each part."""
        attn = self.attn
        return project_each((attn.q, attn.k, attn.v)[first:last], self.module.layer[0].layer_norm(x), attn.n_heads)

    def add_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """Run the output map, and add the residual."""
        return _finite(x + self.module.layer[0].dropout(self.attn.o(join_heads(attended))))  # [b l d]

    def add_mlp(self, x: Tensor) -> Tensor:
        """Run the MLP, whose module adds the residual."""
        return _finite(self.module.layer[-1](x))


class Encoder(Protocol):
    """A kind of encoder.

    Attributes:
        before: How many tokens stand in front of the prompts.
        skips_padding: Whether positions are counted without padding.
        first_place: The index of the first position's embedding.
        positions: The number of positions.
        embedding: The embedding of tokens.
        modules: The modules of the layers.
    """

    before: int
    skips_padding: bool
    first_place: int
    positions: int
    embedding: nn.Embedding
    modules: nn.ModuleList

    def __init__(self, transformer: ForeignModule) -> None:
        """Make a view of a Hugging Face model."""

    def embed(self, words: Tensor, places: Tensor) -> Tensor:
        """Embed words (b, l, d) at their positions (b, l): (b, l, d), as they enter the first layer."""

    def blocks(self, tokens: int) -> list[Block]:
        """The layers, for texts of this many tokens."""

    def finish(self, x: Tensor) -> Tensor:
        """Run what follows the last layer: (b, l, d) -> (b, l, d)."""


class BertEncoder:
    """BERT, RoBERTa and XLM-R. The latter two count positions without padding, from the id of padding on."""

    before = 1

    def __init__(self, transformer: ForeignModule) -> None:
        self.transformer = transformer
        self.embedding = transformer.embeddings.word_embeddings
        self.modules = transformer.encoder.layer
        self.skips_padding = transformer.config.model_type != "bert"
        # RoBERTa's table of position embeddings keeps the rows up to the id of padding for padding.
        self.first_place = transformer.config.pad_token_id + 1 if self.skips_padding else 0
        self.positions = transformer.config.max_position_embeddings - self.first_place

    def embed(self, words: Tensor, places: Tensor) -> Tensor:
        """Embed words (b, l, d) at their positions (b, l): (b, l, d)."""
        return self.transformer.embeddings(inputs_embeds=words, position_ids=places)

    def blocks(self, tokens: int) -> list[Block]:
        """The layers, for texts of this many tokens."""
        return [BertBlock(module) for module in self.modules]

    def finish(self, x: Tensor) -> Tensor:
        """Run what follows the last layer: (b, l, d) -> (b, l, d)."""
        return x


class M2M100Encoder:
    """M2M100: sinusoids, counted as in RoBERTa. Layers have prompts of their own, so training drops no layer."""

    before = 1
    skips_padding = True

    def __init__(self, transformer: ForeignModule) -> None:
        self.transformer = transformer
        self.embedding = transformer.embed_tokens
        self.modules = transformer.layers
        self.first_place = transformer.config.pad_token_id + 1
        self.positions = transformer.config.max_position_embeddings

    def embed(self, words: Tensor, places: Tensor) -> Tensor:
        """Embed words (b, l, d) at their positions (b, l): (b, l, d)."""
        x = words + self.transformer.embed_positions.weights[places].to(words.device)  # [b l d]
        return F.dropout(x, self.transformer.dropout, self.transformer.training)

    def blocks(self, tokens: int) -> list[Block]:
        """The layers, for texts of this many tokens."""
        return [M2M100Block(module) for module in self.modules]

    def finish(self, x: Tensor) -> Tensor:
        """Run what follows the last layer: (b, l, d) -> (b, l, d)."""
        return self.transformer.layer_norm(x)


class MT5Encoder:
    """mT5: no position embeddings, a relative position bias between tokens, texts of any length."""

    before = 0
    skips_padding = False
    first_place = 0
    positions = sys.maxsize

    def __init__(self, transformer: ForeignModule) -> None:
        self.transformer = transformer
        self.embedding = transformer.embed_tokens
        self.modules = transformer.block

    def embed(self, words: Tensor, places: Tensor) -> Tensor:
        """Embed words (b, l, d), whatever their positions: (b, l, d)."""
        return self.transformer.dropout(words)

    def blocks(self, tokens: int) -> list[Block]:
        """The layers, for texts of this many tokens."""
        first = self.modules[0]  # only this layer has the table of the bias, which all layers share
        bias = gathered([first], first.layer[0].SelfAttention.compute_bias, tokens, tokens)
        return [MT5Block(module, bias) for module in self.modules]

    def finish(self, x: Tensor) -> Tensor:
        """Run what follows the last layer: (b, l, d) -> (b, l, d)."""
        return self.transformer.dropout(self.transformer.final_layer_norm(x))


ENCODERS: dict[str, type[Encoder]] = {
    "bert": BertEncoder,
    "roberta": BertEncoder,
    "xlm-roberta": BertEncoder,
    "m2m_100": M2M100Encoder,
    "mt5": MT5Encoder,
}


def _finite(x: Tensor) -> Tensor:
    """Keep half precision from overflowing, as the encoders do."""
    if x.dtype != torch.float16:
        return x
    largest = torch.finfo(x.dtype).max - 1000  # the margin that transformers uses
    return x.clamp(-largest, largest)
