"""``bin/tidstorage``: the daemon; its command line goes before its file."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tidstorage.commands.entry import run_reporting_errors
from tidstorage.commands.front import refuse_copied_script
from tidstorage.daemon import settings as configuration
from tidstorage.daemon.settings import Settings
from tidstorage.daemon.start import start


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; returns its exit status."""
    return run_reporting_errors(lambda: start(parse(arguments)))


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """The settings of a run, from its command line and the file that it names.

    Raises:
      DescriptionError: where the file cannot be read, or is wrong.
      OtherHistory: where the script that runs is a copy of another site's.
    """
    options = _make_parser().parse_args(arguments)
    settings = Settings()
    if options.config is not None:
        refuse_copied_script(options.config)
        settings = configuration.load(options.config)
    given: dict[str, Any] = {
        name: value
        for name, value in vars(options).items()
        if value is not None and name != "config"
    }
    for name in ("tid_log", "journal", "log", "pid_file"):
        if name in given:
            given[name] = given[name].absolute()
    return replace(settings, **given)


def _make_parser() -> argparse.ArgumentParser:
    default = Settings()
    parser = argparse.ArgumentParser(
        prog="tidstorage",
        description="Keep the coherency point of a cluster of ZODB storages.",
        epilog="Without a configuration file it listens on 127.0.0.1, and knows only"
        " what Zopes tell it.  Signals: HUP reopens log and TID log, USR1 writes the"
        " state into the log, TERM ends the daemon.",
        argument_default=None,
    )
    add = parser.add_argument
    add(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration file: ZConfig, or a Python file of TIDStorage 5",
    )
    add(
        "-n",
        "--nofork",
        "--fg",
        dest="foreground",
        action="store_true",
        default=None,
        help="stay in the foreground, as a supervisor needs it",
    )
    add("-l", "--log", type=Path, metavar="FILE", help="log file of the daemon")
    add(
        "-a",
        "--address",
        metavar="ADDRESS",
        help=f"address to listen on ({default.address})",
    )
    add(
        "-p",
        "--port",
        type=_parse_port,
        metavar="PORT",
        help=f"TCP port to listen on ({default.port})",
    )
    add(
        "--pidfile",
        dest="pid_file",
        type=Path,
        metavar="FILE",
        help="file for the process id",
    )
    add("--user", metavar="USER", help="user to run as, name or number")
    add("--group", metavar="GROUP", help="group to run as, name or number")
    add(
        "-s",
        "--status-file",
        dest="tid_log",
        type=Path,
        metavar="FILE",
        help="TID log: every vector that is published",
    )
    add(
        "--journal",
        type=Path,
        metavar="FILE",
        help="journal: all else about each point",
    )
    add(
        "-b",
        "--burst-period",
        type=_parse_seconds,
        metavar="SECONDS",
        help="write at most one line of the TID log in this time"
        f" ({default.burst_period:g})",
    )
    add(
        "-F",
        "--full-dump-period",
        type=_parse_seconds,
        metavar="SECONDS",
        help="time between two full lines of the TID log"
        f" ({default.full_dump_period:g})",
    )
    return parser


def _parse_seconds(text: str) -> float:
    try:
        return configuration.seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected seconds, 0 or more, not {text!r}"
        ) from None


def _parse_port(text: str) -> int:
    if not text.isdigit() or int(text) >= 1 << 16:
        raise argparse.ArgumentTypeError(
            f"expected a port, from 0 to 65535, not {text!r}"
        )
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
