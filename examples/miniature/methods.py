"""The methods and their variants, as a table of configurations."""

from dataclasses import dataclass
from typing import Any

N_CTX = 10
PAPER_TEMPERATURE = 0.07


@dataclass(frozen=True)
class Method:
    """How a model is made and trained.

    Attributes:
        title: Its name in tables.
        prompts: Settings of `PromptConfig`; None for a model without prompts.
        alpha: Weight of the scenario term. It has no effect where class features are frozen.
        temperature: Of the loss; None means the model's own.
        like: The method whose learning rate it takes; "" if its own is chosen.
    """

    title: str
    prompts: dict[str, Any] | None = None
    alpha: float = 8.0
    temperature: float | None = None
    like: str = ""

    @property
    def is_trained(self) -> bool:
        """Whether it has prompts that training changes."""
        return self.prompts is not None

    @property
    def has_frozen_vision(self) -> bool:
        """Whether the image encoder stays frozen, so that all such methods can share its features."""
        return self.prompts is None or self.prompts.get("towers") == "text" or self.prompts["method"] == "coop"

    @property
    def has_frozen_text(self) -> bool:
        """Whether class features stay equal to the template's."""
        return self.prompts is None or self.prompts["method"].startswith("vpt")


def _prompts(method: str, n_ctx: int = N_CTX, **settings: Any) -> dict[str, Any]:
    return {"method": method, "n_ctx": n_ctx, **settings}


METHODS = {
    "zero-shot": Method("zero-shot"),
    "probe": Method("linear probe"),
    "coop": Method("CoOp", _prompts("coop"), alpha=0.0),
    "kgcoop": Method("KgCoOp", _prompts("coop")),
    "vpt": Method("VPT", _prompts("vpt_deep")),
    "maple12": Method("MaPLe, depth 12", _prompts("maple", depth=12)),
    "independent": Method("independent", _prompts("independent")),
    "vilt": Method("ViLT", _prompts("vilt")),
    # Variants. The temperature is in a primary comparison, so its rate is chosen for it.
    "vilt-tau007": Method("ViLT, temperature 0.07", _prompts("vilt"), temperature=PAPER_TEMPERATURE),
    "vilt-alpha1": Method("ViLT, alpha 1", _prompts("vilt"), alpha=1.0, like="vilt"),
    "vilt-alpha0": Method("ViLT, alpha 0", _prompts("vilt"), alpha=0.0, like="vilt"),
    "text": Method("text prompts only", _prompts("independent", towers="text")),
    "independent-alpha0": Method("independent, alpha 0", _prompts("independent"), alpha=0.0, like="independent"),
    # As many parameters as ViLT has with its maps: 14 prompts of 96 and of 128 numbers in 12 layers.
    "independent-n14": Method("independent, n = 14", _prompts("independent", n_ctx=14), like="independent"),
    # Table 8 of the paper: numbers of prompts, text and vision, in the retrieval setting.
    "text-n4": Method("text prompts, 4", _prompts("independent", 4, towers="text")),
    **{
        f"independent-n{t}-{v}": Method(f"independent, {t} and {v}", _prompts("independent", t, n_ctx_vision=v))
        for t, v in ((4, 4), (4, 6), (4, 8), (6, 6))
    },
    "vilt-n6": Method("ViLT, 6 and 6", _prompts("vilt", 6)),
}
