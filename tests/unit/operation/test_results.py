"""What is kept of a run, whatever its texts hold."""

from types import SimpleNamespace

import pytest

from tidstorage.errors import EngineFailed
from tidstorage.operation import results


def test_file_names_that_are_no_utf_8_are_shown_with_escapes(tmp_path):
    """Else the result could not be written, or not be read again."""
    cluster = SimpleNamespace(daemon=SimpleNamespace(tid_log=tmp_path / "tid"))
    with results.record(cluster, "backup"):
        pass
    with pytest.raises(EngineFailed), results.record(cluster, "backup") as run:
        # Not logged: what pytest keeps of a log has to be UTF-8.
        run.warnings.append("caf\udce9 is odd")
        raise EngineFailed("cannot read caf\udce9", "Look at caf\udce9.")
    kept = results.read(cluster, "backup")
    assert kept.good is not None
    assert kept.last.error == r"cannot read caf\udce9"
    assert kept.last.hint == r"Look at caf\udce9."
    assert kept.last.warnings == (r"caf\udce9 is odd",)
