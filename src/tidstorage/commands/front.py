"""What the commands share before they begin: options, and the cluster they work on."""

import argparse
import math
import sys
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.cluster.load import load_cluster
from tidstorage.errors import OtherHistory
from tidstorage.system import clock, users

#: The description that is read where the command line names none.
CLUSTER_FILE = Path("cluster.toml")


def add_cluster_file(parser: argparse.ArgumentParser) -> None:
    """``--cluster-file``: the description to read."""
    parser.add_argument(
        "--cluster-file",
        type=Path,
        default=CLUSTER_FILE,
        metavar="FILE",
        help="the description of the cluster (default: cluster.toml in this folder)",
    )


def add_wait(parser: argparse.ArgumentParser) -> None:
    """``--wait``: how long to wait for another run that holds the lock."""
    parser.add_argument(
        "--wait",
        type=parse_seconds,
        default=0.0,
        metavar="SECONDS",
        help="where another backup, restore, prune or pack runs, wait so long for its"
        " end (default: do not wait)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``: output for programs."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_dry_run(parser: argparse._ActionsContainer, what: str) -> None:
    """``--dry-run``; what: the help, "say ..."."""
    parser.add_argument(
        "--dry-run", action="store_true", help=f"{what}, and change nothing"
    )


def open_cluster(file: Path) -> Cluster:
    """Load a description; from now on run as its user, in its time zone.

    Only root changes its user; everybody else stays who they are.

    Raises:
      DescriptionError: where the description is wrong, or names a user that this
        machine does not have.
      OtherHistory: where the script that runs is a copy of another site's.
    """
    refuse_copied_script(file)
    cluster = load_cluster(file)
    users.leave_root(cluster.user)
    clock.use(cluster.time_zone)
    return cluster


def refuse_copied_script(file: Path) -> None:
    """Refuse a script that came with a copied folder: it works on the original.

    The path of the description is written into each script.
    """
    script = Path(sys.argv[0]).absolute()
    own = script.parent.parent / CLUSTER_FILE
    try:
        is_made_for = str(file) in script.read_text()
    except (OSError, UnicodeDecodeError):
        # No script of ours.
        return
    is_own = file.resolve().is_relative_to(own.parent.resolve())
    if is_own or not is_made_for or not own.exists():
        return
    raise OtherHistory(
        f"{script} is a copy: it was made for {file}, and works on that",
        f"Run bin/buildout in {own.parent}, which makes its own.",
    )


def parse_seconds(text: str) -> float:
    """A number of seconds on the command line, for argparse."""
    return parse_number(text, "seconds")


def parse_number(text: str, unit: str, most: float | None = None) -> float:
    """A number from 0 to ``most``, for argparse; None: as large as one likes.

    Raises: ArgumentTypeError: where it is something else; ``unit`` says of what.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if most is None and not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected {unit}, 0 or more, not {text!r}")
    if most is not None and not 0 <= number <= most:
        raise argparse.ArgumentTypeError(
            f"expected {unit}, from 0 to {most:,}, not {text!r}"
        )
    return number
