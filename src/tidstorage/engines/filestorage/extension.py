"""The stamp in a raw transaction extension, without trusting the pickle.

An extension is a pickle that any product may have added to.  Nothing in it is
imported or called; what is not ours is loaded as an inert object.
"""

import io
from collections.abc import Mapping
from typing import Any

from zodbpickle import pickle  # type: ignore[import-untyped]

from tidstorage.coherence import stamp

_MARK = stamp.KEY.encode()


class _Inert:
    """Stands for any class a pickle names: takes everything, does nothing."""

    def __new__(cls, *_arguments: Any, **_keywords: Any) -> "_Inert":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass


class _InertUnpickler(pickle.Unpickler):  # type: ignore[misc]
    """Loads plain data; classes and functions become `_Inert`."""

    def find_class(self, module: str, name: str) -> type[_Inert]:
        return _Inert


def read_stamp(extension: bytes, aliases: Mapping[str, str]) -> stamp.Stamp | None:
    """The stamp in the bytes, under present ids; None where there is no whole one.

    aliases: {old storage id: present id}.
    """
    if _MARK not in extension:
        return None
    try:
        loaded = _InertUnpickler(
            io.BytesIO(extension), encoding="ASCII", errors="bytes"
        ).load()
        decoded = stamp.decode(loaded[stamp.KEY])
    except Exception:
        # Broken or hostile bytes make the unpickler raise anything at all; such
        # a record is one without a stamp, and is counted as that.
        return None
    return stamp.rename(decoded, aliases) if aliases else decoded
