"""The record of a run in `results.json`: its results, and everything that they depend on."""

import argparse
import hashlib
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from examples.paper.training.options import all_options
from examples.startup import ranks
from examples.startup.run_log import LOGGER
from examples.video import decoding

PACKAGES = ("vilt-prompt", "torch", "torchvision", "open_clip_torch", "peft", "timm", "transformers", "numpy", "pillow")


def record(
    args: argparse.Namespace, metrics: dict[str, float], frozen: dict[str, float], videos: dict[str, Any]
) -> dict[str, Any]:
    """Returns everything that a result depends on, as plain values.

    Args:
        args: The options of the run.
        metrics: The results, in percent.
        frozen: Likewise, of the model without prompts on the same videos.
        videos: For training and for each test, from `count_videos`.
    """
    return {
        "metrics": metrics,
        "frozen": frozen,
        "videos": videos,
        "options": all_options(args),
        "seed": args.seed,
        "decoder": decoding.decoder(),
        "versions": versions(),
        "machine": machine(),
    }


def note_start(args: argparse.Namespace) -> None:
    """Writes the command, the options, the versions and the machine to the log of the run."""
    if ranks.rank() == 0:
        LOGGER.info(f"command: {shlex.join(sys.argv)}")
        for name, values in (("options", all_options(args)), ("versions", versions()), ("machine", machine())):
            LOGGER.info(f"{name}: {json.dumps(values)}")
        LOGGER.info(f"decoder: {decoding.decoder()}")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the installed packages that a result may depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # A checkout on the path is a package without metadata.
    return found | {"torch": torch.__version__}  # says also for which CUDA it was built


def machine() -> dict[str, Any]:
    """Returns the system, the processor and the GPUs of this process's machine, and how many processes took part."""
    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpus": devices,
        "processes": ranks.world_size(),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def of_listed(tested: int, listed: int) -> str:
    """Returns how many videos a number is of, for its name; empty where none is missing.

    Example:
        >>> of_listed(1487, 1530), of_listed(1530, 1530)
        (' of 1,487 of 1,530 videos', '')
    """
    return "" if tested == listed else f" of {tested:,} of {listed:,} videos"


def shown(metrics: dict[str, float], frozen: dict[str, float], notes: dict[str, str]) -> list[str]:
    """Returns a line for each result, with that of the frozen model beside it.

    Args:
        metrics: The results.
        frozen: Those of the model without prompts; a result that it does not have stands alone.
        notes: From `of_listed`, for results of which videos are missing.
    """
    names = {name: name + notes.get(name, "") for name in metrics}
    width = max(map(len, names.values()))
    return [
        f"{names[name]:{width}}  {value:6.2f}" + (f"  (frozen model {frozen[name]:.2f})" if name in frozen else "")
        for name, value in metrics.items()
    ]


def count_videos(classes: Sequence[str], counts: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Returns sums over the classes, and the counts of each class.

    Example:
        >>> count_videos(["run", "jump"], {"listed": [3, 2], "found": [3, 1]})
        {'listed': 5, 'found': 4, 'classes': {'run': {'listed': 3, 'found': 3}, 'jump': {'listed': 2, 'found': 1}}}
    """
    of_class = {name: {kind: own[number] for kind, own in counts.items()} for number, name in enumerate(classes)}
    return {kind: sum(own) for kind, own in counts.items()} | {"classes": of_class}


def fingerprint(folders: Iterable[Path], videos: Iterable[tuple[Path, object]]) -> str:
    """Returns a hash of the names, the sizes and the labels of videos, the same wherever their folders are.

    Args:
        folders: The folders of the videos, however they are written.
        videos: A file and its label or captions for each video.
    """
    folders = list(folders)
    digest = hashlib.sha256()
    for path, label in videos:
        home = next((folder for folder in folders if path.is_relative_to(folder)), path.parent)
        size = path.stat().st_size
        digest.update(os.fsencode(f"{path.relative_to(home).as_posix()}\n{size}\n{label}\n"))
    return digest.hexdigest()
