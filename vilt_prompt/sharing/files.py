"""The three files of an adapter, in PEFT's layout. A crash while writing cannot damage them, and reading checks them.

`adapter_model.safetensors` also contains the content of `adapter_config.json` and a checksum. An adapter is saved in
the moment when this file is put in place. If the process dies before `adapter_config.json` is replaced, the config
inside `adapter_model.safetensors` counts.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vilt_prompt.config import NOTES, PEFT_TYPE, STRUCTURE, JsonObject
from vilt_prompt.sharing.errors import AdapterIOError
from vilt_prompt.sharing.record import AGAIN, RECORD, checksum, config_text, digest, read_record, serialise

CARD_NAME = "README.md"

LARGEST_CONFIG = 2**20  # bytes; the library's configs have about 5,000
MOST_TENSORS = 100  # an adapter has at most 6; messages that name tensors must stay readable
ABANDONED = 3600.0  # seconds after which a temporary file must be left over from a dead process


@dataclass(frozen=True)
class AdapterFiles:
    """The config and the tensors of one adapter, read and checked together."""

    folder: Path
    source: str  # a folder or a repository, as the user gave it
    config: JsonObject
    tensors: dict[str, Tensor]
    version: tuple[int, ...]  # of the file of the tensors, when it was read

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        return shapes_of(self.tensors)

    def are_unchanged(self) -> bool:
        """Whether the folder still holds the file that the tensors were read from."""
        weights = self.folder / SAFETENSORS_WEIGHTS_NAME
        return weights.is_file() and _version(weights) == self.version


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor."""
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def read(folder: Path, source: str) -> AdapterFiles:
    """Read and check the config and the tensors of an adapter.

    Raises:
        ValueError: If a file is missing, damaged or a pickle, the two do not belong together, or a tensor is not
            finite.
    """
    for name in (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise ValueError(_missing(folder, name))
    content, config = _read_config(folder / CONFIG_NAME)
    _check_type(config, folder)
    weights = folder / SAFETENSORS_WEIGHTS_NAME
    version = _version(weights)
    with _opened(weights) as file:
        keys = file.keys()  # safetensors' files cannot be iterated over
        if len(keys) > MOST_TENSORS:
            raise ValueError(f"{weights} holds {len(keys)} tensors: it is not an adapter of this library")
        metadata = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in keys}
    is_damaged = False
    if RECORD in metadata:  # PEFT's own saving leaves none
        record, saved = read_record(metadata[RECORD], weights)
        is_damaged = checksum(record["config"], record["replaces"], tensors) != record["sha256"]
        if record["replaces"] == digest(content):  # the process died between the two files
            config = saved
        elif config != saved:
            _compare(config, saved, folder)
    missing = [name for name in ("method", *STRUCTURE) if name not in config]
    if missing:
        raise ValueError(f"{folder / CONFIG_NAME} lacks {', '.join(missing)}: {AGAIN}")
    check_numbers(tensors, str(weights))
    if is_damaged:
        raise ValueError(f"{weights} is damaged (its checksum differs): {AGAIN}")
    return AdapterFiles(folder, source, config, tensors, version)


def write(folder: Path, config: JsonObject, tensors: dict[str, Tensor], card: str) -> None:
    """Save an adapter. The card becomes the README if the folder has none.

    If the process dies at any moment, the folder contains either the previous adapter, if there was one, or the new
    one, and never parts of both.

    Args:
        folder: The folder, which is created if it does not exist.
        config: The fields of the config.
        tensors: The tensors by name.
        card: The model card.

    Raises:
        ValueError: If the folder holds a PEFT adapter of another type, which is not replaced.
        AdapterIOError: If the disk is full or fails.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        text = config_text(config)
        replaces = _former_config(folder)
        if replaces == digest(text.encode()):
            replaces = None
        with (
            _temporary(folder, CONFIG_NAME, text.encode()) as new_config,
            _temporary(folder, SAFETENSORS_WEIGHTS_NAME, serialise(text, tensors, replaces)) as new_weights,
            _temporary(folder, CARD_NAME, card.encode()) as new_card,
        ):
            if not (folder / CARD_NAME).exists():
                os.replace(new_card, folder / CARD_NAME)
            if replaces is None:  # a config without tensors is not an adapter, and an equal config changes nothing
                os.replace(new_config, folder / CONFIG_NAME)
            os.replace(new_weights, folder / SAFETENSORS_WEIGHTS_NAME)  # from here on it is the new adapter
            if replaces is not None:
                os.replace(new_config, folder / CONFIG_NAME)
    except OSError as error:
        advice = "free some space" if error.errno == errno.ENOSPC else "put that right"
        raise AdapterIOError(
            f"the adapter could not be saved to {folder} ({error}): {advice} and save again. The files that the folder "
            "held are unchanged"
        ) from error


def check_numbers(tensors: dict[str, Tensor], what: str) -> None:
    """Raise a ValueError if a tensor is not floating-point, is on the meta device, or contains NaN or infinity."""
    for key, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{what}: {key} is of type {tensor.dtype}, expected floating-point numbers")
        if tensor.is_meta:
            raise ValueError(f"{what}: {key} is on the meta device and has no values: give the model a real one first")
        if not tensor.isfinite().all():
            raise ValueError(
                f"{what}: {key} holds NaN or infinity. Training has diverged, or it is damaged: go back to an earlier "
                "state"
            )


def _former_config(folder: Path) -> str | None:
    """The digest of the config in the folder, or None if there is no valid one."""
    path = folder / CONFIG_NAME
    if not path.is_file():
        return None
    try:
        content, config = _read_config(path)
    except ValueError:
        return None
    _check_type(config, folder)
    return digest(content)


def _version(path: Path) -> tuple[int, ...]:
    # Files are replaced, not overwritten, so that a new file has another inode.
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _missing(folder: Path, name: str) -> str:
    if name == SAFETENSORS_WEIGHTS_NAME and (folder / WEIGHTS_NAME).is_file():
        return (
            f"{folder} holds {WEIGHTS_NAME} but no {name}: pickles are never loaded. "
            "Save the adapter again with save_pretrained(...)"
        )
    others = ", ".join(sorted(config.parent.name for config in folder.glob(f"*/{CONFIG_NAME}")))
    within = f"; its subfolders with an adapter are: {others} (pass subfolder=)"
    return f"{folder} holds no {name}{within if others else ': give the folder that save_pretrained(...) wrote'}"


def _read_config(path: Path) -> tuple[bytes, JsonObject]:
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise ValueError(f"it is larger than {LARGEST_CONFIG} bytes")
        content = path.read_bytes()
        config = json.loads(content)
        if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
            raise ValueError("it names no peft_type")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): {AGAIN}") from error
    return content, config


def _check_type(config: JsonObject, folder: Path) -> None:
    if config["peft_type"] != PEFT_TYPE:
        raise ValueError(
            f"{folder} holds a PEFT adapter of type {config['peft_type']}, not {PEFT_TYPE.value}: load "
            "it with PeftModel.from_pretrained"
        )


@contextlib.contextmanager
def _opened(weights: Path) -> Iterator[Any]:
    try:
        with safe_open(weights, "pt") as file:
            yield file
    except SafetensorError as error:
        with weights.open("rb") as stream:
            start = stream.read(4)
        if start[:1] == b"\x80" or start == b"PK\x03\x04":
            raise ValueError(f"{weights} is a pickle, not safetensors: pickles are never loaded") from error
        raise ValueError(f"{weights} is damaged ({error}): {AGAIN}") from error


def _compare(config: JsonObject, saved: JsonObject, folder: Path) -> None:
    """Compare the config file with the config that was saved with the tensors.

    A different structure is a ValueError. Differences in other fields are a warning.
    """

    def different(*names: str) -> str:
        pairs = [(name, config.get(name, "missing"), saved.get(name, "missing")) for name in names]
        return "; ".join(
            f"{name} is {shorten(repr(now), 60)}, {shorten(repr(then), 60)} was saved"
            for name, now, then in pairs
            if now != then
        )

    structure, notes = different("peft_type", "method", *STRUCTURE), different(*NOTES)
    if structure:
        raise ValueError(
            f"{CONFIG_NAME} and {SAFETENSORS_WEIGHTS_NAME} in {folder} do not belong together: {structure}. Copy both "
            "files again, from one place"
        )
    if notes:
        warnings.warn(f"{folder / CONFIG_NAME} was changed after it was saved: {notes}", stacklevel=2)


@contextlib.contextmanager
def _temporary(folder: Path, name: str, content: bytes) -> Iterator[Path]:
    """Write a temporary file in the folder, from which it can replace `name`. It is removed at the end."""
    path = folder / f".{name}.{uuid.uuid4().hex}.tmp"
    try:
        with path.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)


def _remove_abandoned(folder: Path) -> None:
    for name in (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME, CARD_NAME):
        for path in folder.glob(f".{name}.*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > ABANDONED:
                    path.unlink()
