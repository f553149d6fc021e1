"""Planning without a daemon: from an inventory file to a table, JSON, a page; and bad files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from scripts.reference.commands import commands, is_flag, options_of

from furlough.cli.planning import plain_parser
from tests.cli.commands import Furlough, complaint
from tests.planning.boards import Row, host, vm

LIMIT_S = 60
MOST_KIB = 600 * 1024


def a_document(**changes: object) -> Row:
    return {
        "format": 1,
        "taken_at": "2026-11-22T10:00:00Z",
        "clusters": [{"name": "c1", "memory_ceiling": 1.0}],
        "hosts": [host("h1"), host("h2"), host("h3")],
        "vms": [vm("a", "h1"), vm("b", "h1", gib=4), vm("c", "h2")],
        **changes,
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "inventory.json"
    path.write_text(json.dumps(a_document()), encoding="utf-8")
    return path


def planned(furlough: Furlough, file: Path, *words: str) -> Any:
    result = furlough("plan", "--inventory", str(file), "--host", "h1", "--json", *words)
    assert result.code == 0, result.err
    return result.json


# --- what one gets -------------------------------------------------------------------------------


def test_a_plan_is_a_table_and_a_summary_and_no_daemon_is_asked(
    alone: Furlough, file: Path
) -> None:
    result = alone("plan", "--inventory", str(file), "--host", "h1")
    lines = [line.split() for line in result.out.splitlines()]
    assert (result.code, result.err) == (0, "")
    assert lines[0] == ["WAVE", "VM", "FROM", "TO", "START", "SECONDS", "DOWNTIME"]
    assert {line[1] for line in lines[1:3]} == {"a", "b"}
    assert "2 migrations, no plan takes fewer than 2." in result.out
    assert "The fullest host holds" in result.out


def test_json_has_the_shape_of_a_plan(alone: Furlough, file: Path) -> None:
    found = planned(alone, file)
    assert found["hosts"] == ["h1"]
    assert {one["vm_name"] for one in found["steps"]} == {"a", "b"}
    assert found["migrations"] == 2


def test_targets_and_order_are_kept(alone: Furlough, file: Path) -> None:
    found = planned(alone, file, "--target", "h3", "--order", "memory")
    assert [(one["vm_name"], one["target"]) for one in found["steps"]] == [("a", "h3"), ("b", "h3")]


@pytest.mark.parametrize(
    "words",
    [
        ("--host", "h1", "--host", "h2"),
        ("--host=h1", "h2"),
        ("h1", "h2"),
    ],
)
def test_hosts_may_be_named_either_way(alone: Furlough, file: Path, words: tuple[str, ...]) -> None:
    result = alone("plan", f"--inventory={file}", "--json", *words)
    assert sorted(result.json["hosts"]) == ["h1", "h2"]


def test_the_plan_can_be_checked_independently(alone: Furlough, file: Path) -> None:
    assert planned(alone, file, "--verify")["violations"] == []
    shown = alone("plan", "--inventory", str(file), "--host", "h1", "--verify").out
    assert shown.splitlines()[-1].startswith("Verified:")


def test_a_plan_that_would_break_something_is_told_and_fails(
    alone: Furlough, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No plan of ours is known that the checker complains of, so it is made to complain by hand;
    what it really finds is told by its own tests (tests/core/test_checking.py)."""
    found = ["at 0.00 s: VM a to h2: the host is too small"]
    monkeypatch.setattr("furlough.planning.checking.violations", lambda *_: found)
    result = alone("plan", "--inventory", str(file), "--host", "h1", "--verify")
    assert result.code == 1
    assert found[0] in result.err
    assert "Do not carry it out" in result.err


def test_a_page_with_pictures_is_written(alone: Furlough, file: Path, tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    result = alone("plan", "--inventory", str(file), "--host", "h1", "--html", str(page))
    assert result.code == 0
    assert f"Written to {page}." in result.err
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert text.count("<svg") == 2


def test_what_stays_what_breaks_and_what_the_reserve_lacks_is_printed(
    alone: Furlough, tmp_path: Path
) -> None:
    document = a_document(
        clusters=[{"name": "c1", "memory_ceiling": 1.0, "reserve": "n+1"}],
        vms=[
            vm("stays", "h1", on_maintenance="leave"),
            vm("w1", "h1", gib=40, affinity_groups=["web"]),
            vm("w2", "h2", gib=40, affinity_groups=["web"], host_affinity=["h2"]),
        ],
    )
    path = tmp_path / "full.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    shown = alone("plan", "--inventory", str(path), "--host", "h1").out
    assert "stays stays: its policy for maintenance says leave" in shown
    assert "Not held: affinity group web (w1, w2)" in shown
    assert "were lost too, no room for" in shown
    verified = alone("plan", "--inventory", str(path), "--host", "h1", "--verify").out
    assert "all limits and rules (not the reserve, N+1) are kept." in verified


def test_a_rolling_plan_is_a_table_of_waves_or_json(alone: Furlough, file: Path) -> None:
    words = ("plan", "--inventory", str(file), "--rolling", "c1")
    shown = alone(*words).out
    assert "2 waves, 3 migrations" in shown
    assert "no plan that empties every host takes fewer than" in " ".join(shown.split())
    found = alone(*words, "--json").json
    assert sorted(host for wave in found["waves"] for host in wave["hosts"]) == ["h1", "h2", "h3"]


def test_a_rolling_plan_tells_who_cannot_be_emptied_and_who_is_unprotected(
    alone: Furlough, tmp_path: Path
) -> None:
    vms = [vm(f"v{n}", "h1") for n in range(8)] + [vm("tied", "h2", host_affinity=["h2"])]
    path = tmp_path / "tied.json"
    clusters = [{"name": "c1", "memory_ceiling": 1.0, "reserve": "n+1"}]
    path.write_text(json.dumps(a_document(vms=vms, clusters=clusters)), encoding="utf-8")
    shown = alone("plan", "--inventory", str(path), "--rolling", "c1", "--width", "2").out
    assert "h2 cannot be emptied: tied finds no other host" in shown
    brim = alone("plan", "--inventory", str(path), "--rolling", "c1", "--hroller-rules")
    assert brim.code == 0
    assert "not kept" in brim.out


# --- two ways in, one command --------------------------------------------------------------------


def test_the_quick_way_in_knows_no_option_that_the_command_has_not() -> None:
    plan = commands()["plan"]
    for action in plain_parser()._actions:
        for spelling in action.option_strings:
            assert spelling in options_of(plan), spelling
            assert is_flag(plan, spelling) == (action.nargs == 0), spelling


def test_planning_from_a_file_loads_nothing_that_asks_daemons_or_parses_all_commands(
    file: Path,
) -> None:
    program = (
        "import sys; from furlough.cli.entry import main\n"
        f"sys.argv = ['furlough', 'plan', '--inventory', {str(file)!r}, '--host', 'h1']\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=LIMIT_S
    )
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert "numpy" in loaded
    assert not {"typer", "pydantic", "httpx2", "rich", "ortools", "lxml", "sqlalchemy"} & loaded


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--host", "h1"), "takes --inventory FILE"),
        ((), "Name a host to empty"),
        (("--rolling", "c1"), "takes --inventory FILE"),
        (("--inventory", "x.json", "--width", "2"), "take --rolling"),
        (("--inventory", "x.json", "--rolling", "c1", "h1"), "takes no hosts"),
        (("--inventory", "x.json"), "Name a host to empty"),
        (("--inventory", "x.json", "--host", "h1", "--shut-down", "a"), "for hosts, not for files"),
        (("--inventory", "x.json", "--host", "h1", "--order", "size"), "size"),
        (("--inventory", "x.json", "--host", "h1", "--paint"), "--paint"),
    ],
)
def test_words_that_make_no_sense_are_a_usage_error(
    alone: Furlough, words: tuple[str, ...], told: str
) -> None:
    result = alone("plan", *words)
    assert result.code == 2
    assert told in " ".join(result.err.split())


# --- bad files -----------------------------------------------------------------------------------


def changed(table: str, **changes: object) -> Callable[[], bytes]:
    """The file with the last row of a table changed."""

    def text() -> bytes:
        document = a_document()
        document[table][-1].update(changes)
        return json.dumps(document).encode()

    return text


def a_million() -> bytes:
    row = json.dumps(vm("a", "h1")).encode()
    head = json.dumps(a_document(vms=[])).encode().removesuffix(b"]}")
    return head + b",".join([row] * 1_000_000) + b"]}"


BAD_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "an unknown key": (changed("vms", colour="red"), "vms[2].colour"),
    "an unknown table": (lambda: json.dumps(a_document(pools=[])).encode(), "pools"),
    "a wrong type": (changed("vms", memory_mib="8 GiB"), "vms[2].memory_mib"),
    "a negative size": (changed("vms", memory_mib=-1), "vms[2].memory_mib"),
    "an absurd size": (changed("hosts", memory_mib=10**15), "hosts[2].memory_mib"),
    "a number that is none": (changed("vms", dirty_mib_s=float("nan")), "NaN"),
    "a name twice": (changed("hosts", name="h1"), "hosts[2].name"),
    "a UUID twice": (changed("vms", uuid=vm("a", "h1")["uuid"]), "vms[2].uuid"),
    "a host that is not there": (changed("vms", host="h9"), "vms[2].host"),
    "a cluster that is not there": (changed("hosts", cluster="c9"), "hosts[2].cluster"),
    "another format": (lambda: json.dumps(a_document(format=2)).encode(), "format"),
    "no table of VMs": (lambda: b'{"format": 1, "clusters": [], "hosts": []}', "vms"),
    "a million VMs": (a_million, "64 MiB"),
    "not UTF-8": (lambda: json.dumps(a_document()).encode("utf-16"), "UTF-8"),
    "cut off": (lambda: json.dumps(a_document()).encode()[:-30], "cut off"),
    "nothing": (lambda: b"", "JSON"),
    "no end of brackets": (lambda: b"[" * 1_000_000, "JSON"),
}


@pytest.mark.parametrize("which", BAD_FILES)
def test_a_bad_file_gets_one_clear_message_with_its_path_and_exit_code_2(
    alone: Furlough, tmp_path: Path, which: str
) -> None:
    make, told = BAD_FILES[which]
    path = tmp_path / "bad.json"
    path.write_bytes(make())
    began = process_time()
    result = alone("plan", "--inventory", str(path), "--host", "h1")
    assert process_time() - began < 2
    assert result.code == 2
    said = complaint(result)
    assert told in said
    assert len(said) < 1000


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_file_that_cannot_be_read_is_told_with_exit_code_2(
    alone: Furlough, tmp_path: Path, name: str
) -> None:
    result = alone("plan", "--inventory", str(tmp_path / name), "--host", "h1")
    assert result.code == 2
    assert "cannot be read" in complaint(result)


def test_a_host_that_is_not_in_the_file_is_told_with_those_that_are(
    alone: Furlough, file: Path
) -> None:
    result = alone("plan", "--inventory", str(file), "--host", "h7")
    assert result.code == 2
    assert "h1, h2, h3" in complaint(result)


def test_the_worst_file_takes_bounded_memory(tmp_path: Path) -> None:
    """As large as a file may be, and made of the smallest values: in a process of its own."""
    path = tmp_path / "dense.json"
    dense = json.dumps(a_document(vms=[])).encode().removesuffix(b"]}")
    path.write_bytes(dense + b",".join([b"{}"] * 3_999_000) + b"]}")
    # Started by a small process: one counts the memory of who started it as its own peak.
    launcher = (
        "import resource, subprocess, sys\n"
        "code = subprocess.call(sys.argv[1:], stderr=subprocess.DEVNULL)\n"
        "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-m", "furlough", "plan", "--inventory", str(path), "--host", "h1"]
    done = subprocess.run(
        [sys.executable, "-c", launcher, *command],
        capture_output=True, text=True, check=True, timeout=LIMIT_S,
    )  # fmt: skip
    code, used_kib = map(int, done.stdout.split())
    assert code == 2
    assert used_kib <= MOST_KIB


# --- two plans -----------------------------------------------------------------------------------


@pytest.fixture
def plans(alone: Furlough, file: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two plans that send the VMs elsewhere."""
    paths = (tmp_path / "one.json", tmp_path / "other.json")
    for path, target in zip(paths, ("h2", "h3"), strict=True):
        path.write_text(json.dumps(planned(alone, file, "--target", target)), encoding="utf-8")
    return paths


def test_two_plans_are_compared(alone: Furlough, plans: tuple[Path, Path]) -> None:
    one, other = map(str, plans)
    lines = [line.split() for line in alone("plan-diff", one, other).out.splitlines()]
    assert lines[0] == ["VM", "UUID", "BEFORE", "AFTER"]
    assert [(line[0], line[2:]) for line in lines[1:]] == [
        ("a", ["to", "h2", "to", "h3"]),
        ("b", ["to", "h2", "to", "h3"]),
    ]
    assert alone("plan-diff", one, one).out == "Both plans do the same with every VM.\n"


def test_programs_read_the_difference_as_json(alone: Furlough, plans: tuple[Path, Path]) -> None:
    found = alone("plan-diff", *map(str, plans), "--json").json
    assert [one["vm_name"] for one in found] == ["a", "b"]
    assert found[0]["before"] == {"method": "live", "target": "h2"}
    assert found[0]["after"] == {"method": "live", "target": "h3"}


@pytest.mark.parametrize("text", [b"", b"\xff", b"[]", b'{"steps": 3}', b"[" * 100_000])
def test_a_file_that_is_no_plan_is_told_with_exit_code_2(
    alone: Furlough, plans: tuple[Path, Path], tmp_path: Path, text: bytes
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_bytes(text)
    for words in ((str(bad), str(plans[0])), (str(plans[0]), str(bad))):
        result = alone("plan-diff", *words)
        assert result.code == 2
        assert str(bad) in complaint(result)
    assert alone("plan-diff", str(tmp_path / "none"), str(bad)).code == 2


# --- exporting -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("everything_as_before")
def test_what_the_daemon_exports_can_be_planned_from(furlough: Furlough, tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    result = furlough("inventory", "export", str(path))
    assert (result.code, result.out) == (0, "")
    assert f"Written to {path}." in result.err
    found = planned(furlough, path, "--verify")
    assert len(found["steps"]) + len(found["unplaced"]) == 6
    assert found["violations"] == []
    printed = furlough("inventory", "export").json
    written = json.loads(path.read_bytes())
    assert [one["uuid"] for one in printed["vms"]] == [one["uuid"] for one in written["vms"]]
    assert [one["name"] for one in printed["hosts"]] == ["h1", "h2", "h3", "h4"]
