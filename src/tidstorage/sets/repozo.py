"""A repozo repository: which files make its newest copy, and what is in excess.

repozo itself keeps no lock, gives files names of one second, and does not
notice what a killed run left behind: with such a file in the way, a later
increment would be laid on top of it, and what is restored would be garbage.
"""

import datetime
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.errors import EngineFailed
from tidstorage.system import durable

_DATA_FILE = re.compile(r"(\d{4}(?:-\d\d){5})\.(delta)?fsz?")
#: repozo writes to this name first, whatever the file will be.
TEMPORARY = "tmp.tmp"


@dataclass(frozen=True, slots=True)
class RepozoFile:
    """One file, and which bytes of the Data.fs it holds: from start up to end.

    md5: of those bytes, in hex, as repozo read them.
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


def data_files(repository: Path) -> list[str]:
    """The names of all data files, oldest first; none without a repository."""
    if not repository.exists():
        # Of a storage that the description has no more.
        return []
    found = [each.name for each in repository.iterdir()]
    return sorted(filter(_DATA_FILE.fullmatch, found), key=_when)


def _when(name: str) -> tuple[str, bool]:
    return name.partition(".")[0], "delta" in name


def newest_second(repository: Path) -> str:
    """``YYYY-mm-dd-HH-MM-SS`` of the newest file, in UTC; empty without one."""
    names = data_files(repository)
    return _when(names[-1])[0] if names else ""


def newest_full(names: Collection[str]) -> datetime.datetime | None:
    """When the newest full copy among the names was made; None without one."""
    fulls = sorted(_when(each)[0] for each in names if "delta" not in each)
    if not fulls:
        return None
    moment = datetime.datetime.strptime(fulls[-1], "%Y-%m-%d-%H-%M-%S")
    return moment.replace(tzinfo=datetime.UTC)


def newest_chain(repository: Path) -> Sequence[RepozoFile]:
    """The files that together are the newest copy, oldest first.

    As repozo wrote them down beside the full one; EngineFailed where that is
    not a gapless sequence of files that exist.
    """
    return chain_until(repository, newest_second(repository))


def chain_until(repository: Path, second: str) -> Sequence[RepozoFile]:
    """The files that together are the copy of that second (as `newest_second`).

    None where there is no full copy as old; EngineFailed as above.
    """
    fulls = [
        each
        for each in data_files(repository)
        if "delta" not in each and _when(each)[0] <= second
    ]
    if not fulls:
        return ()
    parts = _parts(repository, repository / f"{_when(fulls[-1])[0]}.dat")
    return [each for each in parts if _when(each.name)[0] <= second]


def unrecorded(repository: Path) -> list[str]:
    """Files behind the newest full one that repozo has not noted: of a killed run.

    An increment laid on top of one would make garbage.
    """
    names = data_files(repository)
    fulls = [each for each in names if "delta" not in each]
    behind = names[names.index(fulls[-1]) :] if fulls else names
    try:
        noted = {each.name for each in newest_chain(repository)}
    except EngineFailed:
        noted = set()
    return [each for each in behind if each not in noted]


def _parts(repository: Path, record: Path) -> Sequence[RepozoFile]:
    parts: list[RepozoFile] = []
    try:
        for line in record.read_text().splitlines():
            # The path may hold spaces, the rest does not.
            path, start, end, md5 = line.rsplit(None, 3)
            parts.append(RepozoFile(Path(path).name, int(start), int(end), md5))
    except (OSError, ValueError) as error:
        raise EngineFailed(f"repozo's {record} is not readable: {error}") from error
    expected = 0
    for part in parts:
        if part.start != expected or not (repository / part.name).exists():
            raise EngineFailed(
                f"repozo's {record} names {part.name} from byte {part.start},"
                f" after {expected} bytes"
            )
        expected = part.end
    return parts


def discard(repository: Path, keep: Collection[str]) -> list[str]:
    """Remove every data file but ``keep`` and what repozo notes about it.

    Returns the names of what was removed.
    """
    (repository / TEMPORARY).unlink(missing_ok=True)
    excess = [each for each in data_files(repository) if each not in keep]
    for name in excess:
        (repository / name).unlink()
    left = set(data_files(repository))
    seconds = {_when(name)[0] for name in left}
    for index in repository.glob("*.index"):
        if index.stem not in seconds:
            index.unlink()
    for record in repository.glob("*.dat"):
        _forget(record, left)
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
