"""open_clip's causal `TextTransformer`, in `CustomTextCLIP` or spread over `CLIP`: embedding, blocks, pooling.

Shapes: C texts, L their columns, l the tokens after the start token, n prompt vectors, d width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from einops import repeat
from open_clip import CLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from vilt_prompt.blocks import Block, attend, block_refusal, join, run_layer
from vilt_prompt.checks import is_readable


class Tokens(NamedTuple):
    """Texts that passed the checks, without the columns after the last end token."""

    ids: Tensor  # (C, l + 1)
    pooled: Tensor  # (C,), the column of each text's end token
    shared_start: bool  # whether all texts are known to begin with the same token


class TextTower:
    """A frozen causal text tower that runs with prompts: [SOS, P, name, EOS].

    Under the causal mask the start token and the prompts see nothing of the name: they are one prefix, computed once
    for all texts. For each text only the name's tokens and EOS are run, and nothing after the last EOS of the batch.
    """

    module_classes = (CLIP, TextTransformer)

    def __init__(self, text: CLIP | TextTransformer) -> None:
        self.text = text
        self.transformer = text.transformer
        self.layers = len(text.transformer.resblocks)
        self.positions, self.width = text.positional_embedding.shape
        self.vocabulary: int = len(text.token_embedding.weight)
        # CLIP holds the parts of its text tower itself and calls these two by longer names.
        in_clip = isinstance(text, CLIP)
        self.pool_type: str = text.text_pool_type if in_clip else text.pool_type
        self.eos_id: int = text.text_eos_id if in_clip else text.eos_id

    @staticmethod
    def refusal(text: Any) -> str | None:
        """Why this tower cannot take prompts, or None."""
        if text.attn_mask is None:
            return "it has no causal mask"
        if getattr(text, "cls_emb", None) is not None:
            return "it appends a class embedding to the text"
        pool_type = TextTower(text).pool_type
        if pool_type not in ("argmax", "eos", "last"):
            return f'it pools by "{pool_type}", known are "argmax", "eos" and "last"'
        return block_refusal(text.transformer.resblocks)

    def encode(self, text: Tensor, prompts: list[Tensor | None]) -> Tensor:
        """(C, L) token ids and the (n, d) prompt of each layer -> (C, D) features, not normalised.

        Raises:
            ValueError: If the texts do not fit the tower with the prompts in; see `check`.
            TypeError: If they are not token ids.
        """
        n = max(0 if prompt is None else len(prompt) for prompt in prompts)
        ids, pooled, shared_start = self.check(text, n)
        dtype = self.transformer.get_cast_dtype()
        checkpointing = self.transformer.grad_checkpointing
        position = self.text.positional_embedding.to(dtype)
        x = self.text.token_embedding(ids).to(dtype)
        prefix = (x[:1, :1] if shared_start else x[:, :1]) + position[:1]  # [1 1 d], or [C 1 d]
        x = x[:, 1:] + position[n + 1 : n + ids.shape[1]]  # [C l d], where the name stands once the prompts are in
        seen = torch.ones(x.shape[1], n + ids.shape[1], dtype=torch.bool, device=x.device).tril(n + 1)
        depth = sum(prompt is not None for prompt in prompts)
        blocks = [Block(module) for module in self.transformer.resblocks]
        for i, (block, prompt) in enumerate(zip(blocks, prompts, strict=True), start=1):
            if prompt is not None:
                prompt = repeat(prompt.to(dtype), "n d -> 1 n d")
                if i == 1:
                    prompt = prompt + position[1 : n + 1]
                if i == depth < self.layers:  # carried from here on: from now on the prompts are tokens
                    prefix = torch.cat([prefix, prompt.expand(len(prefix), -1, -1)], dim=1)
                    prompt = None
            if i < self.layers:
                prefix, x = run_layer(_layer, block, prefix, x, prompt, seen, checkpointing=checkpointing)
            else:
                x = run_layer(_pooled_layer, block, prefix, x, prompt, pooled - 1, seen, checkpointing=checkpointing)
        return self._project(self.text.ln_final(x.squeeze(1)))

    def check(self, text: Tensor, n: int) -> Tokens:
        """Checks (C, L) token ids against a tower with n prompts, and drops the columns after the last end token.

        Values are looked at in one transfer from the device. Where they cannot be read (meta tensors, while compiling
        or exporting) nothing is known of them: all columns that fit are kept.

        Raises:
            TypeError: If `text` is no tensor of integers.
            ValueError: If it is not (C, L), is empty, has more columns than the tower has positions, ids outside the
                vocabulary, a text without an end token, or a text that no longer fits once the prompts are in.
        """
        if not isinstance(text, Tensor):
            raise TypeError(
                f"text must be a tensor of token ids (C, L), got {type(text).__name__}: "
                "pass tokenizer(texts), with open_clip.get_tokenizer(...)"
            )
        if text.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"token ids must be int64 or int32, got a tensor of {text.dtype}")
        if text.ndim != 2:
            raise ValueError(f"text must be token ids of shape (C, L), got {tuple(text.shape)}")
        if text.numel() == 0:
            raise ValueError(f"text is empty: its shape is {tuple(text.shape)}; pass at least one text")
        if text.shape[1] > self.positions:
            raise ValueError(
                f"text has {text.shape[1]} columns, the tower has {self.positions} positions: "
                f"use tokenizer(texts, context_length={self.positions})"
            )
        pooled = self._end(text)
        if not is_readable(text):
            return Tokens(text[:, : self.positions - n], pooled, shared_start=False)
        facts = [text.amin(), text.amax(), pooled.amin(), pooled.amax(), (text[:, 0] == text[0, 0]).all()]
        least, largest, first_end, last_end, shared_start = torch.stack([fact.long() for fact in facts]).tolist()
        if least < 0 or largest >= self.vocabulary:
            raise ValueError(
                f"token ids must be in 0..{self.vocabulary - 1}, got {least}..{largest}: "
                "is it the tokenizer of this model?"
            )
        if first_end == 0:
            raise ValueError(
                f"text {int(pooled.argmin())} has no end token after its start token: pass tokenizer(texts), which "
                "adds it and keeps it when it cuts a text"
            )
        left = self.positions - n
        if last_end >= left:
            raise ValueError(
                f"a text takes {last_end + 1} tokens, but {left} are left once the {n} prompts are in, start and end "
                f"token included: use tokenizer(texts, context_length={left})"
            )
        return Tokens(text[:, : last_end + 1], pooled, bool(shared_start))

    def pad(self, text: Tensor) -> Tensor:
        """Fills (C, L) up to the tower's columns, after the pooled token, where the causal mask hides what is added.

        Raises:
            ValueError: If the pooled token is the last column, so that nothing can be added after it.
        """
        if text.shape[1] >= self.positions:
            return text
        if self.pool_type == "last":
            raise ValueError(
                f"text has {text.shape[1]} columns, but without prompts this tower, which pools the last column, takes "
                f"{self.positions}: use tokenizer(texts, context_length={self.positions})"
            )
        return nn.functional.pad(text, (0, self.positions - text.shape[1]))

    def content(self, text: Tensor) -> list[int]:
        """The ids of one text (1, L) between its start and its end token."""
        tokens = self.check(text, n=0)
        return tokens.ids[0, 1 : int(tokens.pooled[0])].tolist()

    def _end(self, text: Tensor) -> Tensor:
        """The column that open_clip pools in each row; 0 where no end token follows the start token."""
        if self.pool_type == "last":
            return text.new_full((len(text),), text.shape[1] - 1)
        return (text.eq(self.eos_id).int() if self.pool_type == "eos" else text).argmax(dim=-1)

    def _project(self, pooled: Tensor) -> Tensor:
        projection = self.text.text_projection
        if projection is None:
            return pooled
        features: Tensor = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
        return features


def _layer(block: Block, prefix: Tensor, x: Tensor, prompt: Tensor | None, seen: Tensor) -> tuple[Tensor, Tensor]:
    """[W, _] = T_i([W, P]): the prefix, without or with carried prompts, and the names (C, l, d), one layer on."""
    prefix_q, prefix_k, prefix_v = block.qkv(prefix)
    q, k, v = block.qkv(x)
    k, v = _join_all(block, prefix_k, prefix_v, prompt, k, v)
    x = block.update(x, attend(q, k, v, seen))
    length = prefix.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=prefix.device).tril()
    return block.update(prefix, attend(prefix_q, prefix_k, prefix_v, causal)), x


def _pooled_layer(
    block: Block, prefix: Tensor, x: Tensor, prompt: Tensor | None, pooled: Tensor, seen: Tensor
) -> Tensor:
    """The last layer, for the pooled token alone: (C, l, d) and its index (C,) -> (C, 1, d)."""
    k, v = _join_all(block, *block.kv(prefix), prompt, *block.kv(x))
    x = x[torch.arange(len(x), device=x.device), pooled].unsqueeze(1)
    return block.update(x, attend(block.q(x), k, v, seen[pooled][:, None, None]))


def _join_all(
    block: Block, prefix_k: Tensor, prefix_v: Tensor, prompt: Tensor | None, k: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    """Keys and values in the order of the tokens: the prefix, a prompt (1, n, d) that is no token, the names."""
    if prompt is None:
        return join(prefix_k, k), join(prefix_v, v)
    prompt_k, prompt_v = block.kv(prompt)
    return join(prefix_k, prompt_k, k), join(prefix_v, prompt_v, v)
