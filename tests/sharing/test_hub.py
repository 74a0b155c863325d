"""Sharing, with the real client of the Hub talking HTTP to a small Hub on loopback: round trips, and every failure."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from PIL import Image

import vilt_prompt
from tests.support.architectures import build, class_ids, frames
from vilt_prompt import PromptConfig, from_pretrained, push_to_hub

# The client's own, on the way it uploads.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[2]
PUSHED_CLIP = "local-dir:emoji-vit-12x128"  # without its path, which means nothing to others
SMALL_CLIP = f"local-dir:{ROOT / 'examples' / 'small_clip' / 'emoji-vit-12x128'}"
FILES = {"adapter_config.json", "adapter_model.safetensors", "README.md"}
REPO = "me/prompts"
IDS = class_ids(build("4/4"), [1, 3, 2])
IMAGES = frames(build("4/4"), 2)


def wrapped(seed: int = 0, **settings) -> PeftModel:
    base = build("4/4")
    torch.manual_seed(seed)
    return vilt_prompt.wrap(base, **{"K": 2, "n_ctx": 3, **settings}).eval()


def features(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model.encode_text(IDS), model.encode_image(IMAGES)])


def push(seed: int = 0, repo_id: str = REPO, **options):
    model = wrapped(seed)
    return model, vilt_prompt.push_to_hub(model, repo_id, **{"token": "writer", **options})


def pull(repo_id: str = REPO, **options) -> PeftModel:
    return vilt_prompt.from_pretrained(build("4/4"), repo_id, **options)


def assert_untouched(load, message: str, error: type[Exception] = ValueError) -> None:
    """That loading fails with a message, in little time, and leaves the open_clip model as it was."""
    base = build("4/4")
    with pytest.raises(error, match=message):
        load(base)
    assert type(base) is type(build("4/4"))
    assert all(parameter.requires_grad for parameter in base.parameters())
    assert torch.equal(features(base), features(build("4/4")))


def incomplete(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "hub-cache").rglob("*") if path.name.endswith((".incomplete", ".tmp"))]


def test_push_and_pull(hub):
    model, commit = push()
    assert set(hub.files(REPO)) == FILES | {".gitattributes"}
    assert hub.repos[REPO].messages == ["initial commit", "Upload prompts"]
    assert commit.oid == hub.repos[REPO].branches["main"]
    assert torch.equal(features(pull()), features(model))
    assert torch.equal(features(PeftModel.from_pretrained(build("4/4"), REPO)), features(model))
    other = wrapped(seed=1)
    other.load_adapter(REPO, "pulled")
    other.set_adapter("pulled")
    assert torch.equal(features(other), features(model))


def test_a_name_alone_is_in_ones_own_namespace(hub):
    model, _ = push(repo_id="prompts")
    assert torch.equal(features(pull("me/prompts")), features(model))


def test_the_active_adapter_goes_to_the_root(hub):
    model = wrapped()
    torch.manual_seed(1)
    model.add_adapter("ucf101", PromptConfig(K=2, n_ctx=3))
    model.set_adapter("ucf101")
    vilt_prompt.push_to_hub(model, REPO, token="writer")
    assert torch.equal(features(pull()), features(model))
    vilt_prompt.push_to_hub(model, REPO, token="writer", adapter_name="default")
    model.set_adapter("default")
    assert torch.equal(features(pull(adapter_name="other")), features(model))
    with pytest.raises(ValueError, match="no adapter 'hmdb'; there are: default, ucf101"):
        vilt_prompt.push_to_hub(model, REPO, token="writer", adapter_name="hmdb")


def test_a_second_push(hub):
    _, first = push()
    second_model, second = push(seed=1, commit_message="More epochs")
    assert hub.repos[REPO].messages[-1] == "More epochs"
    assert torch.equal(features(pull()), features(second_model))
    assert torch.equal(features(pull(revision=first.oid)), features(wrapped()))
    push(seed=1)  # the same files again make no commit
    assert hub.repos[REPO].branches["main"] == second.oid


def test_a_branch_and_a_pull_request(hub):
    push()
    on_branch, _ = push(seed=1, revision="long-run")
    proposed, commit = push(seed=2, create_pr=True)
    assert commit.pr_url == f"{hub.url}/{REPO}/discussions/1"
    assert torch.equal(features(pull()), features(wrapped()))
    assert torch.equal(features(pull(revision="long-run")), features(on_branch))
    assert torch.equal(features(pull(revision="refs/pr/1")), features(proposed))


def test_a_readme_in_the_repository_is_kept(hub):
    push()
    hub.repos[REPO].commit("main", {"README.md": b"---\nlicense: mit\n---\nMine."}, "Edit the card")
    with pytest.warns(UserWarning, match=r"me/prompts has a README.md, which is kept: .* Delete it there"):
        push(seed=1, metrics={"accuracy": 50.0})
    assert hub.files(REPO)["README.md"].endswith(b"Mine.")


def test_files_are_of_one_commit(hub):
    """A push between the two downloads does not mix two adapters."""
    push()
    second = {}

    def push_once(handler) -> bool:
        if "adapter_model.safetensors" in handler.path and not second:
            second["pushed"] = True
            hub.repos[REPO].commit("main", {"adapter_model.safetensors": b"of another adapter"}, "in between")
        return False

    hub.faults.append(push_once)
    assert torch.equal(features(pull()), features(wrapped()))
    assert second


def test_a_subfolder_of_a_repository(hub, tmp_path):
    model = wrapped()
    model.save_pretrained(tmp_path / "out")
    content = {f"deep/down/{path.name}": path.read_bytes() for path in (tmp_path / "out").iterdir()}
    push(seed=1)
    hub.repos[REPO].commit("main", content, "A second adapter")
    hub.storage |= {_sha(value): value for name, value in content.items() if name.endswith("safetensors")}
    for subfolder in ("deep/down", "deep/down/", "./deep//down"):
        assert torch.equal(features(pull(subfolder=subfolder)), features(model))
    assert_untouched(
        lambda base: vilt_prompt.from_pretrained(base, REPO, subfolder=Path("deep")), "must be a string", TypeError
    )
    assert torch.equal(features(PeftModel.from_pretrained(build("4/4"), REPO, subfolder="deep/down")), features(model))
    assert_untouched(lambda base: vilt_prompt.from_pretrained(base, REPO, subfolder="nowhere"), "pass subfolder=")


@pytest.mark.parametrize("subfolder", ["..", "../..", "a/../../b", "/etc", "a\\..\\b", "c:/"])
def test_paths_that_lead_out_are_refused(subfolder, tmp_path):
    for place in (tmp_path, REPO):
        assert_untouched(
            lambda base, place=place: vilt_prompt.from_pretrained(base, place, subfolder=subfolder), "leads out of"
        )


def test_private_repositories(hub):
    push(private=True)
    assert hub.repos[REPO].private
    message = "no such repository, or it is private .* pass token= or log in with `hf auth login`"
    assert_untouched(lambda base: vilt_prompt.from_pretrained(base, REPO), message)
    assert_untouched(lambda base: vilt_prompt.from_pretrained(base, REPO, token="wrong"), message)
    assert torch.equal(features(pull(token="reader")), features(wrapped()))
    by_peft = PeftModel.from_pretrained(build("4/4"), REPO, token="reader", revision="main")
    assert torch.equal(features(by_peft), features(wrapped()))
    by_peft.load_adapter(REPO, "again", token="reader")
    assert_untouched(lambda base: vilt_prompt.from_pretrained(base, "me/nothing", token="reader"), message)


def test_the_token_reaches_every_call_to_the_hub_and_none_to_the_storage(hub):
    push(private=True)
    hub.requests.clear()
    pull(token="reader")
    assert hub.requests
    for _, path, headers in hub.requests:
        token = {name.lower(): value for name, value in headers.items()}.get("authorization")
        assert token == (None if path.startswith("/storage/") else "Bearer reader"), path


def test_who_may_not_write_is_told_so(hub):
    message = "cannot be pushed to 'me/prompts'.*the server answers 403 .You need a token with write access.. Check"
    with pytest.raises(ValueError, match=message):
        push(token="reader")
    assert not hub.repos


def test_who_is_not_logged_in_is_told_how(hub):
    with pytest.raises(ValueError, match="no token, or it is not valid. Log in with `hf auth login`, or pass token="):
        push(token=None)
    assert not hub.repos


def test_a_gated_repository(hub):
    push()
    hub.fail(100, status=403, where="/resolve/", code="GatedRepo")
    message = f"access is gated. Ask for it at {hub.url}/{REPO}, then pass token="
    assert_untouched(lambda base: vilt_prompt.from_pretrained(base, REPO), message)


def test_a_missing_revision(hub):
    push()
    assert_untouched(
        lambda base: vilt_prompt.from_pretrained(base, REPO, revision="v7"),
        "'me/prompts' is not a local folder, .* at revision 'v7': there is no such branch",
    )


def test_a_repository_without_an_adapter(hub):
    push()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        files = dict(hub.files(REPO))
        del files[name]
        files["adapter_model.bin"] = b"\x80\x04."
        hub.repos["me/other"] = type(hub.repos[REPO])()
        hub.repos["me/other"].commit("main", files, "incomplete")
        assert_untouched(lambda base: vilt_prompt.from_pretrained(base, "me/other"), "pickles are never loaded")
    assert not any("adapter_model.bin" in path for _, path, _ in hub.requests)


def test_a_server_that_is_down(hub):
    push()
    assert_untouched(lambda base: vilt_prompt.from_pretrained(base, REPO, local_files_only=True), "not in the cache")
    hub.stop()
    message = "does not answer .*not in the cache. Check the connection and HF_ENDPOINT, and try again"
    assert_untouched(lambda base: vilt_prompt.from_pretrained(base, REPO), message, OSError)
    with pytest.raises(OSError, match="cannot be pushed to .*the connection to .* broke"):
        push()


def test_what_is_in_the_cache_needs_no_server(hub, monkeypatch):
    push()
    expected = features(pull())
    hub.stop()
    assert torch.equal(features(pull()), expected)
    assert torch.equal(features(pull(local_files_only=True)), expected)
    assert_untouched(lambda base: vilt_prompt.from_pretrained(base, REPO, force_download=True), "cannot be downloaded")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(features(pull()), expected)
    assert_untouched(lambda base: vilt_prompt.from_pretrained(base, "me/other"), "HF_HUB_OFFLINE forbids")


def test_cache_dir_and_force_download(hub, tmp_path):
    push()
    pull(cache_dir=tmp_path / "elsewhere")
    assert list((tmp_path / "elsewhere").rglob("adapter_model.safetensors"))
    assert not list((tmp_path / "hub-cache").rglob("adapter_model.safetensors"))

    def downloads() -> int:
        return sum(method == "GET" and path.startswith("/storage/") for method, path, _ in hub.requests)

    assert downloads() == 1
    pull(cache_dir=tmp_path / "elsewhere")
    assert downloads() == 1
    pull(cache_dir=tmp_path / "elsewhere", force_download=True)
    assert downloads() == 2


GOES_ON = pytest.mark.needs("huggingface_hub", "1.28", "going on with interrupted transfers")
PLACES = ["repos/create", "resolve", "preupload", "lfs/objects/batch", "/storage/", "commit", "validate"]


@pytest.mark.parametrize("where", [*PLACES, pytest.param("verify", marks=GOES_ON)])
def test_a_server_that_fails_twice(hub, where):
    hub.fail(2, where=where)
    push()
    assert torch.equal(features(pull()), features(wrapped()))
    assert hub.repos[REPO].messages == ["initial commit", "Upload prompts"]


@GOES_ON
def test_a_server_that_fails_twice_while_pulling(hub):
    push()
    hub.fail(2, where="adapter_config.json")
    hub.fail(2, where="adapter_model.safetensors")
    assert torch.equal(features(pull()), features(wrapped()))


def test_a_server_that_goes_on_failing(hub, tmp_path):
    push()
    hub.fail(10_000, where="/commit/")
    with pytest.raises(OSError, match="the server fails with 503. Push again, later"):
        push(seed=1)
    assert hub.repos[REPO].messages == ["initial commit", "Upload prompts"]
    hub.fail(10_000, where="/storage/")
    with pytest.raises(OSError, match="cannot be pushed to 'me/prompts': .*503.* Push again"):
        push(seed=2)
    hub.faults.clear()
    hub.fail(10_000)
    assert_untouched(lambda base: vilt_prompt.from_pretrained(base, REPO), "does not answer", OSError)
    assert not incomplete(tmp_path)


@GOES_ON
@pytest.mark.parametrize("after", [0, 1, 5000])
def test_a_connection_that_breaks_in_the_middle_is_taken_up_again(hub, after):
    push()
    hub.cut(times=2, after=after)
    assert torch.equal(features(pull()), features(wrapped()))


@GOES_ON
def test_a_connection_that_goes_on_breaking(hub, tmp_path):
    push()
    hub.cut(times=10_000, after=0)
    message = "the connection to .* broke .*. Nothing of it is kept: try again"
    assert_untouched(lambda base: vilt_prompt.from_pretrained(base, REPO), message, OSError)
    assert not incomplete(tmp_path)
    assert not list((tmp_path / "hub-cache").rglob("*.safetensors"))
    assert_untouched(lambda base: vilt_prompt.from_pretrained(base, REPO, local_files_only=True), "not in the cache")
    hub.faults.clear()
    assert torch.equal(features(pull()), features(wrapped()))


def test_a_file_that_is_damaged_on_the_way(hub):
    """The client looks at the size alone."""
    push()
    whole = dict(hub.storage)
    (oid,) = whole
    hub.storage[oid] = whole[oid][:-3] + b"\0" + whole[oid][-2:]
    message = r"is damaged \(its checksum differs\): copy it again, or download it again with force_download=True"
    assert_untouched(lambda base: vilt_prompt.from_pretrained(base, REPO), message)
    hub.storage = whole
    assert_untouched(lambda base: vilt_prompt.from_pretrained(base, REPO), message)
    assert torch.equal(features(pull(force_download=True)), features(wrapped()))


@GOES_ON
def test_a_full_disk_while_downloading(hub, tmp_path, monkeypatch):
    push()
    from huggingface_hub import file_download

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(file_download, "http_get", full)
        assert_untouched(
            lambda base: vilt_prompt.from_pretrained(base, REPO), "the disk is full: free some space", OSError
        )
    assert not incomplete(tmp_path)
    assert torch.equal(features(pull()), features(wrapped()))


def test_nothing_is_sent_for_an_adapter_that_cannot_be_shared(hub):
    model = wrapped()
    with pytest.raises(TypeError, match=r"metrics\['accuracy'\] must be a number, got 'high'"):
        vilt_prompt.push_to_hub(model, REPO, token="writer", metrics={"accuracy": "high"})
    with pytest.raises(TypeError, match="unexpected keyword argument 'metric'"):
        model.push_to_hub(REPO, token="writer", metric={"accuracy": 1.0})
    with torch.no_grad():
        model.prompts.vilt_text["default"][0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"vilt_text holds NaN or infinity. Training has diverged"):
        model.push_to_hub(REPO, token="writer")
    with pytest.raises(TypeError, match="expected a model that wrap"):
        vilt_prompt.push_to_hub(build("4/4"), REPO)
    assert not hub.requests


def test_names_that_are_no_repository(hub):
    for name in ("nothing", "./nothing/here", "a/b/c", "~me/prompts", "/me/prompts"):
        assert_untouched(lambda base, name=name: vilt_prompt.from_pretrained(base, name), "there is no folder")
    assert_untouched(lambda base: vilt_prompt.from_pretrained(base, "me/pro mpts"), "it is not a repository id")
    assert_untouched(lambda base: vilt_prompt.from_pretrained(base, __file__), "is a file: give the folder")
    assert not hub.requests


@pytest.fixture
def small(hub):
    """The small CLIP with prompts of a few numbers, pushed with all that a card can say."""
    clip, _, _ = open_clip.create_model_and_transforms(SMALL_CLIP)
    torch.manual_seed(0)
    model = vilt_prompt.wrap(clip, K=6, n_ctx=2, base_model=SMALL_CLIP).eval()
    model.push_to_hub(
        "me/emoji",
        token="writer",
        class_names=["running", 'a "quoted" | name', "水泳"],
        template="a video of a person doing {}.",
        metrics={"top-1 accuracy": 62.5},
        dataset="UCF-101",
        license="mit",
    )
    return model


def test_the_model_card(small, hub):
    card = ModelCard(hub.files("me/emoji")["README.md"].decode())
    data = card.data.to_dict()
    assert data["library_name"] == "vilt-prompt"
    assert data["license"] == "mit"
    assert data["pipeline_tag"] == "video-classification"
    assert set(data["tags"]) == {"vilt-prompt", "peft", "open_clip", "video-classification"}
    (index,) = data["model-index"]
    (result,) = index["results"]
    assert result["task"] == {"type": "video-classification"}
    assert result["dataset"] == {"type": "ucf-101", "name": "UCF-101"}
    assert result["metrics"] == [{"type": "top-1-accuracy", "value": 62.5, "name": "top-1 accuracy"}]
    for said in ("pip install vilt-prompt", "import vilt_prompt", "KeyError", "ViLT-CLIP", "水泳", "62.5", PUSHED_CLIP):
        assert said in card.text, said


@pytest.mark.slow
def test_the_cards_snippet_runs_in_a_new_process(small, hub, tmp_path):
    (snippet,) = re.findall(r"```python\n(.*?)```", hub.files("me/emoji")["README.md"].decode(), flags=re.DOTALL)
    assert f'base_model="local-dir:path/to/{Path(SMALL_CLIP).name}"' in snippet
    snippet = snippet.replace(f"local-dir:path/to/{Path(SMALL_CLIP).name}", SMALL_CLIP)
    colours = ["red", "green", "blue"]
    program = f"""
from PIL import Image
frames = [Image.new("RGB", (80, 60), colour) for colour in {colours}]
{snippet}
import json
print(json.dumps(probabilities.tolist()))
"""
    environment = {
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    printed = torch.tensor(json.loads(done.stdout.splitlines()[-1]))

    model, preprocess, tokenizer = vilt_prompt.create_model_and_transforms("me/emoji", base_model=SMALL_CLIP)
    assert not model.training
    video = torch.stack([preprocess(Image.new("RGB", (80, 60), colour)) for colour in colours])[None]
    names = ["running", 'a "quoted" | name', "水泳"]
    with torch.no_grad():
        logits = small.encode_video(video, normalize=True) @ small.encode_text(tokenizer(names), normalize=True).T
    expected = (logits * small.logit_scale.exp()).softmax(dim=-1)
    assert expected.shape == (1, 3)
    torch.testing.assert_close(printed, expected)
    _, _, inference = open_clip.create_model_and_transforms(SMALL_CLIP)
    assert str(preprocess) == str(inference)


def test_what_create_model_and_transforms_needs(hub, tmp_path):
    build_it = vilt_prompt.create_model_and_transforms
    model = wrapped()
    model.save_pretrained(tmp_path / "a")
    with pytest.raises(ValueError, match=r"does not record its base: base_model is missing .* Pass base_model="):
        build_it(tmp_path / "a")
    wrapped(base_model="ViT-B-16").save_pretrained(tmp_path / "b")
    with pytest.raises(ValueError, match="by its architecture 'ViT-B-16', .* base_pretrained is missing in its config"):
        build_it(tmp_path / "b")
    with pytest.raises(ValueError, match="by its architecture 'ViT-B-32', .* base_pretrained is missing in this call"):
        build_it(tmp_path / "b", base_model="ViT-B-32")
    with pytest.raises(TypeError, match="are called base_model and base_pretrained here"):
        build_it(tmp_path / "b", pretrained="openai", base_pretrained="openai")
    wrapped(base_model="ViT-B-16", base_pretrained="nowhere.pt").save_pretrained(tmp_path / "d")
    with pytest.raises(ValueError, match="open_clip cannot build 'ViT-B-16' with weights 'nowhere.pt'"):
        build_it(tmp_path / "d", base_model="ViT-B-16")
    wrapped(base_model="local-dir:/nowhere").save_pretrained(tmp_path / "c")
    with pytest.raises(ValueError, match="open_clip cannot build 'local-dir:/nowhere'"):
        build_it(tmp_path / "c")
    wrapped(base_model="hf-hub:me/nowhere").save_pretrained(tmp_path / "e")
    hub.stop()
    with pytest.raises(OSError, match="open_clip cannot build 'hf-hub:me/nowhere'"):
        build_it(tmp_path / "e")
    with pytest.raises(ValueError, match="another architecture"):
        build_it(tmp_path / "a", base_model=SMALL_CLIP, force_image_size=64, force_context_length=40)


def test_training_goes_on_from_create_model_and_transforms(small):
    model, _, _ = vilt_prompt.create_model_and_transforms("me/emoji", base_model=SMALL_CLIP, is_trainable=True)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable
    assert all(".default" in name for name in trainable)
    assert model.training


def test_the_tokenizer_is_as_long_as_the_text_tower(small):
    model, _, tokenizer = vilt_prompt.create_model_and_transforms(
        "me/emoji", base_model=SMALL_CLIP, force_context_length=16
    )
    assert model.encode_text(tokenizer(["running"])).shape == (1, 128)


def test_the_base_in_half_precision(small):
    model, _, _ = vilt_prompt.create_model_and_transforms("me/emoji", base_model=SMALL_CLIP, precision="bf16")
    assert model.visual.conv1.weight.dtype == torch.bfloat16


def _sha(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


REFUSED = {
    "no folder": (
        lambda w: from_pretrained(w.bare, w.folder / "nowhere"),
        ValueError,
        r"there is no folder .*nowhere: give the folder that save_pretrained\(...\) wrote, or a repository id",
    ),
    "no name": (lambda w: from_pretrained(w.bare, None), TypeError, "path_or_repo must be .*a repository id.*got None"),
    "a number for a name": (lambda w: from_pretrained(w.bare, 7), TypeError, "path_or_repo must be .*got 7"),
    "a name that is not a repository id": (
        lambda w: from_pretrained(w.bare, "a/b/c"),
        ValueError,
        'there is no folder a/b/c: .*a repository id like "user/name"',
    ),
    "a repository that is not in the cache": (
        lambda w: from_pretrained(w.bare, "me/nothing", local_files_only=True, cache_dir=w.folder / "cache"),
        ValueError,
        "it is not in the cache, and local_files_only or HF_HUB_OFFLINE forbids a download. Fetch it once online",
    ),
    "a file": (
        lambda w: from_pretrained(w.bare, w.folder / "file"),
        ValueError,
        "is a file: give the folder that it is in",
    ),
    "no subfolder": (
        lambda w: from_pretrained(w.bare, w.folder / "holder", subfolder="hmdb"),
        ValueError,
        "there is no folder .*hmdb",
    ),
    "a subfolder outside": (
        lambda w: from_pretrained(w.bare, w.folder / "holder", subfolder="../good"),
        ValueError,
        "subfolder='../good' leads out of the folder or repository: give a path inside of it",
    ),
    "a subfolder that is not a string": (
        lambda w: from_pretrained(w.bare, w.folder / "holder", subfolder=7),
        TypeError,
        "subfolder must be a string or None, got 7",
    ),
    "load bytes": (lambda w: from_pretrained(w.bare, b"good"), TypeError, "path_or_repo must be .*got b'good'"),
    "load an adapter from nowhere": (
        lambda w: w.model.load_adapter(w.folder / "nowhere", "third"),
        ValueError,
        "there is no folder .*nowhere",
    ),
    "load no adapter": (
        lambda w: w.model.load_adapter(None, "third"),
        TypeError,
        "path_or_repo must be .*got None",
    ),
    "push to no repository": (
        lambda w: push_to_hub(w.model, "a/b/c"),
        ValueError,
        "cannot be pushed to 'a/b/c': it is not a repository id .*Expected 'user/name'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
