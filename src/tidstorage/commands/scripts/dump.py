"""``tidstorage-dump HOST PORT``: prints what a daemon publishes, as a dict literal."""

import argparse
import sys
from collections.abc import Sequence

from tidstorage.commands import console
from tidstorage.commands.entry import run_reporting_errors
from tidstorage.wire import client, protocol


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point of the script."""
    parser = argparse.ArgumentParser(
        prog="tidstorage-dump",
        description="Print what a daemon publishes: {storage id: last TID}.",
    )
    parser.add_argument(
        "host",
        metavar="HOST",
        nargs="?",
        default="127.0.0.1",
        help="where the daemon listens (default: %(default)s)",
    )
    parser.add_argument(
        "port",
        metavar="PORT",
        nargs="?",
        type=int,
        default=protocol.DEFAULT_PORT,
        help="its port (default: %(default)d)",
    )
    options = parser.parse_args(arguments)
    return run_reporting_errors(lambda: _print_dump(options.host, options.port))


def _print_dump(host: str, port: int) -> int:
    console.write(f"{dict(sorted(client.dump(host, port).items()))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
