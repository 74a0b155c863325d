"""The record in the metadata of `adapter_model.safetensors`: the adapter's config, and a checksum of all of it.

The record also names the config file that the adapter replaces, by its digest.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from vilt_prompt.config import JsonObject

RECORD = "vilt_prompt"  # its key in the metadata
AGAIN = "copy it again, or download it again with force_download=True"


def serialise(config: str, tensors: dict[str, Tensor], replaces: str | None = None) -> bytes:
    """The bytes of `adapter_model.safetensors`, with the config and the digest of the config that it replaces."""
    config = json.dumps(json.loads(config), sort_keys=True, separators=(",", ":"))
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in sorted(tensors.items())}
    record = {"config": config, "replaces": replaces, "sha256": checksum(config, replaces, tensors)}
    content = save(tensors, metadata={"format": "pt", RECORD: json.dumps(record)})
    # safetensors writes metadata in any order. The same adapter must give the same bytes, so that pushing it again
    # makes no commit on the Hub.
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def read_record(text: str, weights: Path) -> tuple[dict[str, str | None], JsonObject]:
    """Read the record in the metadata of a file.

    Args:
        text: The record.
        weights: The file, for messages.

    Returns:
        The record, and the fields of the config in it.

    Raises:
        ValueError: If the record is damaged.
    """
    try:
        record = json.loads(text)
        record = {name: record[name] for name in ("config", "replaces", "sha256")}
        saved = json.loads(record["config"])
        if not isinstance(saved, dict):
            raise ValueError("its config is not a JSON object")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{weights} is damaged ({error!r} in its metadata): {AGAIN}") from error
    return record, saved


def checksum(config: str | None, replaces: str | None, tensors: dict[str, Tensor]) -> str:
    """The checksum of a record's other entries, and of the tensors beside it."""
    total = hashlib.sha256(json.dumps([config, replaces]).encode())
    for key, tensor in sorted(tensors.items()):
        total.update(json.dumps([key, str(tensor.dtype), list(tensor.shape)]).encode())
        total.update(tensor.view(torch.uint8).numpy().data)
    return total.hexdigest()


def digest(content: bytes) -> str:
    """The digest of a config file, by which a record names it."""
    return hashlib.sha256(content).hexdigest()


def config_text(config: JsonObject) -> str:
    """The text of `adapter_config.json`, as PEFT writes it."""
    return json.dumps(config, indent=2, sort_keys=True)
