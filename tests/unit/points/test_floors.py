"""Points as floors of files: they must not lie beyond the files' ends."""

import pytest
from torn_files import coherent_files

from tidstorage.coherence.point import Point
from tidstorage.engines.filestorage.files_cut import cut_files
from tidstorage.errors import NotCoherent
from tidstorage.points import floors
from tidstorage.system import clock


def test_a_point_that_counts_a_vote_that_was_given_up(tmp_path):
    """A killed server reports that TID as its last; a copy looks too short then."""
    files = coherent_files(tmp_path)
    files.close()
    ends = cut_files(files.paths, {}, aliases={}).strict
    reached = {storage: place.tid for storage, place in ends.items()}
    barrier = Point({**reached, "b": reached["b"] + 9}, clock.now(), "barrier")
    with pytest.raises(NotCoherent, match="ends before the floor"):
        cut_files(files.paths, barrier.vector, aliases={})
    left = floors.fit_to_files(barrier, files.paths)
    assert left.vector == reached
    assert (left.id, left.source) == (barrier.id, barrier.source)
    assert cut_files(files.paths, left.vector, aliases={}).strict == ends


def test_what_no_file_tells_otherwise_stays(tmp_path):
    files = coherent_files(tmp_path)
    files.close()
    found = Point({"a": 5, "c": 7, "elsewhere": 9}, clock.now(), "barrier")
    paths = {"a": files.paths["a"], "c": tmp_path / "not here"}
    assert floors.fit_to_files(found, paths).vector == found.vector
