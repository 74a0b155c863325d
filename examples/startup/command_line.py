"""How the scripts talk: defaults in the help, one line of news from several processes, errors in one line."""

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path

from examples.startup import ranks


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, where there is one to show."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        nothing = action.default is None or action.default is False
        return action.help if nothing else super()._get_help_string(action)


def announce(line: str | None) -> None:
    """Prints a line, if there is one, once."""
    if line and ranks.rank() == 0:
        print(line)


def run_script(main: Callable[[], None]) -> None:
    """Run a script. An error in its input ends it with one line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # Names of files may be in no encoding at all.
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        sys.exit(f"{Path(sys.argv[0]).name}: stopped")
    finally:
        ranks.stop()
