"""Every Python block of the README and the docs runs, in the order of the page, from the repository's root."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
IN_PROCESSES = ["several-gpus.md"]  # what `test_distributed.py` runs in two processes


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the Hub's client's own
@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in IN_PROCESSES], ids=lambda page: page.name)
def test_code_blocks(page, tmp_path, monkeypatch, hub):
    blocks = python_blocks(page)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "writer")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    # What the pages leave to the reader: two batches of videos with labels, the frames of one video.
    names = {
        "loader": [(torch.randn(2, 3, 3, 64, 64), torch.tensor([0, 1])) for _ in range(2)],
        "frames": [Image.effect_noise((80, 60), 50).convert("RGB") for _ in range(3)],
    }
    for block in blocks:
        trained = names.get("model")
        exec(compile(block, page.name, "exec"), names)
    if page.name == "README.md":
        assert len(blocks) == 2
        assert blocks[1].count("\n") == 5
        video = torch.stack([names["preprocess"](frame) for frame in names["frames"]])[None]
        with torch.no_grad():
            features = [trained.encode_video(video), trained.encode_text(names["tokenizer"](names["names"]))]
        video, text = (torch.nn.functional.normalize(feature, dim=-1) for feature in features)
        torch.testing.assert_close(names["probabilities"], (video @ text.T / 0.07).softmax(dim=-1))
    if page.name == "sharing.md":
        assert set(hub.files("me/emoji-actions")) > {"README.md", "adapter_config.json", "adapter_model.safetensors"}


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"
