"""How many floating-point operations a wrapped forward takes, over the fewest that its features need.

The floor is counted by hand, from the shapes alone: the tokens that must be computed, and attention of each over the
keys that it sees. It leaves out norms, activations and the softmax, as torch's counter does.
"""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import vilt_prompt

ROOT = Path(__file__).resolve().parents[2]
MOST = 1.02
N_CTX = 10
SMALL_VISION = {"layers": 12, "width": 64, "head_width": 32, "patch_size": 16, "image_size": 32}
SMALL_TEXT = {"layers": 12, "width": 64, "heads": 2, "context_length": 77, "vocab_size": 100}
REAL = ("ViT-B-32", "ViT-B-16", "ViT-L-14")


def whole_layer(d: int, tokens: int, keys: int) -> int:
    """Multiply-adds of one block: q, k, v and output maps (4 d^2), an MLP of 4 d (8 d^2), scores and weighted sum.

    `keys` is the number that the tokens see in all, the sum over them.
    """
    return tokens * 12 * d * d + keys * 2 * d


def last_layer(d: int, tokens: int, asking: int, keys: int) -> int:
    """Multiply-adds of a block in which few tokens ask: k and v of all tokens, everything else of those few."""
    return tokens * 2 * d * d + asking * 10 * d * d + keys * 2 * d


def prompt_keys_and_values(d: int, layers: int) -> int:
    """Multiply-adds of the fresh prompts that are not tokens, once for all sequences of the batch."""
    return layers * N_CTX * 2 * d * d


def maps(rows: int, d_in: int, d_out: int) -> int:
    return rows * N_CTX * d_in * d_out


def image_floor(vision: dict, d_text: int, embed_dim: int, images: int, depth: int, led_by_text: int) -> int:
    """FLOPs of images; `depth` layers have a fresh prompt, of which the first ones' come from text through F.

    Carried prompts are tokens from the last fresh layer on.
    """
    d, layers, patches = vision["width"], vision["layers"], (vision["image_size"] // vision["patch_size"]) ** 2
    own = 1 + patches
    whole = depth if depth == layers else depth - 1  # layers whose prompt is not a token
    total = images * patches * 3 * vision["patch_size"] ** 2 * d
    for layer in range(1, layers):
        tokens = own if layer <= whole else own + N_CTX
        total += images * whole_layer(d, tokens, tokens * (own + N_CTX))
    total += images * last_layer(d, own if depth == layers else own + N_CTX, 1, own + N_CTX)
    total += prompt_keys_and_values(d, whole) + maps(led_by_text, d_text, d) + images * d * embed_dim
    return 2 * total


def text_floor(text: dict, d_vision: int, embed_dim: int, names: list[list[int]], depth: int, vision_led: int) -> int:
    """FLOPs of texts [SOS, P, name, EOS]: SOS, carried prompts, and what names begin with alike are run once."""
    d, layers = text["width"], text["layers"]
    whole = depth if depth == layers else depth - 1
    total = 0
    # What a token sees: SOS, the prompts, and its own text up to itself.
    lengths = [len(name) + 1 for name in names]
    beginnings = {tuple(name[:place]) for name in names for place in range(1, len(name) + 1)} | {
        (*name, "EOS") for name in names
    }
    seen = [1 + N_CTX + len(beginning) for beginning in beginnings]
    for layer in range(1, layers):
        prefix = 1 if layer <= whole else 1 + N_CTX
        # A first token that sees itself alone has nothing to weigh.
        total += whole_layer(d, prefix, prefix * (prefix + 1) // 2 if prefix > 1 else 0)
        total += whole_layer(d, len(seen), sum(seen))
    total += (1 if depth == layers else 1 + N_CTX) * 2 * d * d  # of the prefix, the last layer takes keys and values
    total += last_layer(d, len(seen), len(names), sum(1 + N_CTX + length for length in lengths))
    total += prompt_keys_and_values(d, whole) + maps(vision_led, d_vision, d) + len(names) * d * embed_dim
    return 2 * total


def counted(function, *arguments) -> int:
    """FLOPs by torch's counter, gradients on. The plain attention is asked for: of fused ones it knows only some."""
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        function(*arguments)
    return counter.get_total_flops()


def configs(name: str) -> tuple[int, dict, dict]:
    config = open_clip.get_model_config(name)
    return config["embed_dim"], config["vision_cfg"], config["text_cfg"]


def build(embed_dim: int, vision: dict, text: dict, device: str = "cpu") -> nn.Module:
    with torch.device(device):
        clip = CLIP(embed_dim, CLIPVisionCfg(**vision), CLIPTextCfg(**text))
    return clip.eval()


def ids(names: list[list[int]], text: dict) -> Tensor:
    """(C, 77): start token, names, end tokens, padding."""
    start, end = text["vocab_size"] - 2, text["vocab_size"] - 1
    rows = torch.zeros(len(names), text["context_length"], dtype=torch.long)
    for row, name in zip(rows, names, strict=True):
        row[: len(name) + 2] = torch.tensor([start, *name, end])
    return rows


def class_names(label_set: str) -> list[list[int]]:
    """The token ids of a data set's class names."""
    names = (ROOT / "benchmarks" / "labels" / f"{label_set}.txt").read_text().split("\n")
    rows = open_clip.SimpleTokenizer()([name for name in names if name])
    return [row[1 : int(row.argmax())].tolist() for row in rows]


SETTINGS = [{"K": 6}, {"K": 4, "depth": 9}]


@pytest.mark.parametrize("settings", SETTINGS, ids=["all fresh", "carried"])
@pytest.mark.parametrize("name", REAL)
def test_images_on_the_meta_device(name, settings):
    embed_dim, vision, text = configs(name)
    model = vilt_prompt.wrap(build(embed_dim, vision, text, "meta"), n_ctx=N_CTX, **settings)
    size = vision["image_size"]
    flops = counted(model.encode_image, torch.empty(2, 3, size, size, device="meta"))
    depth = settings.get("depth", min(vision["layers"], text["layers"]))
    floor = image_floor(vision, text["width"], embed_dim, 2, depth, settings["K"])
    assert 1 <= flops / floor <= MOST, flops / floor


@pytest.mark.parametrize("settings", SETTINGS, ids=["all fresh", "carried"])
@pytest.mark.parametrize("name", REAL)
def test_texts_of_equal_length(name, settings):
    assert_at_the_floor(name, [[3, 4, 5], [6, 7, 8], [9, 10, 11], [12, 13, 14]], settings)


@pytest.mark.parametrize("settings", SETTINGS, ids=["all fresh", "carried"])
def test_texts_of_unequal_lengths(settings):
    assert_at_the_floor("ViT-B-16", [[3], [4], [5, 6], [7, 8, 9], list(range(20, 28))], settings)


@pytest.mark.parametrize("label_set", ["hmdb51", "ucf101", "ssv2", "kinetics400"])
def test_class_names_of_data_sets(label_set):
    assert_at_the_floor("ViT-B-16", class_names(label_set), {"K": 6})


def assert_at_the_floor(name: str, names: list[list[int]], settings: dict) -> None:
    embed_dim, _, text = configs(name)
    model = vilt_prompt.wrap(build(embed_dim, SMALL_VISION, text), n_ctx=N_CTX, **settings)
    flops = counted(model.encode_text, ids(names, text))
    depth = settings.get("depth", 12)
    floor = text_floor(text, SMALL_VISION["width"], embed_dim, names, depth, depth - settings["K"])
    assert 1 <= flops / floor <= MOST, flops / floor


def test_frames_that_are_masked_cost_nothing():
    model = vilt_prompt.wrap(build(32, SMALL_VISION, SMALL_TEXT), n_ctx=N_CTX)
    video = torch.randn(2, 3, 3, 32, 32)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    flops = counted(lambda: model.encode_video(video, frame_mask=mask))
    assert flops == counted(model.encode_image, video[mask])
