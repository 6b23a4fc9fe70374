"""Options that several verbs and programs have."""

import argparse
from pathlib import Path


def add_cluster_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster-file",
        type=Path,
        default=Path("cluster.toml"),
        metavar="FILE",
        help="the description (default: cluster.toml here)",
    )


def add_wait(parser: argparse.ArgumentParser) -> None:
    """How long to wait for another one that holds the lock."""
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="wait so long for another backup, restore, prune or pack to end"
        " (default: not at all)",
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds, 0 or more, not {text!r}")
    return value
