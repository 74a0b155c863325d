"""`transformers.Trainer` on a wrapped model: the recipe of the docs, checkpoints, gradient checkpointing, the card."""

from __future__ import annotations

import dataclasses
import warnings

import pytest
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

import vilt_prompt
from tests.reference.literal import learnable_tensors
from tests.support.architectures import build, class_ids, frames

IDS = class_ids(build("2/2"), [1, 3])
VIDEOS = frames(build("2/2"), 4, 2)
LABELS = torch.tensor([0, 1, 1, 0])
CLIPS = [{"video": video, "labels": label} for video, label in zip(VIDEOS, LABELS, strict=True)]


class PromptTrainer(Trainer):
    """The trainer of the docs: a loss over all classes."""

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **_):
        video, text, scale = model(video=inputs["video"], text=IDS)
        logits = scale * video @ text.T
        loss = nn.functional.cross_entropy(logits, inputs["labels"])
        return (loss, {"logits": logits}) if return_outputs else loss


def model_to_train() -> vilt_prompt.PromptPeftModel:
    torch.manual_seed(0)
    return vilt_prompt.wrap(build("2/2"), K=1, n_ctx=3)


def trainer(model, folder, **arguments) -> PromptTrainer:
    settings = {
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_steps": 1,
        "report_to": [],
        "use_cpu": True,
        "remove_unused_columns": False,
        "label_names": ["labels"],
    }
    return PromptTrainer(
        model, TrainingArguments(str(folder), **{**settings, **arguments}), train_dataset=CLIPS, eval_dataset=CLIPS
    )


def test_it_trains_saves_and_evaluates(tmp_path):
    model = model_to_train()
    before = {name: tensor.detach().clone() for name, tensor in learnable_tensors(model).items()}
    # The higher loss counts as the better one, so that the best model is not the last one, which the model has anyway.
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True}
    training = trainer(model, tmp_path, eval_strategy="steps", eval_steps=1, **best)
    training.train()
    first, last = (entry["eval_loss"] for entry in training.state.log_history if "eval_loss" in entry)
    assert last < first
    assert training.state.best_model_checkpoint == str(tmp_path / "checkpoint-1")
    saved = vilt_prompt.from_pretrained(build("2/2"), tmp_path / "checkpoint-1")
    for name, tensor in learnable_tensors(saved).items():
        torch.testing.assert_close(tensor, learnable_tensors(model)[name])
        assert not torch.equal(tensor, before[name])
    assert training.predict(CLIPS).predictions.shape == (4, 2)


@pytest.mark.parametrize("switch", ["argument", "model"])
def test_checkpointing_gives_the_same_prompts_without_a_warning(switch, tmp_path, caplog):
    """Switched on by the Trainer's argument, as the installed version calls it, or in the model, as in the docs."""
    names = {field.name for field in dataclasses.fields(TrainingArguments)}
    name = "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"
    trained = []
    for checkpointing in (False, True):
        model = model_to_train()
        if switch == "model" and checkpointing:
            model.set_grad_checkpointing()
        arguments = {name: checkpointing} if switch == "argument" else {}
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*checkpointing")
            training = trainer(model, tmp_path / str(checkpointing), **arguments)
            training.train()
        assert "checkpointing" not in caplog.text
        assert model.get_base_model().transformer.grad_checkpointing is checkpointing
        trained.append(learnable_tensors(model))
    for name, tensor in trained[0].items():
        torch.testing.assert_close(trained[1][name], tensor)


def test_gradient_checkpointing_under_both_names():
    model = model_to_train()
    clip = model.get_base_model()
    for enable, disable in (
        (model.gradient_checkpointing_enable, model.gradient_checkpointing_disable),
        (model.activation_checkpointing_enable, model.activation_checkpointing_disable),
    ):
        enable()
        assert clip.transformer.grad_checkpointing
        assert clip.visual.transformer.grad_checkpointing
        disable()
        assert not clip.transformer.grad_checkpointing
        assert not clip.visual.transformer.grad_checkpointing


@pytest.mark.parametrize("arguments", [{"every_n_layers": 2}, {"offload": True}], ids=str)
def test_checkpointing_of_some_layers_is_refused(arguments):
    model = model_to_train()
    with pytest.raises(ValueError, match="expected every_n_layers=1 and offload=False, got .*: all layers"):
        model.activation_checkpointing_enable(**arguments)
    assert not model.get_base_model().transformer.grad_checkpointing


def test_training_goes_on_from_a_checkpoint(tmp_path):
    whole = model_to_train()
    trainer(whole, tmp_path / "whole").train()
    first, second = model_to_train(), model_to_train()
    trainer(first, tmp_path / "halves", max_steps=1).train()
    trainer(second, tmp_path / "halves").train(resume_from_checkpoint=str(tmp_path / "halves" / "checkpoint-1"))
    for name, tensor in learnable_tensors(whole).items():
        torch.testing.assert_close(learnable_tensors(second)[name], tensor)


def test_the_card_of_a_run(tmp_path):
    model = model_to_train()
    training = trainer(model, tmp_path, save_strategy="no")
    training.train()
    training.save_model(tmp_path)
    ours = (tmp_path / "README.md").read_text()
    training.create_model_card()  # the trainer writes a card of its own in place of ours
    assert (tmp_path / "README.md").read_text() != ours
    assert vilt_prompt.from_pretrained(build("2/2"), tmp_path).active_adapter == "default"
