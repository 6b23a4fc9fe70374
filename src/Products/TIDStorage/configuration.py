"""What ``<product-config TIDStorage>`` in zope.conf may say::

    <product-config TIDStorage>
      backend-ip 127.0.0.1
      backend-port 9001
      name web-1
      storages main:root catalog documents media
    </product-config>

backend-ip, backend-port: the daemon that is told of commits.  Without the
first nobody is told, and commits are stamped all the same.

name: what this Zope is called in the description of the cluster; the daemon lists
those that it never saw stamping.

storages: the databases that belong to the cluster, separated by blanks or
commas, each as ``database-name:storage-id``, or as one word where both are the
same.  The database name is the one in ``<zodb_db NAME>``.  Without this key the
names of the ZEO storages are the ids.

outcome-unknown, clear-caches, drop-oids: ``on`` (the default) or ``off``; what is
done about commits that fail, explained by ``tidstorage.install``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tidstorage.wire.protocol import DEFAULT_PORT

_SWITCHES = {"on": True, "off": False}
_KEYS = (
    "backend-ip",
    "backend-port",
    "name",
    "storages",
    "outcome-unknown",
    "clear-caches",
    "drop-oids",
)


@dataclass(frozen=True, slots=True)
class Options:
    """The section, read; the fields are arguments of ``tidstorage.install``."""

    address: tuple[str, int] | None
    ids: dict[str, str] | None
    outcome_unknown: bool
    clear_caches: bool
    drop_oids: bool
    name: str


def read(section: Mapping[str, str]) -> Options:
    """Read the section; its keys are lower-case, as Zope makes them.

    Raises: ValueError: where a key is unknown, or a value cannot be.
    """
    unknown = sorted(set(section) - set(_KEYS))
    if unknown:
        raise ValueError(
            f"<product-config TIDStorage> knows no {', '.join(unknown)};"
            f" it knows {', '.join(_KEYS)}"
        )
    return Options(
        _address(section),
        _ids(section["storages"]) if "storages" in section else None,
        _switch(section, "outcome-unknown"),
        _switch(section, "clear-caches"),
        _switch(section, "drop-oids"),
        section.get("name", ""),
    )


def _address(section: Mapping[str, str]) -> tuple[str, int] | None:
    port = section.get("backend-port", str(DEFAULT_PORT))
    if not port.isdecimal():
        raise ValueError(f"backend-port is a number, not {port!r}")
    host = section.get("backend-ip")
    return None if host is None else (host, int(port))


def _ids(text: str) -> dict[str, str]:
    ids: dict[str, str] = {}
    for word in text.replace(",", " ").split():
        name, colon, storage_id = word.partition(":")
        if not name or (colon and not storage_id):
            raise ValueError(f"storages: {word!r} is no database-name:storage-id")
        if name in ids:
            raise ValueError(f"storages: database {name!r} is named twice")
        ids[name] = storage_id or name
    if not ids:
        raise ValueError("storages: names no database; leave the key out for all")
    return ids


def _switch(section: Mapping[str, str], key: str) -> bool:
    value = section.get(key, "on").lower()
    if value not in _SWITCHES:
        raise ValueError(f"{key} is on or off, not {section[key]!r}")
    return _SWITCHES[value]
