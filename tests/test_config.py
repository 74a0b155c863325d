"""Settings: which are refused, and how they resolve."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import vilt_prompt
from tests.support.architectures import build, class_ids
from tests.support.refusals import TINY
from tests.support.wrapped import features, same, wrapped
from vilt_prompt import PromptConfig, convert, from_pretrained, wrap


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"towers": "text"}, {"lead": "own", "mapper": "none", "depth": 10, "K": None}),
        ({"towers": "vision"}, {"lead": "own", "mapper": "none", "depth": 10}),
        ({"lead": "own"}, {"towers": "both", "mapper": "none", "depth": 10}),
        ({"mapper": "none"}, {"towers": "both", "lead": "own", "depth": 10}),
        ({"method": "independent"}, {"lead": "own", "mapper": "none", "depth": None}),
        ({"method": "independent", "lead": "text"}, {"mapper": "shared", "depth": 10, "K": None}),
        ({"method": "vpt_deep"}, {"towers": "vision", "depth": 10}),
        ({"method": "maple", "K": -1}, {"lead": "text", "mapper": "per_layer", "depth": 9, "K": None}),
        ({"K": None, "depth": 7}, {"K": 3, "depth": 7}),
        ({"K": None, "depth": 1}, {"K": 1, "depth": 1}),
    ],
    ids=str,
)
def test_settings_resolve(given, expected):
    config = vilt_prompt.wrap(build("10/12"), **given).peft_config["default"]
    assert {name: getattr(config, name) for name in expected} == expected
    assert config.resolve(text_layers=12, vision_layers=10) == config


@pytest.mark.parametrize("integer", [np.int64, np.int32, np.uint8])
def test_integers_of_numpy(tmp_path, integer):
    given = {"n_ctx": integer(3), "K": integer(2), "depth": integer(4), "ctx_init": [integer(60), 61]}
    model = vilt_prompt.wrap(build("4/4"), **given).eval()
    config = model.peft_config["default"]
    assert (config.n_ctx, config.K, config.depth, config.ctx_init) == (3, 2, 4, [60, 61])
    for value in (config.n_ctx, config.n_ctx_vision, config.K, config.depth, *config.ctx_init):
        assert type(value) is int
    model.save_pretrained(tmp_path)
    assert same(features(vilt_prompt.from_pretrained(build("4/4"), tmp_path)), features(model))
    own = PromptConfig.preset("independent", n_ctx=2, n_ctx_vision=integer(3))
    assert type(own.n_ctx_vision) is int
    video = torch.randn(1, 3, 3, *model.visual.image_size)
    chunked = model.encode_video(video, frames_per_chunk=integer(2))
    torch.testing.assert_close(chunked, model.encode_video(video))
    with pytest.raises(ValueError, match="expected n_ctx of at least 1, got 0"):
        PromptConfig(n_ctx=integer(0))
    for value in (np.bool_(True), np.float64(3), torch.tensor(3)):
        with pytest.raises(TypeError, match="n_ctx must be an integer"):
            PromptConfig(n_ctx=value)


def test_a_config_of_a_newer_version_loads_with_a_warning(tmp_path):
    model = wrapped()
    model.save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"field_of_the_future": 1}))
    with pytest.warns(UserWarning, match="field_of_the_future"):
        loaded = vilt_prompt.from_pretrained(build("4/4"), tmp_path)
    assert same(features(loaded), features(model))


REFUSED = {
    "K beyond the depth": (
        lambda w: wrap(w.bare, K=5),
        ValueError,
        r"expected K in 1\.\.4 \(the number of prompted layers\), got 5: K=None takes half of them",
    ),
    "K=0": (lambda w: wrap(w.bare, K=0), ValueError, r"expected K in 1\.\.depth, got 0"),
    "K negative": (lambda w: wrap(w.bare, K=-1), ValueError, r"expected K in 1\.\.depth, got -1"),
    "K beyond a given depth": (
        lambda w: wrap(w.bare, K=3, depth=2),
        ValueError,
        r"expected K in 1\.\.2 \(the number of prompted layers\), got 3",
    ),
    "K beyond the text tower": (
        lambda w: wrap(w.bare, K=5, pairing="proportional"),
        ValueError,
        r"expected K in 1\.\.4 \(the number of layers of the text tower\), got 5: K=None takes half of them",
    ),
    "K is a float": (lambda w: wrap(w.bare, K=2.0), TypeError, "K must be an integer or None, got 2.0"),
    "K is a string": (lambda w: wrap(w.bare, K="2"), TypeError, "K must be an integer or None, got '2'"),
    "depth beyond the towers": (
        lambda w: wrap(w.bare, K=2, depth=5),
        ValueError,
        r"expected depth in 1\.\.4 \(the number of layers of the prompted towers\), got 5",
    ),
    "depth=0": (
        lambda w: wrap(w.bare, depth=0),
        ValueError,
        r"expected depth in 1\.\.N \(the number of layers of the prompted towers\), got 0",
    ),
    "depth is a float": (lambda w: wrap(w.bare, depth=1.5), TypeError, "depth must be an integer or None, got 1.5"),
    "n_ctx=0": (lambda w: wrap(w.bare, n_ctx=0), ValueError, "expected n_ctx of at least 1, got 0"),
    "n_ctx is true": (lambda w: wrap(w.bare, n_ctx=True), TypeError, "n_ctx must be an integer, got True"),
    "n_ctx is None": (lambda w: wrap(w.bare, n_ctx=None), TypeError, "n_ctx must be an integer, got None"),
    "n_ctx is NumPy's float": (
        lambda w: wrap(w.bare, n_ctx=np.float64(3)),
        TypeError,
        r"n_ctx must be an integer, got (np\.float64\(3\.0\)|3\.0)",
    ),
    "K is NaN": (lambda w: wrap(w.bare, K=float("nan")), TypeError, "K must be an integer or None, got nan"),
    "n_ctx_vision=0": (
        lambda w: wrap(w.bare, method="independent", n_ctx_vision=0),
        ValueError,
        "expected n_ctx_vision of at least 1, got 0",
    ),
    "unknown method": (
        lambda w: wrap(w.bare, method="mapel"),
        ValueError,
        r"unknown method 'mapel'\. Did you mean 'maple'\? Known: vilt, maple",
    ),
    "method is a list": (
        lambda w: wrap(w.bare, method=["vilt"]),
        ValueError,
        r"unknown method \['vilt'\]\. .*Known: vilt",
    ),
    "unknown field": (
        lambda w: wrap(w.bare, dept=2),
        TypeError,
        r"unexpected keyword argument 'dept'\. Did you mean 'depth'\? Known: ",
    ),
    "a field of PEFT's": (
        lambda w: wrap(w.bare, target_modules=["attn"]),
        TypeError,
        "unexpected keyword argument 'target_modules'.*Known: n_ctx, ",
    ),
    "unknown towers": (
        lambda w: wrap(w.bare, towers="image"),
        ValueError,
        r"unknown towers 'image'\. Known: both, text, vision",
    ),
    "unknown lead": (lambda w: wrap(w.bare, lead="vision"), ValueError, "unknown lead 'vision'.*split, text, own"),
    "unknown mapper": (lambda w: wrap(w.bare, mapper="mlp"), ValueError, "unknown mapper 'mlp'.*shared, per_layer"),
    "unknown pairing": (lambda w: wrap(w.bare, pairing="depth"), ValueError, "unknown pairing 'depth'.*layer, prop"),
    "one tower cannot lead another": (
        lambda w: wrap(w.bare, towers="text", lead="split"),
        ValueError,
        'lead="split" maps between the towers, but towers="text": leave lead at "own"',
    ),
    "own prompts are not mapped": (
        lambda w: wrap(w.bare, lead="own", mapper="shared"),
        ValueError,
        'lead="own" goes with mapper="none"',
    ),
    "a lead needs a map": (
        lambda w: wrap(w.bare, lead="text", mapper="none"),
        ValueError,
        'lead="text" with mapper="none"',
    ),
    "pairing without a map": (
        lambda w: wrap(w.bare, method="independent", pairing="proportional"),
        ValueError,
        'lead="own" maps nothing: leave pairing at "layer"',
    ),
    "pairing of a part": (
        lambda w: wrap(w.bare, depth=2, pairing="proportional"),
        ValueError,
        'depth=2, but pairing="proportional" puts prompts into all layers: leave depth at None',
    ),
    "mapped prompts of two lengths": (
        lambda w: wrap(w.bare, K=2, n_ctx_vision=4),
        ValueError,
        "n_ctx_vision=4 differs from n_ctx=10.*leave n_ctx_vision at None",
    ),
    "ctx_init without text prompts": (
        lambda w: wrap(w.bare, method="vpt_deep", ctx_init=[1]),
        ValueError,
        'towers="vision" has no text prompts: leave ctx_init at None',
    ),
    "ctx_init too long": (
        lambda w: wrap(w.bare, K=2, n_ctx=2, ctx_init=[1, 2, 3]),
        ValueError,
        "3 tokens, but there are n_ctx=2",
    ),
    "ctx_init empty": (lambda w: wrap(w.bare, K=2, ctx_init=[]), ValueError, r"give 1\.\.10 tokens"),
    "ctx_init an empty text": (
        lambda w: wrap(w.bare, K=2, ctx_init="", tokenizer=lambda texts: class_ids(TINY, [0] * len(texts))),
        ValueError,
        r"ctx_init has 0 tokens, .*give 1\.\.10 tokens",
    ),
    "ctx_init in a tuple": (
        lambda w: wrap(w.bare, K=2, ctx_init=(1, 2)),
        TypeError,
        r"a text or a list of token ids, got \(1, 2\)",
    ),
    "ctx_init in a tensor": (
        lambda w: wrap(w.bare, K=2, ctx_init=torch.tensor([1, 2])),
        TypeError,
        r"a text or a list of token ids, got tensor\(\[1, 2\]\)",
    ),
    "ctx_init negative": (
        lambda w: wrap(w.bare, K=2, ctx_init=[-1]),
        TypeError,
        r"a text or a list of token ids, got \[-1\]",
    ),
    "ctx_init is a number": (
        lambda w: wrap(w.bare, K=2, ctx_init=7),
        TypeError,
        "a text or a list of token ids, got 7",
    ),
    "ctx_init of floats": (lambda w: wrap(w.bare, K=2, ctx_init=[1.5]), TypeError, r"list of token ids, got \[1.5\]"),
    "base_model is not a string": (
        lambda w: wrap(w.bare, K=2, base_model=7),
        TypeError,
        "base_model must be a string or None, got 7",
    ),
    "base_pretrained is not a string": (
        lambda w: wrap(w.bare, K=2, base_pretrained=7),
        TypeError,
        "base_pretrained must be a string or None, got 7",
    ),
    "base_fingerprint is a string": (
        lambda w: wrap(w.bare, K=2, base_fingerprint="a"),
        TypeError,
        "base_fingerprint must be a dict or None, got 'a'",
    ),
    "unknown preset": (
        lambda w: PromptConfig.preset("mapel"),
        ValueError,
        r"unknown method 'mapel'\. Did you mean 'maple'\?",
    ),
    "preset None": (lambda w: PromptConfig.preset(None), ValueError, "unknown method None. Known: vilt"),
    "preset with an unknown field": (
        lambda w: PromptConfig.preset("maple", n_cxt=2),
        TypeError,
        r"unexpected keyword argument 'n_cxt'\. Did you mean 'n_ctx'\? Known: ",
    ),
    "preset with another method": (
        lambda w: PromptConfig.preset("maple", method="vilt"),
        TypeError,
        r"preset\(\) got an unexpected keyword argument 'method'",
    ),
    "config with an unknown field": (
        lambda w: PromptConfig(n_cxt=2),
        TypeError,
        "got an unexpected keyword argument 'n_cxt'",
    ),
    "a deeper adapter": (
        lambda w: from_pretrained(w.bare, w.folder / "deep"),
        ValueError,
        r"expected depth in 1\.\.4 \(the number of layers of the prompted towers\), got 12",
    ),
    "convert with a base that is not a string": (
        lambda w: convert(w.folder / "coop.pth", w.bare, base_model=7),
        TypeError,
        "base_model must be a string or None, got 7",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
