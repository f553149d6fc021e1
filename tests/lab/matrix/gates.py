"""Where a migration can be made to stand still: in a message between two daemons, and in the hook
that the source's daemon runs when it has ended the VM's process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from furlough.lab.host import WITNESS_DIRECTORY, Host

INTERCEPTOR = Path(__file__).with_name("interceptor.py")
PORT, PORT_BEHIND = 16509, 16510

# A hook that stops the world for a minute at most, should nobody let it go.
HOOK = f"""\
#!/bin/sh
here={WITNESS_DIRECTORY}/hook
test "$2" = stopped -a -e "$here/hold" && grep -qx "$1" "$here/hold" || exit 0
touch "$here/held"
rounds=0
while test -e "$here/hold" -a $rounds -lt 600; do sleep 0.1; rounds=$((rounds + 1)); done
exit 0
"""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A directory of orders: `hold` closes it, `held` says that somebody stands before it."""

    directory: Path

    def close(self, words: str) -> None:
        """Whoever these words are about is to wait."""
        self.open()
        (self.directory / "hold").write_text(f"{words}\n", encoding="ascii")

    def open(self) -> None:
        """Nobody waits, nothing is lost, nothing is remembered."""
        for name in ("hold", "lose", "held", "lost"):
            (self.directory / name).unlink(missing_ok=True)

    def let_go(self) -> None:
        """What waits goes on, or is lost if that was ordered."""
        (self.directory / "hold").unlink(missing_ok=True)

    def lose(self) -> None:
        """What waits will not go on, nor will anything that follows."""
        (self.directory / "lose").touch()

    @property
    def is_holding(self) -> bool:
        """Whether somebody stands before it."""
        return (self.directory / "held").exists() and (self.directory / "hold").exists()

    @property
    def has_lost(self) -> bool:
        """Whether something was lost there."""
        return (self.directory / "lost").exists()


def messages_to(host: Host) -> Gate:
    """What is said to this host's daemon and by it."""
    return Gate(directory=host.directory / "witness" / "messages")


def endings_on(host: Host) -> Gate:
    """The hook that runs on this host when a VM's process has been ended."""
    return Gate(directory=host.directory / "witness" / "hook")


def install(host: Host) -> None:
    """Both gates on a host, once. Its daemon listens elsewhere from now on, at the usual port
    listens who passes on."""
    for gate in (messages_to(host), endings_on(host)):
        gate.directory.mkdir()
    settings = host.directory / "etc-libvirt" / "libvirtd.conf"
    with settings.open("a", encoding="utf-8") as more:
        more.write(f'tcp_port = "{PORT_BEHIND}"\n')
    hook = host.directory / "etc-libvirt" / "hooks" / "qemu.d" / "90-gate"
    hook.write_text(HOOK, encoding="ascii")
    hook.chmod(0o755)
    host.restart_daemon()
    program = host.directory / "witness" / INTERCEPTOR.name
    program.write_bytes(INTERCEPTOR.read_bytes())
    host.run(
        "/usr/bin/python3", "-IS", f"{WITNESS_DIRECTORY}/{program.name}",
        host.address, str(PORT), str(PORT_BEHIND), f"{WITNESS_DIRECTORY}/messages",
    )  # fmt: skip
