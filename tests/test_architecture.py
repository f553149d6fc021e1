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
