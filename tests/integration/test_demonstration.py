"""The demonstration shows what it says, and fails where our cut is no cut."""

import pytest

from tidstorage.demo import demonstration
from tidstorage.engines import filestorage
from tidstorage.errors import DemonstrationFailed, NotCoherent
from tidstorage.verbs.restore import check, cutting

pytestmark = pytest.mark.integration


def silent(_text):
    pass


def test_the_demonstration_and_its_failure_without_a_cut(tmp_path, monkeypatch):
    torn = demonstration.tear(tmp_path, 20261124, silent)
    assert torn.live.broken, "the live files were not torn"
    results = demonstration.compare(torn, silent)
    demonstration.verdict(results)
    plain, ours = results[:2]
    assert plain.findings.broken
    assert not ours.findings.broken

    # Our cut replaced by "end of file": the restore itself refuses the result...
    monkeypatch.setattr(cutting, "choose_cut", ends_of_files)
    monkeypatch.setattr(cutting, "cut_staged", cut_nothing)
    forget_restored(tmp_path)
    with pytest.raises(NotCoherent):
        demonstration._restored_by_us(torn)
    # ... and where it does not look either, the demonstration does.
    monkeypatch.setattr(check, "check", lambda *arguments: None)
    forget_restored(tmp_path)
    results = demonstration.compare(torn, silent)
    assert results[1].findings.broken
    with pytest.raises(DemonstrationFailed, match="broken: bin/cluster restore"):
        demonstration.verdict(results)


def ends_of_files(manifest, _policy):
    return {each.id: 2**63 for each in manifest.storages}


def cut_nothing(targets, vector):
    for storage, target in targets.items():
        vector[storage] = filestorage.last_tid(target.staged_data_file)


def forget_restored(folder):
    import shutil

    for name in ("restored-plain", "restored", "crashed", "cut"):
        shutil.rmtree(folder / name, ignore_errors=True)
