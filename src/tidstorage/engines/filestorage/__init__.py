"""The FileStorage engine: reads, cuts and copies a Data.fs.

It keeps the contract of `tidstorage.engines`, where units and errors are told.
"""

from tidstorage.engines import Description, End, RecordPosition
from tidstorage.engines.filestorage import blob_files, index, lock
from tidstorage.engines.filestorage.abandoned_votes import (
    AbandonedVote,
    read_abandoned_votes,
)
from tidstorage.engines.filestorage.copying import (
    SparseWriter,
    copy_range,
    read_range,
    room_spared,
)
from tidstorage.engines.filestorage.data_file import DataFile
from tidstorage.engines.filestorage.file_tail import CutPosition
from tidstorage.engines.filestorage.files_cut import FilesCut, cut_files
from tidstorage.engines.filestorage.records import (
    describe,
    last_packed,
    last_tid,
    packed_above,
    packed_up_to,
    position_after,
    read_backward,
    read_records,
    records_up_to,
)
from tidstorage.engines.filestorage.tolerant_cut import cut_from_the_ends
from tidstorage.engines.filestorage.truncation import (
    end_before,
    truncate,
    truncate_held,
)

__all__ = [
    "AbandonedVote",
    "CutPosition",
    "DataFile",
    "Description",
    "End",
    "FilesCut",
    "RecordPosition",
    "SparseWriter",
    "blob_files",
    "copy_range",
    "cut_files",
    "cut_from_the_ends",
    "describe",
    "end_before",
    "index",
    "last_packed",
    "last_tid",
    "lock",
    "packed_above",
    "packed_up_to",
    "position_after",
    "read_abandoned_votes",
    "read_backward",
    "read_range",
    "read_records",
    "records_up_to",
    "room_spared",
    "truncate",
    "truncate_held",
]
