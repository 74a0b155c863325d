"""Fill the tables of `docs/paper-tables.md`: the paper's numbers beside your runs'.

  python -m docs.paper_tables                                                # writes the tables again
  python -m docs.paper_tables few-shot/HMDB-51/16/vilt runs/hmdb51-16-vilt   # adds a result

Several folders of one cell, such as one for each seed, are averaged. The results are kept in `paper_results.json`.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import open_clip
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import vilt_prompt
from examples.page_tables import fill, markdown
from examples.paper.protocols.splits import harmonic_mean

PAGE = Path(__file__).with_name("paper-tables.md")
KEPT = Path(__file__).with_name("paper_results.json")
SPEED = 30e12  # floating-point operations in a second that a GPU of 24 GB is taken to sustain in bfloat16
METHODS = ("independent", "multimodal", "vilt")


class DataSet(NamedTuple):
    """Sizes: classes, base classes, training videos and test videos, of split 1 where there are several."""

    classes: int
    base: int
    train: int
    test: int


DATA = {
    "HMDB-51": DataSet(51, 26, 3_570, 1_530),
    "UCF-101": DataSet(101, 51, 9_537, 3_783),
    "SSv2": DataSet(174, 87, 168_913, 24_777),
    "Kinetics-400": DataSet(400, 200, 240_000, 20_000),
}
SHOTS = (2, 4, 8, 16)
# The paper's Tables 1 to 4, in percent.
FEW_SHOT = {
    "HMDB-51": {"independent": (57.8, 60.0, 64.8, 67.4), "multimodal": (58.8, 61.6, 66.2, 68.0),
                "vilt": (60.6, 61.9, 66.9, 69.6)},
    "UCF-101": {"independent": (84.0, 87.1, 90.4, 93.1), "multimodal": (85.2, 87.9, 91.0, 93.8),
                "vilt": (85.3, 90.0, 91.3, 93.8)},
    "SSv2": {"independent": (7.3, 8.1, 9.8, 13.0), "multimodal": (7.7, 9.2, 10.2, 13.0),
             "vilt": (7.8, 9.4, 10.3, 13.2)},
}  # fmt: skip
SUPERVISED = {"Kinetics-400": (77.6, 94.5)}
ZERO_SHOT = {"HMDB-51": "45.3 ± 0.9", "UCF-101": "73.6 ± 1.1"}
BASE_TO_NOVEL = {
    "HMDB-51": {"independent": (75.1, 55.8, 64.1), "multimodal": (75.8, 57.2, 65.2), "vilt": (76.7, 57.5, 65.7)},
    "UCF-101": {"independent": (95.3, 67.8, 79.3), "multimodal": (95.6, 68.4, 80.2), "vilt": (95.2, 70.5, 81.0)},
    "SSv2": {"independent": (16.5, 12.4, 14.1), "multimodal": (17.3, 12.6, 14.6), "vilt": (17.3, 12.8, 14.7)},
    "Kinetics-400": {"independent": (77.2, 61.0, 68.2), "multimodal": (77.8, 61.4, 68.6),
                     "vilt": (77.4, 63.0, 69.5)},
}  # fmt: skip


def cells() -> list[str]:
    """The names of all cells that a run can fill."""
    few = [f"few-shot/{data}/{K}/{method}" for data in FEW_SHOT for K in SHOTS for method in METHODS]
    novel = [f"base-to-novel/{data}/{method}" for data in BASE_TO_NOVEL for method in METHODS]
    others = [f"supervised/{data}" for data in SUPERVISED] + [f"zero-shot/{data}" for data in ZERO_SHOT]
    return few + others + novel


def read(cell: str, runs: Sequence[Path]) -> list[float]:
    """The numbers of a cell in percent, averaged over runs.

    Args:
        cell: One of `cells()`.
        runs: Folders of `python -m examples.paper.recognition`, each with a `results.json`.

    Returns:
        Top-1; under `supervised` top-1 and top-5; under `base-to-novel` base, novel and their harmonic mean.

    Raises:
        ValueError: If there is no such cell, or a run is of another setting.
    """
    if cell not in cells():
        raise ValueError(f"there is no cell {cell!r}: choose one of {', '.join(cells())}")
    setting, data, *_ = cell.split("/")
    names = {
        "few-shot": ["test top-1"],
        "supervised": ["test top-1", "test top-5"],
        "base-to-novel": ["base top-1", "novel top-1"],
    }.get(setting)
    columns: list[list[float]] = []
    for run in runs:
        results = json.loads((run / "results.json").read_text(encoding="utf-8"))["metrics"]
        if names is None:  # The result is named after the folder of the videos.
            short = data[:4].lower().rstrip("-")
            wanted = [name for name in results if name.endswith(" mean top-1") and short in name.lower()]
        else:
            wanted = [name for name in names if name in results]
        if len(wanted) != len(names or wanted[:1] or [cell]):
            raise ValueError(f"{run / 'results.json'} is not a run for {cell}: it has {', '.join(results)}")
        columns.append([results[name] for name in wanted])
    means = [sum(column) / len(column) for column in zip(*columns, strict=True)]
    return [*means, harmonic_mean(*means)] if setting == "base-to-novel" else means


@functools.cache
def flops(n_ctx: int, depth: int | None) -> tuple[float, float]:
    """Floating-point operations of ViT-B/16 for one frame: inference, and a training step with checkpointing.

    Checkpointing runs the forward pass once more.
    """
    model = vilt_prompt.wrap(open_clip.create_model("ViT-B-16", device="meta"), K=6, n_ctx=n_ctx, depth=depth)
    counted: list[float] = []
    for training in (False, True):
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.set_grad_enabled(training):
            features = model.encode_video(torch.empty(1, 1, 3, 224, 224, device="meta"))
            if training:
                features.sum().backward()
        counted.append(float(counter.get_total_flops()))
    inference, step = counted
    return inference, step + inference


def hours(videos: int, tests: int, epochs: int, frames: int, prompts: tuple[int, int | None] = (10, None)) -> str:
    """Hours of one run on one GPU, without decoding.

    Args:
        videos: Training videos in an epoch.
        tests: Test views in all, of one test.
        epochs: Times that each training video is seen; there is a test every five of them, and after the last.
        frames: Of each clip.
        prompts: `n_ctx` and `depth`.
    """
    inference, step = flops(*prompts)
    work = frames * (videos * epochs * step + tests * -(-epochs // 5) * inference)
    return f"{work / SPEED / 3600:.1f}"


def few_shot(kept: dict[str, list[float]]) -> list[list[str]]:
    """Table 1."""
    rows = [["data set", "K", *_columns(METHODS), "hours"]]
    for data, methods in FEW_SHOT.items():
        for n, K in enumerate(SHOTS):
            values = (_pair(methods[method][n], kept, f"few-shot/{data}/{K}/{method}", 0) for method in METHODS)
            time = hours(K * DATA[data].classes, DATA[data].test, 30, 32)
            rows.append([data, str(K), *(cell for pair in values for cell in pair), time])
    return rows


def supervised(kept: dict[str, list[float]]) -> list[list[str]]:
    """Table 2."""
    rows = [["data set", *_columns(("top-1", "top-5")), "hours"]]
    for data, paper in SUPERVISED.items():
        values = (_pair(number, kept, f"supervised/{data}", n) for n, number in enumerate(paper))
        size = DATA[data]
        rows.append([data, *(cell for pair in values for cell in pair), hours(size.train, size.test, 30, 16)])
    return rows


def zero_shot(kept: dict[str, list[float]]) -> list[list[str]]:
    """Table 3. One training serves both data sets."""
    rows = [["data set", "paper", "here"]]
    return rows + [[data, *_pair(paper, kept, f"zero-shot/{data}", 0)] for data, paper in ZERO_SHOT.items()]


def base_to_novel(kept: dict[str, list[float]]) -> list[list[str]]:
    """Table 4. The hours are the sum over three seeds."""
    rows = [["data set", "method", *_columns(("base", "novel", "HM")), "hours"]]
    for data, methods in BASE_TO_NOVEL.items():
        size = DATA[data]
        time = f"{3 * float(hours(16 * size.base, size.test, 12, 32, (16, 10))):.1f}"
        for method in METHODS:
            values = (
                _pair(number, kept, f"base-to-novel/{data}/{method}", n) for n, number in enumerate(methods[method])
            )
            rows.append([data, method, *(cell for pair in values for cell in pair), time])
    return rows


def _columns(names: Sequence[str]) -> list[str]:
    return [f"{name}, {side}" for name in names for side in ("paper", "here")]


def _pair(paper: object, kept: dict[str, list[float]], cell: str, n: int) -> tuple[str, str]:
    return str(paper), f"{kept[cell][n]:.1f}" if cell in kept else ""


def filled(page: str, kept: dict[str, list[float]]) -> str:
    """The page with its tables replaced.

    Raises:
        ValueError: If a mark does not name a table.
    """
    tables = {"few-shot": few_shot, "supervised": supervised, "zero-shot": zero_shot, "base-to-novel": base_to_novel}

    def make(name: str) -> str:
        header, *rows = tables[name](kept)
        return markdown(header, rows)

    return fill(page, "paper", tables, make)


def main() -> None:
    """Adds a result, if one is given, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cell", nargs="?", help="such as few-shot/HMDB-51/16/vilt")
    parser.add_argument("runs", nargs="*", type=Path, help="folders with results.json, which are averaged")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # open_clip warns that there are no weights
    kept: dict[str, list[float]] = json.loads(KEPT.read_text(encoding="utf-8"))
    if args.cell is not None:
        try:
            if not args.runs:
                raise ValueError(f"no run was given for {args.cell}: add the folders that hold its results.json")
            kept[args.cell] = read(args.cell, args.runs)
        except (OSError, ValueError) as error:
            sys.exit(f"paper_tables.py: error: {error}")
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), kept), encoding="utf-8")


if __name__ == "__main__":
    main()
