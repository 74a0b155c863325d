"""From a frozen open_clip model to one that recognises actions in video, in a few minutes on a CPU.

Eight cut-out clips of each of 15 actions, of two kinds of person, are rendered into varied scenes. ViLT prompts learn
from them; the test shows the third kind of person, in the same 15 actions (base) and in 15 others (novel). The prompts
are saved, loaded in a new process and used on real MP4 files.
"""

import argparse
import csv
import subprocess
import sys
import time
from pathlib import Path

FRAMES = 4
BATCH = 30
SPLITS = ("base", "novel")
PERSONS = ("man", "person", "woman")
CAPTION = """\
{} scenes in each of base and novel, of a person type ({}) that training did not show; one seed, so no ranking.
Centroid and probe learn from {} scenes of each training clip, ViLT from a new one in each of {} epochs.
-: the centroid and the probe have no scores for classes without training clips."""


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model",
        type=Path,
        default=Path(__file__).parent / "small_clip" / "emoji-vit-12x128",
        help="folder of an open_clip model (default: %(default)s)",
    )
    parser.add_argument(
        "--data", type=Path, default=Path(__file__).parent / "data", help="folder of the clips (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("quickstart-out"), help="folder for its results (default: %(default)s)"
    )
    parser.add_argument("--test-person", choices=PERSONS, default="person", help="training shows the other two")
    parser.add_argument(
        "--classes", type=int, default=15, choices=range(2, 16), metavar="2..15", help="base, and as many novel ones"
    )
    parser.add_argument("--epochs", type=int, default=30, help="times that each shot is seen (default: %(default)s)")
    parser.add_argument(
        "--renderings", type=int, default=4, help="scenes of each test clip and for the probe (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of prompts, scenes and order (default: %(default)s)")
    args = parser.parse_args()
    for folder, file in ((args.model, "open_clip_config.json"), (args.data, "manifest.csv")):
        if not (folder / file).is_file():
            parser.error(f"{folder} holds no {file}")
    return args


if __name__ == "__main__":
    arguments()  # Before the imports that take seconds: --help and wrong options are answered at once.

import open_clip
import torch
from torch import Tensor
from torchvision.transforms import Compose
from tqdm import tqdm  # type: ignore[import-untyped]

import vilt_prompt
from examples.data.clips import Clip, read_manifest
from examples.miniature import baselines, figure, shots
from examples.predict import classify, load_videos


def train(
    model: vilt_prompt.PromptPeftModel,
    tokenizer: open_clip.SimpleTokenizer,
    classes: list[str],
    loader: shots.SceneLoader,
    epochs: int,
) -> list[float]:
    """Trains the prompts: the part to copy.

    Returns:
        The loss of each step.
    """
    tokens = tokenizer(classes)
    # The paper's learning rate and weight decay. The temperature is the model's own.
    criterion = vilt_prompt.ScenarioGuidedLoss.for_classes(model, tokenizer, classes)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=8e-3, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    history: list[float] = []
    for _ in (progress := tqdm(range(epochs), desc="training", unit="epoch")):
        for videos, labels in loader:
            loss = criterion(model.encode_video(videos), model.encode_text(tokens), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            history.append(loss.item())
        progress.set_postfix(loss=f"{history[-1]:.2f}")
    return history


@torch.no_grad()
def encode(model: vilt_prompt.PromptPeftModel, videos: Tensor, name: str) -> Tensor:
    """Normalised features of many videos, (B, D)."""
    parts = tqdm(torch.split(videos, 32), desc=name, unit="batch", leave=False)
    return torch.cat([model.encode_video(part, normalize=True) for part in parts])


def percent(predicted: Tensor, labels: Tensor) -> float:
    """Accuracy in percent."""
    return 100 * (predicted == labels).float().mean().item()


def report(rows: dict[str, list[float]]) -> str:
    """The table: base, novel and their harmonic mean; a row without novel has no mean."""
    lines = [f"{'top-1 in %':16}{'base':>8}{'novel':>8}{'harmonic mean':>16}"]
    for name, scores in rows.items():
        cells = [f"{score:.1f}" for score in scores]
        if len(scores) == 2:
            base, novel = scores
            cells.append(f"{2 * base * novel / max(base + novel, 1e-9):.1f}")
        cells += ["-"] * (3 - len(cells))
        lines.append(f"{name:16}{cells[0]:>8}{cells[1]:>8}{cells[2]:>16}")
    return "\n".join(lines)


def classify_files(
    model: vilt_prompt.PromptPeftModel,
    tokenizer: open_clip.SimpleTokenizer,
    preprocess: Compose,
    files: list[Clip],
    args: argparse.Namespace,
) -> str:
    """Classifies MP4 files here, and with the saved adapter in a new process; checks that both agree.

    Returns:
        A table of some of the files.

    Raises:
        RuntimeError: They do not agree.
    """
    classes = sorted({file.label for file in files})
    videos = load_videos([file.file for file in files], FRAMES, preprocess)
    with torch.no_grad():
        probabilities = classify(model, videos, model.encode_text(tokenizer(classes), normalize=True))
    with model.disable_adapter(), torch.no_grad():
        frozen = model.encode_video(videos, normalize=True)
    zero_shot = (frozen @ vilt_prompt.scenario_features(model, tokenizer, classes).T).argmax(-1)

    predictions = args.out / "predictions"
    script = [sys.executable, "-m", "examples.predict", *(str(file.file) for file in files)]
    folders = ["--adapter", str(args.out / "adapter"), "--out", str(predictions)]
    options = ["--classes", *classes, "--frames", str(FRAMES), "--temperature", "model"]
    subprocess.run([*script, *folders, *options], check=True, stdout=subprocess.DEVNULL)
    with (predictions / "probabilities.csv").open(newline="") as lines:
        _, *table = csv.reader(lines)
    reloaded = torch.tensor([[float(probability) for probability in row[1:]] for row in table])
    prompted = probabilities.argmax(-1)
    if not torch.equal(prompted, reloaded.argmax(-1)) or not torch.allclose(probabilities, reloaded, atol=1e-5):
        raise RuntimeError(f"The adapter in {args.out / 'adapter'} predicts otherwise than before it was saved.")

    labels = torch.tensor([classes.index(file.label) for file in files])
    right = [f"{int((guess == labels).sum())} of {len(files)}" for guess in (zero_shot, prompted)]
    rows = [(classes[a], classes[b], classes[c]) for a, b, c in zip(labels, zero_shot, prompted, strict=True)]
    some = rows[:: max(1, len(rows) // 6)]
    shown = [(f"{len(some)} of {len(rows)} MP4 files", "zero-shot", "ViLT prompts"), *some, ("right", *right)]
    return "\n".join("".join(f"{cell:32}" for cell in row).rstrip() for row in shown)


def main() -> None:
    """Runs it all."""
    args = arguments()
    start = time.perf_counter()
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)

    name = f"local-dir:{args.model}"
    clip, _, preprocess = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    model = vilt_prompt.wrap(clip, K=6, n_ctx=10, base_model=name)
    model.print_trainable_parameters()

    manifest = read_manifest(args.data)
    names = {split: sorted({row.label for row in manifest if row.split == split})[: args.classes] for split in SPLITS}
    training = shots.Shots.read(manifest, names["base"], [person for person in PERSONS if person != args.test_person])
    tests = {split: shots.Shots.read(manifest, names[split], [args.test_person]) for split in SPLITS}

    # Scenes are drawn at the model's size, so that of its preprocessing only the last step is left: colours.
    studio = shots.Studio.seeded(FRAMES, clip.visual.image_size[0], preprocess.transforms[-1], args.seed)
    videos = {split: studio.scenes(tests[split], args.renderings) for split in SPLITS}
    labels = {split: tests[split].labels.repeat(args.renderings) for split in SPLITS}
    pixels, pixel_labels = studio.scenes(training, args.renderings), training.labels.repeat(args.renderings)

    with model.disable_adapter():
        before = {split: encode(model, videos[split], f"frozen features, {split}") for split in SPLITS}
        features = encode(model, pixels, "frozen features, shots")
    template = {split: vilt_prompt.scenario_features(model, tokenizer, names[split]) for split in SPLITS}
    zero_shot = {split: (before[split] @ template[split].T).argmax(-1) for split in SPLITS}
    print(", ".join(f"zero-shot {split} {percent(zero_shot[split], labels[split]):.1f}%" for split in SPLITS))

    history = train(model, tokenizer, names["base"], studio.loader(training, BATCH), args.epochs)
    model.eval()
    model.save_pretrained(args.out / "adapter", class_names=names["base"], template=vilt_prompt.TEMPLATE)

    after = {split: encode(model, videos[split], f"prompted features, {split}") for split in SPLITS}
    with torch.no_grad():
        prompted = {split: model.encode_text(tokenizer(names[split]), normalize=True) for split in SPLITS}
    vilt = {split: (after[split] @ prompted[split].T).argmax(-1) for split in SPLITS}
    centroid = baselines.nearest_centroid(pixels, pixel_labels, videos["base"])
    probe = baselines.linear_probe(features, pixel_labels, training.persons * args.renderings, before["base"])
    table = {
        "pixel centroid": [percent(centroid, labels["base"])],
        "linear probe": [percent(probe, labels["base"])],
        "zero-shot": [percent(zero_shot[split], labels[split]) for split in SPLITS],
        "ViLT prompts": [percent(vilt[split], labels[split]) for split in SPLITS],
    }
    print(f"\n{report(table)}\n{CAPTION.format(len(labels['base']), args.test_person, args.renderings, args.epochs)}\n")

    files = [row for row in manifest if not row.has_alpha and row.person == args.test_person]
    files = [row for row in files if row.label in names["base"] + names["novel"]]
    print(classify_files(model, tokenizer, preprocess, files, args))
    print("The adapter, loaded in a new process, gave the same predictions.\n")

    picture = args.out / "figure.svg"
    titles = {"base": "Base: trained actions", "novel": "Novel: other actions"}
    groups = {
        title: figure.accuracies(zero_shot[split], vilt[split], labels[split], names[split])
        for split, title in titles.items()
    }
    figure.draw(picture, history, groups)
    print(f"Wrote {args.out / 'adapter'} and {picture}. Took {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("quickstart.py: stopped", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        sys.exit(f"quickstart.py: error: {error}")
