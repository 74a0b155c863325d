"""Hugging Face's text encoders inside open_clip's `HFTextEncoder`: BERT, RoBERTa, XLM-R, mT5, and NLLB's M2M100.

They mask padding, and none is causal. Prompts stand after the first token; in front in mT5, which has no start token.

Shapes: C texts, L their columns, b batch, l tokens, n prompts, h heads, d width, D features.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from open_clip.hf_model import ClsLastHiddenStatePooler, ClsPooler, HFTextEncoder
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vilt_prompt.checks import is_readable
from vilt_prompt.towers.bidirectional import run_bidirectional
from vilt_prompt.towers.blocks import Block, Prompts, join_heads, project_each, prompt_length
from vilt_prompt.towers.sharding import gathered
from vilt_prompt.towers.token_ids import check_ids, check_room, check_start, check_values, keep_for


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


def _finite(x: Tensor) -> Tensor:
    """Keeps half precision from overflowing, as the encoders do."""
    if x.dtype != torch.float16:
        return x
    largest = torch.finfo(x.dtype).max - 1000
    return x.clamp(-largest, largest)
