"""Settings of prompts for the tiny models: where the split, the depth and the carried layers may lie."""

from __future__ import annotations

from tests.reference.literal import METHODS
from tests.support.architectures import DEPTHS

# One setting whose prompts are carried in both towers, one whose last layers have fresh prompts.
CARRIED = {"K": 1, "depth": 2}
FRESH = {"method": "independent", "n_ctx": 1, "n_ctx_vision": 2}

# Layers paired by relative depth, in towers where the deeper one is the vision tower, the text tower, or neither.
PROPORTIONAL_CASES = [
    (architecture, {"pairing": "proportional", **settings})
    for architecture in ("24/12", "10/12", "4/4", "5/3")
    for settings in ({"K": 1}, {"K": None}, {"K": 3}, {"K": 2, "mapper": "per_layer"}, {"method": "maple"})
]


def depth_cases() -> list:
    """Where the split, the depth and the carried layers may lie, for each pair of tower depths."""
    cases = []
    for architecture in DEPTHS:
        shallowest = min(int(layers) for layers in architecture.split("/"))
        for settings in (
            {"K": 1},
            {"K": shallowest, "n_ctx": 1},
            {"K": 2, "depth": shallowest - 1},
            {"K": 1, "depth": 1},
        ):
            cases.append((architecture, settings))
        for method in METHODS:
            if method != "vilt":
                cases.append((architecture, {"method": method}))
    return cases


SETTING_CASES = [
    {"K": None},
    {"K": None, "depth": 1},
    {"K": 3, "depth": 3, "mapper": "per_layer"},
    {"method": "vilt", "K": 2, "depth": 3, "mapper": "per_layer"},
    {"method": "maple", "depth": 2, "n_ctx": 1},
    {"method": "maple", "mapper": "shared"},
    {"method": "independent", "depth": 2, "n_ctx": 1, "n_ctx_vision": 4},
    {"method": "independent", "towers": "text", "depth": 3},
    {"method": "independent", "towers": "vision", "depth": 3},
    {"method": "coop", "depth": 3},
    {"method": "vpt_shallow", "n_ctx_vision": 2},
    {"method": "vpt_deep", "depth": 2},
]


def case_id(value) -> str | None:
    return "-".join(f"{key}={item}" for key, item in value.items()) if isinstance(value, dict) else None


# The method's default depth holds whatever else is overridden, in towers of unequal depth too.
UNEQUAL_CASES = [
    ("24/12", {"lead": "own", "mapper": "none"}),
    ("24/12", {"towers": "vision", "lead": "own", "mapper": "none"}),
    ("10/12", {"towers": "text", "lead": "own", "mapper": "none"}),
    ("10/12", {"method": "maple", "towers": "text", "lead": "own", "mapper": "none"}),
    ("24/12", {"method": "independent", "depth": 11}),
]


# Each an architecture and its settings.
ALL = [*depth_cases(), *PROPORTIONAL_CASES, *(("4/4", settings) for settings in SETTING_CASES), *UNEQUAL_CASES]
