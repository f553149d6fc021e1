"""Where a lab keeps its things, and under which name. Pure: paths only, nothing is touched."""

import re
from dataclasses import dataclass
from pathlib import Path

from furlough.errors import Invalid

STATE_ROOT = Path("/run/furlough-lab")
# /run is a tmpfs, which refuses the O_DIRECT of cache='none' before Linux 6.6: disks live on disk.
DISK_ROOT = Path("/var/lib/furlough-lab")

# An interface name has 15 characters at most, and ours is "fl-" and the lab's name.
NAME = re.compile(r"[a-z][a-z0-9]{0,11}")


@dataclass(frozen=True, kw_only=True)
class Site:
    """The places of one lab. `Site.named` refuses names that fit no interface."""

    name: str
    state_root: Path = STATE_ROOT
    disk_root: Path = DISK_ROOT

    @staticmethod
    def named(name: str) -> "Site":
        """The site of the lab of that name."""
        if not NAME.fullmatch(name):
            raise Invalid(
                "lab.name",
                f"A lab cannot be called {name!r}.",
                remedy="Use up to twelve lower-case letters and digits, a letter first.",
            )
        return Site(name=name)

    @property
    def directory(self) -> Path:
        """Description, sockets, logs, witness."""
        return self.state_root / self.name

    @property
    def description(self) -> Path:
        """The blueprint the lab was built from."""
        return self.directory / "lab.json"

    @property
    def disks(self) -> Path:
        """One image per VM."""
        return self.disk_root / self.name

    @property
    def mark(self) -> str:
        """What every process of this lab carries in its environment."""
        return str(self.directory)

    @property
    def link(self) -> str:
        """The one interface the lab has in the root namespace."""
        return f"fl-{self.name}"

    @property
    def initramfs(self) -> Path:
        """The guests' initramfs; hosts see its directory at `GUEST_PLACE`."""
        return self.directory / "guest" / "initramfs"

    @property
    def daemon_config(self) -> Path:
        """The `furlough.toml` of this lab."""
        return self.directory / "furlough.toml"

    def host(self, name: str) -> Path:
        """What belongs to one host (or to the switch)."""
        return self.directory / name

    def witness_log(self, host: str) -> Path:
        """What the collector of that host has seen."""
        return self.host(host) / "witness" / "witness.log"
