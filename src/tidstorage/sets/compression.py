"""gzip, as stock repozo reads and writes it, several times as fast: by ISA-L.

The level is the library's own choice; what it writes is a twentieth larger than
what repozo's zlib makes of the same (docs/timings.rst).
"""

import gzip
import zlib
from collections.abc import Callable
from typing import BinaryIO, cast

from isal import igzip_threaded, isal_zlib

#: Without type hints of its own.
_open = cast(Callable[..., BinaryIO], igzip_threaded.open)
_LEVEL = 2
#: What reading raises where the file is not what was written.
DAMAGED: tuple[type[Exception], ...] = (
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    # Its type hint takes the class for one of its instances.
    cast(type[Exception], isal_zlib.error),
)


def open_gzip_writer(target: BinaryIO) -> BinaryIO:
    """A file whose content goes to ``target``, compressed by a thread of its own.

    Closing it ends the stream and leaves ``target`` open.  What writing to
    ``target`` raises is raised at a later write, or at the end.
    """
    return _open(target, "wb", compresslevel=_LEVEL, threads=1)


def open_gzip_reader(source: BinaryIO) -> BinaryIO:
    """A file that holds what ``source`` holds compressed, read by a thread of its own.

    Closing it leaves ``source`` open.  Reading raises what reading ``source`` does,
    or one of `DAMAGED`.
    """
    return _open(source, "rb")
