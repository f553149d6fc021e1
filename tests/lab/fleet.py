"""Driving a lab as a user does: with the `furlough` command; `virsh` and the guests witness."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from furlough.errors import FurloughError
from furlough.lab.lab import Lab
from furlough.lab.patience import unix_now, wait_until

# All guests of a lab, its daemons and the tests share the machine's processors.
SHARED_MS = 3000


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command came to."""

    code: int
    output: str
    complaint: str

    @property
    def json(self) -> Any:
        """What it printed, read; it must have printed something."""
        assert self.output, f"exit code {self.code} and no output: {self.complaint}"
        return json.loads(self.output)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A lab with its daemon, and the command line of a user."""

    lab: Lab
    environment: dict[str, str]

    def furlough(self, *words: str, timeout_s: float = 240) -> Ran:
        """Run `furlough` and wait for it."""
        return self.start(*words).wait(timeout_s)

    def start(self, *words: str) -> Running:
        """Run `furlough` beside us."""
        process = subprocess.Popen(
            [sys.executable, "-m", "furlough", *words],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return Running(process=process)

    def operation(self, which: str) -> Any:
        """An operation as `operation show --json` has it."""
        return self.furlough("operation", "show", which, "--json").json

    def active_operation(self) -> Any:
        """The one operation that is not over."""
        (found,) = self.furlough("operation", "list", "--active", "--json").json
        return found

    def step_of(self, vm: str) -> Any:
        """The step of the active operation that is about this VM."""
        return next(step for step in self.active_operation()["steps"] if step["vm_name"] == vm)

    def start_on(self, host: str, command: str) -> Running:
        """Run a shell line on a host beside us."""
        words = ["lab", "shell", "--name", self.lab.name, host, "--", "sh", "-c", command]
        return self.start(*words)

    def modes(self) -> dict[str, str]:
        """Every host's mode."""
        return {host["name"]: host["mode"] for host in self.furlough("host", "list", "--json").json}

    def running(self) -> dict[str, list[str]]:
        """Where virsh, asked on each host itself, sees each VM run."""
        found: dict[str, list[str]] = {name: [] for name in self.lab.vm_names}
        for host, vms in self.lab.placement().items():
            for vm in vms:
                found[vm].append(host)
        return found

    def wait_until(self, holds: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
        """Poll until it holds."""
        wait_until(holds, what, timeout_s=timeout_s, interval_s=0.1)

    def wait_for_copying(self, source: str) -> str:
        """Until a migration out of this host is copying memory; which VM's."""
        host = self.lab.host(source)
        found: list[str] = []

        def copying() -> bool:
            for vm in host.vms():
                with suppress(FurloughError):
                    if "Memory remaining" in host.virsh("domjobinfo", vm):
                        found.append(vm)
                        return True
            return False

        self.wait_until(copying, f"a migration out of {source}")
        return found[0]

    def bring_home(self, host: str) -> None:
        """Every VM on this host, every host in service, nothing under way: as a test should find
        it."""
        for one in self.lab.hosts:
            if not one.answers():
                one.start_daemon()
        for operation in self.furlough("operation", "list", "--active", "--json").json:
            self.furlough("operation", "cancel", operation["id"], "--wait")
        for name, mode in self.modes().items():
            if mode == "maintenance":
                self.check(self.furlough("exit", name, "--wait"))
            elif mode == "cordoned":
                self.check(self.furlough("host", "uncordon", name, "--wait"))
        for vm, hosts in self.running().items():
            assert len(hosts) <= 1, f"{vm} runs on {hosts}"
            if not hosts:
                next(one for one in self.lab.hosts if vm in one.vms("--all")).virsh("start", vm)
            if vm not in self.lab.host(host).vms():
                self.check(self.furlough("vm", "migrate", vm, "--to", host, "--wait"))

    @staticmethod
    def check(ran: Ran) -> Ran:
        """The same, if it went well."""
        assert ran.code == 0, f"exit code {ran.code}: {ran.output}{ran.complaint}"
        return ran

    def check_witness(self, since: float, downtimes_ms: dict[str, int | None]) -> None:
        """No guest ran twice at once, and none paused longer than was reported, and
        than a guest may have to wait for a processor that all hosts of the lab share."""
        self.lab.wait_for_guests(since=unix_now())
        for report in self.lab.witness(since=since):
            assert report.doubles == (), f"{report.vm} ran twice at once: {report.doubles}"
            reported = downtimes_ms.get(report.vm)
            if reported is not None and report.longest_gap is not None:
                gap = report.longest_gap.milliseconds
                assert gap <= reported + SHARED_MS, (
                    f"{report.vm}: gap {gap} ms, reported {reported} ms"
                )


@dataclass(frozen=True, kw_only=True)
class Running:
    """A command under way."""

    process: subprocess.Popen[str]

    def wait(self, timeout_s: float = 240) -> Ran:
        output, complaint = self.process.communicate(timeout=timeout_s)
        return Ran(code=self.process.returncode, output=output, complaint=complaint)

    def stop(self) -> None:
        """End it, if it has not ended."""
        self.process.terminate()
        self.process.communicate(timeout=30)


def downtimes(operation: Any) -> dict[str, int | None]:
    """By VM, the pause that was reported."""
    return {step["vm_name"]: step["downtime_ms"] for step in operation["steps"] if step["vm_uuid"]}
