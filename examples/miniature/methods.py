"""The methods and their variants, as a table of configurations."""

from dataclasses import dataclass, replace
from typing import Any

N_CTX = 10
TEMPLATE_START = "a video of a person doing"


@dataclass(frozen=True)
class Method:
    """How a model is made and trained.

    Attributes:
        title: In tables.
        prompts: Settings of `PromptConfig`; None: no prompts.
        alpha: Weight of the scenario term; without effect where the text side is frozen.
        temperature: Of the loss; None: the model's own.
        like: The method whose learning rate and length it takes; "": a grid of its own.
        trains: "prompts", "weights" (all of the model's), or "nothing".
        baseline: "centroid" or "probe", which stand beside a model that is not trained.
        scenes: How many scenes of each shot it learns from.
        longer: How many times as many steps it takes as were chosen.
    """

    title: str
    prompts: dict[str, Any] | None = None
    alpha: float = 8.0
    temperature: float | None = 0.07
    like: str = ""
    trains: str = "prompts"
    baseline: str = ""
    scenes: int = 1
    longer: int = 1

    @property
    def frozen_vision(self) -> bool:
        """Whether the image tower stays as it is, so that its features are computed once for all runs."""
        text_alone = self.prompts is not None and (
            self.prompts.get("towers") == "text" or self.prompts["method"] == "coop"
        )
        return self.trains == "nothing" or text_alone

    @property
    def frozen_text(self) -> bool:
        """Whether class features stay as they are: those of the template."""
        return self.trains == "nothing" or (self.prompts is not None and self.prompts["method"].startswith("vpt"))


def _prompts(method: str, n_ctx: int = N_CTX, **settings: Any) -> dict[str, Any]:
    return {"method": method, "n_ctx": n_ctx, **settings}


def _vilt(title: str, **changes: Any) -> Method:
    """ViLT with other settings, trained as ViLT is."""
    ours = {name: changes.pop(name) for name in ("alpha", "temperature") if name in changes}
    return Method(title, _prompts("vilt", **changes), like="vilt", **ours)


_DEEP_TEXT = _prompts("independent", towers="text")

METHODS = {
    "zero-shot": Method("zero-shot", trains="nothing"),
    "centroid": Method("pixel centroid", trains="nothing", baseline="centroid"),
    "probe": Method("linear probe", trains="nothing", baseline="probe"),
    "tuning": Method("full fine-tuning", trains="weights"),
    "coop": Method("CoOp", _prompts("coop"), alpha=0.0),
    "kgcoop": Method("KgCoOp", _prompts("coop")),
    "vpt": Method("VPT", _prompts("vpt_deep")),
    "independent": Method("independent", _prompts("independent")),
    "maple9": Method("MaPLe, depth 9", _prompts("maple")),
    "maple12": Method("MaPLe, depth 12", _prompts("maple", depth=12)),
    "vilt": Method("ViLT", _prompts("vilt")),
    # Table 6. Each part added, without the scenario term, and each part taken out, with it.
    "text": Method("text prompts", _DEEP_TEXT, alpha=0.0),
    "text-scenario": Method("text prompts, scenario", _DEEP_TEXT, like="text"),
    "independent-alpha0": Method("independent, no scenario", _prompts("independent"), alpha=0.0, like="independent"),
    # As many parameters as ViLT has with its maps: 14 prompts of 96 and of 128 numbers in 12 layers.
    "independent-n14": Method("independent, n = 14", _prompts("independent", n_ctx=14), like="independent"),
    "vilt-alpha0": _vilt("ViLT, alpha 0", alpha=0.0),
    # What the paper leaves open.
    "vilt-alpha1": _vilt("ViLT, alpha 1", alpha=1.0),
    "vilt-own-tau": _vilt("ViLT, the model's own temperature", temperature=None),
    "vilt-per-layer": _vilt("ViLT, a map for each layer", mapper="per_layer"),
    "vilt-template": _vilt("ViLT, started from the template", ctx_init=TEMPLATE_START),
    **{f"vilt-k{K}": _vilt(f"ViLT, K = {K}", K=K) for K in (1, 3, 9, 12)},
    **{f"vilt-depth{J}": _vilt(f"ViLT, depth {J}", depth=J, K=J // 2) for J in (4, 8)},
    # Table 8: numbers of prompts, text and vision, in the retrieval setting.
    "text-n4": Method("text prompts, 4", _prompts("independent", 4, towers="text")),
    **{
        f"independent-n{t}-{v}": Method(f"independent, {t} and {v}", _prompts("independent", t, n_ctx_vision=v))
        for t, v in ((4, 4), (4, 6), (4, 8), (6, 6))
    },
    "vilt-n6": Method("ViLT, 6 and 6", _prompts("vilt", 6)),
}  # fmt: skip

# A try after the first table: four scenes of each shot, and as many more steps, so that each scene is seen as often.
SCENES = 4
MORE_SCENES = {
    f"{name}-s{SCENES}": replace(
        METHODS[name],
        title=f"{METHODS[name].title}, {SCENES} scenes",
        scenes=SCENES,
        longer=SCENES,
        like="" if METHODS[name].trains == "nothing" else name,
    )
    for name in ("centroid", "probe", "coop", "kgcoop", "vilt", "independent", "maple12", "vpt", "tuning")
}
METHODS |= MORE_SCENES
METHODS["vilt-longer"] = replace(METHODS["vilt"], title=f"ViLT, {SCENES} times the steps", longer=SCENES, like="vilt")
