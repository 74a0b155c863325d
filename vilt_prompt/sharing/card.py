"""The model card: the description of an adapter, with code to run it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import PurePath

from huggingface_hub import EvalResult, ModelCardData
from open_clip.pretrained import get_pretrained_cfg
from torch import Tensor

from vilt_prompt.checks import check_string, check_strings
from vilt_prompt.config import JsonObject, names_weights
from vilt_prompt.methods import METHODS
from vilt_prompt.sharing.base_place import LOCAL, for_others, is_elsewhere

FACTS = "How it was trained"  # Below this heading, a card depends on the facts, but not on where it is saved.


@dataclass(frozen=True)
class TrainingFacts:
    """Facts about an adapter that are not in its config. They are arguments of `push_to_hub`."""

    class_names: Sequence[str] | None = None
    template: str | None = None
    metrics: Mapping[str, float] | None = None
    dataset: str | None = None
    license: str | None = None

    def __post_init__(self) -> None:
        if self.class_names is not None:
            check_strings("class_names", self.class_names)
        for name in ("template", "dataset", "license"):
            check_string(name, getattr(self, name))
        if self.metrics is not None and not isinstance(self.metrics, Mapping):
            raise TypeError(f'metrics must be names and values, such as {{"accuracy": 93.1}}, got {self.metrics!r}')
        for name, value in (self.metrics or {}).items():
            if not isinstance(name, str):
                raise TypeError(f"the names of metrics must be strings, got {name!r}")
            try:
                finite = math.isfinite(float(value))  # numpy's and torch's scalars too
            except (TypeError, ValueError) as error:
                raise TypeError(f"metrics[{name!r}] must be a number, got {value!r}") from error
            if not finite:
                raise ValueError(f"metrics[{name!r}] must be finite, got {value!r}")

    def recorded(self, config: JsonObject) -> JsonObject:
        """Return the fields of a config, with the class names and the template if there are any."""
        given = {"class_names": self.class_names, "template": self.template}
        return config | {name: value for name, value in given.items() if value is not None}

    def __bool__(self) -> bool:
        """Whether any fact is given."""
        return any(getattr(self, name) is not None for name in self.__dataclass_fields__)


def model_card(
    config: JsonObject, tensors: dict[str, Tensor], facts: TrainingFacts, place: str, *, is_repository: bool = False
) -> str:
    """Return the model card of an adapter, without paths of this machine.

    Args:
        config: The fields of the adapter's config.
        tensors: The adapter's tensors by name.
        facts: Facts that are not in the config.
        place: The name of the folder that it is saved to, or the id of the repository. A folder may be uploaded later.
        is_repository: Whether `place` is a repository.
    """
    config = for_others(facts.recorded(config))
    name = place.split("/")[-1]
    metadata = ModelCardData(
        library_name="vilt-prompt",
        tags=["vilt-prompt", "peft", "open_clip", "video-classification"],
        pipeline_tag="video-classification",
        base_model=_base_on_the_hub(config),
        license=facts.license,
        datasets=[facts.dataset] if facts.dataset and "/" in facts.dataset else None,
        model_name=name,
        eval_results=_eval_results(facts),
    )
    sections = [
        f"# {_title(name, facts)}",
        _what_it_is(config, sum(tensor.numel() for tensor in tensors.values())),
        f"## Use it\n\n```bash\npip install vilt-prompt\n```\n\n```python\n{_snippet(config, place, is_repository)}```",
        "`frames` are PIL images of one video; `logit_scale.exp()` is CLIP's own factor, 1 / temperature.",
        _where_the_base_is(config),
        "PEFT knows these files once `import vilt_prompt` has run; before, it stops with `KeyError: 'VILT_PROMPT'`.",
        _training(config, facts),
        _results(facts),
        _classes(config.get("class_names")),
        f"## Licence\n\n{_line(facts.license or 'Not stated.')}",
    ]
    body = "\n\n".join(section for section in sections if section)
    return f"---\n{metadata.to_yaml()}\n---\n\n{body}\n"


def _title(name: str, facts: TrainingFacts) -> str:
    return f"{_line(name)}: prompts for video" + (f", trained on {_line(facts.dataset)}" if facts.dataset else "")


def _line(text: object) -> str:
    """A user's text as one line of plain text."""
    return escape(" ".join(str(text).split()), quote=False)


def _what_it_is(config: JsonObject, parameters: int) -> str:
    towers = {"both": "both towers", "text": "the text tower", "vision": "the vision tower"}[config["towers"]]
    base = _base_name(config)
    of_base = f"`{_line(base)}`" if base else "an open_clip model whose name was not recorded"
    return (
        f"{parameters:,} learned numbers that make a frozen CLIP understand video: prompts for {towers} of {of_base}, "
        "as a vilt-prompt adapter in the layout of [PEFT](https://github.com/huggingface/peft). CLIP's weights are not "
        "in here; loading checks that they are the right ones. Class names are plain text, and may differ from the "
        "names in training. The order of the frames has no effect."
    )


def _snippet(config: JsonObject, place: str, is_repository: bool) -> str:
    names = json.dumps(list(config.get("class_names") or ("walking", "swimming", "juggling"))[:3], ensure_ascii=False)
    adapter = json.dumps(place, ensure_ascii=False)
    where = "" if is_repository else "  # the path of this folder, or its repository on the Hub"
    name = config["base_model"]
    base = f", {_folder_argument(name)}" if is_repository and is_elsewhere(name) else ""
    load = f"model, preprocess, tokenizer = vilt_prompt.create_model_and_transforms({adapter}{base}){where}\n"
    if not names_weights(config["base_model"], config["base_pretrained"]):
        load = (
            "# clip, preprocess and tokenizer: the open_clip model that the adapter was trained on\n"
            f"model = vilt_prompt.from_pretrained(clip, {adapter}){where}\n"
        )
    return (
        "import torch, vilt_prompt\n\n"
        f"names = {names}\n"
        f"{load}"
        "video = model.encode_video(torch.stack([preprocess(frame) for frame in frames])[None], normalize=True)\n"
        "text = model.encode_text(tokenizer(names), normalize=True)\n"
        "probabilities = (video @ text.T * model.logit_scale.exp()).softmax(dim=-1)\n"
    )


def _training(config: JsonObject, facts: TrainingFacts) -> str:
    rows = {
        "base model": _base_name(config) or "not recorded",
        "method": METHODS[config["method"]].paper,
        "towers with prompts": config["towers"],
        "who leads": config["lead"],
        "maps between the towers": config["mapper"],
        "prompts for each layer (text)": config["n_ctx"] if config["towers"] != "vision" else None,
        "prompts for each layer (vision)": config["n_ctx_vision"] if config["towers"] != "text" else None,
        "layers with fresh prompts": f"1 to {config['depth'] or 'the last'}",
        "last layer in which text leads (K)": config["K"],
        "layers of the two towers go together by": "relative depth" if config["pairing"] == "proportional" else None,
        "dataset": facts.dataset,
        "template of the scenario-guided term": f"`{config['template']}`" if config.get("template") else None,
    }
    return _table(FACTS, {name: value for name, value in rows.items() if value is not None})


def _results(facts: TrainingFacts) -> str:
    if not facts.metrics:
        return ""
    rows = {name: f"{float(value):g}" for name, value in facts.metrics.items()}
    return _table(f"Results on {_line(facts.dataset)}" if facts.dataset else "Results", rows)


def _table(heading: str, rows: Mapping[str, object]) -> str:
    cells = [[_line(cell).replace("|", "\\|") for cell in row] for row in rows.items()]
    return "\n".join([f"## {heading}", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in cells)])


def _classes(class_names: list[str] | None) -> str:
    if not class_names:
        return ""
    names = "\n".join(f"- {_line(name)}" for name in class_names)
    summary = f"<summary>{len(class_names)} classes</summary>"
    return f"## Classes of the training\n\n<details>{summary}\n\n{names}\n\n</details>"


def _eval_results(facts: TrainingFacts) -> list[EvalResult] | None:
    dataset = facts.dataset or "not stated"
    return [
        EvalResult(
            task_type="video-classification",
            dataset_type=dataset.lower().replace(" ", "-"),
            dataset_name=dataset,
            metric_type=name.lower().replace(" ", "-"),
            metric_name=name,
            metric_value=float(value),
        )
        for name, value in (facts.metrics or {}).items()
    ] or None


def _where_the_base_is(config: JsonObject) -> str:
    """A note about a base model that open_clip does not download, because it is a file or a folder."""
    name, weights = config["base_model"] or "", config["base_pretrained"]
    is_file = weights and not name.startswith("hf-hub:") and not get_pretrained_cfg(name, weights)
    if name.startswith(LOCAL):
        what = f"The base model, `{_line(name)}`, is a folder"
        argument = _folder_argument(name)
    elif name and is_file:
        what = f"The weights of the base model, `{_line(_base_name(config))}`, are a file"
        argument = _keyword("base_pretrained", f"path/to/{PurePath(weights).name}")
    else:
        return ""
    return (
        f"{what} that is not included. Where it is not found, pass its path to `create_model_and_transforms`: "
        f"`{argument}`."
    )


def _folder_argument(base_model: str) -> str:
    """The argument that says where the folder of a base model is, for a reader to fill in."""
    return _keyword("base_model", f"{LOCAL}path/to/{PurePath(base_model.removeprefix(LOCAL)).name}")


def _keyword(name: str, value: str) -> str:
    """A keyword argument as Python code."""
    return f"{name}={json.dumps(value, ensure_ascii=False)}"


def _base_name(config: JsonObject) -> str | None:
    name, weights = config["base_model"], config["base_pretrained"]
    return f"{name} ({weights})" if name and weights else name


def _base_on_the_hub(config: JsonObject) -> str | None:
    """The base model's repository, which the Hub links."""
    name, weights = config["base_model"], config["base_pretrained"]
    if not name:
        return None
    if name.startswith("hf-hub:"):
        return name.removeprefix("hf-hub:").split("@")[0]
    known = get_pretrained_cfg(name, weights) if weights else {}
    # "organisation/name/", at times with the name of a file behind it
    return "/".join(known.get("hf_hub", "").split("/")[:2]) or None
