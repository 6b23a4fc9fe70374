"""A repozo repository: which files make its newest copy, and what is in excess.

repozo itself keeps no lock, gives files names of one second, and does not
notice what a killed run left behind: with such a file in the way, a later
increment would be laid on top of it, and what is restored would be garbage.
"""

import datetime
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.errors import ClockWentBack, EngineFailed, SetUnreadable
from tidstorage.system import durable, presence

_DATA_FILE = re.compile(r"(\d{4}(?:-\d\d){5})\.(delta)?fsz?")
#: repozo writes to this name first, whatever the file will be.
TEMPORARY = "tmp.tmp"
#: Seconds a clock may have gone back before it is an error rather than a wait.
_CLOCK_TOLERANCE = 5.0


@dataclass(frozen=True, slots=True)
class RepozoFile:
    """A file of a repozo repository, and which bytes of the Data.fs it holds.

    start: the first of them.  end: the first one behind them.  md5: of those bytes,
    in hex, as repozo read them.
    """

    name: str
    start: int
    end: int
    md5: str

    @property
    def is_full(self) -> bool:
        return self.start == 0 and "delta" not in self.name

    @property
    def is_compressed(self) -> bool:
        return self.name.endswith("z")


def list_files(repository: Path) -> list[str]:
    """The names of all full copies and increments, oldest first.

    None where there is no such folder.

    Raises: OSError: where nobody can tell.
    """
    if not presence.is_there(repository):
        # Of a storage that the description has no more.
        return []
    names = [path.name for path in repository.iterdir()]
    return sorted(filter(_DATA_FILE.fullmatch, names), key=_order)


def _order(name: str) -> tuple[str, bool]:
    """By their second; of one second the full copy comes first."""
    return _second(name), "delta" in name


def _second(name: str) -> str:
    """``YYYY-mm-dd-HH-MM-SS``, in UTC, when a file of that name was begun."""
    return name.partition(".")[0]


def find_newest_second(repository: Path) -> str:
    """``YYYY-mm-dd-HH-MM-SS`` of the newest file, in UTC; empty without one."""
    names = list_files(repository)
    return _second(names[-1]) if names else ""


def current_second() -> str:
    """``YYYY-mm-dd-HH-MM-SS`` that a file begun now is named by, in UTC.

    By time.gmtime(), as repozo does.  That reads time(2), which stays in the former
    second until the kernel's next tick: some milliseconds longer than the clock of
    datetime, so the two must not be mixed.
    """
    return time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime())


def await_second_after(latest: str, hint: str) -> str:
    """Wait until files are named by a later second than ``latest``; returns it.

    Two files of one second would have one name, or be restored in the wrong order.

    latest: as `current_second` has it; empty: any is later.  hint: what to do where
    the clock is wrong.

    Raises: ClockWentBack: where it would have to wait for long.
    """
    deadline = time.monotonic() + _CLOCK_TOLERANCE
    while (second := current_second()) <= latest:
        if time.monotonic() > deadline:
            raise ClockWentBack(
                f"the clock says {second} UTC, but there is a backup of {latest} UTC",
                hint,
            )
        time.sleep(0.05)
    return second


def find_newest_full(names: Collection[str]) -> datetime.datetime | None:
    """When the newest full copy among the names was made; None without one."""
    fulls = sorted(_second(name) for name in names if "delta" not in name)
    if not fulls:
        return None
    moment = datetime.datetime.strptime(fulls[-1], "%Y-%m-%d-%H-%M-%S")
    return moment.replace(tzinfo=datetime.UTC)


def read_newest_chain(repository: Path) -> Sequence[RepozoFile]:
    """The files that together are the newest copy, oldest first; none without one.

    They are those that repozo noted beside the full copy.

    Raises:
      EngineFailed: that is not a gapless sequence of files that exist.
      SetUnreadable: nobody can tell.
    """
    return read_chain_until(repository, find_newest_second(repository))


def read_chain_until(repository: Path, second: str) -> Sequence[RepozoFile]:
    """The files that together are the copy of a second; none without one as old.

    second: ``YYYY-mm-dd-HH-MM-SS``, in UTC, as in the files' names.

    Raises: EngineFailed: as `read_newest_chain`.
    """
    fulls = [
        name
        for name in list_files(repository)
        if "delta" not in name and _second(name) <= second
    ]
    if not fulls:
        return ()
    files = _read_record(repository, repository / f"{_second(fulls[-1])}.dat")
    return [file for file in files if _second(file.name) <= second]


def find_unrecorded(repository: Path) -> list[str]:
    """Names of files that repozo has not noted, from the newest full copy on.

    They are of a killed run; an increment laid on top of one would make garbage.

    Raises: SetUnreadable: where nobody can tell what repozo noted.
    """
    names = list_files(repository)
    fulls = [name for name in names if "delta" not in name]
    newest = names[names.index(fulls[-1]) :] if fulls else names
    try:
        noted = {file.name for file in read_newest_chain(repository)}
    except SetUnreadable:
        raise
    except EngineFailed:
        noted = set()
    return [name for name in newest if name not in noted]


def _read_record(repository: Path, record: Path) -> Sequence[RepozoFile]:
    """The files that repozo noted in a ``.dat``, oldest first.

    Raises: EngineFailed, SetUnreadable: as `read_newest_chain`.
    """
    files: list[RepozoFile] = []
    try:
        for line in record.read_text().splitlines():
            # The path may hold spaces, the rest does not.
            path, start, end, md5 = line.rsplit(None, 3)
            files.append(RepozoFile(Path(path).name, int(start), int(end), md5))
    except (*presence.ABSENT, ValueError) as error:
        raise EngineFailed(f"repozo's {record} is not readable: {error}") from error
    except OSError as error:
        raise _unread(record, error) from error
    expected = 0
    for file in files:
        try:
            is_next = file.start == expected and presence.is_there(
                repository / file.name
            )
        except OSError as error:
            raise _unread(repository / file.name, error) from error
        if not is_next:
            raise EngineFailed(
                f"repozo's {record} names {file.name} from byte {file.start},"
                f" after {expected} bytes"
            )
        expected = file.end
    return files


def _unread(path: Path, error: OSError) -> SetUnreadable:
    return SetUnreadable(f"{path} cannot be read: {presence.describe(error)}")


def discard(repository: Path, keep: Collection[str]) -> list[str]:
    """Remove every full copy and increment but ``keep``, and what is noted of them.

    keep: names.

    Returns the names of the files that were removed.
    """
    (repository / TEMPORARY).unlink(missing_ok=True)
    excess = [name for name in list_files(repository) if name not in keep]
    for name in excess:
        (repository / name).unlink()
    left = set(list_files(repository))
    seconds = {_second(name) for name in left}
    # Not by a glob, which finds nothing in a folder that it cannot read.
    for path in [*repository.iterdir()] if presence.is_there(repository) else []:
        if path.suffix == ".index" and path.stem not in seconds:
            path.unlink()
        elif path.suffix == ".dat":
            _forget(path, left)
    return excess


def _forget(record: Path, left: Collection[str]) -> None:
    """Drop the lines of files that are gone, and all after them."""
    lines = record.read_text().splitlines(keepends=True)
    kept: list[str] = []
    for line in lines:
        fields = line.rsplit(None, 3)
        if len(fields) != 4 or Path(fields[0]).name not in left:
            break
        kept.append(line)
    if not kept:
        record.unlink()
    elif kept != lines:
        durable.replace_text(record, "".join(kept))
