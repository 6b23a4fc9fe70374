"""A plugin of pytest that keeps what a test said when it failed and was tried again.

A second try that passes would hide the first failure, which may be a defect that
comes and goes.  Each failure gets a file of its own below ``var/log/test-reruns``,
named after its test; the end of the run names them.  It works in one process and
with the workers of pytest-xdist, whose reports all come to the process that writes.
"""

import datetime
import os
import re
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

FOLDER = "var/log/test-reruns"


def pytest_configure(config: pytest.Config) -> None:
    """Keep failures in this process, unless it is a worker of another one."""
    if not hasattr(config, "workerinput"):
        keeper = FirstFailures(config.rootpath)
        config.pluginmanager.register(keeper, "first-failures-keeper")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, object]:
    """Note how busy the machine is at the moment at which a test fails."""
    report = yield
    if report.failed:
        # As an attribute it goes with the report from a worker to who writes.
        report.load_average = os.getloadavg()
    return report


class FirstFailures:
    """Writes the files, and knows which tests ran at the same time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._began: dict[str, float] = {}
        self._ended: list[tuple[str, float]] = []
        self._written: list[Path] = []

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._began[nodeid] = time.time()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._began.pop(nodeid, None)
        self._ended.append((nodeid, time.time()))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # What pytest-rerunfailures makes of a failure after which it tries again.
        if report.outcome == "rerun":
            path = _free_path(self.root / FOLDER, report.nodeid)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(_lines(report, self._beside(report))) + "\n")
            self._written.append(path)

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        if self._written:
            terminalreporter.section("what failed and was tried again")
            for path in self._written:
                terminalreporter.line(str(path.relative_to(self.root)))

    def _beside(self, report: pytest.TestReport) -> list[str]:
        """The other tests that ran for some of the time that this one did."""
        ended = {nodeid for nodeid, end in self._ended if end >= report.start}
        return sorted((ended | self._began.keys()) - {report.nodeid})


def _free_path(folder: Path, nodeid: str) -> Path:
    """A file that is not there yet: earlier failures of the test stay."""
    name = re.sub(r"[^\w.-]+", "-", nodeid.removeprefix("tests/")).strip("-")[:150]
    path, number = folder / f"{name}.txt", 2
    while path.exists():
        path, number = folder / f"{name}-{number}.txt", number + 1
    return path


def _lines(report: pytest.TestReport, beside: list[str]) -> Iterator[str]:
    began, ended = (
        datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
        for seconds in (report.start, report.stop)
    )
    load = getattr(report, "load_average", ())
    yield f"test: {report.nodeid}"
    yield f"phase: {report.when}"
    yield f"from {began} to {ended} ({report.duration:.1f} s)"
    yield f"load average: {' '.join(f'{each:.2f}' for each in load)}"
    yield f"worker: {getattr(report, 'worker_id', 'none')}"
    yield f"tests beside it: {', '.join(beside) or 'none'}"
    yield ""
    yield report.longreprtext
    for title, content in report.sections:
        yield ""
        yield f"---- {title} ----"
        yield content
