"""What a restore wrote down for the run after it, broken in every way."""

import json

import pytest

from tidstorage.coherence.point import Point
from tidstorage.errors import FileUnreadable
from tidstorage.operation.unfinished import plan_beside
from tidstorage.system import clock
from tidstorage.verbs.restore import cut_plan, swap
from tidstorage.verbs.restore.cut_plan import Plan, Step
from tidstorage.verbs.restore.swap import Action, Swap

NEW = Point(vector={"a": 3}, time=clock.now(), source="restore")
ANYTHING = (None, [], {}, 1, 1.5, "text", True, [None], [1], {"a": 1}, [{}])


def broken(value):
    """Copies of a JSON value in each of which one thing has another shape."""
    for other in ANYTHING:
        if type(other) is not type(value):
            yield other
    if isinstance(value, dict):
        for key in value:
            yield {k: v for k, v in value.items() if k != key}
            for inner in broken(value[key]):
                yield {**value, key: inner}
    elif isinstance(value, list):
        for number, each in enumerate(value):
            for inner in broken(each):
                yield [*value[:number], inner, *value[number + 1 :]]


class TestSwap:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "restore-swap.json"
        actions = [Action("keep", "/a", "/b"), Action("remove", "/c")]
        swap.write(Swap(1, "20261124T220000Z", actions, NEW, [tmp_path / "a"]), path)
        return path

    def test_as_written(self, path, tmp_path):
        found = swap.read(path)
        assert found.actions == [Action("keep", "/a", "/b"), Action("remove", "/c")]
        assert (found.point, found.data_files) == (NEW, [tmp_path / "a"])

    def test_of_another_shape(self, path):
        data = json.loads(path.read_text())
        refused = 0
        for each in broken(data):
            path.write_text(json.dumps(each))
            try:
                swap.read(path)
            except FileUnreadable as error:
                refused += 1
                assert str(path) in str(error)
                assert "Remove it" in error.hint
        assert refused > 200

    @pytest.mark.parametrize(
        "wrong",
        [
            {"actions": [{"kind": "burn", "path": "/a", "other": ""}]},
            {"actions": [{"kind": "keep", "path": 1, "other": ""}]},
            {"actions": [{"kind": "keep", "path": "/a", "other": "/b", "more": 1}]},
            {"data_files": "/a"},
            {"point": {**NEW.to_json(), "vector": []}},
            {"version": 2},
            {"more": 1},
        ],
    )
    def test_never_half_believed(self, path, wrong):
        path.write_text(json.dumps({**json.loads(path.read_text()), **wrong}))
        with pytest.raises(FileUnreadable, match="not a restore's journal"):
            swap.read(path)

    def test_no_json_and_no_file(self, path, tmp_path):
        for content in (b"", b"{", b"\xff"):
            path.write_bytes(content)
            with pytest.raises(FileUnreadable, match="not a restore's journal"):
                swap.read(path)
        with pytest.raises(FileUnreadable, match="none"):
            swap.read(tmp_path / "none")


class TestPlan:
    @pytest.fixture
    def files(self, tmp_path):
        path = tmp_path / "Data.fs"
        path.write_bytes(bytes(10))
        dropped = tmp_path / "Data.fs.dropped"
        step = Step("a", path, 3, 4, 10, dropped, tmp_path / "blobs")
        self.plan = Plan(1, [step], {"a": 1}, frozenset([bytes(16)]), NEW, [tmp_path])
        cut_plan.write(self.plan)
        return path

    def test_as_written(self, files):
        assert cut_plan.interrupted([files]) == self.plan

    def test_of_another_shape(self, files):
        beside = plan_beside(files)
        data = json.loads(beside.read_text())
        refused = 0
        for each in broken(data):
            beside.write_text(json.dumps(each))
            try:
                cut_plan.interrupted([files])
            except FileUnreadable as error:
                refused += 1
                assert str(beside) in str(error)
                assert "Remove it" in error.hint
        assert refused > 200

    @pytest.mark.parametrize("wrong", [{"steps": []}, {"version": 2}, {"floor": [1]}])
    def test_never_half_believed(self, files, wrong):
        beside = plan_beside(files)
        beside.write_text(json.dumps({**json.loads(beside.read_text()), **wrong}))
        with pytest.raises(FileUnreadable, match="not a plan to cut"):
            cut_plan.interrupted([files])
