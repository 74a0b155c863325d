"""The method computed token by token: slow, obvious, and sharing no code with the library.

Every prompt is a real token in every layer, every class runs all its columns, and each block is run by its own forward.
Nothing is skipped, shared or cached, and a column is left out only where the tower has no position for it. The tests
judge the library by it and the benchmarks measure against it. This file has open_clip's own towers and finds the others
in `literal_timm` and `literal_hf`.

Shape letters: B batch, T frames, C classes, L columns of token ids, n prompts, D embedding, d a tower's width.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer, text_global_pool
from torch import Tensor, nn

from tests.reference.literal_hf import hf_blocks, hf_width, literal_hf_text
from tests.reference.literal_rows import Prompts, drop_padding, repeated
from tests.reference.literal_timm import literal_timm_image, timm_blocks, timm_width

METHODS: dict[str, dict[str, str]] = {
    "vilt": {"towers": "both", "lead": "split", "mapper": "shared"},
    "maple": {"towers": "both", "lead": "text", "mapper": "per_layer"},
    "independent": {"towers": "both", "lead": "own", "mapper": "none"},
    "coop": {"towers": "text", "lead": "own", "mapper": "none"},
    "vpt_shallow": {"towers": "vision", "lead": "own", "mapper": "none"},
    "vpt_deep": {"towers": "vision", "lead": "own", "mapper": "none"},
}


def literal_settings(
    clip: nn.Module,
    method: str = "vilt",
    K: int | None = 6,
    depth: int | None = None,
    towers: str | None = None,
    lead: str | None = None,
    mapper: str | None = None,
    pairing: str = "layer",
) -> dict:
    """Says what a method's defaults come to on one model.

    Returns:
        `towers`, `lead`, `mapper`, `pairing`, `K`, and the last layer with a fresh prompt in each tower: `text_depth`
        and `vision_depth`, 0 for a tower without prompts.
    """
    text_layers, vision_layers = len(text_blocks(clip)), len(vision_blocks(clip))
    default = METHODS[method]
    towers, lead, mapper = towers or default["towers"], lead or default["lead"], mapper or default["mapper"]

    if pairing == "proportional":
        text_depth, vision_depth = text_layers, vision_layers
    elif depth is not None:
        text_depth = vision_depth = depth
    elif method == "vilt":
        text_depth = vision_depth = min(text_layers, vision_layers)
    elif method == "maple":
        text_depth = vision_depth = min(9, text_layers, vision_layers)
    elif method in ("coop", "vpt_shallow"):
        text_depth = vision_depth = 1
    else:
        text_depth, vision_depth = text_layers, vision_layers

    if lead != "split":
        K = None
    elif K is None:
        K = max(1, text_depth // 2)
    return {
        "towers": towers,
        "lead": lead,
        "mapper": mapper,
        "pairing": pairing,
        "K": K,
        "text_depth": text_depth if towers in ("both", "text") else 0,
        "vision_depth": vision_depth if towers in ("both", "vision") else 0,
    }


def learnable_tensors(wrapped: nn.Module, adapter: str = "default") -> dict[str, Tensor]:
    """Finds the prompts and maps of a wrapped model, under their names without path and adapter (`vilt_F.weight`)."""
    tensors = {}
    for name, parameter in wrapped.named_parameters():
        if "prompts.vilt_" in name:
            kind, owner, *rest = name.split("prompts.")[-1].split(".")
            if owner == adapter:
                tensors[".".join([kind, *rest])] = parameter
    return tensors


def literal_prompts(
    tensors: dict[str, Tensor],
    *,
    text_layers: int,
    vision_layers: int,
    text_depth: int,
    vision_depth: int,
    towers: str,
    lead: str,
    mapper: str,
    pairing: str,
    K: int | None,
) -> tuple[Prompts, Prompts]:
    """Writes out which prompt enters which layer.

    Args:
        tensors: The learnable tensors: `vilt_text` (k, n, d_t) and `vilt_vision` (k, n, d_v) hold the learnable prompts
            in layer order; `vilt_F.weight`, `vilt_F.bias`, `vilt_F_tilde.weight` and `vilt_F_tilde.bias` the maps.

    Returns:
        One list for the text tower and one for the vision tower; entry i - 1 is the (n, d) prompt that enters layer i,
        or None where none does or the previous layer's output is carried on.
    """

    def mapped(name: str, prompt: Tensor, position: int) -> Tensor:
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        if mapper == "per_layer":
            weight, bias = weight[position], bias[position]
        return prompt @ weight.T + bias

    text: Prompts = [None] * text_layers
    vision: Prompts = [None] * vision_layers
    if lead == "own":
        for i in range(1, text_depth + 1):
            text[i - 1] = tensors["vilt_text"][i - 1]
        for i in range(1, vision_depth + 1):
            vision[i - 1] = tensors["vilt_vision"][i - 1]
        return text, vision

    assert towers == "both"
    if pairing == "proportional":
        learned = (tensors["vilt_text"], tensors.get("vilt_vision"))
        return proportional_prompts(*learned, text_layers, vision_layers, K, mapped)
    assert text_depth == vision_depth
    text_leads = text_depth if lead == "text" else K
    for i in range(1, text_depth + 1):
        if i <= text_leads:
            text[i - 1] = tensors["vilt_text"][i - 1]
            vision[i - 1] = mapped("vilt_F", text[i - 1], i - 1)
        else:
            vision[i - 1] = tensors["vilt_vision"][i - text_leads - 1]
            text[i - 1] = mapped("vilt_F_tilde", vision[i - 1], i - text_leads - 1)
    return text, vision


def proportional_prompts(
    text_learned: Tensor,
    vision_learned: Tensor | None,
    text_layers: int,
    vision_layers: int,
    K: int | None,
    mapped: Callable[[str, Tensor, int], Tensor],
) -> tuple[Prompts, Prompts]:
    """The same where a layer pairs with the one at its relative depth in the other tower, and all have prompts."""
    text_leads = text_layers if K is None else K
    text: Prompts = []
    vision: Prompts = []
    led_by_vision: dict[int, Tensor] = {}
    for i in range(1, vision_layers + 1):
        pair = at_relative_depth(Fraction(i, vision_layers), text_layers)
        if pair <= text_leads:
            vision.append(mapped("vilt_F", text_learned[pair - 1], i - 1))
        else:
            led_by_vision[i] = vision_learned[len(led_by_vision)]
            vision.append(led_by_vision[i])
    for i in range(1, text_layers + 1):
        if i <= text_leads:
            text.append(text_learned[i - 1])
        else:
            pair = at_relative_depth(Fraction(i, text_layers), vision_layers)
            text.append(mapped("vilt_F_tilde", led_by_vision[pair], i - text_leads - 1))
    return text, vision


def at_relative_depth(depth: Fraction, layers: int) -> int:
    """The first of a number of layers, counted from 1, that lies at a relative depth or below it."""
    return next(i for i in range(1, layers + 1) if Fraction(i, layers) >= depth)


def text_tower(clip: nn.Module) -> nn.Module:
    """The module that holds the text tower's parts: `CustomTextCLIP` keeps a tower, `CLIP` is its own."""
    return clip.text if hasattr(clip, "text") else clip


def text_blocks(clip: nn.Module) -> list[nn.Module]:
    """The blocks of the text tower."""
    tower = text_tower(clip)
    return hf_blocks(tower) if isinstance(tower, HFTextEncoder) else list(tower.transformer.resblocks)


def text_width(clip: nn.Module) -> int:
    """Width of the text tower."""
    tower = text_tower(clip)
    return hf_width(tower) if isinstance(tower, HFTextEncoder) else tower.positional_embedding.shape[1]


def vision_blocks(clip: nn.Module) -> list[nn.Module]:
    """The blocks of the vision tower. A tower that is not a ViT has none."""
    if isinstance(clip.visual, TimmModel):
        return timm_blocks(clip.visual)
    return list(clip.visual.transformer.resblocks) if isinstance(clip.visual, VisionTransformer) else []


def vision_width(clip: nn.Module) -> int:
    """Width of the vision tower, which is a ViT."""
    return timm_width(clip.visual) if isinstance(clip.visual, TimmModel) else len(clip.visual.class_embedding)


def pooling(clip: nn.Module) -> tuple[str, int]:
    """How open_clip's own text tower pools, and the end token that `eos` pooling looks for."""
    if hasattr(clip, "text"):
        return clip.text.pool_type, clip.text.eos_id
    return clip.text_pool_type, clip.text_eos_id


def literal_encode_text(clip: nn.Module, ids: Tensor, prompts: Prompts) -> Tensor:
    """Encodes token ids with prompts between them, Eq. 7 and 10-11.

    Args:
        clip: An open_clip model without prompts of its own.
        ids: (C, L) token ids, L up to the tower's context length.
        prompts: What enters each layer, from `literal_prompts`.

    Returns:
        (C, D) features, not normalised; (C, L, D) where the tower does not pool.
    """
    return literal_encode_text_tokens(clip, ids, prompts)[0]


def literal_encode_text_tokens(clip: nn.Module, ids: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Encodes `[SOS, P, name, EOS, padding]`, or `[P, ids]` where a tower without mask pools the last token.

    Returns:
        The features of `literal_encode_text`, and the tower's token outputs, (C, L, d): one for each id, none for
        prompts, zero for padding that was dropped to make room.
    """
    tower = text_tower(clip)
    if isinstance(tower, HFTextEncoder):
        return literal_hf_text(tower, ids, prompts)
    pool_type, eos_id = pooling(clip)
    class_embedding = getattr(tower, "cls_emb", None)
    positions = len(tower.positional_embedding)
    dtype = tower.transformer.get_cast_dtype()
    n = 0 if prompts[0] is None else len(prompts[0])
    at = 0 if tower.attn_mask is None and pool_type == "last" else 1

    columns = ids.shape[1]
    kept = min(columns, positions - n - (class_embedding is not None))
    if kept < columns:
        if pool_type == "none":
            raise ValueError(f"{columns} tokens that are all given out leave no room for {n} prompts in {positions}")
        if tower.attn_mask is None or class_embedding is not None:
            drop_padding(ids, kept)
        elif (last := int(pooled_columns(ids, pool_type, eos_id).max())) >= kept:
            raise ValueError(f"EOS would stand at column {last + n} of {positions}")
        ids = ids[:, :kept]

    x = tower.token_embedding(ids).to(dtype)  # [C, kept, d]
    if n:
        x = torch.cat([x[:, :at], repeated(prompts[0], x), x[:, at:]], dim=1)
    if class_embedding is not None:
        x = torch.cat([x, repeated(class_embedding[None], x)], dim=1)
    positions = tower.positional_embedding[: x.shape[1]].to(dtype)
    if class_embedding is not None:  # it stays last, with the last position embedding, however short the text is
        positions = torch.cat([positions[:-1], tower.positional_embedding[-1:].to(dtype)])
    x = x + positions

    mask = None if tower.attn_mask is None else tower.attn_mask[: x.shape[1], : x.shape[1]]
    if class_embedding is not None or getattr(tower, "use_pad_mask", False):
        valid = torch.full((len(ids), n), tower.pad_id + 1)
        padding_mask = tower._build_additive_mask(
            torch.cat([ids[:, :at], valid, ids[:, at:]], dim=1), x.shape[1], dtype
        )
        mask = padding_mask if mask is None else mask + padding_mask

    for block, prompt in zip(text_blocks(clip), [None, *prompts[1:]], strict=True):
        if prompt is not None:
            x = torch.cat([x[:, :at], repeated(prompt, x), x[:, at + n :]], dim=1)
        x = block(x, attn_mask=mask)

    if class_embedding is None:
        x = tower.ln_final(x)
        tokens = torch.cat([x[:, :at], x[:, at + n :]], dim=1)  # [C, kept, d]
        pooled = text_global_pool(tokens, ids, pool_type, eos_id)
    else:
        tokens = torch.cat([x[:, :at], x[:, at + n : -1]], dim=1)
        pooled = tower.ln_final(x[:, -1])
    tokens = nn.functional.pad(tokens, (0, 0, 0, columns - kept))
    if tower.text_projection is None:
        return pooled, tokens
    if isinstance(tower.text_projection, nn.Linear):
        return tower.text_projection(pooled), tokens
    return pooled @ tower.text_projection, tokens


def pooled_columns(ids: Tensor, pool_type: str, eos_id: int) -> Tensor:
    """The column of each row that open_clip's text tower pools, (C,)."""
    columns = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    return text_global_pool(columns, ids, pool_type, eos_id)


def literal_encode_image(clip: nn.Module, images: Tensor, prompts: Prompts) -> Tensor:
    """Encodes `[class, patches, P]`, Eq. 5; the first layer's prompt goes through `ln_pre` and none is pooled.

    Args:
        clip: An open_clip model with a ViT, without prompts of its own.
        images: (B, 3, H, W).
        prompts: What enters each layer, from `literal_prompts`.

    Returns:
        (B, D) features, not normalised; (B, N, D) where the tower does not pool.
    """
    if isinstance(clip.visual, TimmModel):
        return literal_timm_image(clip.visual, images, prompts)
    return literal_encode_image_tokens(clip, images, prompts)[0]


def literal_encode_image_tokens(clip: nn.Module, images: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Encodes images with open_clip's own `VisionTransformer`.

    Returns:
        The features of `literal_encode_image`, and the tower's token outputs, which are what CoCa's decoder reads:
        attention pooling's queries where it has any, else the patches; no prompts.
    """
    visual = clip.visual
    n = 0 if prompts[0] is None else len(prompts[0])
    x = visual.conv1(images).flatten(2).transpose(1, 2)  # [B, patches, d]
    x = torch.cat([repeated(visual.class_embedding[None], x), x], dim=1)
    x = visual.patch_dropout(x + visual.positional_embedding.to(x.dtype))
    tokens = x.shape[1]
    if n:
        x = torch.cat([x, repeated(prompts[0], x)], dim=1)
    x = visual.ln_pre(x)
    for block, prompt in zip(vision_blocks(clip), [None, *prompts[1:]], strict=True):
        if prompt is not None:
            x = torch.cat([x[:, :tokens], repeated(prompt, x)], dim=1)
        x = block(x)

    pooled, pooled_tokens = visual._pool(x[:, :tokens])
    if getattr(visual, "attn_pool_contrastive", None) is not None:
        pooled = pooled.squeeze(1)  # contrastive attention pooling keeps its one query's dimension
    return pooled if visual.proj is None else pooled @ visual.proj, pooled_tokens


def literal_coca(
    coca: nn.Module,
    images: Tensor,
    ids: Tensor,
    text_prompts: Prompts,
    vision_prompts: Prompts,
    output_labels: bool = True,
) -> dict[str, Tensor]:
    """What `CoCa.forward` gives for prompted towers; its decoder has no prompts.

    Logits at padding that was dropped to make room mean nothing.
    """
    image_features, image_tokens = literal_encode_image_tokens(coca, images, vision_prompts)
    text_features, text_tokens = literal_encode_text_tokens(coca, ids, text_prompts)
    outputs = {
        "image_features": nn.functional.normalize(image_features, dim=-1),
        "text_features": nn.functional.normalize(text_features, dim=-1),
        "logits": coca.text_decoder(image_tokens, text_tokens[:, :-1] if output_labels else text_tokens),
        "logit_scale": coca.logit_scale.exp(),
    }
    return {**outputs, "labels": ids[:, 1:]} if output_labels else outputs


def literal_encode_video(clip: nn.Module, video: Tensor, prompts: Prompts, frame_mask: Tensor | None = None) -> Tensor:
    """Averages the unnormalised features of a video's frames, Eq. 4.

    Args:
        clip: An open_clip model with a `VisionTransformer`, without prompts of its own.
        video: (B, T, 3, H, W).
        prompts: What enters each layer, from `literal_prompts`.
        frame_mask: (B, T) bool, True for the frames that count; all of them if not given.

    Returns:
        (B, D) features, not normalised.
    """
    features = []
    for index, frames in enumerate(video):
        kept = frames if frame_mask is None else frames[frame_mask[index]]
        features.append(literal_encode_image(clip, kept, prompts).mean(dim=0))
    return torch.stack(features)
