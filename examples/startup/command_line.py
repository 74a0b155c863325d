"""How the scripts talk: `--help` at once, defaults in the help, one line of news or of an error.

Nothing slow is imported here: a script reads its options before torch and open_clip, which take ten seconds.
"""

import argparse
import atexit
import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from examples.startup.run_log import LOGGER

INTERRUPTED = 130  # what shells report for Ctrl-C


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, where there is one to show."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        nothing = action.default is None or action.default is False
        return action.help if nothing else super()._get_help_string(action)


def announce(line: str | None) -> None:
    """Prints a line, if there is one; of several processes, the first one does. It also goes to the run's log."""
    if line and int(os.environ.get("RANK", "0")) == 0:
        print(line)
        LOGGER.info(line)


def before_imports(arguments: Callable[[], object]) -> None:
    """Reads the options before the slow imports of a script.

    So `--help` and wrong options are answered at once. From here on Ctrl-C ends the script with one line.

    Args:
        arguments: Reads the command line. The script calls it again when it starts its work.
    """
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # A process that loads videos leaves the news to this one.
            raise KeyboardInterrupt
        # The line comes last, below a progress bar that is closed on the way out; pressing twice gives one, too.
        atexit.unregister(_say_stopped)
        atexit.register(_say_stopped)
        sys.exit(INTERRUPTED)

    signal.signal(signal.SIGINT, stop)
    _run(arguments)


def run_script(main: Callable[[], None]) -> None:
    """Runs a script; anything wrong with its input, a full disk and a full memory end it with one line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # Names of files may be in no encoding at all.
    try:
        _run(main)
    finally:
        if "torch.distributed" in sys.modules:
            from examples.startup import ranks  # imports torch, see above

            ranks.stop()


def _run(main: Callable[[], object]) -> None:
    try:
        main()
    except KeyboardInterrupt:
        _say_stopped()
        sys.exit(INTERRUPTED)
    except Exception as error:
        line = _full_disk(error)
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
            line = "out of memory: lower --frames-per-chunk, --micro-batch, --batch or --frames"
        if line is None and not isinstance(error, OSError | ValueError):
            raise
        sys.exit(f"{Path(sys.argv[0]).name}: error: {line or ' '.join(str(error).split())}")


def _say_stopped() -> None:
    print(f"{chr(10) if sys.stderr.isatty() else ''}{Path(sys.argv[0]).name}: stopped", file=sys.stderr)


def _full_disk(error: BaseException | None) -> str | None:
    """A line if an error, or one that it came from, says that the disk is full. torch and safetensors wrap them."""
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error):
            file = f" that holds {error.filename}" if isinstance(error, OSError) and error.filename else ""
            return f"the disk{file} is full: make room, or choose another --out"
        error = error.__cause__ or error.__context__
    return None
