"""`convert`: turn checkpoints of MaPLe, CoOp, KgCoOp, IVLP, ViFi-CLIP's prompts and VPT into adapters.

The keys of a checkpoint show its method, and the shapes of its tensors show its settings.

Shapes: n prompt vectors, J prompted layers, C classes, d_t and d_v the widths of the towers.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import cast

import open_clip
import torch
from peft import get_peft_model
from torch import Tensor, nn

from vilt_prompt.adapter.fitting import OPEN_CLIP_VOCABULARY, check_unwrapped
from vilt_prompt.adapter.layer import prompt_layer
from vilt_prompt.adapter.peft_model import PromptPeftModel
from vilt_prompt.checks import is_readable
from vilt_prompt.config import PromptConfig
from vilt_prompt.conversion.checkpoints import read_tensors
from vilt_prompt.conversion.keys import Findings, some, sort_tensors
from vilt_prompt.sharing.activation import has_quick_gelu
from vilt_prompt.sharing.files import check_numbers
from vilt_prompt.towers.families import Model, check_towers, depths, known_tower, text_tower, vision_tower

# Rounding weights to half precision stays within these tolerances. One epoch of fine-tuning does not.
RELATIVE_TOLERANCE = 5e-3
ABSOLUTE_TOLERANCE = 1e-5


def convert(
    path: str | os.PathLike[str],
    model: nn.Module,
    *,
    adapter_name: str = "default",
    is_trainable: bool = False,
    strict_base: bool = True,
    base_model: str | None = None,
    base_pretrained: str | None = None,
) -> PromptPeftModel:
    """Turn a checkpoint of MaPLe, CoOp, KgCoOp, IVLP, ViFi-CLIP's prompts or VPT into an adapter.

    No code from the checkpoint runs. If the checkpoint contains the texts of its classes, a warning shows the first
    one: `encode_text` needs texts of the same form.

    Args:
        path: The checkpoint file, such as `model.pth.tar-5`.
        model: The open_clip model that the checkpoint was trained on, which is patched in place. Published checkpoints
            need `ViT-B-16-quickgelu` with `pretrained="openai"`. A wrapped model gets an additional adapter.
        adapter_name: The adapter's name in this model.
        is_trainable: Whether the adapter will be trained further. If not, it is frozen, and a model that was not
            wrapped before is put in eval mode. In a wrapped model the new adapter is frozen until `set_adapter`.
        strict_base: Whether a model whose frozen weights differ from those in the checkpoint is an error. If not, it is
            a warning.
        base_model: open_clip's name of the model, saved with the adapter.
        base_pretrained: open_clip's tag of the model's weights, saved with the adapter.

    Returns:
        The PEFT model.

    Raises:
        TypeError: If `model` is neither an open_clip model nor a wrapped model.
        ValueError: If the file cannot be read, contains no prompts, or does not fit the model, or if the weights of
            `base_model` and `base_pretrained` need another activation than the model has. The model is unchanged.
    """
    wrapped = model if isinstance(model, PromptPeftModel) else None
    if wrapped is None:
        check_unwrapped(model)
    base = cast(Model, model if wrapped is None else wrapped.get_base_model())  # one of the three, by the check above
    tensors_by_key, path = read_tensors(path), Path(path)
    found = sort_tensors(tensors_by_key, base, path)
    config = _config(found, base, path)
    check_towers(base, config.structure()[0])
    _check_fit(found, base, path)
    tensors = _stacked(found, path)
    if is_readable(base.logit_scale):
        _check_base(found, base, path, strict_base)
    config = config.replace(inference_mode=not is_trainable, base_model=base_model, base_pretrained=base_pretrained)
    if wrapped is None:
        wrapped = cast(PromptPeftModel, get_peft_model(model, config, adapter_name))
        wrapped.train(is_trainable)
    else:
        wrapped.add_adapter(adapter_name, config)
    with torch.no_grad():
        for name, parameter in prompt_layer(wrapped).tensors(adapter_name).items():
            parameter.copy_(tensors[name])
    if base_model is None or base_pretrained is None:
        _warn_of_gelu(base)
    if is_readable(base.logit_scale):
        _tell_the_text(found, base)
    return wrapped


def _config(found: Findings, base: Model, path: Path) -> PromptConfig:
    """Find the settings for which an adapter has exactly the prompts and maps of the checkpoint."""
    if not found.text and not found.vision:
        raise ValueError(f"{path} holds no prompts. If it is a fine-tuned CLIP, load it with open_clip")
    context = found.text.get(1)
    if context is not None and context.ndim == 3:
        raise ValueError(
            f"{path} holds a context for each of {len(context)} classes (CSC=True): an adapter has one context for all "
            "classes"
        )
    lengths = {}
    for tower, prompts in (("text", found.text), ("vision", found.vision)):
        if sorted(prompts) != list(range(1, len(prompts) + 1)):
            raise ValueError(
                f"{path} holds {tower} prompts of layers {sorted(prompts)}: expected one for every layer from "
                "1 to the last"
            )
        shapes = {tuple(prompt.shape) for prompt in prompts.values()}
        if len(shapes) > 1 or any(len(shape) != 2 for shape in shapes):
            raise ValueError(
                f"{path} holds {tower} prompts of shapes {sorted(shapes)}: expected the same (n, d) in all layers"
            )
        lengths[tower] = next(iter(shapes), (0,))[0]
    text, vision = len(found.text), len(found.vision)
    if found.maps or found.coupled:
        if vision or sorted(found.maps) != sorted(found.text) or any(len(parts) != 2 for parts in found.maps.values()):
            raise ValueError(
                f"{path} holds maps of layers {sorted(found.maps)} and text prompts of layers {sorted(found.text)}: "
                "MaPLe has a weight and a bias for each text prompt, and learns no visual ones"
            )
        return PromptConfig(method="maple", n_ctx=lengths["text"], depth=text)
    if not vision:
        return PromptConfig(method="coop", n_ctx=lengths["text"], depth=text)
    if not text:
        return PromptConfig(method="vpt_deep", n_ctx=lengths["vision"], depth=vision)
    depth = text if text == vision else None
    if depth is None and (text, vision) != depths(base):
        raise ValueError(
            f"{path} has text prompts for {text} layers and visual ones for {vision}: an adapter needs the "
            "same number in both towers, or prompts in all layers"
        )
    return PromptConfig(method="independent", n_ctx=lengths["text"], n_ctx_vision=lengths["vision"], depth=depth)


def _stacked(found: Findings, path: Path) -> dict[str, Tensor]:
    """Stack the tensors of all layers, in float32: prompts (J, n, d), weights (J, d_v, d_t) and biases (J, d_v)."""
    layers = {"vilt_text": found.text, "vilt_vision": found.vision}
    for part in ("weight", "bias"):
        layers[f"vilt_F.{part}"] = {layer: parts[part] for layer, parts in found.maps.items()}
    tensors = {name: torch.stack([own[i] for i in sorted(own)]) for name, own in layers.items() if own}
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    check_numbers(tensors, str(path))
    return tensors


def _check_fit(found: Findings, base: Model, path: Path) -> None:
    """Check that prompts, maps and token embeddings fit the towers of the model."""
    text, vision = known_tower(text_tower(base)), vision_tower(base)
    for kind, prompts, tower in (("text", found.text, text), ("vision", found.vision, vision)):
        if not prompts or tower is None:
            continue
        if len(prompts) > tower.layers:
            raise ValueError(
                f"{path} has {kind} prompts for {len(prompts)} layers, the {kind} tower of the model has {tower.layers}"
            )
        if prompts[1].shape[1] != tower.width:
            raise ValueError(
                f"{path} has {kind} prompts of width {prompts[1].shape[1]}, the {kind} tower of the model is "
                f"{tower.width} wide: it was trained on another model"
            )
    suffix = found.suffix
    if suffix is not None and (suffix.ndim != 3 or not suffix.numel() or suffix.shape[2] != text.width):
        raise ValueError(
            f"{path} has a token_suffix of shape {tuple(suffix.shape)}: expected (C, L, {text.width}), embedded tokens"
        )
    for layer, parts in found.maps.items():
        expected = (known_tower(vision).width, text.width)
        if parts["weight"].shape != expected or parts["bias"].shape != expected[:1]:
            raise ValueError(
                f"{path} has a map of shape {tuple(parts['weight'].shape)} for layer {layer}, in the model it is "
                f"{expected}: it was trained on another model"
            )


def _check_base(found: Findings, base: Model, path: Path, strict: bool) -> None:
    """Compare the frozen weights in the checkpoint with the model's."""
    weights = base.state_dict()
    different = [name for name, tensor in found.frozen.items() if not _same_weights(tensor, weights.get(name))]
    held = len(found.frozen) + (found.suffix is not None)
    if found.suffix is not None:
        embedding = _token_embedding(base)
        if not _same_weights(found.suffix[0], embedding[_nearest_ids(found.suffix[0], embedding)]):
            different.append("token_embedding.weight")
    if not different:
        return
    message = (
        f"{path} was trained on other weights than the model has: {len(different)} of {held} differ, {some(different)}"
    )
    if strict:
        raise ValueError(f"{message}. Give the model those weights, or pass strict_base=False")
    warnings.warn(message, stacklevel=3)


def _same_weights(first: Tensor, second: Tensor | None) -> bool:
    if second is None or first.shape != second.shape:
        return False
    first, second = first.float(), second.detach().float().cpu()
    return torch.allclose(first, second, rtol=RELATIVE_TOLERANCE, atol=ABSOLUTE_TOLERANCE)


def _warn_of_gelu(base: Model) -> None:
    """Warn if the base cannot be OpenAI's CLIP, on which the published checkpoints of these methods were trained."""
    if known_tower(text_tower(base)).vocabulary == OPEN_CLIP_VOCABULARY and not has_quick_gelu(base):
        warnings.warn(
            "the model has GELU, but the published checkpoints of these methods belong to OpenAI's weights, which need "
            'QuickGELU: create the model as "ViT-B-16-quickgelu", not "ViT-B-16". If the checkpoint was trained on '
            "other weights, pass base_model= and base_pretrained=",
            stacklevel=3,
        )


def _tell_the_text(found: Findings, base: Model) -> None:
    """Show the text of the first class in a warning. It is read back from the embeddings of its tokens."""
    if found.suffix is None:
        return
    embedding = _token_embedding(base)
    if len(embedding) != OPEN_CLIP_VOCABULARY:
        return
    ids = _nearest_ids(found.suffix[0], embedding).tolist()
    end = OPEN_CLIP_VOCABULARY - 1
    text = open_clip.SimpleTokenizer().decode(ids[: ids.index(end)] if end in ids else ids).strip()
    warnings.warn(
        f"after its prompts, the first class of the checkpoint reads {text!r}: give encode_text texts of this form",
        stacklevel=3,
    )


def _nearest_ids(embedded: Tensor, embedding: Tensor) -> Tensor:
    """Find the token id that is nearest to each embedded token: (L, d_t) -> (L,)."""
    return torch.cdist(embedded.float(), embedding).argmin(dim=1)


def _token_embedding(base: Model) -> Tensor:
    return known_tower(text_tower(base)).embedding.weight.detach().float().cpu()
