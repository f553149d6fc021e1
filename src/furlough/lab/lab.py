"""A lab that is up: its hosts, its VMs, its witness, its state."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from furlough.errors import NotFound, Refused, Unreachable
from furlough.lab import requirements, witness
from furlough.lab.blueprint import Blueprint
from furlough.lab.controller import Controller
from furlough.lab.demolition import demolish
from furlough.lab.host import Host
from furlough.lab.namespaces import Namespaces
from furlough.lab.patience import unix_now, wait_until
from furlough.lab.site import Site


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A lab that was built, by `construction.construct`, and not yet taken down."""

    blueprint: Blueprint

    @staticmethod
    def load(name: str = "lab") -> "Lab":
        """The lab of that name. NotFound unless one was built; Refused unless we are root."""
        requirements.check_user(os.geteuid())
        try:
            text = Site.named(name).description.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise NotFound(
                "lab.unknown",
                f"There is no lab called {name}.",
                remedy=f"Build one: furlough lab up --name {name}",
            ) from None
        return Lab(blueprint=Blueprint.from_json(text))

    def down(self) -> None:
        """Take it down: nothing stays behind."""
        demolish(self.site)

    @property
    def name(self) -> str:
        """Its name."""
        return self.blueprint.name

    @property
    def site(self) -> Site:
        """Where its things are."""
        return self.blueprint.site

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Its hosts, h1 first."""
        return tuple(Host(plan=plan, blueprint=self.blueprint) for plan in self.blueprint.hosts)

    @property
    def switch(self) -> Namespaces:
        """The namespaces of the switch."""
        return Namespaces(directory=self.site.host("switch"), mark=self.site.mark)

    @property
    def controller(self) -> Controller:
        """Its furlough daemon."""
        return Controller(site=self.site)

    @property
    def vm_names(self) -> tuple[str, ...]:
        """The names of its VMs, vm1 first."""
        return tuple(vm.name for vm in self.blueprint.vms)

    def host(self, name: str) -> Host:
        """The host of that name. NotFound if there is none."""
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise NotFound("lab.host_unknown", f"Lab {self.name} has no host {name}: it has {known}.")

    def placement(self) -> dict[str, list[str]]:
        """Which running VMs each host's libvirt names."""
        return {host.name: host.vms() for host in self.hosts}

    # --- witness ----------------------------------------------------------------------------

    def sightings(self) -> list[witness.Sighting]:
        """Every line of every guest so far."""
        return witness.read({host.name: self.site.witness_log(host.name) for host in self.hosts})

    def witness(self, *, since: float = 0.0) -> list[witness.VmReport]:
        """What the guests say happened since that instant (seconds since 1970)."""
        return witness.report(self.sightings(), self.vm_names, since=since, until=unix_now())

    def wait_for_guests(self, *, since: float = 0.0, timeout_s: float = 60) -> float:
        """Wait until every VM has printed since then; return how long that took."""

        def all_count() -> bool:
            return all(report.lines for report in self.witness(since=since))

        return wait_until(all_count, "every guest to count", timeout_s=timeout_s, interval_s=0.1)

    # --- state ------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The lab as it is now, for people and programs; what does not answer is said so."""
        with ThreadPoolExecutor() as pool:
            hosts = list(pool.map(host_status, self.hosts))
        daemon = self.controller.process()
        return {
            "name": self.name,
            "directory": str(self.site.directory),
            "storage": self.blueprint.options.storage.value,
            "accelerator": self.blueprint.options.accelerator.value,
            "memory_mib": self.blueprint.options.memory_mib,
            "config": str(self.site.daemon_config),
            "daemon": {"url": self.controller.url, "pid": daemon.pid if daemon else None},
            "hosts": hosts,
            "vms": [vm_status(report) for report in self.witness()],
        }


def host_status(host: Host) -> dict[str, Any]:
    """One host as it is now. `vms` is None where libvirt does not say."""
    first = host.inside.first()
    state: dict[str, Any] = {
        "name": host.name,
        "address": host.address,
        "uri": host.uri,
        "socket": str(host.socket),
        "pid": first.pid if first else None,
        "daemon": "stopped",
        "link": None,
        "rate_mbit_s": None,
        "vms": None,
    }
    if first is None:
        return state
    link = host.link()
    state |= {"daemon": host.daemon_state(), "link": link.state, "rate_mbit_s": link.rate_mbit_s}
    if state["daemon"] == "running":
        try:
            state["vms"] = host.vms()
        except (Refused, Unreachable):
            state["daemon"] = "silent"
    return state


def vm_status(report: witness.VmReport) -> dict[str, Any]:
    """Where a VM last printed, and how long ago."""
    return {"name": report.vm, "host": report.host, "quiet_ms": report.quiet_ms}
