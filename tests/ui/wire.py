"""A wire between browser and daemon that a story can cut, and that remembers what was asked."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class Wire:
    """Forwards connections to a daemon until it is cut; then they break and new ones are refused.
    `heads`: the first bytes of every connection's requests, as they were seen."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._there = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.heads: list[str] = []
        self._is_whole = True
        self._ends: set[socket.socket] = set()
        self._guard = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Every connection breaks, and no new one comes through."""
        with self._guard:
            self._is_whole = False
            ends, self._ends = self._ends, set()
        for end in ends:
            _close(end)

    def mend(self) -> None:
        """New connections come through again."""
        with self._guard:
            self._is_whole = True

    def close(self) -> None:
        """No more of it."""
        self.cut()
        _close(self._listener)

    def asked(self, path: str) -> list[str]:
        """The requests for this path so far, each with its headers."""
        return [head for head in self.heads if head.startswith(f"GET {path}")]

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._guard:
                is_whole = self._is_whole
            if not is_whole:
                _close(near)
                continue
            far = socket.create_connection(self._there)
            with self._guard:
                self._ends |= {near, far}
            threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_asking: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(65_536):
                if is_asking:
                    self.heads.append(piece.decode("latin-1"))
                target.sendall(piece)
        _close(source)
        _close(target)
        with self._guard:
            self._ends -= {source, target}


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        end.close()
