"""Runs the recognition and the retrieval script one after the other in the processes that torchrun started.

Arguments: recognition.py's, `--`, retrieval.py's.
"""

from __future__ import annotations

import sys

import torch

from examples.paper import recognition, retrieval
from examples.startup import ranks


def main() -> None:
    torch.set_num_threads(1)
    arguments = sys.argv[1:]
    border = arguments.index("--")
    for script, own in ((recognition, arguments[:border]), (retrieval, arguments[border + 1 :])):
        sys.argv = [script.__name__, *own]
        script.main()
    ranks.stop()


if __name__ == "__main__":
    main()
