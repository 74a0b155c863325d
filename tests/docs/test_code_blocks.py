"""Every Python block of the README and the docs runs, in the order of the page, from the repository's root."""

from __future__ import annotations

import re
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SLOW = ["deploy.md", "faq.md", "own-videos.md", "recipes.md"]
IN_PROCESSES = ["several-gpus.md"]  # `tests/system/test_distributed.py` runs it in two processes


def pages() -> list[object]:
    """The pages as parameters. Pages that compile, export or train are marked slow."""
    return [
        pytest.param(page, id=page.name, marks=pytest.mark.slow if page.name in SLOW else [])
        for page in PAGES
        if page.name not in IN_PROCESSES
    ]


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the Hub's client's own
@pytest.mark.parametrize("page", pages())
def test_code_blocks(page, tmp_path, monkeypatch, hub):
    blocks = python_blocks(page)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "writer")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    # The pages expect these from the reader: two batches of videos with labels, and the frames of one video.
    names = {
        "loader": [(torch.randn(2, 3, 3, 64, 64), torch.tensor([0, 1])) for _ in range(2)],
        "frames": [Image.effect_noise((80, 60), 50).convert("RGB") for _ in range(3)],
    }
    models = []  # after each block
    for block in blocks:
        exec(compile(block, page.name, "exec"), names)
        if page.name == "recipes.md" and "scores" in names:
            check_averaged_scores(names, names.pop("scores"))
        models.append(names.get("model"))
    if page.name == "index.md":
        trained, loaded, _ = models
        assert loaded is not trained
        video = torch.stack([names["preprocess"](frame) for frame in names["frames"]])[None]
        with torch.no_grad():
            features = [trained.encode_video(video), trained.encode_text(names["tokenizer"](names["names"]))]
        video, text = (torch.nn.functional.normalize(feature, dim=-1) for feature in features)
        torch.testing.assert_close(names["probabilities"], (video @ text.T * trained.logit_scale.exp()).softmax(dim=-1))
    if page.name == "recipes.md":
        check_averaged_prompts(names)
    if page.name == "sharing.md":
        assert set(hub.files("me/emoji-actions")) > {"README.md", "adapter_config.json", "adapter_model.safetensors"}


def check_averaged_scores(names, scores):
    """The mean of the cosines of the prompted model and of a model that was never wrapped."""
    plain = open_clip.create_model(names["base"]).eval()
    template = names["tokenizer"]([f"a video of a person doing {name}." for name in names["names"]])
    with torch.no_grad():
        frames = [plain.encode_image(video).mean(0) for video in names["clips"]]
        pairs = [
            (names["model"].encode_video(names["clips"]), names["model"].encode_text(names["tokens"])),
            (torch.stack(frames), plain.encode_text(template)),
        ]
    slow = [torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=-1) for a, b in pairs]
    torch.testing.assert_close(scores, sum(slow) / 2, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(slow[0], slow[1], atol=1e-3)


def check_averaged_prompts(names):
    """The mean of the prompts of all epochs, which differ."""
    model, prompts = names["model"], names["model"].base_model.prompts
    assert model.active_adapter == "mean"
    epochs = [prompts.tensors(f"epoch{epoch}") for epoch in range(names["epochs"])]
    shares = torch.tensor(names["weights"]) / sum(names["weights"])
    for key, mean in prompts.tensors("mean").items():
        torch.testing.assert_close(mean, sum(share * own[key] for share, own in zip(shares, epochs, strict=True)))
        assert not torch.equal(epochs[0][key], epochs[1][key])


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"
