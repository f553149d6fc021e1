"""Installing on a host and leaving it: nobody else's hook is lost, nothing is done twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from furlough.drivers.libvirt import installing
from tests.host.machine import SOURCE, VM1, Machine


class Bare(Machine):
    """A machine with libvirt and without furlough-host."""

    def __init__(self, root: Path, version: str) -> None:
        super().__init__(root)
        self.program.unlink()
        self.hook_path.unlink()
        self.hook_path.parent.rmdir()
        daemon = root / "usr/sbin/libvirtd"
        daemon.parent.mkdir(parents=True)
        daemon.write_text(f"#!/bin/sh\necho 'libvirtd (libvirt) {version}'\n")
        daemon.chmod(0o755)
        self.only_hook = root / "etc/libvirt/hooks/qemu"

    def install(self) -> list[str]:
        """What the script says it has changed, with the paths of the machine."""
        ran = subprocess.run(
            [sys.executable, "-IS", "-"], input=installing.script().encode(), check=False,
            capture_output=True, env=self.environment,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr.decode()
        return [str(one).replace(str(self.root), "") for one in json.loads(ran.stdout)["changed"]]

    def write_foreign_hook(self, answers: int = 0) -> str:
        """A hook of somebody else, that notes how it is called and prints the XML; its text."""
        text = f'#!/bin/sh\necho "$@" >> {self.root}/foreign\ncat\nexit {answers}\n'
        self.only_hook.write_text(text)
        self.only_hook.chmod(0o755)
        return text

    def foreign_calls(self) -> list[str]:
        """How the foreign hook was called."""
        path = self.root / "foreign"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    """With a libvirt that runs several hooks."""
    return Bare(tmp_path, "9.0.0")


@pytest.fixture
def old(tmp_path: Path) -> Bare:
    """With one that knows a single hook."""
    return Bare(tmp_path, "6.4.0")


def test_a_host_gets_the_program_its_hook_and_the_name_of_esxi(bare: Bare) -> None:
    assert bare.install() == [
        "program /usr/local/sbin/furlough-host",
        "hook /etc/libvirt/hooks/qemu.d/50-furlough",
        "name /usr/local/sbin/esxcli",
    ]
    for path in (bare.program, bare.hook_path):
        assert path.read_bytes() == SOURCE.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o755
    assert bare.ask("status").answer["hook_installed"] is True


def test_installing_twice_changes_nothing(bare: Bare) -> None:
    bare.install()
    assert bare.install() == []


def test_what_is_not_as_it_should_be_is_put_right(bare: Bare) -> None:
    bare.install()
    bare.hook_path.chmod(0o644)
    bare.program.write_text("#!/bin/sh\n")
    assert bare.install() == [
        "program /usr/local/sbin/furlough-host",
        "hook /etc/libvirt/hooks/qemu.d/50-furlough",
    ]
    assert bare.hook_path.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("place", ["usr/local/bin", "usr/bin", "sbin"])
def test_an_esxcli_that_is_there_stays_the_only_one(bare: Bare, place: str) -> None:
    other = bare.root / place / "esxcli"
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_text("another")
    bare.install()
    assert not (bare.root / "usr/local/sbin/esxcli").exists()
    assert other.read_text() == "another"


def test_f115_a_foreign_hook_is_not_touched_where_libvirt_runs_several(bare: Bare) -> None:
    text = bare.write_foreign_hook()
    bare.install()
    assert bare.only_hook.read_text() == text
    bare.ask("uninstall")
    assert bare.only_hook.read_text() == text
    assert not bare.hook_path.exists()


def test_f115_a_foreign_hook_is_chained_where_libvirt_runs_only_one(old: Bare) -> None:
    text = old.write_foreign_hook()
    old.install()
    old.hook_path = old.only_hook
    passed = old.hook("migrate", VM1)
    assert passed.code == 0
    assert VM1 in passed.output, "what the foreign hook prints becomes the XML"
    assert old.foreign_calls() == ["web01 migrate begin -"]
    old.raise_marker()
    refused = old.hook("migrate", VM1)
    assert (refused.code, refused.output) == (1, "")
    assert old.hook("release", VM1).code == 0
    assert old.foreign_calls() == ["web01 migrate begin -", "web01 release begin -"]
    old.lower_marker()
    old.ask("uninstall")
    assert old.only_hook.read_text() == text
    assert sorted(path.name for path in old.only_hook.parent.iterdir()) == ["qemu"]


def test_f115_what_a_chained_hook_refuses_stays_refused(old: Bare) -> None:
    old.write_foreign_hook(answers=7)
    old.install()
    old.hook_path = old.only_hook
    assert old.hook("prepare").code == 7


def test_f115_installing_anew_does_not_chain_our_own_hook(old: Bare) -> None:
    text = old.write_foreign_hook()
    old.install()
    old.only_hook.write_bytes(SOURCE.read_bytes() + b"# an older version\n")
    assert old.install() == ["hook /etc/libvirt/hooks/qemu"]
    assert (old.only_hook.parent / "qemu.before-furlough").read_text() == text


def test_where_there_is_one_hook_only_and_nobody_has_it_ours_takes_the_place(old: Bare) -> None:
    assert "hook /etc/libvirt/hooks/qemu" in old.install()
    assert old.ask("status").answer["hook_installed"] is True
    old.ask("uninstall")
    assert not old.only_hook.exists()


def test_uninstalling_leaves_nothing_but_what_must_outlive_it(bare: Bare) -> None:
    bare.install()
    bare.raise_marker(5)
    bare.lower_marker(5)
    changed = [one.replace(str(bare.root), "") for one in bare.ask("uninstall").answer["changed"]]
    assert changed == [
        "/etc/libvirt/hooks/qemu.d/50-furlough is gone",
        "/usr/local/sbin/esxcli is gone",
        "/usr/local/sbin/furlough-host is gone",
    ]
    assert {path.name for path in bare.state.iterdir()} == {"epoch", "lock"}
    assert not bare.program.exists()


def test_a_host_that_is_kept_empty_is_not_uninstalled(bare: Bare) -> None:
    bare.install()
    bare.raise_marker()
    ran = bare.ask("uninstall")
    assert ran.refusal == (3, "marker_in_use")
    assert "rm /var/lib/furlough-host/marker.json" in ran.complaint.replace(str(bare.root), "")
    assert bare.hook_path.exists()


def test_a_machine_without_libvirt_is_told_so(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-IS", "-"], input=installing.script().encode(), check=False,
        capture_output=True, env={"FURLOUGH_HOST_ROOT": str(tmp_path)},
    )  # fmt: skip
    assert ran.returncode == 1
    assert "libvirt is not installed here" in ran.stderr.decode()


def test_a_copy_of_the_program_installs_itself(bare: Bare) -> None:
    copy = bare.root / "furlough_host.py"
    copy.write_bytes(SOURCE.read_bytes())
    process = bare.start(copy, "install")
    output, _ = process.communicate(timeout=60)
    assert len(json.loads(output)["changed"]) == 3
