"""Processes that die at any step at which they change what is on disk.

The steps of a verb are every change on disk, named by where in the code it is made.
A run in a child process records them; another one is killed right before one of
them.  So no step can be forgotten, and a new one is killed at without being asked.
"""

import json
import os
import signal
import sys
import tempfile
import traceback
import types
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

CHANGES = (
    "open",
    "fsync",
    "rename",
    "replace",
    "unlink",
    "rmdir",
    "ftruncate",
    "write",
    "pwrite",
    "copy_file_range",
)
DIED = 99
RAISED = 70
SOURCE = str(Path(__file__).resolve().parent.parent / "src" / "tidstorage")
#: Audit events of Python that tell of a change, besides opening to write.
EVENTS = frozenset(
    {
        "os.chmod",
        "os.link",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.symlink",
        "os.truncate",
        "subprocess.Popen",
    }
)
#: Functions of ``os`` that change something and are no audit events.
UNAUDITED = ("fsync", "write", "pwrite", "copy_file_range")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
#: Where what is done for others stands: the step is named by who asked for it.
_HELPERS = ("tidstorage.system.durable", "tidstorage.system.json_file")
#: Written now and then, by the clock: no step, and nothing that has to be mended.
_NO_STEP = "tidstorage.operation.progress"


def in_child(function: Callable[[], object]) -> int:
    """The exit status of a process that runs ``function``; RAISED if it does."""
    child = os.fork()
    if not child:
        status = RAISED
        try:
            function()
            status = 0
        except BaseException:
            # Whatever it is, the child must not return into the test.
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_at_change(number: int) -> None:
    """Patch ``os`` so that this process dies before its nth change, as by SIGKILL."""
    left = [number]

    def dying(function: Callable[..., object]) -> Callable[..., object]:
        def changed(*arguments: object, **keywords: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os._exit(DIED)
            return function(*arguments, **keywords)

        return changed

    for name in CHANGES:
        setattr(os, name, dying(getattr(os, name)))


class Step(NamedTuple):
    """The ``number``-th time, from 1, that the change of that name is made."""

    name: str
    number: int


def recorded(function: Callable[[], object]) -> list[Step]:
    """The steps of a run to its end, in a child: of each name the first and last."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "steps"

        def run() -> None:
            names: list[str] = []
            _watch(names.append)
            function()
            text = json.dumps(names)
            os._exit(_save(record, text))

        assert in_child(run) == 0, "a run that nobody kills has to succeed"
        names = json.loads(record.read_text())
    last = Counter(names)
    return sorted(
        {Step(name, number) for name in last for number in (1, last[name])},
        key=lambda step: (names.index(step.name), step.number),
    )


def killed_at(step: Step, function: Callable[[], object]) -> bool:
    """Run it in a child that is killed before the step; false: it came to none."""
    left = [step.number]

    def meet(name: str) -> None:
        if name == step.name:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def run() -> None:
        _watch(meet)
        function()

    return in_child(run) == -signal.SIGKILL


def _save(record: Path, text: str) -> int:
    _state.met = None
    record.write_text(text)
    return 0


_state = types.SimpleNamespace(met=None)


def _watch(met: Callable[[str], object]) -> None:
    """Call ``met`` with the name of each change before it; for good, in a child."""
    _state.met = met

    def hook(event: str, arguments: Sequence[Any]) -> None:
        if event in EVENTS or (event == "open" and _writes(arguments)):
            _meet(event)

    sys.addaudithook(hook)
    for name in UNAUDITED:
        setattr(os, name, _named(name, getattr(os, name)))


def _writes(arguments: Sequence[Any]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & _WRITING)


def _named(name: str, function: Callable[..., object]) -> Callable[..., object]:
    def change(*arguments: object, **keywords: object) -> object:
        _meet(f"os.{name}")
        return function(*arguments, **keywords)

    return change


def _meet(event: str) -> None:
    met = _state.met
    place = _place()
    if met is not None and place is not None:
        met(f"{place}: {event}")


def _place() -> str | None:
    """The function of ours that makes the change, or lets a library make it."""
    found = None
    for module, function in _frames():
        if module == _NO_STEP:
            return None
        found = found or f"{module}.{function}"
        if module not in _HELPERS:
            return f"{module}.{function}"
    return found


def _frames() -> Iterator[tuple[str, str]]:
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(SOURCE):
            yield frame.f_globals["__name__"], code.co_qualname
        frame = frame.f_back  # type: ignore[assignment]
