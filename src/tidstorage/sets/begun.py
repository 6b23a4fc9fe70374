"""What a backup notes in the folder of its set before it copies anything.

The note is there until the set is made.  A folder that still has it, and no
manifest, is of a backup that was killed: whatever repozo files the note does not
name were begun by that backup, and may be cut off anywhere.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tidstorage.system import json_file
from tidstorage.system.json_file import Shape

FILE_NAME = "begun.json"
#: The id of a set, which is also the name of its folder: when it was begun, in UTC.
SET_ID = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z")

#: {storage id: names of the repozo files that were there before the set was begun}.
FilesBefore = Mapping[str, list[str]]


class _Begun(Shape):
    version: Literal[1]
    existing: dict[str, list[str]]


def write(folder: Path, files_before: FilesBefore) -> None:
    """Note in the folder of a set that it is begun, and what is there before."""
    noted = _Begun(version=1, existing=dict(files_before))
    json_file.write(folder / FILE_NAME, noted)


def read(folder: Path) -> FilesBefore:
    """What was there before the set of that folder was begun.

    Raises: FileUnreadable: where the note is damaged.
    """
    path = folder / FILE_NAME
    return json_file.read(path, _Begun, "the record of a set", "").existing
