"""What commands print never decides what they do."""

import os
import subprocess
import sys

import pytest
from real_processes import PATIENCE

from tidstorage.commands.entry import run_reporting_errors
from tidstorage.errors import EngineFailed, NotCoherent

SPEAKING = """\
import pathlib, sys
from tidstorage.commands import console
from tidstorage.commands.entry import run_reporting_errors
from tidstorage.errors import NotCoherent

def verb():
    for _ in range(3):
        console.print_line("x" * 100_000)
        console.print_table(("column",), [("cell",)])
        console.print_json({"a": 1})
        console.write("plain\\n")
        console.print_warning("careful")
        with console.step("a step"):
            pass
    pathlib.Path(sys.argv[1]).write_text("done")
    raise NotCoherent("after all", "a hint")

sys.exit(run_reporting_errors(verb))
"""


@pytest.mark.parametrize("deaf", ["stdout", "stderr", "both"])
def test_a_verb_goes_on_when_its_reader_has_gone(tmp_path, deaf):
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    for name in streams if deaf == "both" else [deaf]:
        streams[name] = writer
    done = tmp_path / "done"
    process = subprocess.Popen(
        [sys.executable, "-c", SPEAKING, str(done)], text=True, **streams
    )
    os.close(writer)
    said = process.communicate(timeout=PATIENCE)
    assert process.returncode == NotCoherent.exit_status
    assert done.read_text() == "done"
    assert "Traceback" not in f"{said}" and "Exception" not in f"{said}"


def test_any_other_broken_pipe_is_an_error(capsys):
    def verb():
        raise BrokenPipeError(32, "Broken pipe")

    assert run_reporting_errors(verb) == EngineFailed.exit_status
    assert "Broken pipe" in capsys.readouterr().err
