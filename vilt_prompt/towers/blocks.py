"""A decomposed transformer block, whose parts are called one by one, so that only outputs that are read are computed.

A prompt whose output is discarded is not a token: it is only keys and values, `attn(q=x, kv=[x, P])`. In the last
block, only the pooled tokens are queries.

Shapes: b batch, l tokens, m keys, n prompts, h heads, c channels of a head, d width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, TypeAlias

import torch
from einops import rearrange
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional as F

from vilt_prompt.checks import is_recording, is_tracing

try:
    from peft.utils import AuxiliaryTrainingWrapper
except ImportError:  # PEFT before 0.16 has one wrapper of the kind
    from peft.utils import ModulesToSaveWrapper as AuxiliaryTrainingWrapper  # type: ignore[assignment]

# A module of another library. Its attributes have no useful types: PyTorch declares them as Tensor or Module.
ForeignModule: TypeAlias = Any

# A prompt is projected together with its tokens if there are at least this many tokens for each of its vectors. Its
# queries are then computed and dropped, at most a hundredth of the layer's work, and a norm and a map are launched once
# instead of twice.
FEW_PROMPTS = 8


class Block:
    """One decomposed block. A subclass for each library's blocks defines `project`, `add_attention` and `add_mlp`.

    The three are apart so that a layer holds no queries, keys and values while its MLP runs, which takes most memory.

    Attributes:
        module: The block.
        attn: Its attention.
        dropout: The probability with which attention drops a weight; 0 outside training.
        scale: The factor of the scores; None: one over the root of c.
    """

    scale: float | None = None

    def __init__(self, module: ForeignModule, attn: ForeignModule, dropout: float) -> None:
        """Decompose a block.

        Args:
            module: The block.
            attn: Its attention.
            dropout: The dropout of the attention's weights while training.
        """
        self.module, self.attn = module, attn
        self.dropout = dropout if module.training else 0.0

    @property
    def bias(self) -> Tensor | None:
        """(1, h, l, l), added to the scores between tokens; to and from prompts it is zero. None: no bias."""
        return None

    def project(self, x: Tensor, first: int, last: int) -> Tensor:
        """Project tokens (b, l, d) to some of queries (part 0), keys (part 1) and values (part 2).

        Args:
            x: The tokens, before the block's first norm.
            first: The first part that is wanted.
            last: The part behind the last one that is wanted.

        Returns:
            (last - first, b, h, l, c).
        """
        raise NotImplementedError

    def rotate(self, projected: Tensor) -> Tensor:
        """Apply the rotary embedding to queries or keys (b, h, l, c) of tokens. Prompts have none."""
        return projected

    def add_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """Run the output map of attention, and add the residual.

        Args:
            x: (b, l, d), the tokens that entered the block.
            attended: (b, h, l, c), the output of attention for these tokens.

        Returns:
            (b, l, d).
        """
        raise NotImplementedError

    def add_mlp(self, x: Tensor) -> Tensor:
        """Run the MLP, and add the residual: (b, l, d) -> (b, l, d)."""
        raise NotImplementedError

    def qkv(self, x: Tensor, prompt: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Project tokens to queries, keys and values, and their prompt to keys and values.

        Args:
            x: (b, l, d) tokens.
            prompt: (1, n, d), or None.

        Returns:
            The tokens' queries (b, h, l, c), the tokens' keys and values (2, b, h, l, c), and the prompt's keys and
            values (2, 1, h, n, c), or None.
        """
        tokens, prompt_kv = self._project_with_prompt(x, prompt, 0)
        q, kv = tokens.split((1, 2))  # [1 b h l c], [2 b h l c]
        return self.rotate(q.squeeze(0)), self._rotate_keys(kv), prompt_kv

    def q(self, x: Tensor) -> Tensor:
        """Project tokens (b, l, d) to queries (b, h, l, c)."""
        return self.rotate(self.project(x, 0, 1).squeeze(0))

    def kv(self, x: Tensor, prompt: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Project tokens (b, l, d) and their prompt (1, n, d) to keys and values: (2, b, h, l, c), (2, 1, h, n, c)."""
        tokens, prompt_kv = self._project_with_prompt(x, prompt, 1)
        return self._rotate_keys(tokens), prompt_kv

    def attend(self, q: Tensor, kv: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend with queries (b, h, l, c) to keys and values (2, b, h, m, c): (b, h, l, c).

        Args:
            q: The queries.
            kv: The keys and values.
            mask: (b or 1, h or 1, l or 1, m): bool, True where a key is seen, or numbers that are added to the scores.
        """
        k, v = kv.unbind()  # [b h m c]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.dropout, scale=self.scale)

    def _project_with_prompt(self, x: Tensor, prompt: Tensor | None, first: int) -> tuple[Tensor, Tensor | None]:
        """Project tokens (b, l, d) from part `first` on, (s, b, h, l, c), and a prompt to (2, 1, h, n, c)."""
        batch, length, _ = x.shape
        # A recorded graph serves any batch: it must not depend on how large this one is.
        if prompt is None or is_recording() or batch * length < FEW_PROMPTS * prompt.shape[1]:
            return self.project(x, first, 3), None if prompt is None else self.project(prompt, 1, 3)
        rows = torch.cat([rearrange(x, "b l d -> 1 (b l) d"), prompt], dim=1)  # [1 b*l+n d]
        projected = self.project(rows, first, 3)  # [s 1 h b*l+n c]
        tokens, prompt_parts = projected.split((batch * length, prompt.shape[1]), dim=3)
        return rearrange(tokens, "s 1 h (b l) c -> s b h l c", b=batch), prompt_parts[-2:]

    def _rotate_keys(self, kv: Tensor) -> Tensor:
        """Apply the rotary embedding to the keys among keys and values (2, b, h, l, c) of tokens."""
        k, v = kv.unbind()  # [b h l c]
        rotated = self.rotate(k)
        return kv if rotated is k else torch.stack([rotated, v])


def is_adapted(module: nn.Module) -> bool:
    """Whether PEFT has put an adapter of another kind, such as LoRA, around a module."""
    return isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)


def project_rows(weight: Tensor, bias: Tensor | None, x: Tensor, first: int, last: int, heads: int) -> Tensor:
    """Project with one matrix for queries, keys and values, of which only the parts [first, last) are computed.

    Args:
        weight: (3 h c, d).
        bias: (3 h c,), or None.
        x: (b, l, d) tokens.
        first: The first part.
        last: The part behind the last one.
        heads: h.

    Returns:
        (last - first, b, h, l, c).
    """
    third = weight.shape[0] // 3
    rows = slice(first * third, last * third)
    out = F.linear(x, weight[rows], None if bias is None else bias[rows])  # [b l s*h*c]
    return split_heads(out, heads, last - first)


def project_each(linears: Sequence[nn.Module], x: Tensor, heads: int) -> Tensor:
    """Project tokens (b, l, d) with one linear map for each of s parts: (s, b, h, l, c)."""
    return split_heads(torch.cat([linear(x) for linear in linears], dim=-1), heads, len(linears))


def split_heads(out: Tensor, heads: int, parts: int) -> Tensor:
    """View (b, l, s h c) as (s, b, h, l, c): tokens stay outermost in memory."""
    # ONNX's older exporter writes down how large the batch of an `unflatten` was.
    return out.reshape(*out.shape[:-1], parts, heads, -1).permute(2, 0, 3, 1, 4)


def join_heads(attended: Tensor) -> Tensor:
    """(b, h, l, c) -> (b, l, h c)."""
    return rearrange(attended, "b h l c -> b l (h c)")


def join(*parts: Tensor | None) -> Tensor:
    """Join keys and values (2, b, h, ., c) along the tokens. A part of batch 1 is shared by all rows."""
    given = [part for part in parts if part is not None]
    if len(given) == 1:
        return given[0]
    batch = _largest([part.shape[1] for part in given])
    # Tokens stay outermost in memory, as the maps wrote them: [b l 2 h c].
    rows = [part.expand(-1, batch, -1, -1, -1).permute(1, 3, 0, 2, 4) for part in given]
    return torch.cat(rows, dim=1).permute(2, 0, 3, 1, 4)


def _largest(sizes: Sequence[int]) -> Any:
    """The largest size. `torch.jit.trace` passes tensors as sizes: then the graph has to find the largest itself."""
    if is_tracing():
        return reduce(torch.maximum, map(torch.as_tensor, sizes))
    return max(sizes)
