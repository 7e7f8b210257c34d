"""Entry point of the ``plugrun`` program and of ``python -m plugrun``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:] in (["--version"], ["-v"]):  # scripts ask often: answer before the parser is loaded
        from plugrun import __version__

        sys.stdout.write(f"plugrun version {__version__}\n")
        return
    from plugrun.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
