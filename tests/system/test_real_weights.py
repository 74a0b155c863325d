"""What real weights bring that random ones hide, and the scripts run as if they had downloaded them."""

from __future__ import annotations

import json
import sys
import warnings
from functools import partial
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.loss import SigLipLoss
from PIL import Image
from torch.nn import functional as F

import vilt_prompt
from examples import train
from examples.paper import recognition
from examples.startup import command_line
from tests.docs.test_code_blocks import python_blocks
from tests.support import video_sets, zoo
from tests.support.real_names import small_models

ROOT = Path(__file__).parents[2]
NAME, TAG = "ViT-B-32-quickgelu", "openai"
CLIPA, CLIPA_TAG = "ViT-L-14-CLIPA", "datacomp1b"
CLASSES = ["walking", "swimming", "juggling"]


@pytest.fixture(scope="module", autouse=True)
def real_names(tmp_path_factory):
    with small_models(tmp_path_factory.mktemp("weights"), [NAME, "ViT-B-32", CLIPA]):
        yield


def base(precision: str = "fp32"):
    return open_clip.create_model(NAME, pretrained=TAG, precision=precision)


def wrapped(precision: str = "fp32"):
    torch.manual_seed(1)
    return vilt_prompt.wrap(base(precision), K=1, n_ctx=2, base_model=NAME, base_pretrained=TAG)


def videos() -> torch.Tensor:
    return torch.randn(3, 2, 3, 224, 224, generator=torch.Generator().manual_seed(2))


def ids() -> torch.Tensor:
    return open_clip.get_tokenizer(NAME)(CLASSES)


# The logit scale


def test_logit_scale_of_100_is_frozen_and_gives_the_temperature():
    model = wrapped()
    scale = model.logit_scale.exp()
    assert scale.item() == pytest.approx(100, rel=1e-3)
    assert not model.logit_scale.requires_grad
    video_features, text_features, returned = model(video=videos(), text=ids())
    assert torch.equal(returned, scale)
    scenario = vilt_prompt.scenario_features(model, open_clip.get_tokenizer(NAME), CLASSES)
    labels = torch.arange(3)
    criterion = vilt_prompt.ScenarioGuidedLoss(scenario, alpha=0.0, temperature=1 / scale)
    expected = F.cross_entropy(100 * F.normalize(video_features, dim=-1) @ F.normalize(text_features, dim=-1).T, labels)
    assert criterion(video_features, text_features, labels).item() == pytest.approx(expected.item(), rel=1e-3)


def test_a_trained_logit_scale_does_not_keep_an_adapter_from_loading(tmp_path):
    model = wrapped()
    model.save_pretrained(tmp_path)
    other = base()
    with torch.no_grad():
        other.logit_scale.fill_(1.0)
    vilt_prompt.from_pretrained(other, tmp_path)


# Half precision


@pytest.mark.parametrize("precision", ["fp16", "pure_fp16", "bf16", "pure_bf16"])
def test_half_precision(precision, tmp_path):
    model = wrapped(precision)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(parameter.dtype == torch.float32 for parameter in trained.values())
    half = torch.bfloat16 if "bf16" in precision else torch.float16
    full = wrapped()
    with torch.no_grad():
        ours = model.encode_video(videos().to(half)).float(), model.encode_text(ids()).float()
        theirs = full.encode_video(videos()), full.encode_text(ids())
    for mine, exact in zip(ours, theirs, strict=True):
        assert F.cosine_similarity(mine, exact).min() > 0.999
    video_features, text_features, _ = model(video=videos().to(half), text=ids())
    F.cross_entropy(100 * video_features.float() @ text_features.float().T, torch.arange(3)).backward()
    for name, parameter in trained.items():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.norm() > 0, name
    model.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vilt_prompt.from_pretrained(base(), tmp_path)


# The tag's images


def test_images_are_prepared_as_the_weights_need(tmp_path, monkeypatch):
    """CLIPA: another mean and standard deviation, bilinear interpolation, squashed images, and no causal mask."""
    clip, _, preprocess = open_clip.create_model_and_transforms(CLIPA, pretrained=CLIPA_TAG)
    model = vilt_prompt.wrap(clip, K=1, n_ctx=2, base_model=CLIPA, base_pretrained=CLIPA_TAG)
    settings = model.peft_config["default"].base_settings
    assert settings["image_mean"] == pytest.approx([0.485, 0.456, 0.406])
    assert settings["image_std"] == pytest.approx([0.229, 0.224, 0.225])
    assert (settings["image_interpolation"], settings["image_resize_mode"]) == ("bilinear", "squash")
    model.save_pretrained(tmp_path)
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda *_, **__: None)  # BERT's, which is downloaded
    again, same, _ = vilt_prompt.create_model_and_transforms(tmp_path)
    picture = Image.linear_gradient("L").resize((150, 110)).convert("RGB")
    assert torch.equal(same(picture), preprocess(picture))
    ordinary = open_clip.create_model_and_transforms(NAME, pretrained=TAG)[2]
    assert not torch.allclose(ordinary(picture), preprocess(picture))
    with torch.no_grad():
        image = preprocess(picture)[None]
        assert torch.equal(again.encode_image(image), model.eval().encode_image(image))


# SigLIP's bias, and padding


def test_siglips_bias_and_scale_reach_its_loss(tmp_path):
    """Values of ViT-B-16-SigLIP. Its loss needs the bias: without it, every pair counts as a match."""
    clip = zoo.build("siglip")
    with torch.no_grad():
        clip.logit_scale.fill_(torch.tensor(117.33).log())
        clip.logit_bias.fill_(-12.93)
    pictures, texts = zoo.frames(clip, 3), zoo.text_ids("siglip", [1, 3, 2])
    with torch.no_grad():
        bare = clip.eval()(pictures, texts)
    model = vilt_prompt.wrap(clip, K=1, n_ctx=2).eval()
    with torch.no_grad(), model.disable_adapter():
        for mine, theirs in zip(model(video=pictures, text=texts), bare, strict=True):
            assert torch.equal(mine, theirs)
    image_features, text_features, scale, bias = model(video=pictures, text=texts)
    assert bias.item() == pytest.approx(-12.93)
    assert not bias.requires_grad
    logits = 117.33 * image_features @ text_features.T - 12.93
    signs = 2 * torch.eye(3) - 1
    expected = -F.logsigmoid(signs * logits).sum() / 3
    found = SigLipLoss()(image_features, text_features, scale, bias)
    assert found.item() == pytest.approx(expected.item(), rel=1e-3)
    found.backward()
    model.save_pretrained(tmp_path)
    other = zoo.build("siglip")
    bias_before = other.logit_bias.item()
    vilt_prompt.from_pretrained(other, tmp_path)
    assert other.logit_bias.item() == bias_before != pytest.approx(-12.93)


@pytest.mark.parametrize("name", ["siglip", "clipa", "worldwide_xlm", "worldwide_mt5"])
def test_texts_padded_with_other_ids_than_clips(name):
    """Pads of 1, or of 0 as the end token too: each text has the same features in a batch as alone."""
    model = vilt_prompt.wrap(zoo.build(name), K=1, n_ctx=2).eval()
    texts = zoo.text_ids(name, [1, 5, 3])
    with torch.no_grad():
        together = model.encode_text(texts)
        alone = torch.cat([model.encode_text(text[None]) for text in texts])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


# As if real


@pytest.mark.slow
def test_the_readmes_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # README trains and saves; the first page of the site goes on with loading and predicting.
    script = "\n".join([*python_blocks(ROOT / "README.md"), *python_blocks(ROOT / "docs" / "index.md")[1:]])
    for shown, real in (
        ('base = "local-dir:examples/small_clip/emoji-vit-12x128"', f'base = "{NAME}"'),
        (
            "create_model_and_transforms(base, device=device)",
            f'create_model_and_transforms(base, "{TAG}", device=device)',
        ),
        ("base_model=base)", f'base_model=base, base_pretrained="{TAG}")'),
        ("K=6", "K=1"),
    ):
        assert script.count(shown) == 1
        script = script.replace(shown, real)
    names = {
        "loader": [(videos(), torch.arange(3))],
        "frames": [Image.new("RGB", (80, 64), colour) for colour in video_sets.COLOURS[:3]],
    }
    exec(compile(script, "README.md", "exec"), names)
    assert names["probabilities"].shape == (1, 3)
    assert names["probabilities"].sum().item() == pytest.approx(1)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["base_model"], config["base_pretrained"]) == (NAME, TAG)
    assert config["base_settings"]["vision_activation"] == "quick_gelu"


def wrap_two_layers(wrap, clip, K, **settings):
    """The scripts' K is for twelve layers."""
    return wrap(clip, K=1, **settings)


@pytest.mark.slow
def test_train(tmp_path, monkeypatch):
    folder = tmp_path / "videos"
    for name, colour in (("riding_a_horse", 0), ("surfing", 1)):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            video_sets.write_video(folder / name / f"{number}.mp4", video_sets.COLOURS[colour + number])
    options = ["--model", NAME, "--epochs", "1", "--frames", "2", "--device", "cpu", "--workers", "0"]
    monkeypatch.setattr(sys, "argv", ["train.py", str(folder), *options, "--out", str(tmp_path / "out")])
    monkeypatch.setattr(vilt_prompt, "wrap", partial(wrap_two_layers, vilt_prompt.wrap))
    train.main()
    model, _, tokenizer = vilt_prompt.create_model_and_transforms(tmp_path / "out")
    config = model.peft_config["default"]
    assert (config.base_model, config.base_pretrained) == (NAME, TAG)
    assert config.class_names == ["riding a horse", "surfing"]
    assert config.template == vilt_prompt.TEMPLATE
    assert model.encode_text(tokenizer(config.class_names)).isfinite().all()


@pytest.mark.slow
def test_recognition(tmp_path, monkeypatch):
    source, annotations = video_sets.hmdb51(tmp_path)
    data = ["few-shot", "--videos", source, "--annotations", annotations, "--shots", 1, "--epochs", 1]
    options = ["--model", NAME, "--pretrained", TAG, "--device", "cpu", "--workers", 0, "--frames", 2, "--K", 1]
    command = [*data, *options, "--depth", 2, "--out", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["recognition.py", *map(str, command)])
    command_line.run_script(recognition.main)
    config = json.loads((tmp_path / "out" / "last" / "adapter_config.json").read_text())
    assert (config["base_model"], config["base_pretrained"]) == (NAME, TAG)
    assert config["base_settings"]["text_activation"] == "quick_gelu"
    assert "brush hair" in config["class_names"]
