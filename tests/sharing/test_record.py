"""The record in the metadata of an adapter's tensors file: what it holds, and records that are damaged."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load as tensors_in
from safetensors.torch import save_file

from tests.support.adapter_files import CONFIG, WEIGHTS, refused, wrapped
from vilt_prompt.sharing.record import serialise

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(3, dtype=torch.float16)}


def record_in(path) -> dict:
    with safe_open(path, framework="pt") as opened:
        return json.loads(opened.metadata()["vilt_prompt"])


def expected_checksum(config: str, replaces: str | None) -> str:
    """The digest of the entries and of each tensor's name, type, shape and bytes, in the order of the names."""
    content = json.dumps([config, replaces]).encode()
    content += b'["a", "torch.float16", [3]]' + TENSORS["a"].numpy().tobytes()
    content += b'["b", "torch.float32", [2, 3]]' + TENSORS["b"].numpy().tobytes()
    return hashlib.sha256(content).hexdigest()


def test_what_the_record_holds(tmp_path):
    (tmp_path / "file").write_bytes(serialise('{"n_ctx": 2, "K": 1}', TENSORS, "abc"))
    config = '{"K":1,"n_ctx":2}'  # in order and without blanks: the same settings give the same bytes
    assert record_in(tmp_path / "file") == {
        "config": config,
        "replaces": "abc",
        "sha256": expected_checksum(config, "abc"),
    }
    read = tensors_in((tmp_path / "file").read_bytes())
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[key], tensor) for key, tensor in TENSORS.items())


def test_equal_adapters_give_equal_bytes():
    """safetensors alone would order its metadata by chance."""
    first = serialise('{"K": 1, "n_ctx": 2}', TENSORS)
    for _ in range(8):
        assert serialise('{"n_ctx":2,"K":1}', dict(reversed(TENSORS.items()))) == first
    assert serialise('{"K": 2, "n_ctx": 2}', TENSORS) != first
    assert int.from_bytes(first[:8], "little") % 8 == 0  # the header ends where numbers of any type may begin


def test_the_record_names_the_config_that_it_replaces(tmp_path):
    wrapped().save_pretrained(tmp_path)
    assert record_in(tmp_path / WEIGHTS)["replaces"] is None
    before = hashlib.sha256((tmp_path / CONFIG).read_bytes()).hexdigest()
    wrapped(seed=1, K=3).save_pretrained(tmp_path)
    assert record_in(tmp_path / WEIGHTS)["replaces"] == before


RECORDS = {
    "no JSON": ("{", "JSONDecodeError"),
    "nothing": ("{}", "KeyError.'config'."),
    "a config that is a list": (
        json.dumps({"config": "[]", "replaces": None, "sha256": ""}),
        "its config is not a JSON object",
    ),
    "a config that is not a text": (json.dumps({"config": {}, "replaces": None, "sha256": ""}), "TypeError"),
}


@pytest.mark.parametrize(("record", "reason"), RECORDS.values(), ids=RECORDS)
def test_a_damaged_record_beside_the_tensors(record, reason, tmp_path):
    wrapped().save_pretrained(tmp_path)
    # Not `load_file`, which maps the file that is overwritten.
    tensors = tensors_in((tmp_path / WEIGHTS).read_bytes())
    save_file(tensors, tmp_path / WEIGHTS, metadata={"format": "pt", "vilt_prompt": record})
    refused(tmp_path, rf"adapter_model.safetensors is damaged \(.*{reason}.* in its metadata\): copy it again")
