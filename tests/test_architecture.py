"""The shape of the code: who may import whom, and that everything fits on a screen."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FUNCTION = 60
LONGEST_MODULE = 500
# Copied to hosts as one file; and what a database tool writes for us.
ONE_FILE = ROOT / "src" / "furlough" / "host" / "furlough_host.py"
MIGRATIONS = ROOT / "src" / "furlough" / "store" / "migrations"


def _modules() -> Iterator[Path]:
    for folder in ("src", "scripts", "bench"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if MIGRATIONS not in path.parents:
                yield path


def test_every_import_contract_is_kept() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "0 broken" in done.stdout


def test_the_checker_of_plans_shares_with_what_makes_them_only_the_reading_of_files() -> None:
    loaded = _loaded_by("furlough.planning.checking", "furlough.planning.checking_rolling")
    assert {one for one in loaded if one.startswith("furlough.planning.")} == {
        "furlough.planning.checking",
        "furlough.planning.checking_rolling",
        "furlough.planning.inventory_file",
        "furlough.planning.inventory_rows",
        "furlough.planning.inventory_table",
    }
    assert not {"numpy", "furlough.core.capacity", "furlough.core.admission"} & loaded


def test_a_plan_from_a_file_loads_nothing_that_only_live_hosts_need() -> None:
    loaded = _loaded_by("furlough.cli.entry", "furlough.planning.what_if")
    assert "numpy" in loaded
    heavy = {"furlough.core.inventory", "furlough.core.plan", "furlough.core.forecast"}
    assert not (heavy | {"typer", "pydantic", "ortools", "asyncio"}) & loaded


def _loaded_by(*modules: str) -> set[str]:
    """Everything that a fresh interpreter has loaded after these."""
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_every_function_fits_on_a_screen() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in _modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert long == []


def test_every_module_is_short_enough_to_be_read() -> None:
    long = [
        str(path.relative_to(ROOT))
        for path in _modules()
        if path != ONE_FILE and path.read_text(encoding="utf-8").count("\n") > LONGEST_MODULE
    ]
    assert long == []


def test_no_module_is_called_by_a_word_that_says_nothing() -> None:
    empty = {"utils", "common", "helpers", "base", "manager", "misc"}
    assert [str(path) for path in _modules() if path.stem in empty] == []
