"""The settings of an adapter, their checks, and how they resolve against a model. No files, no Hub."""

from __future__ import annotations

import dataclasses
import enum
import os
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from peft import PeftConfig

from vilt_prompt.checks import check_choice, check_count, check_string, check_strings, is_integer, nearest
from vilt_prompt.methods import METHODS, SMALLER_TOWER


class PromptType(str, enum.Enum):
    """The kind of adapter, as PEFT's `PeftType` lists PEFT's own: a string that also has `.value`."""

    VILT_PROMPT = "VILT_PROMPT"


PEFT_TYPE = PromptType.VILT_PROMPT
TASK_TYPE = "VIDEO_TEXT"  # by which PEFT finds the class of the wrapped model

# The fields of a config, or a record among them, as JSON stores it.
JsonObject: TypeAlias = dict[str, Any]

# The fields that fix the shapes of the tensors, and the layers that they enter.
STRUCTURE = ("towers", "lead", "mapper", "pairing", "depth", "K", "n_ctx", "n_ctx_vision")
# The other fields: the text that the prompts started from, the base model, and the classes of the training.
NOTES = ("ctx_init", "base_model", "base_pretrained", "base_fingerprint", "base_settings", "class_names", "template")


@dataclass
class PromptConfig(PeftConfig):
    """Settings of one adapter: which layers of which tower get prompts, and which tower leads.

    A tower is the image encoder or the text encoder. In layers 1..K text leads: P_i enters the text tower, and F(P_i)
    enters the vision tower. In layers K+1..J vision leads: P~_i enters the vision tower, and F~(P~_i) enters the text
    tower (Eq. 10 and 11). Settings that are None are filled in from the method and the model when the model is wrapped.
    Saved configs contain the resolved values.

    Args:
        n_ctx: Number of prompt vectors for each layer, n in the equations.
        n_ctx_vision: Number of prompt vectors for each layer of the vision tower. None: `n_ctx`. It can differ from
            `n_ctx` only if no prompts are mapped between the towers.
        K: The last layer in which text leads (1..depth), only for `lead="split"`. None: half of the depth.
        depth: Layers 1..depth get a fresh prompt, J in the equations. None: the method's depth.
        method: A published method, which sets `towers`, `lead`, `mapper` and `depth` if they are None: "vilt",
            "maple", "independent", "coop", "vpt_shallow" or "vpt_deep".
        towers: "both", "text" or "vision": which towers get prompts.
        lead: "split" (text leads in layers 1..K, vision in K+1..depth), "text" (in all), or "own" (each tower learns
            its own, nothing is mapped).
        mapper: "shared" (one linear map for each direction), "per_layer" (one for each layer that follows), or "none".
        pairing: "layer" (layer i of one tower goes with layer i of the other), or "proportional": prompts in all layers
            of both towers, each paired with the layer at the same relative depth. K then counts the text tower's.
        ctx_init: A text, or token ids, whose token embeddings fill the first rows of the first text prompt.
        base_model: The name of the base model that `create_model_and_transforms` builds: open_clip's, or one that
            starts with "hf-hub:" or "local-dir:".
        base_pretrained: open_clip's tag of the base model's weights.
        base_fingerprint: Shapes and a few values of the base model's weights, by which loading recognises them. They
            are read from the model when it is wrapped.
        base_settings: The settings of the base model that change its features without changing its weights: image
            size, mean, standard deviation, interpolation and resize mode, context length, activations, attention heads.
            They are read from the model when it is wrapped.
        class_names: The names of the classes in training. They have no effect, but others can predict with them.
        template: The hand-crafted prompt of the scenario-guided term in training. It has no effect.

    Raises:
        ValueError: If a setting is out of range, unknown, or contradicts another one.
        TypeError: If a setting is of the wrong type.
    """

    n_ctx: int = 10
    n_ctx_vision: int | None = None
    K: int | None = 6
    depth: int | None = None
    method: str = "vilt"
    towers: str | None = None
    lead: str | None = None
    mapper: str | None = None
    pairing: str = "layer"
    ctx_init: str | list[int] | None = None
    base_model: str | None = None
    base_pretrained: str | None = None
    base_fingerprint: JsonObject | None = field(default=None, repr=False)
    base_settings: JsonObject | None = field(default=None, repr=False)
    class_names: list[str] | None = field(default=None, repr=False)
    template: str | None = None
    target_modules: list[str] | None = None  # PEFT looks up here which modules to adapt

    def __post_init__(self) -> None:
        self.task_type = None  # PEFT's check knows only its own
        super().__post_init__()
        self.peft_type = PEFT_TYPE
        self.task_type = TASK_TYPE
        self.target_modules = ["prompts"]
        self._take_integers()
        check_choice("method", self.method, METHODS)
        check_choice("pairing", self.pairing, ("layer", "proportional"))
        check_choice("towers", self.towers, ("both", "text", "vision"), optional=True)
        check_choice("lead", self.lead, ("split", "text", "own"), optional=True)
        check_choice("mapper", self.mapper, ("shared", "per_layer", "none"), optional=True)
        check_count("n_ctx", self.n_ctx, optional=False)
        check_count("n_ctx_vision", self.n_ctx_vision)
        check_count("depth", self.depth, "in 1..N (the number of layers of the prompted towers)")
        if self.structure()[1] == "split":
            check_count("K", self.K, "in 1..depth")
        check_string("base_model", self.base_model)
        check_string("base_pretrained", self.base_pretrained)
        if self.class_names is not None:
            check_strings("class_names", self.class_names)
            self.class_names = list(self.class_names)
        check_string("template", self.template)
        for name in ("base_fingerprint", "base_settings"):
            if not isinstance(getattr(self, name), dict | None):
                raise TypeError(f"{name} must be a dict or None, got {getattr(self, name)!r}")
        self._check_ctx_init()
        self._check_combination(*self.structure())

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> PromptConfig:
        """The settings of a published method.

        Args:
            name: The method, a key of `METHODS`.
            overrides: Other settings. They override the method's.

        Raises:
            TypeError: If a setting is unknown, or of the wrong type.
            ValueError: If there is no such method, or a setting is out of range.
        """
        check_settings("preset", [*overrides], [field for field in settings() if field != "method"])
        return cls(method=name, **overrides)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        subfolder: str | None = None,
        *,
        strict_base: bool = True,
        **kwargs: Any,
    ) -> PromptConfig:
        """Read the config of a saved adapter, and check its files. PEFT calls this before it changes a model.

        Args:
            pretrained_model_name_or_path: The folder, or a repository id.
            subfolder: A folder inside it.
            strict_base: Whether loading the adapter onto a base model with other weights is an error. If not, it is a
                warning.
            kwargs: `revision`, `token`, `cache_dir`, `local_files_only` and `force_download` of
                `vilt_prompt.from_pretrained`. PEFT's own arguments have no effect.

        Raises:
            ValueError: If there is no such adapter, or one of its files is missing, damaged or a pickle.
        """
        # The library's only late import. PEFT expects this method on the config class, but reading files belongs to
        # `sharing`, which imports this module.
        from vilt_prompt.sharing.saved_config import read_config

        return read_config(pretrained_model_name_or_path, subfolder=subfolder, strict_base=strict_base, **kwargs)

    def resolve(self, text_layers: int, vision_layers: int) -> PromptConfig:
        """Fill in the settings that are None, for towers of these depths.

        Args:
            text_layers: The number of layers of the text tower; 0 if its family is unknown.
            vision_layers: The number of layers of the vision tower; 0 if its family is unknown.

        Returns:
            A config without open settings. Only `depth` stays None, if all layers of both towers get prompts and the
            towers differ in depth or are paired proportionally.

        Raises:
            ValueError: If `depth` or `K` exceeds the number of layers.
        """
        towers, lead, mapper = self.structure()
        prompted = {"both": (text_layers, vision_layers), "text": (text_layers,), "vision": (vision_layers,)}[towers]
        smaller = min(layers for layers in (text_layers, vision_layers) if layers)
        method_depth = METHODS[self.method].depth
        depth = self.depth
        proportional = self.pairing == "proportional"
        if proportional:
            assert depth is None
        elif depth is not None:
            if depth > min(prompted):
                raise ValueError(
                    f"expected depth in 1..{min(prompted)} (the number of layers of the prompted towers), got {depth}"
                )
        elif isinstance(method_depth, int):
            depth = min(method_depth, smaller)
        elif method_depth == SMALLER_TOWER:
            depth = smaller
        elif lead != "own" or len(set(prompted)) == 1:
            depth = min(prompted)
        K = None
        if lead == "split":
            layers = text_layers if proportional else depth
            assert layers is not None
            K = max(1, layers // 2) if self.K is None else self.K
            if K not in range(1, layers + 1):
                counted = "layers of the text tower" if proportional else "prompted layers"
                raise ValueError(
                    f"expected K in 1..{layers} (the number of {counted}), got {K}: K=None takes half of them"
                )
        return self.replace(
            n_ctx_vision=self.n_ctx if self.n_ctx_vision is None else self.n_ctx_vision,
            K=K,
            depth=depth,
            towers=towers,
            lead=lead,
            mapper=mapper,
        )

    def replace(self, **changes: Any) -> PromptConfig:
        """A config with these settings and some changes."""
        return PromptConfig(**{each.name: getattr(self, each.name) for each in dataclasses.fields(self)} | changes)

    def structure(self) -> tuple[str, str, str]:
        """`towers`, `lead` and `mapper`. Those that are None are the method's, or follow from the other two."""
        method = METHODS[self.method]
        towers = self.towers or method.towers
        lead = self.lead
        if lead is None:
            lead = "own" if towers != "both" or self.mapper == "none" else method.lead
        mapper = self.mapper
        if mapper is None:
            mapper = "none" if lead == "own" else "shared" if method.mapper == "none" else method.mapper
        return towers, lead, mapper

    def _take_integers(self) -> None:
        """Convert NumPy's integers to Python's, which JSON can store."""
        for name in ("n_ctx", "n_ctx_vision", "K", "depth"):
            value = getattr(self, name)
            setattr(self, name, int(value) if is_integer(value) else value)
        if isinstance(self.ctx_init, list):
            self.ctx_init = [int(token) if is_integer(token) else token for token in self.ctx_init]

    def _check_combination(self, towers: str, lead: str, mapper: str) -> None:
        if towers != "both" and lead != "own":
            raise ValueError(f'lead="{lead}" maps between the towers, but towers="{towers}": leave lead at "own"')
        if (lead == "own") != (mapper == "none"):
            raise ValueError(
                f'lead="{lead}" with mapper="{mapper}": lead="own" goes with mapper="none", '
                'the leads "split" and "text" with mapper="shared" or "per_layer"'
            )
        if mapper != "none" and self.n_ctx_vision not in (None, self.n_ctx):
            raise ValueError(
                f"n_ctx_vision={self.n_ctx_vision} differs from n_ctx={self.n_ctx}, but prompts are mapped between "
                'the towers: leave n_ctx_vision at None, or choose method="independent"'
            )
        if self.pairing == "proportional" and lead == "own":
            raise ValueError(
                'pairing="proportional" pairs layers to map between, but lead="own" maps nothing: leave pairing at '
                '"layer"'
            )
        if self.pairing == "proportional" and self.depth is not None:
            raise ValueError(
                f'depth={self.depth}, but pairing="proportional" puts prompts into all layers: leave depth at None'
            )
        if self.ctx_init is not None and towers == "vision":
            raise ValueError(
                'ctx_init fills the first text prompt, but towers="vision" has no text prompts: leave ctx_init at None'
            )

    def _check_ctx_init(self) -> None:
        if self.ctx_init is None or isinstance(self.ctx_init, str):
            return
        if not isinstance(self.ctx_init, list) or not all(is_integer(token) and token >= 0 for token in self.ctx_init):
            raise TypeError(f"ctx_init must be a text or a list of token ids, got {self.ctx_init!r}")
        if not 1 <= len(self.ctx_init) <= self.n_ctx:
            raise ValueError(
                f"ctx_init has {len(self.ctx_init)} tokens, but there are n_ctx={self.n_ctx} prompt vectors: give "
                f"1..{self.n_ctx} tokens"
            )


def names_weights(base_model: str | None, base_pretrained: str | None) -> bool:
    """Whether the name and the tag identify weights. The name of a folder or a repository does so without a tag."""
    return bool(base_model and (base_pretrained or base_model.startswith(("hf-hub:", "local-dir:"))))


def settings() -> list[str]:
    """The names of this library's settings, without the fields that every PEFT config has."""
    inherited = {each.name for each in dataclasses.fields(PeftConfig)} | {"target_modules"}
    return [each.name for each in dataclasses.fields(PromptConfig) if each.name not in inherited]


def check_settings(function: str, given: list[str], known: list[str]) -> None:
    """Raise a TypeError if a keyword argument is unknown."""
    for name in given:
        if name not in known:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}. {nearest(name, known)}")
