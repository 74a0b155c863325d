"""The published methods, one row each: which towers get prompts, which tower leads, how many layers, and which maps."""

from __future__ import annotations

from dataclasses import dataclass

SMALLER_TOWER = "smaller tower"
EACH_TOWER = "each tower"


@dataclass(frozen=True)
class Method:
    """A published method as a setting of one mechanism.

    Attributes:
        paper: Its name, with the authors, the venue and the year.
        towers: Which towers get prompts: "both", "text" or "vision".
        lead: Which tower learns the prompts: "split" (text in layers 1..K, vision in the rest), "text" (in all layers),
            or "own" (each tower learns its own).
        depth: How many layers get a fresh prompt. A number: that many, or all layers of the smaller tower if it has
            fewer. "smaller tower": as many as the smaller tower has layers. "each tower": all layers of each tower.
        mapper: The linear maps between the towers: "shared" (one for each direction), "per_layer", or "none".
    """

    paper: str
    towers: str
    lead: str
    depth: int | str
    mapper: str


METHODS: dict[str, Method] = {
    # Video and Language Tuning CLIP with Multimodal Prompt Learning and Scenario-Guided Optimization
    # Eq. 10 and 11: text leads in layers 1..K, vision in the others.
    "vilt": Method("ViLT-CLIP (Wang et al., AAAI 2024)", "both", "split", SMALLER_TOWER, "shared"),
    # MaPLe: Multi-modal Prompt Learning. https://arxiv.org/abs/2210.03117
    "maple": Method("MaPLe (Khattak et al., CVPR 2023)", "both", "text", 9, "per_layer"),
    # Fine-tuned CLIP Models are Efficient Video Learners, its "VL prompting". https://arxiv.org/abs/2212.03640
    "independent": Method(
        "independent prompts in both towers (IVLP, ViFi-CLIP, CVPR 2023)", "both", "own", EACH_TOWER, "none"
    ),
    # Learning to Prompt for Vision-Language Models. https://arxiv.org/abs/2109.01134
    # With the scenario-guided term this is KgCoOp. https://arxiv.org/abs/2303.13283
    "coop": Method("CoOp (Zhou et al., IJCV 2022)", "text", "own", 1, "none"),
    # Visual Prompt Tuning. https://arxiv.org/abs/2203.12119
    "vpt_shallow": Method("VPT-shallow (Jia et al., ECCV 2022)", "vision", "own", 1, "none"),
    "vpt_deep": Method("VPT-deep (Jia et al., ECCV 2022)", "vision", "own", EACH_TOWER, "none"),
}
"""The published methods by the name that `method=` takes, each with its settings and its paper."""
