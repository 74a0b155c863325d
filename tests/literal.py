"""The method computed token by token: slow, obvious, and sharing no code with the library.

Every prompt is a real token in every layer, every class runs all the columns of its tower under the full causal mask,
and each block is run by open_clip's own forward. Nothing is skipped, shared, cropped or cached. The tests judge the
library by it and the benchmarks measure against it.

Shape letters: B batch, T frames, C classes, L columns of token ids, n prompts, D embedding, d a tower's width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

Prompts = list[Tensor | None]

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
) -> dict:
    """Says what a method's defaults come to on one model.

    Returns:
        `towers`, `lead`, `mapper`, `K`, and the last layer with a fresh prompt in each tower: `text_depth` and
        `vision_depth`, 0 for a tower without prompts.
    """
    text_layers, vision_layers = len(text_blocks(clip)), len(vision_blocks(clip))
    default = METHODS[method]
    towers, lead, mapper = towers or default["towers"], lead or default["lead"], mapper or default["mapper"]

    if depth is not None:
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


def text_tower(clip: nn.Module) -> nn.Module:
    """The module that holds the text tower's parts: `CustomTextCLIP` keeps a tower, `CLIP` is its own."""
    return clip.text if hasattr(clip, "text") else clip


def text_blocks(clip: nn.Module) -> nn.ModuleList:
    """The blocks of the text tower."""
    return text_tower(clip).transformer.resblocks


def vision_blocks(clip: nn.Module) -> nn.ModuleList:
    """The blocks of the vision tower."""
    return clip.visual.transformer.resblocks


def end_of_text(clip: nn.Module, ids: Tensor) -> Tensor:
    """The column that the tower pools, (C,)."""
    pool_type = clip.text.pool_type if hasattr(clip, "text") else clip.text_pool_type
    if pool_type == "argmax":
        return ids.argmax(dim=-1)
    if pool_type == "eos":
        eos_id = clip.text.eos_id if hasattr(clip, "text") else clip.text_eos_id
        return (ids == eos_id).int().argmax(dim=-1)
    if pool_type == "last":
        return torch.full((len(ids),), ids.shape[1] - 1)
    raise NotImplementedError(f"text pooling {pool_type!r}")


def literal_encode_text(clip: nn.Module, ids: Tensor, prompts: Prompts) -> Tensor:
    """Encodes `[SOS, P, name, EOS, padding]`, Eq. 5 and 10-11, as many columns as the tower has positions.

    Args:
        clip: An open_clip model with a causal text tower, without prompts of its own.
        ids: (C, L) token ids, L up to the tower's context length.
        prompts: What enters each layer, from `literal_prompts`.

    Returns:
        (C, D) features, not normalised.
    """
    tower = text_tower(clip)
    positions = len(tower.positional_embedding)
    dtype = tower.transformer.get_cast_dtype()
    n = 0 if prompts[0] is None else len(prompts[0])
    pooled_column = end_of_text(clip, ids) + n
    if pooled_column.max() >= positions:
        raise ValueError(f"EOS would stand at column {int(pooled_column.max())} of {positions}")

    ids = nn.functional.pad(ids, (0, positions - ids.shape[1]))
    x = tower.token_embedding(ids).to(dtype)  # [C, positions, d]
    if n:
        x = torch.cat([x[:, :1], repeated(prompts[0], x), x[:, 1:]], dim=1)[:, :positions]
    x = x + tower.positional_embedding.to(dtype)
    for block, prompt in zip(text_blocks(clip), [None, *prompts[1:]], strict=True):
        if prompt is not None:
            x = torch.cat([x[:, :1], repeated(prompt, x), x[:, 1 + n :]], dim=1)
        x = block(x, attn_mask=tower.attn_mask)

    x = tower.ln_final(x)
    x = x[torch.arange(len(x)), pooled_column]  # [C, d]
    if tower.text_projection is None:
        return x
    return tower.text_projection(x) if isinstance(tower.text_projection, nn.Linear) else x @ tower.text_projection


def literal_encode_image(clip: nn.Module, images: Tensor, prompts: Prompts) -> Tensor:
    """Encodes `[class, patches, P]`, Eq. 7; the first layer's prompt goes through `ln_pre` and none is pooled.

    Args:
        clip: An open_clip model with a `VisionTransformer`, without prompts of its own.
        images: (B, 3, H, W).
        prompts: What enters each layer, from `literal_prompts`.

    Returns:
        (B, D) features, not normalised.
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

    pooled = visual._pool(x[:, :tokens])[0].flatten(1)  # contrastive attention pooling keeps its one query's dimension
    return pooled if visual.proj is None else pooled @ visual.proj


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


def repeated(prompt: Tensor, x: Tensor) -> Tensor:
    """(n, d) -> (len(x), n, d), in the precision of x."""
    return prompt.to(x.dtype).expand(len(x), -1, -1)
