"""An adapter's files: their layout, saving that is killed at every step, full disks, and files that are out to harm."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import open_clip
import peft
import pytest
import torch
from peft import LoraConfig, PeftModel
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors import safe_open
from safetensors.torch import load as tensors_in
from safetensors.torch import load_file, save_file

import vilt_prompt
from tests.support.adapter_files import (
    CARD,
    CONFIG,
    IDS,
    WEIGHTS,
    features,
    refused,
    rewrite_config,
    save_by_peft_alone,
    wrapped,
)
from tests.support.architectures import build
from vilt_prompt import PromptConfig, convert, create_model_and_transforms, from_pretrained, push_to_hub


def load(folder: Path, **options) -> PeftModel:
    return vilt_prompt.from_pretrained(build("4/4"), folder, **options)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# layout


def test_a_folder_holds_three_files_for_each_adapter(tmp_path):
    model = wrapped()
    model.add_adapter("ucf101", PromptConfig(K=2, n_ctx=3))
    model.save_pretrained(tmp_path / "a")
    assert names(tmp_path / "a") == {CONFIG, WEIGHTS, CARD, "ucf101"}
    assert names(tmp_path / "a" / "ucf101") == {CONFIG, WEIGHTS, CARD}
    model.save_pretrained(tmp_path / "b", selected_adapters=["ucf101"])
    assert names(tmp_path / "b") == {"ucf101"}
    model.save_pretrained(tmp_path / "c", is_main_process=False)
    assert not (tmp_path / "c").exists()
    with pytest.raises(ValueError, match="no adapter 'hmdb'; there are: default, ucf101"):
        model.save_pretrained(tmp_path / "d", selected_adapters=["hmdb"])
    with pytest.raises(TypeError, match="selected_adapters must be a list of names, .*got 'ucf101'"):
        model.save_pretrained(tmp_path / "d", selected_adapters="ucf101")
    with pytest.raises(ValueError, match="vilt_text is on the meta device and has no values"):
        wrapped().to("meta").save_pretrained(tmp_path / "d")
    assert not (tmp_path / "d").exists()
    (tmp_path / "e").touch()
    with pytest.raises(ValueError, match="is a file: give a folder"):
        model.save_pretrained(tmp_path / "e")


def test_the_tensors_of_vit_b_16_take_three_and_a_half_megabytes(tmp_path):
    with torch.device("meta"):
        base = open_clip.CLIP(**open_clip.get_model_config("ViT-B-16"))
    model = vilt_prompt.wrap(base, K=6, n_ctx=10)
    model.prompts.to_empty(device="cpu")
    torch.nn.utils.vector_to_parameters(torch.zeros(864_512), model.prompts.parameters())
    model.save_pretrained(tmp_path)
    numbers = sum(tensor.numel() for tensor in load_file(tmp_path / WEIGHTS).values())
    assert numbers == 864_512
    assert (tmp_path / WEIGHTS).stat().st_size == pytest.approx(4 * numbers, abs=20_000)
    assert "864,512 learned numbers" in (tmp_path / CARD).read_text()


def test_a_file_does_not_depend_on_its_name_its_neighbours_or_the_classes(tmp_path):
    alone = wrapped()
    alone.save_pretrained(tmp_path / "alone")
    model = wrapped(adapter_name="ucf101")
    model.add_adapter("default", PromptConfig(K=3, n_ctx=2))
    model.encode_text(IDS)
    model.save_pretrained(tmp_path / "many")
    assert (tmp_path / "alone" / WEIGHTS).read_bytes() == (tmp_path / "many" / "ucf101" / WEIGHTS).read_bytes()
    for _ in range(8):  # safetensors alone would order its metadata by chance
        alone.save_pretrained(tmp_path / "again")
        assert (tmp_path / "again" / WEIGHTS).read_bytes() == (tmp_path / "alone" / WEIGHTS).read_bytes()
    assert (tmp_path / "alone" / CONFIG).read_bytes() == (tmp_path / "many" / "ucf101" / CONFIG).read_bytes()


def test_files_that_peft_wrote_by_itself_load(tmp_path):
    model = wrapped()
    save_by_peft_alone(model, tmp_path)
    with safe_open(tmp_path / WEIGHTS, "pt") as file:
        assert set(file.metadata()) == {"format"}
    for loaded in (load(tmp_path), PeftModel.from_pretrained(build("4/4"), str(tmp_path))):
        assert torch.equal(features(loaded), features(model))


def test_peft_alone_says_what_the_card_says(tmp_path, monkeypatch):
    wrapped().save_pretrained(tmp_path)
    monkeypatch.delitem(PEFT_TYPE_TO_CONFIG_MAPPING, "VILT_PROMPT")
    with pytest.raises(KeyError, match="VILT_PROMPT"):
        PeftModel.from_pretrained(build("4/4"), str(tmp_path))
    assert "`KeyError: 'VILT_PROMPT'`" in (tmp_path / CARD).read_text()


def test_an_adapter_that_diverged_does_not_replace_a_good_one(tmp_path):
    model = wrapped()
    model.save_pretrained(tmp_path)
    expected = features(model)
    with torch.no_grad():
        model.prompts.vilt_vision["default"][0, 0, 0] = float("inf")
    with pytest.raises(ValueError, match="'default': .*vilt_vision holds NaN or infinity. Training has diverged"):
        model.save_pretrained(tmp_path)
    assert torch.equal(features(load(tmp_path)), expected)


def test_a_folder_of_another_peft_method_is_left_alone(tmp_path):
    LoraConfig().save_pretrained(tmp_path)
    before = (tmp_path / CONFIG).read_bytes()
    with pytest.raises(ValueError, match="holds a PEFT adapter of type LORA"):
        wrapped().save_pretrained(tmp_path)
    assert names(tmp_path) == {CONFIG}
    assert (tmp_path / CONFIG).read_bytes() == before


def test_loading_anew_into_an_adapter_that_is_there(tmp_path):
    wrapped(seed=1).save_pretrained(tmp_path / "same")
    wrapped(seed=1, n_ctx=2).save_pretrained(tmp_path / "other")
    by_another_name = wrapped(seed=1, method="vilt", lead="own")
    by_another_name.save_pretrained(tmp_path / "method")
    model = wrapped(method="independent")
    model.load_adapter(tmp_path / "method", "default")
    assert torch.equal(features(model), features(by_another_name))
    model = wrapped()
    model.load_adapter(str(tmp_path / "same"), "default")
    assert torch.equal(features(model), features(wrapped(seed=1)))
    with pytest.raises(ValueError, match="there is an adapter 'default' of another structure .n_ctx is"):
        model.load_adapter(str(tmp_path / "other"), "default")
    assert torch.equal(features(model), features(wrapped(seed=1)))


def test_an_adapter_of_another_structure_replaces_both_files(tmp_path):
    wrapped(seed=1).save_pretrained(tmp_path)
    wrapped(seed=2, n_ctx=2).save_pretrained(tmp_path)
    assert json.loads((tmp_path / CONFIG).read_text())["n_ctx"] == 2
    assert torch.equal(features(load(tmp_path)), features(wrapped(seed=2, n_ctx=2)))


def test_saving_over_a_damaged_config(tmp_path):
    wrapped(seed=1).save_pretrained(tmp_path)
    (tmp_path / CONFIG).write_bytes(b"{")
    wrapped(seed=2).save_pretrained(tmp_path)
    assert torch.equal(features(load(tmp_path)), features(wrapped(seed=2)))


# saving that does not come to its end


def in_a_child(action) -> int:
    """Runs something in a forked process, and returns its status: 0, or minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at_line(number: int, action):
    """An action whose process kills itself before the given one of the lines that touch the disk."""
    lines = 0
    functions = [getattr(vilt_prompt.sharing.files, name) for name in ("write", "_former_config", "_remove_abandoned")]
    codes = {function.__code__ for function in (*functions, vilt_prompt.sharing.files._temporary.__wrapped__)}

    def trace(frame, event, _):
        nonlocal lines
        if frame.f_code not in codes:
            return None
        if event == "line":
            if lines == number:
                os.kill(os.getpid(), signal.SIGKILL)
            lines += 1
        return trace

    def traced() -> None:
        sys.settrace(trace)
        action()

    return traced


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
@pytest.mark.parametrize("overwrite", [False, True], ids=["first", "overwrite"])
def test_killed_at_every_line_of_saving(overwrite, tmp_path):
    old, new = wrapped(n_ctx=2), wrapped(seed=1, method="maple")
    expected_old, expected_new = features(old), features(new)
    kept, folder = tmp_path / "kept", tmp_path / "folder"
    kept.mkdir()
    if overwrite:
        old.save_pretrained(kept)
    seen = {"old": 0, "new": 0, "none": 0, "torn": 0}
    for number in range(10_000):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(kept, folder)
        status = in_a_child(killed_at_line(number, lambda: new.save_pretrained(folder)))
        assert status in (0, -signal.SIGKILL)
        if overwrite or {CONFIG, WEIGHTS} <= names(folder):
            found = features(load(folder))
            is_new = torch.equal(found, expected_new)
            assert is_new or (overwrite and torch.equal(found, expected_old))
            seen["new" if is_new else "old"] += 1
            if is_new and json.loads((folder / CONFIG).read_text())["method"] != "maple":
                seen["torn"] += 1
                assert torch.equal(features(PeftModel.from_pretrained(build("4/4"), str(folder))), found)
        else:
            with pytest.raises(ValueError, match="holds no adapter_"):
                load(folder)
            seen["none"] += 1
        if status == 0:
            break
    assert status == 0
    assert seen["new"] > 1
    assert seen["old" if overwrite else "none"] > 10
    assert (seen["torn"] > 0) is overwrite  # the state that the metadata of the tensors is there for
    new.save_pretrained(folder)
    assert names(folder) == {CONFIG, WEIGHTS, CARD}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_at_any_time_while_saving_in_a_loop(tmp_path):
    adapters = [wrapped(seed, n_ctx=2 + seed) for seed in range(2)]
    expected = [features(adapter) for adapter in adapters]
    started = time.perf_counter()
    assert in_a_child(lambda: adapters[0].save_pretrained(tmp_path)) == 0
    duration = time.perf_counter() - started
    chance = random.Random(0)
    seen, kills, half_way = set(), 0, 0
    for _ in range(50):
        child = os.fork()
        if child == 0:
            while True:
                for adapter in reversed(adapters):
                    adapter.save_pretrained(tmp_path)
        time.sleep(chance.uniform(0, 3 * duration))
        os.kill(child, signal.SIGKILL)
        kills += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        half_way += any(name.endswith(".tmp") for name in names(tmp_path))
        for abandoned in tmp_path.glob(".*.tmp"):
            abandoned.unlink()
        found = features(load(tmp_path))
        (which,) = [i for i, value in enumerate(expected) if torch.equal(value, found)]
        seen.add(which)
    assert kills == 50
    assert half_way > 5
    assert seen == {0, 1}


def test_what_killed_processes_left_is_cleared_away(tmp_path):
    leftover, recent = tmp_path / f".{WEIGHTS}.1.tmp", tmp_path / f".{WEIGHTS}.2.tmp"
    for path in (leftover, recent):
        path.touch()
    os.utime(leftover, (0, 0))
    wrapped().save_pretrained(tmp_path)
    assert names(tmp_path) == {CONFIG, WEIGHTS, CARD, recent.name}  # that may be another process at work


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_full_disk(step, tmp_path, monkeypatch):
    old, new = wrapped(n_ctx=2), wrapped(seed=1)
    old.save_pretrained(tmp_path)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr(Path, "open", full)
        else:
            patch.setattr(os, step, full)
        with pytest.raises(OSError, match="No space left on device.*: free some space and save again") as raised:
            new.save_pretrained(tmp_path)
    assert isinstance(raised.value, ValueError)
    assert torch.equal(features(load(tmp_path)), features(old))
    assert names(tmp_path) == {CONFIG, WEIGHTS, CARD}


def test_a_disk_that_is_really_full(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs to mount a small file system")
    try:
        old, new = wrapped(n_ctx=2), wrapped(seed=1, n_ctx=18)
        old.save_pretrained(tmp_path)
        with pytest.raises(OSError, match="No space left on device.*: free some space and save again"):
            new.save_pretrained(tmp_path)
        assert torch.equal(features(load(tmp_path)), features(old))
        assert names(tmp_path) == {CONFIG, WEIGHTS, CARD}
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


# files that are out to harm


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_files_that_change_between_a_look_and_the_next(tmp_path):
    wrapped().save_pretrained(tmp_path)
    config = PromptConfig.from_pretrained(tmp_path)
    wrapped(seed=1).save_pretrained(tmp_path)
    model = peft.get_peft_model(build("4/4"), config).eval()
    content = bytearray((tmp_path / WEIGHTS).read_bytes())
    content[-3] ^= 1
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(ValueError, match="is damaged .its checksum differs"):
        model.load_adapter(tmp_path, "default")
    wrapped(seed=1).save_pretrained(tmp_path)
    model.load_adapter(tmp_path, "default")
    assert torch.equal(features(model), features(wrapped(seed=1)))


def test_damaged_tensors(tmp_path):
    wrapped().save_pretrained(tmp_path)
    weights = tmp_path / WEIGHTS
    content = weights.read_bytes()
    for size in (0, 7, 8, 100, len(content) // 2, len(content) - 1):
        weights.write_bytes(content[:size])
        refused(tmp_path, "adapter_model.safetensors is damaged .*: copy it again")
    weights.write_bytes((10 * 2**30).to_bytes(8, "little") + content[8:])
    refused(tmp_path, "adapter_model.safetensors is damaged .*: copy it again")
    weights.write_bytes(pickle.dumps({"vilt_text": [0.0]}))
    refused(tmp_path, "is a pickle, not safetensors")
    weights.write_bytes(content)
    for bit in (8 * len(content) - 1, 8 * (len(content) - 2000), 8 * (len(content) - 5001)):
        flip(weights, bit)
        refused(tmp_path, r"is damaged \(its checksum differs\): copy it again|holds NaN or infinity")
        flip(weights, bit)
    assert torch.equal(features(load(tmp_path)), features(wrapped()))
    save_file({f"tensor {i}": torch.zeros(1) for i in range(1000)}, weights)
    refused(tmp_path, "holds 1000 tensors: it is not an adapter")
    weights.unlink()
    weights.mkdir()
    refused(tmp_path, "holds no adapter_model.safetensors")


def test_tensors_that_are_no_numbers(tmp_path):
    save_by_peft_alone(wrapped(), tmp_path)
    tensors = tensors_in((tmp_path / WEIGHTS).read_bytes())
    key = "base_model.model.prompts.vilt_text"
    for value in (float("nan"), float("inf"), -float("inf")):
        changed = tensors[key].clone()
        changed[1, 2, 3] = value
        save_file({**tensors, key: changed}, tmp_path / WEIGHTS)
        refused(tmp_path, "vilt_text holds NaN or infinity")
    save_file({**tensors, key: tensors[key].int()}, tmp_path / WEIGHTS)
    refused(tmp_path, "vilt_text is of type torch.int32, expected floating-point numbers")


def test_half_precision_tensors_load(tmp_path):
    save_by_peft_alone(wrapped(), tmp_path)
    tensors = {key: tensor.bfloat16() for key, tensor in load_file(tmp_path / WEIGHTS).items()}
    save_file(tensors, tmp_path / WEIGHTS)
    torch.testing.assert_close(features(load(tmp_path)), features(wrapped()), rtol=0.05, atol=0.05)


def test_vectors_without_end(tmp_path):
    save_by_peft_alone(wrapped(method="vpt_deep"), tmp_path)
    rewrite_config(tmp_path, n_ctx_vision=10**18)
    refused(tmp_path, "the prompts have more elements than PyTorch can count")


def test_notes_may_be_changed_with_a_warning(tmp_path):
    wrapped().save_pretrained(tmp_path)
    rewrite_config(tmp_path, base_model="ViT-B-16", future="new")
    changed = "was changed after it was saved: base_model is 'ViT-B-16', None was saved"
    with (
        pytest.warns(UserWarning, match=changed),
        pytest.warns(UserWarning, match=r"Unexpected keyword arguments \['future'\]"),
    ):
        loaded = load(tmp_path)
    assert loaded.peft_config["default"].base_model == "ViT-B-16"
    assert torch.equal(features(loaded), features(wrapped()))


def mutate(content: bytes, chance: random.Random) -> bytes:
    """One change of a file: bits, bytes, pieces."""
    data = bytearray(content)
    at, size = chance.randrange(len(data)), chance.choice([1, 1, 2, 8, 64, 1000])
    kind = chance.randrange(7)
    if kind == 0:
        data[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        data[at] = chance.randrange(256)
    elif kind == 2:
        del data[at:]
    elif kind == 3:
        del data[at : at + size]
    elif kind == 4:
        data[at:at] = chance.randbytes(size)
    elif kind == 5:
        data[at : at + size] = bytes(len(data[at : at + size]))
    else:
        data[at:at] = data[at : at + size]
    return bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("writer", ["us", "PEFT"])
def test_mutated_files(writer, tmp_path):
    model = wrapped()
    model.save_pretrained(tmp_path) if writer == "us" else save_by_peft_alone(model, tmp_path)
    expected, structure = features(model), settings(model)
    originals = {name: (tmp_path / name).read_bytes() for name in (CONFIG, WEIGHTS)}
    chance = random.Random(0)
    outcomes = {"refused": 0, "same": 0, "other values": 0}
    base = build("4/4")
    for _ in range(300):
        name = chance.choice([CONFIG, WEIGHTS])
        # Half of the changes go to where tensors do not lie, which most would miss.
        limit = chance.choice([len(originals[name]), 2000])
        content = mutate(originals[name][:limit], chance) + originals[name][limit:]
        (tmp_path / name).write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loaded = vilt_prompt.from_pretrained(base, tmp_path)
        except (ValueError, TypeError):
            assert type(base) is type(build("4/4"))
            outcomes["refused"] += 1
        else:
            assert settings(loaded) == structure
            outcomes["same" if torch.equal(features(loaded), expected) else "other values"] += 1
            vilt_prompt.unwrap(loaded)
        (tmp_path / name).write_bytes(originals[name])
    assert outcomes["refused"] > 100
    if writer == "us":  # without a checksum, nothing tells a changed value from another one
        assert outcomes["other values"] == 0
    assert torch.equal(features(vilt_prompt.from_pretrained(base, tmp_path)), expected)


def settings(model: PeftModel) -> dict[str, object]:
    return {name: getattr(model.peft_config["default"], name) for name in ("method", *vilt_prompt.config.STRUCTURE)}


REFUSED = {
    "config of nothing": (
        lambda w: PromptConfig.from_pretrained(w.folder / "empty"),
        ValueError,
        "holds no adapter_config.json",
    ),
    "an empty folder": (
        lambda w: from_pretrained(w.bare, w.folder / "empty"),
        ValueError,
        r"empty holds no adapter_config.json: give the folder that save_pretrained\(...\) wrote",
    ),
    "a folder of folders": (
        lambda w: from_pretrained(w.bare, w.folder / "holder"),
        ValueError,
        r"its subfolders with an adapter are: ucf101 \(pass subfolder=\)",
    ),
    "a damaged config": (
        lambda w: from_pretrained(w.bare, w.damaged_config),
        ValueError,
        "adapter_config.json is damaged .*: copy it again, or download it again with force_download=True",
    ),
    "a config of a list": (lambda w: from_pretrained(w.bare, w.list_config), ValueError, "is damaged .*no peft_type"),
    "a config without a type": (lambda w: from_pretrained(w.bare, w.untyped_config), ValueError, "no peft_type"),
    "a config of LoRA": (
        lambda w: from_pretrained(w.bare, w.lora_config),
        ValueError,
        "of type LORA, not VILT_PROMPT: load it with PeftModel.from_pretrained",
    ),
    "a config of other tensors": (
        lambda w: from_pretrained(w.bare, w.changed_config),
        ValueError,
        "do not belong together: K is 1, 2 was saved. Copy both files again",
    ),
    "no config": (
        lambda w: from_pretrained(w.bare, w.lacking_config),
        ValueError,
        "holds no adapter_config.json",
    ),
    "damaged tensors": (
        lambda w: from_pretrained(w.bare, w.damaged_tensors),
        ValueError,
        "adapter_model.safetensors is damaged .*: copy it again",
    ),
    "a flipped bit": (
        lambda w: from_pretrained(w.bare, w.flipped_bit),
        ValueError,
        r"adapter_model.safetensors is damaged \(its checksum differs\): copy it again",
    ),
    "no tensors": (
        lambda w: from_pretrained(w.bare, w.no_tensors_file),
        ValueError,
        "holds no adapter_model.safetensors",
    ),
    "a pickle": (
        lambda w: from_pretrained(w.bare, w.pickle),
        ValueError,
        r"pickles are never loaded. Save the adapter again with save_pretrained\(...\)",
    ),
    "a pickle in disguise": (
        lambda w: from_pretrained(w.bare, w.disguised),
        ValueError,
        "is a pickle, not safetensors: pickles are never loaded",
    ),
    "PEFT's own loading": (
        lambda w: PeftModel.from_pretrained(w.bare, w.damaged_tensors),
        ValueError,
        "adapter_model.safetensors is damaged",
    ),
    "rebuild from nothing": (
        lambda w: create_model_and_transforms(w.folder / "empty"),
        ValueError,
        "holds no adapter_config.json",
    ),
    "convert prompts that diverged": (
        lambda w: convert(w.folder / "nan.pth", w.bare),
        ValueError,
        "vilt_text holds NaN or infinity. Training has diverged.*go back to an earlier state",
    ),
    "load damaged tensors": (
        lambda w: w.model.load_adapter(w.flipped_bit, "third"),
        ValueError,
        "checksum differs",
    ),
    "save what diverged": (
        lambda w: w.diverged.save_pretrained(w.folder / "new"),
        ValueError,
        "vilt_text holds NaN or infinity. Training has diverged",
    ),
    "push what diverged": (
        lambda w: push_to_hub(w.diverged, "me/prompts"),
        ValueError,
        "Training has diverged",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
