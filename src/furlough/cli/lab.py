"""`furlough lab`: real hosts with real VMs on this machine, and ways to make their life hard.

What a lab is, is in `furlough.lab`; here are the words a person types. Heavy imports stand in
the commands: `furlough --help` must not pay for them.
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from furlough.errors import Invalid
from furlough.lab.blueprint import Accelerator, Keepalive, Options, Storage
from furlough.lab.witness import VmReport

app = typer.Typer(
    help="Real libvirt hosts with real VMs on this machine. Needs root on Linux.",
    no_args_is_help=True,
)

UNITS_S = {"s": 1, "m": 60, "h": 3600}

LabName = Annotated[str, typer.Option("--name", help="Which lab, if there are several.")]
HostName = Annotated[str, typer.Argument(metavar="HOST", help="h1, h2 and so on.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class DaemonAct(StrEnum):
    """What can be done to a libvirtd."""

    KILL = "kill"
    STOP = "stop"
    START = "start"
    RESTART = "restart"
    FREEZE = "freeze"
    THAW = "thaw"


class PowerAct(StrEnum):
    """What can be done to a host's power."""

    OFF = "off"
    ON = "on"


@app.command()
def up(
    name: LabName = "lab",
    hosts: Annotated[int, typer.Option(help="How many hosts.")] = 3,
    vms: Annotated[int, typer.Option(help="How many VMs.")] = 6,
    on: Annotated[str | None, typer.Option(help="All VMs on this host; else spread.")] = None,
    storage: Annotated[
        Storage, typer.Option(help="nbd: network disks, no locks. dir: files, locked.")
    ] = Storage.NBD,
    accel: Annotated[
        Accelerator, typer.Option(help="kvm only where KVM really boots guests.")
    ] = Accelerator.TCG,
    memory: Annotated[int, typer.Option(metavar="MIB", help="Memory of each VM.")] = 128,
    fill: Annotated[
        int, typer.Option(metavar="PERCENT", help="Free guest memory filled with random data.")
    ] = 0,
    hot: Annotated[int, typer.Option(metavar="MIB", help="Memory rewritten all the time.")] = 0,
    hot_rate: Annotated[int, typer.Option(metavar="MIB/S", help="How fast it is rewritten.")] = 0,
    rate: Annotated[
        int | None, typer.Option(metavar="MBIT", help="What each host may send. Default: no limit.")
    ] = None,
    keepalive: Annotated[
        str | None,
        typer.Option(metavar="SECONDSxCOUNT", help="Between libvirtds. Default: theirs, 5x5."),
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls/--no-tls", help="Certificates, so that migrations are encrypted.")
    ] = False,
    clusters: Annotated[
        int, typer.Option(help="How many clusters; each takes who finds no place in another.")
    ] = 1,
    no_daemon: Annotated[bool, typer.Option("--no-daemon", help="Start no `furlough`.")] = False,
) -> None:
    """Build a lab: hosts, VMs, storage, links, and a furlough daemon that knows them."""
    from furlough.lab.construction import construct
    from furlough.lab.patience import unix_now

    options = Options(
        hosts=hosts,
        vms=vms,
        on=on,
        storage=storage,
        accelerator=accel,
        memory_mib=memory,
        fill_percent=fill,
        hot_mib=hot,
        hot_mib_s=hot_rate,
        rate_mbit_s=rate,
        keepalive=Keepalive.parse(keepalive) if keepalive else None,
        tls=tls,
        clusters=clusters,
    )
    started = unix_now()
    typer.echo(f"Building lab {name}")
    lab = construct(
        name, options, has_daemon=not no_daemon, tell=lambda line: typer.echo(f"  {line}")
    )
    typer.echo(f"Lab {name} is up after {unix_now() - started:.1f} s.\n")
    typer.echo(what_next(name, lab.controller.url))


def what_next(name: str, url: str | None) -> str:
    """What a person types after `up`."""
    option = "" if name == "lab" else f" --name {name}"
    lines = ["What next:"]
    if url:
        lines += [
            f"  furlough host list                    # the daemon listens at {url}",
            "  furlough check h1",
            "  furlough enter h1 --wait",
            "  furlough exit h1 --wait",
        ]
    lines += [
        f"  furlough lab status{option}",
        f"  furlough lab witness{option}",
        f"  furlough lab shell h1{option} -- virsh list",
        f"  furlough lab down{option}",
    ]
    return "\n".join(lines)


@app.command()
def status(name: LabName = "lab", as_json: AsJson = False) -> None:
    """Show hosts, links, libvirtds and VMs as they are now."""
    from furlough.lab.lab import Lab

    state = Lab.load(name).status()
    if as_json:
        typer.echo(json.dumps(state, indent=1))
        return
    daemon = state["daemon"]
    running = f"{daemon['url']}, pid {daemon['pid']}" if daemon["pid"] else "not running"
    typer.echo(f"Lab {name}: storage {state['storage']}, {state['accelerator']}")
    typer.echo(f"Files: {state['directory']}   furlough daemon: {running}\n")
    typer.echo(aligned(["HOST", "URI", "PID", "LIBVIRTD", "LINK", "VMS"], host_rows(state)))
    typer.echo("")
    rows = [[vm["name"], vm["host"] or "-", ago(vm["quiet_ms"])] for vm in state["vms"]]
    typer.echo(aligned(["VM", "PRINTED ON", "LAST LINE"], rows))


def host_rows(state: dict[str, Any]) -> list[list[str]]:
    """One row per host."""
    return [
        [
            host["name"],
            host["uri"],
            str(host["pid"] or "powered off"),
            host["daemon"],
            link_text(host),
            "?" if host["vms"] is None else ", ".join(host["vms"]) or "none",
        ]
        for host in state["hosts"]
    ]


def link_text(host: dict[str, Any]) -> str:
    """State and rate of a link."""
    rate = f", {host['rate_mbit_s']} Mbit/s" if host["rate_mbit_s"] else ""
    return f"{host['link'] or '-'}{rate}"


@app.command()
def down(name: LabName = "lab") -> None:
    """Take a lab down, whatever state it is in. Nothing of it stays behind."""
    from furlough.lab.demolition import demolish
    from furlough.lab.site import Site

    found = demolish(Site.named(name))
    typer.echo(f"Lab {name} is down." if found else f"There is no lab {name}: nothing to do.")


@app.command()
def shell(
    host: HostName,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND…]", help="Default: a shell.")
    ] = None,
    name: LabName = "lab",
) -> None:
    """Run a shell, or a command, on a host: in its namespaces, with its libvirt."""
    from furlough.lab.lab import Lab

    words = command or [os.environ.get("SHELL", "/bin/sh")]
    entering = Lab.load(name).host(host).inside.entering(words)
    os.execv(entering[0], entering)  # noqa: S606 - words, not a shell's line


@app.command()
def daemon(
    host: HostName,
    act: Annotated[DaemonAct, typer.Argument(help="kill is SIGKILL, freeze is SIGSTOP.")],
    name: LabName = "lab",
) -> None:
    """Kill, stop, start, restart, freeze or thaw a host's libvirtd. VMs run on."""
    from furlough.lab.lab import Lab

    there = Lab.load(name).host(host)
    acts = {
        DaemonAct.KILL: there.kill_daemon,
        DaemonAct.STOP: there.stop_daemon,
        DaemonAct.START: there.start_daemon,
        DaemonAct.RESTART: there.restart_daemon,
        DaemonAct.FREEZE: there.freeze_daemon,
        DaemonAct.THAW: there.thaw_daemon,
    }
    acts[act]()
    typer.echo(f"libvirtd of {host}: {there.daemon_state()}")


@app.command()
def link(
    host: HostName,
    rate: Annotated[int | None, typer.Option(metavar="MBIT", help="Limit what it sends.")] = None,
    cut: Annotated[bool, typer.Option("--cut", help="Its interface goes down.")] = False,
    silent: Annotated[bool, typer.Option("--silent", help="Everything is dropped.")] = False,
    restore: Annotated[bool, typer.Option("--restore", help="As it was at `up`.")] = False,
    name: LabName = "lab",
) -> None:
    """Limit, cut, silence or restore a host's link."""
    from furlough.lab.lab import Lab

    if [rate is not None, cut, silent, restore].count(True) != 1:
        raise Invalid("lab.option", "Give one of --rate, --cut, --silent and --restore.")
    there = Lab.load(name).host(host)
    if rate is not None:
        there.set_rate(rate)
    elif cut:
        there.cut()
    elif silent:
        there.silence()
    else:
        there.restore_link()
    now = there.link()
    typer.echo(f"link of {host}: {link_text({'link': now.state, 'rate_mbit_s': now.rate_mbit_s})}")


@app.command()
def power(
    host: HostName,
    act: Annotated[PowerAct, typer.Argument(help="off kills every process of the host at once.")],
    name: LabName = "lab",
) -> None:
    """Cut or give a host power. Its VMs die with it; those with autostart start with it."""
    from furlough.lab.lab import Lab

    there = Lab.load(name).host(host)
    there.power_off() if act is PowerAct.OFF else there.boot()
    typer.echo(f"host {host}: power {act.value}")


@app.command()
def witness(
    name: LabName = "lab",
    since: Annotated[
        str | None, typer.Option(help="Unix seconds, or how long ago: 90s, 5m, 1h.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what the guests saw: who ran where and when, longest gap, two copies at once.

    Exit status 1 if two hosts ever ran the same VM at once.
    """
    from furlough.lab.lab import Lab
    from furlough.lab.patience import unix_now

    reports = Lab.load(name).witness(since=instant(since, unix_now()) if since else 0.0)
    if as_json:
        typer.echo(json.dumps([asdict(report) for report in reports], indent=1))
    else:
        header = ["VM", "ON", "LINES", "LAST LINE", "LONGEST GAP", "AT", "TWO AT ONCE", "PATH"]
        typer.echo(aligned(header, [witness_row(report) for report in reports]))
    if any(report.doubles for report in reports):
        raise typer.Exit(1)


def witness_row(report: VmReport) -> list[str]:
    """One VM's story in a line."""
    gap = report.longest_gap
    return [
        report.vm,
        report.host or "-",
        str(report.lines),
        ago(report.quiet_ms),
        f"{gap.milliseconds} ms" if gap else "-",
        f"{clock(gap.since)} {' to '.join(dict.fromkeys((gap.source, gap.target)))}"
        if gap
        else "-",
        "; ".join(
            f"{' and '.join(double.hosts)} {clock(double.since)} to {clock(double.until)}"
            for double in report.doubles
        )
        or "never",
        " > ".join(stay.host for stay in report.stays) or "-",
    ]


def instant(text: str, now: float) -> float:
    """Seconds since 1970 from what a person typed."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", text)
    if not found:
        raise Invalid(
            "lab.option",
            f"--since {text}: neither an instant nor a length of time.",
            remedy="Give seconds since 1970, or for example 90s, 5m or 1h.",
        )
    value, unit = float(found.group(1)), found.group(2)
    return now - value * UNITS_S[unit] if unit else value


def clock(at: float) -> str:
    """An instant for people, UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]


def ago(milliseconds: int | None) -> str:
    """How long ago, for people."""
    if milliseconds is None:
        return "never"
    return f"{milliseconds} ms ago" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s ago"


def aligned(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in columns, the same in a terminal and in a pipe."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
