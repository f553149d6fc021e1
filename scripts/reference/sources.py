"""What the source says: every string in it, and every code, with the way it is used.

Found by reading the syntax trees, not by running anything. Left out: the simulator and its stories
(what they raise beyond the port's own codes never leaves a test), the database's tables, the lab's
guest.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "furlough"
LEFT_OUT = ("sim/", "scenario/", "store/migrations/", "store/tables.py", "store/access_tables.py")

ERROR_CLASSES = (
    "Invalid", "NotFound", "NotAllowed", "Throttled", "Refused", "Conflict", "Stale",
    "Unreachable", "Bug",
)  # fmt: skip
# Functions that are given a code, and the place of it among their arguments.
_PLACES = {**dict.fromkeys(ERROR_CLASSES, 0), "_wait": 0, "_ask": 0, "finding": 0, "_refuse": 1}

DOTTED = re.compile(r"[a-z][a-z_]*\.[a-z][a-z_]*")
_WORD = re.compile(r"([a-z][a-z_]*|\{\})(\.[a-z_{}]+)?")


@dataclass(frozen=True, kw_only=True)
class Use:
    """A code where it is used: `how` is the function or class it is given to, or "ending" where
    it is how an operation ends. A computed code has {} for what is computed."""

    code: str
    how: str
    module: str


@cache
def trees() -> dict[str, ast.Module]:
    """The syntax tree of every module, by its path below the package."""
    modules = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if not name.startswith(LEFT_OUT):
            modules[name] = ast.parse(path.read_text(encoding="utf-8"))
    return modules


def constants() -> Iterator[tuple[str, str]]:
    """Every string in the source, with its module."""
    for module, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value, module


@cache
def uses() -> frozenset[Use]:
    """Every code that is given to an error, an event, a ruling or a finding."""
    return frozenset(one for module, tree in trees().items() for one in found_in(module, tree))


def found_in(module: str, tree: ast.Module) -> Iterator[Use]:
    """The same of one module; some more than once."""
    constants = _constants_of(tree)
    for function in _functions(tree):
        for how, node in _given(function):
            for code in _texts(node, function, constants):
                if _WORD.fullmatch(code):
                    yield Use(code=code, how=how, module=module)


def _functions(tree: ast.Module) -> Iterator[ast.AST]:
    """Everything in which names are looked up: each function, and the module around them."""
    yield tree
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _given(function: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Each expression that is a code, with what it is given to."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            name = _called(node)
            place = _PLACES.get(name)
            if place is not None and len(node.args) > place:
                yield name, node.args[place]
            yield from ((name, one.value) for one in node.keywords if one.arg == "code")
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            parts = node.value.elts
            if len(parts) > 1 and ast.unparse(parts[0]).startswith("OperationState."):
                yield "ending", parts[1]


def _called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _constants_of(tree: ast.Module) -> dict[str, str]:
    """The strings that a module gives names of its own, alone or several on a line."""
    found: dict[str, str] = {}
    for line in tree.body:
        if isinstance(line, ast.Assign):
            target, value = line.targets[0], line.value
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            values = value.elts if isinstance(value, ast.Tuple) else [value]
            for name, one in zip(names, values, strict=False):
                if isinstance(one, ast.Constant) and isinstance(one.value, str):
                    found[ast.unparse(name)] = one.value
    return found


def _texts(node: ast.expr, function: ast.AST, constants: Mapping[str, str]) -> Iterator[str]:
    """The strings an expression may be; a name is looked up in its function, then in its
    module."""
    if isinstance(node, ast.Name):
        for other in ast.walk(function):
            names = [ast.unparse(one) for one in getattr(other, "targets", [])]
            if isinstance(other, ast.Assign) and names == [node.id]:
                yield from _texts(other.value, ast.Module(body=[], type_ignores=[]), constants)
        yield from filter(None, [constants.get(node.id)])
        return
    if isinstance(node, ast.JoinedStr):
        parts = (str(one.value) if isinstance(one, ast.Constant) else "{}" for one in node.values)
        yield "".join(parts)
        return
    for one in ast.walk(node):
        if isinstance(one, ast.Name) and one.id in constants:
            yield constants[one.id]
        elif isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.value
