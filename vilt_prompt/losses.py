"""The training loss (Eq. 14): cross-entropy over cosines (Eq. 13) and the scenario-guided term (Eq. 12).

Shapes: B videos, C classes, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vilt_prompt.checks import check_floats, check_label_type, check_strings, is_readable
from vilt_prompt.late_numbers import LateNumbers
from vilt_prompt.model.prompted import prompted_model
from vilt_prompt.tokenization import tokenized

TEMPLATE = "a video of a person doing {}."
"""The hand-crafted prompt of the paper, with `{}` for the name of the class."""

NOT_FINITE = "{} has NaN or infinite values: lower the learning rate, or leave half precision"
IGNORED = -100  # a label that `F.cross_entropy` leaves out


@torch.no_grad()
def scenario_features(
    wrapped: nn.Module,
    tokenizer: Callable[[list[str]], Tensor],
    class_names: Sequence[str],
    template: str = TEMPLATE,
) -> Tensor:
    """The frozen model's text features of the hand-crafted prompt for each class: c_clip in Eq. 12.

    They are computed without learned prompts, so they do not change during training: compute them once.

    Args:
        wrapped: A model that `wrap` or `from_pretrained` returned.
        tokenizer: The model's tokenizer, `open_clip.get_tokenizer(...)`.
        class_names: C plain class names.
        template: The hand-crafted prompt, with one `{}` for the class name.

    Returns:
        (C, D), normalised, without gradient, on the model's device.

    Raises:
        TypeError: If the names are not a list of strings, `wrapped` is not a wrapped model, or `tokenizer` is not a
            tokenizer.
        ValueError: If there are no names, or the template does not contain exactly one `{}`.
    """
    model = prompted_model(wrapped)
    check_strings("class_names", class_names)
    if len(class_names) == 0:
        raise ValueError("class_names is empty: give at least one class")
    if not isinstance(template, str) or template.count("{}") != 1 or set(template.replace("{}", "")) & set("{}"):
        raise ValueError(f'template must have one {{}} for the class name, as in "{TEMPLATE}", got {template!r}')
    text = tokenized(tokenizer, [template.replace("{}", name) for name in class_names])
    return model.encode_text_without_prompts(text.to(model.logit_scale.device))


def scenario_loss(text_features: Tensor, scenario_features: Tensor) -> Tensor:
    """The scenario-guided term, `1 - mean_i cos(c_i, c_clip_i)`: the distance of classes to the hand-crafted prompt.

    Eq. 12 is printed as the mean cosine itself, but the paper's text says that the distance is minimised.

    Args:
        text_features: (C, D), from the prompted model.
        scenario_features: (C, D), from `scenario_features`.

    Returns:
        A scalar, in 0..2.

    Raises:
        TypeError: If the features are not float tensors.
        ValueError: If the shapes differ, or a feature is NaN or infinite.
    """
    _check_features("text_features", text_features)
    _check_features("scenario_features", scenario_features)
    _check_same_classes(text_features, scenario_features)
    return _scenario_loss(text_features, scenario_features)


def _scenario_loss(text_features: Tensor, scenario_features: Tensor) -> Tensor:
    text, scenario = _at_least_float32(text_features), _at_least_float32(scenario_features)
    return 1 - F.cosine_similarity(text, scenario.to(text), dim=-1).mean()


class LossTerms(NamedTuple):
    """The two terms of the loss, detached.

    Attributes:
        cross_entropy: Eq. 13 as a mean over the videos, a scalar.
        scenario: `scenario_loss`, a scalar, without its weight alpha.
    """

    cross_entropy: Tensor
    scenario: Tensor


class ScenarioGuidedLoss(nn.Module):
    """The training loss (Eq. 14): cross-entropy (Eq. 13), plus alpha times the scenario-guided term (Eq. 12).

    It is `cross_entropy(cos(v, c) / temperature, labels) + alpha * scenario_loss(c, c_clip)`. The cross-entropy is a
    mean over the videos of the batch, while Eq. 13 prints a sum. The paper gives no value of alpha.

    Args:
        scenario_features: (C, D), from `scenario_features`.
        alpha: Weight of the scenario term. The default, 8.0, is KgCoOp's.
        temperature: tau in Eq. 13, a number or a 0-dim tensor. The default, 0.07, is the paper's, and CLIP's at the
            start of its training. `for_classes` uses the model's own temperature instead.

    Attributes:
        last: The two terms of the last call, detached. None before the first call.

    Raises:
        TypeError: If alpha or the temperature is not a number.
        ValueError: If alpha is negative, the temperature is not positive, the features are not of shape (C, D), or they
            are not finite.
    """

    scenario_features: Tensor

    def __init__(self, scenario_features: Tensor, alpha: float = 8.0, temperature: float | Tensor = 0.07) -> None:
        super().__init__()
        _check_features("scenario_features", scenario_features)
        _check_weights(alpha, temperature)
        self.register_buffer("scenario_features", scenario_features.detach(), persistent=False)
        self.alpha = alpha
        self.temperature = temperature
        self.last: LossTerms | None = None
        self._late = LateNumbers()

    @classmethod
    def for_classes(
        cls,
        model: nn.Module,
        tokenizer: Callable[[list[str]], Tensor],
        class_names: Sequence[str],
        *,
        template: str = TEMPLATE,
        alpha: float = 8.0,
        temperature: float | Tensor | None = None,
    ) -> ScenarioGuidedLoss:
        """Make the loss for some classes, and compute their template features with the frozen model.

        Args:
            model: The wrapped model.
            tokenizer: The model's tokenizer, `open_clip.get_tokenizer(...)`.
            class_names: C plain class names, in the order of the labels.
            template: The hand-crafted prompt, with one `{}` for the class name.
            alpha: Weight of the scenario term.
            temperature: A number, or a 0-dim tensor. None: the model's own, `1 / logit_scale.exp()` at the time of the
                call (0.01 for CLIP), as in MaPLe, CoOp and ViFi-CLIP.

        Returns:
            The loss, on the model's device.

        Raises:
            TypeError: If the names are not a list of strings, `model` is not wrapped, `tokenizer` is not a tokenizer,
                or alpha or the temperature is not a number.
            ValueError: If there is no name, the template does not contain exactly one `{}`, alpha is negative, the
                temperature is not positive, or the model is on the meta device and has no temperature.
        """
        logit_scale = prompted_model(model).logit_scale
        if temperature is None:
            if logit_scale.is_meta:
                raise ValueError("the model is on the meta device and has no logit scale: pass temperature=")
            temperature = math.exp(-logit_scale.item())
        _check_weights(alpha, temperature)
        return cls(scenario_features(model, tokenizer, class_names, template), alpha, temperature)

    def forward(self, video_features: Tensor, text_features: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of a batch, and store its two terms in `last`.

        Args:
            video_features: (B, D), normalised or not.
            text_features: (C, D), normalised or not.
            labels: (B,) integers in 0..C-1, the class of each video as a row of `text_features`.

        Returns:
            A scalar.

        Raises:
            TypeError: If the labels are not integers.
            ValueError: If shapes do not match, labels are out of range, the temperature is not positive, or a feature
                is NaN or infinite. On a CUDA device the values of a call are checked at the next one, so that no step
                waits for the GPU.
        """
        check_floats("video_features", video_features, "(rows, D)")
        check_floats("text_features", text_features, "(rows, D)")
        if video_features.shape[1] != text_features.shape[1]:
            raise ValueError(
                f"video_features {tuple(video_features.shape)} and text_features {tuple(text_features.shape)} "
                "must have the same D"
            )
        check_label_type("labels", labels, len(video_features))
        _check_same_classes(text_features, self.scenario_features)
        if not _is_on_gpu(self.temperature):
            _check_temperature(self.temperature)
        labels = labels.to(video_features.device, torch.long)
        if is_readable(video_features) and is_readable(labels):
            labels = self._check_values(video_features, text_features, labels)
        # In half precision, cosines divided by a small temperature would be too coarse.
        with torch.autocast(video_features.device.type, enabled=False):
            scenario = _scenario_loss(text_features, self.scenario_features)
            video = F.normalize(_at_least_float32(video_features), dim=-1)
            text = F.normalize(_at_least_float32(text_features), dim=-1)
            cross_entropy = F.cross_entropy(video @ text.to(video).T / self.temperature, labels)
        self.last = LossTerms(cross_entropy.detach(), scenario.detach())
        return cross_entropy + self.alpha * scenario

    def _check_values(self, video_features: Tensor, text_features: Tensor, labels: Tensor) -> Tensor:
        """Check the values of a batch.

        Returns:
            The labels. On a GPU, labels that are out of range are replaced by `IGNORED`.
        """
        classes = len(text_features)
        numbers = [video_features.isfinite().all(), text_features.isfinite().all(), labels.min(), labels.max()]
        if _is_on_gpu(self.temperature):
            temperature = self.temperature.detach()
            numbers.append((temperature > 0) & temperature.isfinite())
        on_device = torch.stack([number.to(labels).reshape(()) for number in numbers])
        for (video_finite, text_finite, least, largest, *in_range), count in self._late.exchange(on_device, classes):
            late = " (in the call before this one)" if labels.is_cuda else ""
            if not video_finite:
                raise ValueError(NOT_FINITE.format("video_features") + late)
            if not text_finite:
                raise ValueError(NOT_FINITE.format("text_features") + late)
            if least < 0 or largest >= count:
                raise ValueError(f"labels must be in 0..{count - 1}, got {least}..{largest}{late}")
            if not all(in_range):  # one number if the temperature was on a GPU, else none
                raise ValueError("expected a positive and finite temperature" + late)
        if not labels.is_cuda:
            return labels
        # On a GPU, an index out of range ends the process, before the next call could report it.
        return labels.masked_fill((labels < 0) | (labels >= classes), IGNORED)


def _check_weights(alpha: float, temperature: float | Tensor) -> None:
    if not isinstance(alpha, Real):
        raise TypeError(f"alpha must be a number, got {alpha!r}")
    if not 0 <= alpha < math.inf:
        raise ValueError(f"expected alpha of at least 0 and finite, got {alpha}")
    _check_temperature(temperature)


def _check_temperature(temperature: float | Tensor) -> None:
    if not isinstance(temperature, Real | Tensor):
        raise TypeError(f"temperature must be a number or a 0-dim tensor, got {temperature!r}")
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1:  # the logit scale of some of open_clip's models is of shape (1,)
            raise ValueError(f"temperature must be a number or a 0-dim tensor, got shape {tuple(temperature.shape)}")
        if not is_readable(temperature):
            return
        temperature = temperature.item()
    if not 0 < temperature < math.inf:
        raise ValueError(f"expected a positive and finite temperature, got {temperature}")


def _check_features(name: str, features: Tensor) -> None:
    check_floats(name, features, "(rows, D)")
    if is_readable(features) and not features.isfinite().all():
        raise ValueError(NOT_FINITE.format(name))


def _check_same_classes(text_features: Tensor, scenario_features: Tensor) -> None:
    if text_features.shape != scenario_features.shape:
        raise ValueError(
            f"text_features {tuple(text_features.shape)} and scenario_features {tuple(scenario_features.shape)} "
            "must have the same shape (C, D): compute both for the same classes with the same model"
        )


def _is_on_gpu(number: float | Tensor) -> TypeGuard[Tensor]:
    return isinstance(number, Tensor) and number.is_cuda


def _at_least_float32(features: Tensor) -> Tensor:
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
