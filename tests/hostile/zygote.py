"""Decoders' processes that start in a hundredth of a second, so that ten thousand of them can be let die.

A process that has loaded all that :mod:`dfqsam.imaging.dicom.child` needs waits for a pair of pipes and forks a child
that serves them: the same code behind the same pipes as in the product, without half a second of imports each time.
"""

import contextlib
import importlib
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

from dfqsam.imaging.dicom.worker import Worker

NUMBER = struct.Struct(">q")


class Forked:
    """What :class:`Worker` uses of a ``Popen``."""

    def __init__(self, channel: socket.socket) -> None:
        its_in, own_in = os.pipe()
        own_out, its_out = os.pipe()
        socket.send_fds(channel, [b"?"], [its_in, its_out])
        os.close(its_in)
        os.close(its_out)
        self.pid = NUMBER.unpack(channel.recv(NUMBER.size))[0]
        self.stdin, self.stdout = os.fdopen(own_in, "wb"), os.fdopen(own_out, "rb")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def poll(self) -> None:
        """Its parent buries it; whoever writes to a dead one finds out."""

    def wait(self) -> None:
        """As above."""


@contextlib.contextmanager
def quick_starts() -> Iterator[None]:
    """Within it, decoders' processes are forked."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "tests.hostile.zygote", str(theirs.fileno())]
    one = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    waiting = subprocess.Popen(
        command, pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL, env={**os.environ, **one}
    )
    theirs.close()
    before = Worker._running

    def running(self: Worker) -> Forked:
        if self._process is None:
            self._process = Forked(ours)  # pyright: ignore[reportAttributeAccessIssue]
        return self._process  # pyright: ignore[reportReturnType]

    Worker._running = running  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        Worker._running = before
        ours.close()
        waiting.wait()


def main(channel: socket.socket) -> None:
    from dfqsam.imaging.dicom import child

    for name in ("pydicom.pixels.utils", "pylibjpeg", "openjpeg", "libjpeg", "rle"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    while True:
        asked, pipes, _, _ = socket.recv_fds(channel, 1, 2)
        if not asked:
            return
        pid = os.fork()
        if not pid:
            channel.close()
            os.dup2(pipes[0], 0)
            os.dup2(pipes[1], 1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            child.main()
            os._exit(0)
        for pipe in pipes:
            os.close(pipe)
        channel.send(NUMBER.pack(pid))


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
