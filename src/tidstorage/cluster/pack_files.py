"""The files that a pack leaves beside a Data.fs, for a while or until the next."""

from pathlib import Path


def pack_file_of(data_file: Path) -> Path:
    """Data.fs.pack, which FileStorage writes and then gives the Data.fs's name."""
    return data_file.with_name(f"{data_file.name}.pack")


def old_file_of(data_file: Path) -> Path:
    """Data.fs.old, which is the Data.fs of before the last pack."""
    return data_file.with_name(f"{data_file.name}.old")
