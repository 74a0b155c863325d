"""Where a base is that is a folder or a file: relative on disk, by name alone where others read it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import open_clip
import pytest
import torch

import vilt_prompt
from tests.support.architectures import build
from vilt_prompt.sharing.base_place import for_folder, for_others, from_folder

SMALL_CLIP = Path(__file__).parents[2] / "examples" / "small_clip" / "emoji-vit-12x128"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def named(model: str | None, weights: str | None = None) -> dict:
    return {"base_model": model, "base_pretrained": weights, "K": 2}


@pytest.mark.parametrize(
    ("model", "weights", "on_disk", "pushed"),
    [
        ("local-dir:/home/ann/models/clip", None, ("local-dir:../../models/clip", None), ("local-dir:clip", None)),
        ("local-dir:/home/ann/run/out/clip", None, ("local-dir:clip", None), ("local-dir:clip", None)),
        ("local-dir:/data/clip", None, ("local-dir:/data/clip", None), ("local-dir:clip", None)),
        ("local-dir:models/clip", None, ("local-dir:models/clip", None), ("local-dir:models/clip", None)),
        ("local-dir:../ann/clip", None, ("local-dir:../ann/clip", None), ("local-dir:clip", None)),
        ("ViT-B-16", "/home/ann/e.pt", ("ViT-B-16", "../../e.pt"), ("ViT-B-16", "e.pt")),
        ("ViT-B-16", "mine/e.pt", ("ViT-B-16", "mine/e.pt"), ("ViT-B-16", "mine/e.pt")),
        ("ViT-B-16", "openai", ("ViT-B-16", "openai"), ("ViT-B-16", "openai")),
        ("hf-hub:me/clip", None, ("hf-hub:me/clip", None), ("hf-hub:me/clip", None)),
        (None, None, (None, None), (None, None)),
    ],
)
def test_names(model, weights, on_disk, pushed):
    given = named(model, weights)
    assert for_folder(given, "/home/ann/run/out") == named(*on_disk)
    assert for_others(given) == named(*pushed)
    assert given == named(model, weights)


def test_a_saved_path_is_found_from_the_folder(tmp_path):
    (tmp_path / "models" / "clip").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    saved = for_folder(named(f"local-dir:{tmp_path}/models/clip"), tmp_path / "run")
    assert saved["base_model"] == "local-dir:../models/clip"
    assert from_folder(saved, tmp_path / "run") == named(f"local-dir:{tmp_path}/models/clip")
    assert from_folder(saved, tmp_path) == saved  # nothing is there
    assert from_folder(named("ViT-B-16", "openai"), tmp_path) == named("ViT-B-16", "openai")


def test_base_and_adapter_move_together(tmp_path, monkeypatch):
    """Saved with an absolute path, loaded from another place and another working directory."""
    work = tmp_path / "ann"
    shutil.copytree(SMALL_CLIP, work / "models" / "clip")
    base = f"local-dir:{work / 'models' / 'clip'}"
    model = vilt_prompt.wrap(open_clip.create_model(base), n_ctx=2, base_model=base)
    model.save_pretrained(work / "run" / "out")
    assert model.peft_config["default"].base_model == base
    for file in (work / "run" / "out").iterdir():
        assert b"ann" not in file.read_bytes()
    moved = tmp_path / "bob"
    work.rename(moved)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again, _, _ = vilt_prompt.create_model_and_transforms(moved / "run" / "out")
    config = again.peft_config["default"]
    assert config.base_model == f"local-dir:{moved / 'models' / 'clip'}"
    again.save_pretrained(moved / "run" / "out2")
    again.save_pretrained(moved / "deeper" / "run" / "out")
    names = [json.loads((moved / name / CONFIG).read_text())["base_model"] for name in ("run/out2", "deeper/run/out")]
    assert names == ["local-dir:../../models/clip", "local-dir:../../../models/clip"]
    assert (moved / "run" / "out2" / WEIGHTS).read_bytes() == (moved / "run" / "out" / WEIGHTS).read_bytes()
    shutil.rmtree(moved / "models")
    with pytest.raises(ValueError, match="open_clip cannot build 'local-dir:../../models/clip'.* Pass base_model="):
        vilt_prompt.create_model_and_transforms(moved / "run" / "out")


def test_what_is_pushed_names_the_folder_alone(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "writer")
    base = f"local-dir:{SMALL_CLIP}"
    model = vilt_prompt.wrap(open_clip.create_model(base), n_ctx=2, base_model=base)
    model.push_to_hub("me/emoji", class_names=["running"])
    folder = Path(vilt_prompt.sharing.hub.fetch("me/emoji"))
    for name in (CONFIG, WEIGHTS):
        assert str(SMALL_CLIP.parent).encode() not in (folder / name).read_bytes()
    assert json.loads((folder / CONFIG).read_text())["base_model"] == "local-dir:emoji-vit-12x128"
    card = hub.files("me/emoji")["README.md"].decode()
    assert str(SMALL_CLIP.parent) not in card
    assert 'create_model_and_transforms("me/emoji", base_model="local-dir:path/to/emoji-vit-12x128")' in card
    with pytest.raises(ValueError, match="open_clip cannot build 'local-dir:emoji-vit-12x128'.* Pass base_model="):
        vilt_prompt.create_model_and_transforms("me/emoji")
    again, _, _ = vilt_prompt.create_model_and_transforms("me/emoji", base_model=base)
    assert again.peft_config["default"].class_names == ["running"]


def test_a_file_of_weights(tmp_path):
    model = vilt_prompt.wrap(build("4/4"), K=2, n_ctx=2, base_model="ViT-B-16", base_pretrained=str(tmp_path / "e.pt"))
    model.save_pretrained(tmp_path / "out")
    assert json.loads((tmp_path / "out" / CONFIG).read_text())["base_pretrained"] == "../e.pt"
    assert str(tmp_path) not in (tmp_path / "out" / "README.md").read_text()
    loaded = vilt_prompt.from_pretrained(build("4/4"), tmp_path / "out").peft_config["default"]
    assert loaded.base_pretrained == "../e.pt"
    (tmp_path / "e.pt").touch()
    loaded = vilt_prompt.from_pretrained(build("4/4"), tmp_path / "out").peft_config["default"]
    assert loaded.base_pretrained == os.fspath(tmp_path / "e.pt")


# Class names and template


def test_class_names_and_template_are_recorded(tmp_path):
    names, template = ["running", "swimming"], "a video of {}."
    model = vilt_prompt.wrap(build("4/4"), K=2, n_ctx=2)
    model.save_pretrained(tmp_path / "a" / "mine", class_names=tuple(names), template=template)
    loaded = vilt_prompt.from_pretrained(build("4/4"), tmp_path / "a" / "mine")
    config = loaded.peft_config["default"]
    assert (config.class_names, config.template) == (names, template)
    loaded.save_pretrained(tmp_path / "b" / "mine")  # carried on
    for name in (CONFIG, WEIGHTS, "README.md"):
        assert (tmp_path / "a" / "mine" / name).read_bytes() == (tmp_path / "b" / "mine" / name).read_bytes()
    card = (tmp_path / "b" / "mine" / "README.md").read_text()
    assert "- running\n- swimming\n" in card
    assert "a video of {}." in card
    assert 'names = ["running", "swimming"]' in card
    loaded.save_pretrained(tmp_path / "c", class_names=["walking"])
    assert json.loads((tmp_path / "c" / CONFIG).read_text())["class_names"] == ["walking"]
    assert json.loads((tmp_path / "c" / CONFIG).read_text())["template"] == template
    told = vilt_prompt.wrap(build("4/4"), K=2, n_ctx=2, class_names=names, template=template)
    told.save_pretrained(tmp_path / "d")
    assert json.loads((tmp_path / "d" / CONFIG).read_text())["class_names"] == names


def test_a_mean_of_adapters_has_no_class_names():
    model = vilt_prompt.wrap(build("4/4"), K=2, n_ctx=2, class_names=["running"])
    model.add_adapter("other", vilt_prompt.PromptConfig(K=2, n_ctx=2, class_names=["walking"]))
    model.combine(["default", "other"], adapter_name="mean")
    assert model.peft_config["mean"].class_names is None
    assert model.peft_config["default"].class_names == ["running"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_names": "running"}, "class_names must be a list of strings, got 'running'"),
        ({"class_names": [1]}, "class_names must be a list of strings"),
        ({"template": 3}, "template must be a string or None, got 3"),
    ],
)
def test_what_is_not_a_name(settings, message):
    base = build("4/4")
    with pytest.raises(TypeError, match=message):
        vilt_prompt.wrap(base, K=2, **settings)
    assert torch.is_tensor(base.visual.proj)
    assert not hasattr(base, "prompts")
