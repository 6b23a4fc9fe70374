"""A process that listens like the daemon and writes down all it is told.

``python listener.py PORT FOLDER``: answers BOOTSTRAPED, and writes every other
byte into a file for each connection; ``Listener`` starts, stops, kills and reads
one.
"""

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from real_processes import PATIENCE, accepts, free_port, send_signal, wait_until

from tidstorage.wire import protocol


class Listener:
    """One such process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "heard"
        self.folder.mkdir()
        self.address = ("127.0.0.1", free_port())
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Listener":
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(self.address[1]), str(self.folder)]
        )
        wait_until(lambda: accepts(self.address), "the listener answers")
        return self

    def signal(self, number: int) -> None:
        assert self.process is not None
        send_signal(self.process, number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE)
            self.process = None

    def heard(self) -> list[protocol.Command]:
        """What it was told of commits so far."""
        return [
            command
            for file in sorted(self.folder.iterdir())
            for command in protocol.Parser().feed(file.read_bytes())
            if not isinstance(command, protocol.Hello)
        ]


def _serve(connection: socket.socket, file: Path) -> None:
    question = protocol.encode_bootstraped()
    with connection, file.open("xb", buffering=0) as heard:
        while data := connection.recv(65536):
            if data.startswith(question):
                connection.sendall(protocol.encode_truth(True))
                data = data.removeprefix(question)
            heard.write(data)


def main() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    while True:
        connection, _ = server.accept()
        file = Path(sys.argv[2], str(time.monotonic_ns()))
        threading.Thread(target=_serve, args=(connection, file), daemon=True).start()


if __name__ == "__main__":
    main()
