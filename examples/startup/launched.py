"""The options of the examples that a launcher starts. Nothing slow is imported, so that `--help` is quick."""

import argparse
from pathlib import Path


def read_options(
    description: str | None, out: str, resume: str, count: str, default: int, what: str
) -> argparse.Namespace:
    """Reads the command line.

    Args:
        description: The docstring of the script.
        out: The default of `--out`.
        resume: What `--resume` goes on from.
        count: An option of the script's own, a number.
        default: Its default.
        what: What it counts.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps (default: %(default)s)")
    parser.add_argument(count, type=int, default=default, help=f"{what} (default: %(default)s)")
    parser.add_argument("--resume", type=Path, help=f"what to go on from, {resume}")
    parser.add_argument("--out", type=Path, default=Path(out), help="default: %(default)s")
    return parser.parse_args()
