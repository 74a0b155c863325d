"""Fills the table of `docs/choosing.md`: what each method costs on ViT-B/16. Run `python -m docs.choosing`.

The model is built in its real size on the meta device, where it has shapes and no values, so nothing is downloaded.
"""

from __future__ import annotations

import logging
from pathlib import Path

import open_clip
import torch

import vilt_prompt
from examples.page_tables import fill
from vilt_prompt import METHODS

PAGE = Path(__file__).with_suffix(".md")
SHORT = {"shared": "one for each direction", "per_layer": "one for each layer", "none": "none"}


def table() -> str:
    """A line for each method, with everything that can be read off the wrapped model."""
    lines = [
        "| `method` | fresh text prompts in layers | fresh visual prompts in layers | maps | trained | file | "
        "gradients through |",
        "|---|---|---|---|---:|---:|---|",
    ]
    clip = open_clip.create_model("ViT-B-16", device="meta")
    for method in METHODS:
        model = vilt_prompt.wrap(clip, method=method)
        prompts = model.layer_prompts()
        trained, _ = model.get_nb_trainable_parameters()
        video = model.encode_video(torch.empty(1, 1, 3, 224, 224, device="meta"))
        text = model.encode_text(torch.zeros(1, 77, dtype=torch.long, device="meta"))
        towers = [name for name, features in (("text", text), ("vision", video)) if features.requires_grad]
        cells = (
            f"`{method}`", span(prompts.text), span(prompts.vision), SHORT[model.peft_config["default"].mapper],
            f"{trained:,}", f"{4 * trained / 1e6:.2f} MB", "both towers" if len(towers) == 2 else f"{towers[0]} alone",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
        clip = vilt_prompt.unwrap(model)
    return "\n".join(lines)


def span(prompts: list[torch.Tensor | None]) -> str:
    """The layers that get a prompt of their own, counted from 1."""
    layers = [i + 1 for i, prompt in enumerate(prompts) if prompt is not None]
    return "-" if not layers else "1" if layers == [1] else f"{layers[0]}..{layers[-1]}"


def filled(page: str) -> str:
    """The page with its table replaced."""
    return fill(page, "methods", [""], lambda _: table())


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # open_clip warns that there are no weights
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
