"""``tidstorage-cut``: the coherent cuts of a set of Data.fs files; only reads."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tidstorage.coherence import tid
from tidstorage.coherence.point import HalfCommit
from tidstorage.commands import console
from tidstorage.commands.entry import run_reporting_errors
from tidstorage.engines.filestorage.file_tail import CutPosition, Dropped, Tail
from tidstorage.engines.filestorage.files_cut import FilesCut, cut_files
from tidstorage.engines.filestorage.tolerant_cut import cut_from_the_ends
from tidstorage.points import floors
from tidstorage.points.floors import ChosenFloor

HELP = "Say where a set of Data.fs files has to be cut to fit together."


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser("tidstorage-cut", description=HELP)
    add_files(parser, "+")
    add_options(parser)
    parser.add_argument(
        "--tolerant",
        action="store_true",
        help="only the tolerant cut, without reading more of the files' ends than it"
        " takes; half commits further back are kept and not named",
    )
    options = parser.parse_args(arguments)
    return run_reporting_errors(lambda: _run(options, given_files(parser, options)))


def add_files(parser: argparse.ArgumentParser, number: str) -> None:
    """The files to look at, as ID=PATH."""
    parser.add_argument(
        "files", metavar="ID=PATH", nargs=number, help="a storage id and its Data.fs"
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """What tells how to look at them."""
    parser.add_argument(
        "--floor",
        metavar="POINT|TIDLOG",
        type=Path,
        help="trust this coherency point, or the last one in this TID log, and"
        " examine only what follows (default: the oldest of the points beside the"
        " files, if each has one)",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="these are not all storages; ignore what concerns the others",
    )
    parser.add_argument(
        "--alias",
        metavar="OLD=ID",
        action="append",
        default=[],
        help="a storage that had another id; may be repeated",
    )
    parser.add_argument(
        "--retired",
        metavar="ID",
        action="append",
        default=[],
        help="a storage that is no more; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def given_files(
    parser: argparse.ArgumentParser, options: argparse.Namespace
) -> dict[str, Path]:
    """{storage id: path}, from the command line; ends the program on mistakes."""
    paths: dict[str, Path] = {}
    for storage, path in pairs(parser, options.files, "ID=PATH"):
        if storage in paths:
            parser.error(f"storage {storage} is given twice")
        if Path(path).resolve() in {given.resolve() for given in paths.values()}:
            parser.error(f"{path} is given twice")
        paths[storage] = Path(path)
    options.alias = dict(pairs(parser, options.alias, "OLD=ID"))
    for present in options.alias.values():
        if paths and present not in paths:
            parser.error(f"--alias names storage {present}, which is not given")
    return paths


def pairs(
    parser: argparse.ArgumentParser, texts: Sequence[str], form: str
) -> list[tuple[str, str]]:
    """What options of that form say; ends the program on mistakes."""
    given = []
    for text in texts:
        # An old id may hold anything but what follows its last "=".
        left, separator, right = (
            text.rpartition("=") if form == "OLD=ID" else text.partition("=")
        )
        if not (left and separator and right):
            parser.error(f"not {form}: {text}")
        given.append((left, right))
    return given


def _run(options: argparse.Namespace, paths: Mapping[str, Path]) -> int:
    floor = floors.choose(paths, options.floor, options.alias)
    say_floor(floor)
    if options.tolerant:
        return _print_tolerant(options, paths, floor)
    cuts = cut_files(
        paths,
        floor.vector,
        aliases=options.alias,
        retired=options.retired,
        partial=options.partial,
        known_damage=floor.damage,
    )
    if options.json:
        console.print_json(as_json(cuts))
    else:
        describe(cuts)
    return 0


def _print_tolerant(
    options: argparse.Namespace, paths: Mapping[str, Path], floor: ChosenFloor
) -> int:
    cut = cut_from_the_ends(
        paths,
        floor.vector,
        aliases=options.alias,
        retired=options.retired,
        partial=options.partial,
        known_damage=floor.damage,
    )
    if options.json:
        halves = [half.to_json() for half in cut.half_commits]
        tolerant = _positions_as_json(cut.tolerant)
        console.print_json({"tolerant": tolerant, "half_commits": halves})
    else:
        describe_cut(cut.tails, cut.tolerant, "tolerant: half commits are kept")
        describe_half_commits(cut.half_commits)
    return 0


def say_floor(floor: ChosenFloor) -> None:
    """Where the floor is from, on standard error."""
    print(f"floor: {floor.origin}", file=sys.stderr)


def as_json(cuts: FilesCut) -> dict[str, Any]:
    """The public form."""
    return {
        "strict": _positions_as_json(cuts.strict),
        "tolerant": _positions_as_json(cuts.tolerant),
        "half_commits": [half.to_json() for half in cuts.half_commits],
        "unstamped": {
            storage: cuts.unstamped.get(storage, 0) for storage in cuts.tails
        },
    }


def _positions_as_json(
    positions: Mapping[str, CutPosition],
) -> dict[str, dict[str, Any]]:
    return {
        storage: {"tid": tid.to_text(kept.tid), "position": kept.position}
        for storage, kept in positions.items()
    }


def describe(cuts: FilesCut) -> None:
    """Print, for an operator, what each cut keeps and loses."""
    if cuts.strict == cuts.tolerant:
        describe_cut(cuts.tails, cuts.strict, "")
    else:
        describe_cut(cuts.tails, cuts.strict, "strict: without half commits")
        console.print_line()
        describe_cut(cuts.tails, cuts.tolerant, "tolerant: half commits are kept")
    describe_half_commits(cuts.half_commits)
    for storage, number in cuts.unstamped.items():
        if number:
            console.print_warning(
                f"storage {storage}: {number} transactions have no stamp; what they"
                " depend on is not known"
            )


def describe_cut(
    tails: Mapping[str, Tail], positions: Mapping[str, CutPosition], title: str
) -> None:
    """One cut as a table, a row for each storage."""
    rows = []
    for storage, tail in tails.items():
        kept = positions[storage]
        dropped = tail.dropped_behind(kept)
        rows.append(
            (
                storage,
                _when(kept.tid),
                tid.to_text(kept.tid),
                f"{kept.position:,}",
                f"{dropped.transactions:,}",
                f"{dropped.size:,}",
                _since(dropped),
            )
        )
    columns = ("storage", "kept until", "tid", "bytes", "loses", "bytes", "since")
    console.print_table(columns, rows, title)


def _when(number: int) -> str:
    return f"{tid.to_time(number).astimezone():%Y-%m-%d %H:%M:%S}" if number else ""


def _since(dropped: Dropped) -> str:
    if dropped.transactions:
        lasted = tid.to_time(dropped.last) - tid.to_time(dropped.first)
        return f"{_when(dropped.first)} ({lasted.total_seconds():.1f} s)"
    return "an unfinished transaction" if dropped.size else "nothing"


def describe_half_commits(half_commits: Sequence[HalfCommit]) -> None:
    """What is torn for good, in words."""
    for half in half_commits:
        times = ", ".join(
            f"{storage} ({_when(number)})"
            for storage, number in sorted(half.present.items())
        )
        console.print_warning(
            f"half commit {half.commit_id.hex()}: written to {times}, and never will"
            f" be to {', '.join(sorted(half.missing))}"
        )
