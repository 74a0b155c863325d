"""The towers of a prompted model."""

from __future__ import annotations

import gc
import weakref

import open_clip
import pytest
from torch import nn

import vilt_prompt
from tests.support.architectures import build
from tests.support.refusals import VIDEO, UnknownTextTower
from tests.support.wrapped import IDS, wrapped
from vilt_prompt.model.prompted_towers import PromptedTowers
from vilt_prompt.towers.open_clip_text import OpenClipTextTower
from vilt_prompt.towers.open_clip_vision import OpenClipVisionTower


@pytest.mark.parametrize("architecture", ["4/4", "custom_text"])
def test_towers_are_views_of_the_modules(architecture):
    clip = wrapped(architecture).get_base_model()
    vision, text = clip._vision_tower(), clip._text_tower()
    assert isinstance(vision, OpenClipVisionTower)
    assert vision.stands_for[0] is clip.visual
    assert isinstance(text, OpenClipTextTower)
    assert clip._can_run_texts()


def test_the_model_keeps_no_tower_so_that_its_memory_is_freed_at_once():
    clip = wrapped().get_base_model()
    known = weakref.ref(clip.visual)
    clip.encode_text(IDS)
    clip.encode_video(VIDEO)
    gc.collect()
    gc.disable()
    try:
        del clip
        assert known() is None
    finally:
        gc.enable()


def test_a_tower_of_an_unknown_family_is_left_to_open_clip():
    clip = build("custom_text")
    clip.text = UnknownTextTower()
    clip = vilt_prompt.wrap(clip, method="vpt_deep", n_ctx=3).get_base_model()
    assert clip._text_tower() is None
    assert not clip._can_run_texts()
    clip._check_text("no ids at all")
    assert clip._open_clip_takes("no ids at all")


def test_open_clip_encodes_the_texts_of_the_length_that_it_takes():
    clip = wrapped().get_base_model()
    assert clip._open_clip_takes(IDS)
    assert not clip._open_clip_takes(IDS[:, :-1])
    assert not clip._open_clip_takes(clip.pack_text(IDS))


def test_a_tower_without_a_fresh_prompt_has_no_active_prompts():
    clip = wrapped(method="coop").get_base_model()
    assert clip._active_prompts("vision") is None
    assert [prompt is not None for prompt in clip._active_prompts("text")] == [True, False, False, False]
    clip.prompts.enable_adapters(False)
    assert clip._active_prompts("text") is None


def test_it_has_none_of_open_clips_methods():
    own = set(vars(PromptedTowers)) - set(vars(nn.Module))
    assert not own & {name for kind in (open_clip.CLIP, open_clip.CustomTextCLIP, open_clip.CoCa) for name in dir(kind)}


REFUSED = {
    "video in double precision": (
        lambda w: w.model.encode_video(VIDEO.double()),
        TypeError,
        r"video is torch.float64, the model torch.float32: use video.to\(torch.float32\), or torch.autocast",
    ),
    "images in half precision": (
        lambda w: w.coop.encode_image(VIDEO[0].half()),
        TypeError,
        "image is torch.float16, the model torch.float32",
    ),
    "video on another device": (
        lambda w: w.model.encode_video(VIDEO.to("meta")),
        ValueError,
        r"video is on meta, the model on cpu: use video.to\('cpu'\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
