"""What the list of sets says that a restore of one needs."""

from types import SimpleNamespace

import pytest

from tidstorage.commands import backups


def made(kind, *storages):
    """A set whose storages consist of files of these names."""
    stored = [
        SimpleNamespace(
            files=[SimpleNamespace(path=f"storages/x/{each}") for each in s]
        )
        for s in storages
    ]
    return SimpleNamespace(manifest=SimpleNamespace(kind=kind, storages=stored))


OLD, NEW, ADDED = (
    "2026-11-26-02-15-00.fsz",
    "2026-11-27-02-15-00.fsz",
    "2026-11-27-02-15-00.deltafsz",
)


@pytest.mark.parametrize(
    ("kind", "storages", "expected"),
    [
        ("full", [[OLD], [OLD]], "itself"),
        ("incremental", [[OLD], [OLD, ADDED]], "full of 2026-11-26, 1 increment"),
        ("incremental", [[OLD, ADDED, ADDED]], "full of 2026-11-26, 2 increments"),
        # Only one storage was copied in full this time.
        ("incremental", [[OLD], [NEW]], "full of 2026-11-26"),
        ("unchanged", [[OLD], [NEW]], "full of 2026-11-26"),
        ("full", [], "itself"),
    ],
)
def test_what_a_set_needs(kind, storages, expected, monkeypatch):
    monkeypatch.setattr(backups, "local", lambda moment: f"{moment:%Y-%m-%d}")
    assert backups._describe_needs(made(kind, *storages)) == expected
