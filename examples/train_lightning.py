"""Trains prompts with Lightning, in one process or several, on CPUs or GPUs.

Example:
    python -m examples.train_lightning --devices 2 --steps 20
"""

from functools import partial
from pathlib import Path
from typing import Any

from examples.startup.launched import read_options

arguments = partial(read_options, __doc__, "lightning-out", "such as OUT/last.ckpt", "--devices", 1, "processes")
if __name__ == "__main__":
    arguments()  # Before the imports that take seconds: --help and wrong options are answered at once.

import lightning
import open_clip
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

import vilt_prompt
from examples.data.clips import read_manifest
from examples.startup.model_options import SMALL_CLIP
from examples.video.dataset import VideoDataset


class PromptTraining(lightning.LightningModule):
    """A wrapped model, its loss and its optimizer; checkpoints contain the trained tensors, but not CLIP."""

    def __init__(self, model: vilt_prompt.PromptPeftModel, tokens: Tensor, criterion: nn.Module, steps: int) -> None:
        super().__init__()
        self.model, self.criterion, self.steps = model, criterion, steps
        self.register_buffer("tokens", tokens, persistent=False)
        self.strict_loading = False

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The loss of a batch. Lightning runs this inside DDP's forward, so any method of the model will do."""
        videos, labels = batch
        text_features = self.model.encode_text(self.get_buffer("tokens"))
        loss: Tensor = self.criterion(self.model.encode_video(videos), text_features, labels)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW on the prompts and their maps, the learning rate falling with every step."""
        optimizer = torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=2e-3, weight_decay=1e-3)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves out CLIP, which is frozen."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {name: checkpoint["state_dict"][name] for name in sorted(trained)}


def main() -> None:
    """Trains on two kinds of person and saves the prompts once."""
    args = arguments()
    lightning.seed_everything(0, workers=True)
    name = f"local-dir:{SMALL_CLIP}"
    clip, _, preprocess = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    manifest = read_manifest(Path(__file__).parent / "data")
    classes = sorted({row.label for row in manifest if row.split == "base"})
    loader = DataLoader(VideoDataset(manifest, classes, ["man", "woman"], preprocess, random=True), 5, True)
    model = vilt_prompt.wrap(clip, K=6, n_ctx=10, base_model=name)
    criterion = vilt_prompt.ScenarioGuidedLoss.for_classes(model, tokenizer, classes)
    training = PromptTraining(model, tokenizer(classes), criterion, args.steps)
    checkpoints = ModelCheckpoint(args.out, save_last=True, save_top_k=0)
    trainer = lightning.Trainer(devices=args.devices, max_steps=args.steps, callbacks=[checkpoints], logger=False)
    trainer.fit(training, loader, ckpt_path=args.resume)
    if trainer.is_global_zero:
        model.save_pretrained(args.out, class_names=classes, template=vilt_prompt.TEMPLATE)


if __name__ == "__main__":
    main()
