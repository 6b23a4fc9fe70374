"""repozo, run for one repository: the installed one, or another command."""

import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.errors import PartMissing, ProgramFailed
from tidstorage.system import child


@dataclass(frozen=True, slots=True)
class Repozo:
    """command: what ``--repozo`` says, None for the installed one.

    options: what every backup is given besides.
    """

    command: str | None = None
    options: tuple[str, ...] = ()

    def back_up(self, data_file: Path, repository: Path, full: bool, lock: int) -> None:
        """Copy what is new in a Data.fs, or all of it, into the repository.

        lock: a descriptor that stays open in repozo, should we be killed.

        Raises:
          EngineFailed: where repozo fails.
          PartMissing: where there is no such command.
        """
        options = [*self.options, *(["-F"] if full else [])]
        arguments = ["-B", *options, "-r", str(repository), "-f", str(data_file)]
        self._run(arguments, [lock])

    def recover(self, repository: Path, second: str, output: Path, lock: int) -> None:
        """Put together, at ``output``, the copy of that second; as `back_up`."""
        self._run(
            ["-R", "-r", str(repository), "-D", second, "-o", str(output)], [lock]
        )

    def _run(self, arguments: Sequence[str], descriptors: Sequence[int]) -> None:
        if self.command is None:
            command = [*child.python("ZODB.scripts.repozo"), *arguments]
            environment = child.environment()
        else:
            command = [*shlex.split(self.command), *arguments]
            environment = dict(os.environ)
        try:
            done = subprocess.run(
                command,
                env=environment,
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            raise PartMissing(
                f"{self.command} cannot be run: {error.strerror}",
                "Correct --repozo, or leave it out: then the installed repozo is run.",
            ) from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["(it said nothing)"]
            raise ProgramFailed(
                f"repozo {shlex.join(arguments)} ended with status {done.returncode}:"
                f" {lines[-1]}"
            )
