"""The FileStorage engine: reads, finds, cuts and copies one Data.fs.

Positions are bytes from the start of the file; a TID is an int.  "After" a TID
is exclusive, "until" one inclusive, and neither has to be in the file.
"""

from tidstorage.engines.filestorage.data_file import DataFile
from tidstorage.engines.filestorage.format import End
from tidstorage.engines.filestorage.records import (
    RecordPosition,
    last_packed,
    last_tid,
    packed_above,
    position_after,
    read_backward,
    read_records,
)
from tidstorage.engines.filestorage.truncation import truncate

__all__ = [
    "DataFile",
    "End",
    "RecordPosition",
    "last_packed",
    "last_tid",
    "packed_above",
    "position_after",
    "read_backward",
    "read_records",
    "truncate",
]
