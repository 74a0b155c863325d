"""The work that must be done, as a formula: the tokens that must be computed, attention over the keys they see.

Floating-point operations of one forward pass, two for each multiplication and addition, of matrix products, attention
and the patch convolution: what `torch.utils.flop_counter` counts. The floor of the prompted towers has no padding, no
prompt row whose output is thrown away, start token and prompts once for all classes, and one query in the last layer.

A linear map of width d to s d costs 2 s d^2 for a token: a block has s = 3 (queries, keys, values), 1 (out), 4 and 4.
"""

from __future__ import annotations

from benchmarks.models import Sizes

BLOCK, KEYS_AND_VALUES = 2 * (3 + 1 + 4 + 4), 2 * 2  # in units of d^2, for a token
ONE_QUERY = BLOCK - KEYS_AND_VALUES  # of a token whose keys and values are counted apart


def attention(width: int, pairs: float) -> float:
    """Multiply-adds of the scores and the weighted sum, for a number of pairs of a query and a key."""
    return 4 * width * pairs


def text_floor(sizes: Sizes, own: list[int], places: list[int]) -> float:
    """Prompted texts whose names have `own` tokens each, the end token with them.

    `places` has the place in its name, from 1, of each token that must be run: texts that begin alike share those.
    """
    d, n, classes = sizes.text_width, sizes.n_ctx, len(own)
    flops = 2.0 * d * sizes.embed_dim * classes + text_maps(sizes)
    for layer in range(1, sizes.text_layers + 1):
        carried = _carried(layer, sizes.text_layers, sizes.depth)
        prefix = 1 + n if carried else 1
        thrown_away = 0 if carried else n
        if layer == sizes.text_layers:
            flops += KEYS_AND_VALUES * d**2 * (len(places) + prefix + thrown_away) + ONE_QUERY * d**2 * classes
            flops += attention(d, sum(1 + n + tokens for tokens in own))
        else:
            flops += BLOCK * d**2 * (len(places) + prefix) + KEYS_AND_VALUES * d**2 * thrown_away
            flops += attention(d, sum(1 + n + place for place in places) + prefix * (prefix + 1) / 2)
    return flops


def vision_floor(sizes: Sizes, frames: int) -> float:
    """Prompted frames."""
    d, n, tokens = sizes.vision_width, sizes.n_ctx, sizes.patches + 1
    flops = _patches_and_projection(sizes)
    for layer in range(1, sizes.vision_layers + 1):
        carried = _carried(layer, sizes.vision_layers, sizes.depth)
        run = tokens + n if carried else tokens
        if layer == sizes.vision_layers:
            flops += KEYS_AND_VALUES * d**2 * (tokens + n) + ONE_QUERY * d**2 + attention(d, tokens + n)
        else:
            flops += BLOCK * d**2 * run + KEYS_AND_VALUES * d**2 * (tokens + n - run) + attention(d, run * (tokens + n))
    # A layer's prompt is the same in all frames, so its keys and values are needed once.
    once = sum(not _carried(layer, sizes.vision_layers, sizes.depth) for layer in range(1, sizes.vision_layers + 1))
    return frames * flops - (frames - 1) * once * KEYS_AND_VALUES * d**2 * n + vision_maps(sizes)


def whole_text(sizes: Sizes, classes: int) -> float:
    """77 tokens for every class, all of them in all layers: bare, and the literal computation without its maps."""
    d, tokens = sizes.text_width, 77
    layer = BLOCK * d**2 * tokens + attention(d, tokens**2)
    return classes * (sizes.text_layers * layer + 2.0 * d * sizes.embed_dim)


def whole_vision(sizes: Sizes, frames: int, n_ctx: int) -> float:
    """The class token, the patches and the given number of prompts, as tokens in all layers."""
    d, tokens = sizes.vision_width, sizes.patches + 1 + n_ctx
    layer = BLOCK * d**2 * tokens + attention(d, tokens**2)
    return frames * (sizes.vision_layers * layer + _patches_and_projection(sizes))


def text_maps(sizes: Sizes) -> float:
    """The linear map to the text prompts of the layers that vision leads."""
    return 2.0 * sizes.n_ctx * sizes.text_width * sizes.vision_width * (sizes.depth - sizes.K)


def vision_maps(sizes: Sizes) -> float:
    """The linear map to the visual prompts of the layers that text leads."""
    return 2.0 * sizes.n_ctx * sizes.text_width * sizes.vision_width * sizes.K


def _carried(layer: int, layers: int, depth: int) -> bool:
    # The output of the last fresh prompt enters the next layer, so prompts are tokens from there on.
    return depth < layers and layer >= depth


def _patches_and_projection(sizes: Sizes) -> float:
    convolution = 2.0 * 3 * sizes.patch_size**2 * sizes.vision_width * sizes.patches
    return convolution + 2.0 * sizes.vision_width * sizes.embed_dim
