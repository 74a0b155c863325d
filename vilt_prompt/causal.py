"""Layers under a causal mask: open_clip's text towers, [SOS, P, name, EOS].

SOS and the prompts see nothing of the name: they are one prefix, computed once for all texts. For each text only the
name's tokens and EOS are run.

Shapes: c texts, l tokens of each after the first, n prompts, p tokens of the prefix (1, later 1 + n), d width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from einops import repeat
from torch import Tensor

from vilt_prompt.attention import Block, WholeBlock, join, run_layer


def run_causal(
    blocks: Sequence[Block | WholeBlock],
    first: Tensor,
    x: Tensor,
    prompts: Sequence[Tensor | None],
    *,
    enter: Callable[[Tensor], Tensor],
    seen: Tensor | None = None,
    pooled: Tensor | None = None,
    checkpointing: bool,
) -> tuple[Tensor, Tensor]:
    """Runs texts through all layers, [W, _] = T_i([W, P_i]) (Eq. 5 and 10).

    Args:
        blocks: The layers.
        first: (1, 1, d), the first token where all texts share it, or (c, 1, d), embedded.
        x: (c, l, d), the other tokens, embedded where they stand once the prompts are in.
        prompts: The (n, d) prompt that enters each layer; None: carried on, or none at all.
        enter: What the embedding does to the prompt (1, n, d) of the first layer.
        seen: (c, 1, 1, l) bool, False for tokens that nobody sees; None: all are seen by those that follow.
        pooled: (c,), the one token of x that is wanted of the last layer; None: all are, and the first token.
        checkpointing: Whether to keep only the inputs of each layer for the backward pass.

    Returns:
        The first token, as given or one layer short where a token of x is pooled, and x (c, l, d) or (c, 1, d).
    """
    n = max((len(prompt) for prompt in prompts if prompt is not None), default=0)
    length = x.shape[1]
    mask = torch.ones(length, 1 + n + length, dtype=torch.bool, device=x.device).tril(n + 1)[None, None]
    if seen is not None:
        mask = mask & torch.nn.functional.pad(seen, (1 + n, 0), value=True)
    prefix = first
    fresh = sum(prompt is not None for prompt in prompts)
    for i, (block, prompt) in enumerate(zip(blocks, prompts, strict=True), start=1):
        if prompt is not None:
            prompt = repeat(prompt.to(x.dtype), "n d -> 1 n d")
            if i == 1:
                prompt = enter(prompt)
            if i == fresh < len(blocks):  # carried from here on: from now on the prompts are tokens
                prefix = torch.cat([prefix, prompt.expand(prefix.shape[0], -1, -1)], dim=1)
                prompt = None
        if i == len(blocks) and pooled is not None:
            x = run_layer(_pooled_layer, block, prefix, x, prompt, mask, pooled, checkpointing=checkpointing)
        else:
            prefix, x = run_layer(_layer, block, prefix, x, prompt, mask, checkpointing=checkpointing)
    return prefix[:, :1], x


def _layer(
    block: Block | WholeBlock, prefix: Tensor, x: Tensor, prompt: Tensor | None, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """The prefix, with or without carried prompts, and the other tokens (c, l, d), one layer on."""
    if isinstance(block, WholeBlock):
        return _whole_layer(block, prefix, x, prompt, mask)
    prefix_q, prefix_k, prefix_v = block.qkv(prefix)
    q, k, v = block.qkv(x)
    k, v = _join_all(block, prefix_k, prefix_v, prompt, k, v)
    x = block.update(x, block.attend(q, k, v, mask))
    return block.update(prefix, block.attend(prefix_q, prefix_k, prefix_v, _causal(prefix))), x


def _pooled_layer(
    block: Block | WholeBlock, prefix: Tensor, x: Tensor, prompt: Tensor | None, mask: Tensor, pooled: Tensor
) -> Tensor:
    """The last layer, for the pooled token alone: (c, l, d) and its index (c,) -> (c, 1, d)."""
    rows = torch.arange(x.shape[0], device=x.device)
    if isinstance(block, WholeBlock):
        return _whole_layer(block, prefix, x, prompt, mask)[1][rows, pooled].unsqueeze(1)
    k, v = _join_all(block, *block.kv(prefix), prompt, *block.kv(x))
    mask = mask.expand(x.shape[0], -1, -1, -1)[rows, :, pooled].unsqueeze(2)
    x = x[rows, pooled].unsqueeze(1)
    return block.update(x, block.attend(block.q(x), k, v, mask))


def _whole_layer(
    block: WholeBlock, prefix: Tensor, x: Tensor, prompt: Tensor | None, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """A block that runs whole: every text has the prefix and the prompt as tokens of its own."""
    parts = [part.expand(x.shape[0], -1, -1) for part in (prefix, prompt) if part is not None]
    before = torch.cat(parts, dim=1)
    tokens = torch.cat([before, x], dim=1)
    causal = _causal(before).expand(mask.shape[0], -1, -1, -1)
    upper = torch.nn.functional.pad(causal, (0, x.shape[1]), value=False)
    out = block.run(tokens, torch.cat([upper, mask], dim=2))
    shared = out[:1] if prefix.shape[0] == 1 else out
    return shared[:, : prefix.shape[1]], out[:, before.shape[1] :]


def _causal(tokens: Tensor) -> Tensor:
    length = tokens.shape[1]
    return torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()[None, None]


def _join_all(
    block: Block, prefix_k: Tensor, prefix_v: Tensor, prompt: Tensor | None, k: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    """Keys and values in the order of the tokens: the prefix, a prompt (1, n, d) that is no token, the names."""
    if prompt is None:
        return join(prefix_k, k), join(prefix_v, v)
    prompt_k, prompt_v = block.prompt_kv(prompt)
    return join(prefix_k, prompt_k, k), join(prefix_v, prompt_v, v)
