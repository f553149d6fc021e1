"""The witness of one host: collects the serial lines of the guests that run on it.

A program of its own, started inside the host's namespaces (standard library only):

    python3 -IS collector.py SERIAL_DIRECTORY WITNESS_LOG

QEMU appends each guest's lines to a file of the VM's name in a directory that is private to
the host. Every 20 ms we read what is new and append "TIME VM BOOT COUNTER" to the log, TIME
being this host's clock when we saw the line end. It leaves its starter at once.
"""

import os
import re
import sys
import time
from pathlib import Path

EVERY_S = 0.02
LOOK_FOR_FILES_EVERY = 5  # rounds
# Half a line, cut by a switchover, has lost its '@' or its '.' and is no line.
LINE = re.compile(rb"@([0-9a-f]{8}) ([0-9]{10})\.\r?\n")
LONGEST_LINE = 64


class Tail:
    """What one guest has printed and we have not read yet."""

    def __init__(self, path: Path, offset: int) -> None:
        self.vm = path.name
        self.descriptor = os.open(path, os.O_RDONLY)
        os.lseek(self.descriptor, offset, os.SEEK_SET)
        self.rest = b""

    def lines(self) -> list[tuple[str, int]]:
        """Boot and counter of each line that ended since the last look."""
        new = os.read(self.descriptor, 1 << 16)
        if not new:
            return []
        text = self.rest + new
        found = list(LINE.finditer(text))
        self.rest = text[found[-1].end() if found else 0 :][-LONGEST_LINE:]
        return [(match.group(1).decode(), int(match.group(2))) for match in found]


def main() -> int:
    """Collect until killed."""
    directory = Path(sys.argv[1])
    log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    if os.fork():
        return 0
    leave()
    # What is there already was printed before we looked: its time is not known.
    tails = {path.name: Tail(path, path.stat().st_size) for path in directory.iterdir()}
    rounds = 0
    while True:
        if rounds % LOOK_FOR_FILES_EVERY == 0:
            new = (path for path in directory.iterdir() if path.name not in tails)
            tails.update({path.name: Tail(path, 0) for path in new})
        rounds += 1
        seen = [(tail.vm, *line) for tail in tails.values() for line in tail.lines()]
        if seen:
            now = time.time()
            text = "".join(f"{now:.3f} {vm} {boot} {counter}\n" for vm, boot, counter in seen)
            os.write(log, text.encode())
        time.sleep(EVERY_S)


def leave() -> None:
    """Become nobody's child, and let go of the starter's pipes."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)


if __name__ == "__main__":
    sys.exit(main())
