"""Labs for the tests: real hosts, so real root, real libvirt and real QEMU are needed."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from furlough.errors import Refused
from furlough.lab import requirements
from furlough.lab.blueprint import Keepalive, Options, Storage
from furlough.lab.command import MARK, PLAIN_ENVIRONMENT, run
from furlough.lab.construction import construct
from furlough.lab.demolition import demolish
from furlough.lab.lab import Lab
from furlough.lab.site import Site
from tests.lab.fleet import Fleet

PLACES = ("/run", "/run/netns", "/var/lib", "/var/log", "/var/cache", "/srv", "/etc/libvirt")
Traces = Callable[[], set[str]]


@pytest.fixture(scope="session")
def able() -> None:
    """Skip, with the reason, where no lab can be; fail where one is required."""
    try:
        requirements.check(Options())
    except Refused as obstacle:
        if os.environ.get("FURLOUGH_REQUIRE_LAB") == "1":
            pytest.fail(f"FURLOUGH_REQUIRE_LAB=1, and no lab can be built: {obstacle}")
        # Not root, or no libvirt: on such a machine there is nothing to test.
        pytest.skip(f"no lab can be built here: {obstacle}")


def own_name(letter: str) -> str:
    """A lab name that no other test run on this machine uses."""
    return f"t{letter}{os.getpid()}"


def built(name: str, options: Options) -> Iterator[Lab]:
    """A lab that is taken down whatever happens."""
    try:
        yield construct(name, options, has_daemon=False)
    finally:
        demolish(Site.named(name))


@pytest.fixture(scope="module")
def lab(able: None) -> Iterator[Lab]:
    """Three hosts, four VMs, network disks."""
    yield from built(own_name("n"), Options(vms=4))


@pytest.fixture(scope="module")
def directory_lab(able: None) -> Iterator[Lab]:
    """Two hosts that share a directory, two VMs on the first."""
    options = Options(hosts=2, vms=2, on="h1", storage=Storage.DIR)
    yield from built(own_name("d"), options)


@pytest.fixture(scope="module")
def slow_fleet(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts and a daemon; four VMs on the first, with memory to copy over slow links, so
    that there is time to disturb a migration. Silent peers are given up after four seconds."""
    options = Options(
        vms=4, on="h1", memory_mib=160, fill_percent=60, rate_mbit_s=150,
        keepalive=Keepalive(interval_s=1, count=3),
    )  # fmt: skip
    yield from driven(own_name("f"), options, tmp_path_factory)


@pytest.fixture
def fleet(slow_fleet: Fleet) -> Fleet:
    """That fleet with everybody at home and in service, whatever the test before has left."""
    slow_fleet.bring_home("h1")
    return slow_fleet


@pytest.fixture(scope="module")
def directory_fleet(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts that share a directory, a daemon, three VMs on the first."""
    options = Options(vms=3, on="h1", storage=Storage.DIR)
    yield from driven(own_name("e"), options, tmp_path_factory)


def driven(name: str, options: Options, paths: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A lab with its daemon and a user, whose context lies in a directory of the test's."""
    config = str(paths.mktemp("config"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", config)
        try:
            lab = construct(name, options, has_daemon=True)
            yield Fleet(lab=lab, environment={"XDG_CONFIG_HOME": config})
        finally:
            demolish(Site.named(name))


@pytest.fixture
def site(able: None) -> Iterator[Site]:
    """The place of a lab that a test builds and takes down itself."""
    site = Site.named(own_name("x"))
    try:
        yield site
    finally:
        demolish(site)


# --- what a lab leaves ----------------------------------------------------------------------


@pytest.fixture
def traces(site: Site) -> Traces:
    """Lists everything on this machine that can be told to be of that lab."""
    return lambda: members(site) | places(site)


def members(site: Site) -> set[str]:
    """Processes, dead ones too, that bear its mark or see its directories mounted."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_marked = f"{MARK}={site.mark}".encode() in (process / "environ").read_bytes()
            sees_it = f"{site.mark}/" in (process / "mountinfo").read_text()
            name = (process / "comm").read_text().strip()
        except OSError:
            continue
        if (is_marked or sees_it) and process.name != str(os.getpid()):
            found.add(f"process {process.name} {name}")
    return found


def places(site: Site) -> set[str]:
    """Its interface, directories and mounts."""
    links = {f"link {path.name}" for path in Path("/sys/class/net").glob(f"{site.link}*")}
    files = {f"file {path}" for path in (site.directory, site.disks) if path.exists()}
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return links | files | {f"mount {line}" for line in mounts if site.name in line}


@pytest.fixture
def surroundings() -> Traces:
    """Lists what a lab could change around it: rules, routes, mounts, links, files."""
    return lambda: (
        {f"rule {line}" for line in packet_filter_rules()}
        | {f"route {line}" for line in run(["ip", "route"]).splitlines()}
        | {f"mount {line.split()[4]}" for line in lines_of("/proc/self/mountinfo")}
        | {f"file {path}" for path in Path("/sys/class/net").iterdir()}
        | {f"file {path}" for place in PLACES for path in Path(place).glob("*")}
        | {f"tmp {path}" for path in Path("/tmp").glob("cc*")}
    )


def packet_filter_rules() -> list[str]:
    """The rules of this machine, none where it has no packet filter; counters left out."""
    if not shutil.which("iptables-save", path=PLAIN_ENVIRONMENT["PATH"]):
        return []
    return [line for line in run(["iptables-save"]).splitlines() if line.startswith(("-", ":"))]


def lines_of(path: str) -> list[str]:
    """The lines of a file."""
    return Path(path).read_text().splitlines()
