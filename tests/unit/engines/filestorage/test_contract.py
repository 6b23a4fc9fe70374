"""FileStorage keeps the contract of an engine."""

import inspect

import pytest

from tidstorage import engines
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage import DataFile

CONTRACT = [
    (engines.Records, filestorage),
    (engines.Cutting, filestorage),
    (engines.Copies, filestorage),
    (engines.Index, filestorage.index),
    (engines.Lock, filestorage.lock),
    (engines.Blobs, filestorage.blob_files),
    (engines.File, DataFile),
]


@pytest.mark.parametrize("contract, engine", CONTRACT)
def test_the_contract_of_an_engine_is_kept(contract, engine):
    """Every operation is there, with the same parameters in the same order."""
    promised = {
        name: operation
        for name, operation in vars(contract).items()
        if inspect.isfunction(operation) and not name.startswith("_")
    }
    assert promised
    for name, operation in promised.items():
        wanted = [*inspect.signature(operation).parameters.values()]
        offered = [*inspect.signature(getattr(engine, name)).parameters.values()]
        if not inspect.isclass(engine):
            wanted = wanted[1:]
        assert [(each.name, each.kind) for each in offered] == [
            (each.name, each.kind) for each in wanted
        ], name
        for ours, theirs in zip(offered, wanted, strict=True):
            assert (ours.default is ours.empty) == (theirs.default is theirs.empty)
            if theirs.default not in (theirs.empty, ...):
                assert ours.default == theirs.default, name
        assert operation.__doc__
