"""A set of namespaces held by one first process: a host of the lab, or its switch."""

import json
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from furlough.errors import Refused
from furlough.lab.command import run
from furlough.lab.processes import Process, carries, end, in_namespace_of

BIRTH = Path(__file__).with_name("birth.py")


@dataclass(frozen=True, kw_only=True)
class Specification:
    """What birth.py makes; see there."""

    hostname: str
    fresh: tuple[str, ...] = ()
    regrown: tuple[str, ...] = ()
    binds: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Namespaces:
    """The namespaces whose first process is named in `directory`/init.pid."""

    directory: Path
    mark: str

    @property
    def pid_file(self) -> Path:
        """Holds the pid of the first process, as the root namespace counts, and nothing else."""
        return self.directory / "init.pid"

    def create(self, specification: Specification) -> None:
        """Make them. Refused if the kernel does not let us."""
        self.directory.mkdir(parents=True, exist_ok=True)
        recipe = self.directory / "birth.json"
        recipe.write_text(json.dumps(asdict(specification)), encoding="utf-8")
        pid = run([sys.executable, "-IS", BIRTH, recipe], mark=self.mark).strip()
        self.pid_file.write_text(pid + "\n", encoding="ascii")

    def first(self) -> Process | None:
        """The first process, or None if it is gone. A recycled pid does not bear our mark."""
        try:
            pid = int(self.pid_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return Process.of(pid) if carries(pid, self.mark) else None

    def entering(self, argv: Sequence[str], *, only: str = "--all") -> list[str]:
        """The command line that runs `argv` inside. Refused if there is no inside."""
        return [nsenter(), "--target", str(self.living().pid), only, "--", *argv]

    def run(self, argv: Sequence[str], *, text_in: str = "", timeout_s: float = 60) -> str:
        """Run a program inside, as `furlough.lab.command.run` does."""
        words = self.entering(argv)
        return run(words, text_in=text_in, timeout_s=timeout_s, mark=self.mark)

    def run_ip(self, lines: Sequence[str]) -> None:
        """Run lines of `ip` in the network namespace; pids in them are the root namespace's."""
        words = self.entering(["ip", "-batch", "-"], only="--net")
        run(words, text_in="\n".join(lines) + "\n", mark=self.mark)

    def processes(self) -> list[Process]:
        """Everything that lives inside; empty when it is gone."""
        first = self.first()
        return in_namespace_of(first) if first else []

    def living(self) -> Process:
        """The first process; Refused if it is gone."""
        first = self.first()
        if first is None:
            raise Refused(
                "lab.host_gone",
                f"{self.directory.name} does not run: its first process is gone.",
                remedy="Take the lab down and up again.",
            )
        return first

    def destroy(self) -> None:
        """Kill the first process; the kernel then kills the rest before this returns."""
        first = self.first()
        if first is not None:
            end([first], signal.SIGKILL, timeout_s=10)
        self.pid_file.unlink(missing_ok=True)


def nsenter() -> str:
    """Where the program is: exec'ed without a search path by `lab shell`."""
    return shutil.which("nsenter") or "/usr/bin/nsenter"
