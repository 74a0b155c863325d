"""Pre-trains a small open_clip `CLIP` on emoji stills, and writes it in open_clip's `local-dir:` layout.

Three stages, each resumable: a convolutional teacher learns the concepts and one prototype for each; the text tower
learns to send captions to those prototypes; the ViT learns to send pictures to their captions, beside distillation
from the teacher. The model card says which options made the shipped weights.

The stills are a zip of `labels.csv` (file, label, full_label, tags, subgroup) and 64x64 RGBA pictures `noto/*.png` and
`twemoji/*.png`: those of the npm packages `emoji-datasource-google` and `emoji-datasource-twitter`, with the names and
tags of `emojibase-data`.

Several processes share the work if started by `torchrun --nproc-per-node N train.py ...`; on a processor that others
use too, one process for each core with `--threads 1` is faster than one process with several threads.
"""

import argparse
from pathlib import Path

from examples.startup.command_line import before_imports, run_script
from examples.startup.model_options import cores


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("stills", type=Path, help="zip of labels.csv and 64x64 RGBA pictures")
    parser.add_argument("output", type=Path, help="folder for the weights, configuration and tokenizer")
    runs = Path(__file__).parent / "runs"
    parser.add_argument("--work", type=Path, default=runs, help="folder of checkpoints, to resume from")
    parser.add_argument("--houses", nargs="+", default=["noto", "twemoji"], help="whose drawings to train on")
    parser.add_argument("--validate", help="the house to validate on, best one that is not trained on")
    parser.add_argument("--init", type=Path, help="safetensors of the same architecture to start both towers from")
    parser.add_argument("--teacher-steps", type=int, default=1000)
    parser.add_argument("--text-steps", type=int, default=1000)
    parser.add_argument("--vision-steps", type=int, default=5000)
    parser.add_argument("--batch-size", type=int, default=128, help="over all processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu or cuda; None: a GPU where there is one")
    parser.add_argument(
        "--bf16",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="autocast to bfloat16; None: on a GPU; processors without bfloat16 instructions are slower with it",
    )
    parser.add_argument("--threads", type=int, default=cores(), help="of each process")
    return parser.parse_args()


if __name__ == "__main__":
    before_imports(arguments)

import json
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file

from examples.small_clip.captions import CaptionWriter
from examples.small_clip.stages import caption_bank, train_teacher, train_text, train_vision
from examples.small_clip.tokenizer import save_fast_tokenizer, trimmed_tokenizer
from examples.small_clip.training import Training
from vilt_prompt import TEMPLATE

MERGES = 8000
CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"layers": 12, "width": 128, "head_width": 32, "patch_size": 8, "image_size": 64},
    "text_cfg": {
        "context_length": 40,
        "vocab_size": MERGES + 514,
        "width": 96,
        "heads": 3,
        "layers": 12,
        # With a `local-dir:` only its being set matters: the files beside the weights are read.
        "hf_tokenizer_name": "local",
    },
}


def save(model: CLIP, folder: Path) -> None:
    """Writes half-precision weights and the configuration.

    Position embeddings stay in single precision: open_clip interpolates them for another image size or context length,
    which CPUs cannot do in half precision.
    """
    state = {
        name: (tensor if name.endswith("positional_embedding") else tensor.half()).cpu().contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(state, folder / "open_clip_model.safetensors")
    preprocess = {
        "mean": OPENAI_DATASET_MEAN,
        "std": OPENAI_DATASET_STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    config = {"model_cfg": CONFIG, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n")


def main() -> None:
    """Runs all stages that are not finished, then writes the model."""
    args = arguments()
    args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    args.bf16 = torch.cuda.is_available() if args.bf16 is None else args.bf16
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    args.output.mkdir(parents=True, exist_ok=True)
    training = Training(args)
    tokenizer = trimmed_tokenizer(MERGES, CONFIG["text_cfg"]["context_length"])
    writer = CaptionWriter(training.concepts, tokenizer)
    torch.manual_seed(args.seed)
    model = CLIP(**CONFIG).to(training.device)
    if args.init:
        model.load_state_dict(load_file(args.init, device=args.device))
    # Captions land near their prototypes from the start, at random or where an earlier text tower put them.
    teacher = train_teacher(training, caption_bank(training, model, writer, ["{}", TEMPLATE]).mean(1))
    train_text(training, model, writer, F.normalize(teacher.prototypes, dim=-1))
    train_vision(training, model, writer, teacher)
    if training.rank == 0:
        save(model, args.output)
        save_fast_tokenizer(tokenizer, args.output)


if __name__ == "__main__":
    run_script(main)
