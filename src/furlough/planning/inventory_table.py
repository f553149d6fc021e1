"""Tables of an inventory file: rows of JSON, handed out as columns that have been checked.

A column is checked by a few passes over the whole list; only one that fails is looked at value by
value, to name the first culprit by its path in the document.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import NoReturn, TypeVar, cast

from furlough.core.ids import parse_vm_id
from furlough.errors import Invalid

_ABSENT = object()
_LONGEST = 255
_SHOWN = 64
_UUID_LENGTH = 36
_UUID_CHARACTERS, _UUID_DASHES = b"0123456789abcdef-", (8, 13, 18, 23)
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def table_of(document: dict[str, object], name: str, most: int, keys: frozenset[str]) -> Table:
    """A table that stands in a document under this name, with these keys and no others."""
    rows = document.get(name, _ABSENT)
    if rows is _ABSENT:
        raise missing(name, "a list of objects")
    if not isinstance(rows, list):
        raise wrong(name, rows, "a list of objects")
    check_length(rows, name, most)
    return table_of_rows(rows, keys, lambda at: f"{name}[{at}]")


def table_of_rows(rows: list[object], keys: frozenset[str], path: Callable[[int], str]) -> Table:
    """A table of these rows, which may be anything."""
    if set(map(type, rows)) - {dict}:
        at = next(at for at, row in enumerate(rows) if not isinstance(row, dict))
        raise wrong(path(at), rows[at], "an object")
    found = cast("list[dict[str, object]]", rows)
    shapes = _shapes(found, keys)
    if not all(map(keys.issuperset, shapes)):
        for at, row in enumerate(found):
            check_keys(row, keys, path(at))
    everywhere = sorted(keys.intersection(*shapes)) if shapes else []
    # Turned over at once: to walk through all rows for each key would take several times as
    # long. With one key only there would be nothing to turn.
    columns: dict[str, tuple[object, ...]] = {}
    if len(everywhere) > 1:
        turned = zip(*map(itemgetter(*everywhere), found), strict=True)
        columns = dict(zip(everywhere, turned, strict=True))
    return Table(path, len(found), columns, found)


def _shapes(rows: list[dict[str, object]], keys: frozenset[str]) -> Collection[Iterable[str]]:
    """The different sets of keys that rows have; told without a look at most of them where all
    rows have all keys."""
    if set(map(len, rows)) == {len(keys)} and all(map(keys.issuperset, rows)):
        return [keys]
    return set(map(tuple, rows))


_Key = TypeVar("_Key")
_Found = TypeVar("_Found")


class Remembered(dict[_Key, _Found]):
    """What a function says of the values of a long column in which few differ: asked for with
    `[]`, it calls the function once for each that does."""

    def __init__(self, make: Callable[[_Key], _Found]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: _Key) -> _Found:
        found = self[key] = self._make(key)
        return found


class Table:
    """Rows of one kind, handed out as checked columns. `path` names a row by its position;
    `columns` are those that every row has, the others are looked up in `rows`."""

    def __init__(
        self,
        path: Callable[[int], str],
        length: int,
        columns: Mapping[str, tuple[object, ...]],
        rows: Sequence[dict[str, object]] = (),
    ) -> None:
        self.path = path
        self._length = length
        self._columns = columns
        self._rows = rows

    def __len__(self) -> int:
        return self._length

    def whole(self, key: str, least: int, most: int, default: object = _ABSENT) -> list[int]:
        """Whole numbers in a range."""
        return self._whole(key, self._column(key, default), least, most)

    def whole_or(self, key: str, least: int, most: int, instead: list[int]) -> list[int]:
        """Whole numbers in a range; the number at the same place where there is none or null."""
        column = [
            other if found is None else found
            for found, other in zip(self._column(key, None), instead, strict=True)
        ]
        return self._whole(key, column, least, most)

    def _whole(self, key: str, column: list[object], least: int, most: int) -> list[int]:
        numbers = cast("list[int]", column)
        if set(map(type, column)) - {int} or not _within(numbers, least, most):
            wanted = f"a whole number from {least} to {most}"
            self._refuse(key, column, wanted, lambda one: type(one) is int and least <= one <= most)
        return numbers

    def numbers(
        self, key: str, least: float, most: float, default: float, null: object = None
    ) -> list[float]:
        """Numbers in a range; `null` is what null stands for."""
        column = self._column(key, default)
        if null is not None:
            column = [null if one is None else one for one in column]
        numbers = cast("list[float]", column)
        if set(map(type, column)) - {int, float} or not _within(numbers, least, most):
            self._refuse(
                key,
                column,
                f"a number from {least:g} to {most:g}",
                lambda one: type(one) in (int, float) and least <= cast("float", one) <= most,
            )
        return numbers

    def flags(self, key: str, default: bool) -> list[bool]:
        """true or false."""
        column = self._column(key, default)
        if set(map(type, column)) - {bool}:
            self._refuse(key, column, "true or false", lambda one: type(one) is bool)
        return cast("list[bool]", column)

    def words(self, key: str, allowed: frozenset[str], default: str) -> list[str]:
        """Words of a small vocabulary."""
        column = self._column(key, default)
        if set(map(type, column)) - {str} or not allowed.issuperset(cast("list[str]", column)):
            wanted = f"one of {', '.join(sorted(allowed))}"
            self._refuse(key, column, wanted, lambda one: isinstance(one, str) and one in allowed)
        return cast("list[str]", column)

    def texts(self, key: str, default: object = _ABSENT) -> list[str]:
        """Texts of any characters, within the usual length."""
        return self._texts(key, self._column(key, default))

    def texts_or(self, key: str, instead: list[str]) -> list[str]:
        """Texts; the one at the same place where there is none."""
        column = self._column(key, None)
        return self._texts(
            key,
            [row if row is not None else other for row, other in zip(column, instead, strict=True)],
        )

    def _texts(self, key: str, column: list[object]) -> list[str]:
        if set(map(type, column)) - {str} or not _are_texts(cast("list[str]", column)):
            self._refuse(key, column, f"a text of at most {_LONGEST} characters", _is_text)
        return cast("list[str]", column)

    def optional_texts(self, key: str) -> list[str | None]:
        """Texts that are not empty, or None."""
        column = self._column(key, None)
        found = [one for one in column if one is not None]
        if set(map(type, found)) - {str} or not _are_names(cast("list[str]", found)):
            wanted = f"a text of 1 to {_LONGEST} characters, or null"
            self._refuse(key, column, wanted, lambda one: one is None or _is_name(one))
        return cast("list[str | None]", column)

    def names(self, key: str, parse_name: Callable[[str], str]) -> list[str]:
        """Names as such things have them here, each once."""
        names = self.texts(key)
        for at, name in enumerate(names):
            try:
                parse_name(name)
            except Invalid as error:
                wanted = "up to 63 letters, digits, dots, dashes and underscores"
                raise wrong(f"{self.path(at)}.{key}", name, wanted) from error
        self._check_unique(key, names)
        return names

    def uuids(self, key: str) -> list[str]:
        """UUIDs in their canonical spelling, each once."""
        uuids = self.texts(key)
        # All at once: to ask for each takes three times as long.
        if not _are_canonical(uuids):
            uuids = [self._canonical(key, at, one) for at, one in enumerate(uuids)]
        self._check_unique(key, uuids)
        return uuids

    def _canonical(self, key: str, at: int, uuid: str) -> str:
        try:
            return parse_vm_id(uuid)
        except Invalid as error:
            raise wrong(f"{self.path(at)}.{key}", uuid, "a UUID") from error

    def references(self, key: str, known: set[str], what: str) -> list[str]:
        """Names of things that the document describes elsewhere."""
        names = self.texts(key)
        if not known.issuperset(names):
            at = next(at for at, name in enumerate(names) if name not in known)
            raise dangling(f"{self.path(at)}.{key}", names[at], what)
        return names

    def lists(self, key: str, known_hosts: set[str] | None = None) -> list[tuple[str, ...]]:
        """Lists of names, of these hosts if they are said."""
        column = self._column(key, ())
        if set(map(type, column)) - {list, tuple}:
            self._refuse(key, column, "a list of names", lambda one: type(one) in (list, tuple))
        lists = cast("list[Sequence[object]]", column)
        if not any(lists):
            return [()] * len(lists)
        # Few lists differ: looked at and kept once each they cost little, and compare at once.
        try:
            known = {one: one for one in map(tuple, lists)}
        except TypeError:  # something in them is no name, nor anything that could be a key
            self._refuse_item(key, lists)
        flat = list(chain.from_iterable(known))
        if set(map(type, flat)) - {str} or not _are_names(cast("list[str]", flat)):
            self._refuse_item(key, lists)
        if known_hosts is not None and not known_hosts.issuperset(cast("list[str]", flat)):
            self._refuse_dangling(key, cast("list[list[str]]", lists), known_hosts)
        kept = list(map(known.__getitem__, map(tuple, lists)))
        return cast("list[tuple[str, ...]]", kept)

    def rows_of(self, key: str) -> list[list[object]]:
        """Lists of anything, to be checked as a table of their own."""
        column = self._column(key, ())
        if set(map(type, column)) - {list, tuple}:
            self._refuse(key, column, "a list of objects", lambda one: type(one) in (list, tuple))
        return cast("list[list[object]]", column)

    def _column(self, key: str, default: object) -> list[object]:
        found = self._columns.get(key)
        return [row.get(key, default) for row in self._rows] if found is None else list(found)

    def _check_unique(self, key: str, names: list[str]) -> None:
        if len(set(names)) == len(names):
            return
        seen: dict[str, int] = {}
        for at, name in enumerate(names):
            first = seen.setdefault(name, at)
            if first != at:
                raise Invalid(
                    "inventory.duplicate",
                    f"{self.path(at)}.{key}: {_shown(name)} is already that of {self.path(first)}.",
                    remedy="Keep one of the two.",
                    path=f"{self.path(at)}.{key}",
                )

    def _refuse(
        self, key: str, column: list[object], wanted: str, is_good: Callable[[object], bool]
    ) -> NoReturn:
        at = next(at for at, one in enumerate(column) if not is_good(one))
        path = f"{self.path(at)}.{key}"
        raise missing(path, wanted) if column[at] is _ABSENT else wrong(path, column[at], wanted)

    def _refuse_item(self, key: str, lists: list[Sequence[object]]) -> NoReturn:
        at, where = _first(lists, lambda one: not _is_name(one))
        wanted = f"a name of 1 to {_LONGEST} characters"
        raise wrong(f"{self.path(at)}.{key}[{where}]", lists[at][where], wanted)

    def _refuse_dangling(self, key: str, lists: list[list[str]], known: set[str]) -> NoReturn:
        at, where = _first(lists, lambda one: one not in known)
        raise dangling(f"{self.path(at)}.{key}[{where}]", lists[at][where], "host")


def _first(lists: Sequence[Sequence[object]], is_bad: Callable[[object], bool]) -> tuple[int, int]:
    return next(
        (at, where)
        for at, some in enumerate(lists)
        for where, one in enumerate(some)
        if is_bad(one)
    )


def _are_canonical(uuids: Sequence[str]) -> bool:
    """Whether all of these are UUIDs as they are usually spelled: hexadecimal digits in lower case,
    with dashes at four places and nowhere else."""
    if set(map(len, uuids)) != {_UUID_LENGTH}:
        return False
    text = "".join(uuids).encode()
    dashes = b"-" * len(uuids)
    return (
        not text.translate(None, _UUID_CHARACTERS)
        and text.count(b"-") == len(_UUID_DASHES) * len(uuids)
        and all(text[place::_UUID_LENGTH] == dashes for place in _UUID_DASHES)
    )


def _within(numbers: Sequence[float], least: float, most: float) -> bool:
    # NaN hides from both minimum and maximum, but not from the sum.
    return not numbers or (
        min(numbers) >= least and max(numbers) <= most and not math.isnan(sum(numbers))
    )


def _are_texts(texts: Sequence[str]) -> bool:
    return not texts or (max(map(len, texts)) <= _LONGEST and _can_be_written("".join(texts)))


def _are_names(texts: Sequence[str]) -> bool:
    return all(texts) and _are_texts(texts)


def _is_text(one: object) -> bool:
    return isinstance(one, str) and len(one) <= _LONGEST and _can_be_written(one)


def _is_name(one: object) -> bool:
    return one != "" and _is_text(one)


def _can_be_written(text: str) -> bool:
    """JSON can spell halves of characters, which no file and no page can show."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- refusals -----------------------------------------------------------------------------------


def check_keys(row: dict[str, object], known: frozenset[str], path: str) -> None:
    for key in row:
        if key not in known:
            shown = key if _PLAIN_KEY.fullmatch(key) else _shown(key)
            where = f"{path}.{shown}" if path else shown
            raise Invalid(
                "inventory.key",
                f"{where}: there is no such key.",
                remedy=f"Known here are {', '.join(sorted(known))}.",
                path=where,
            )


def check_length(rows: Sequence[object], name: str, most: int) -> None:
    if len(rows) > most:
        raise too_large(name, f"{most} entries")


def too_large(what: str, most: str) -> Invalid:
    return Invalid(
        "inventory.too_large",
        f"{what}: more than {most}.",
        remedy="Split the file by clusters: a VM never leaves its own.",
    )


def missing(path: str, wanted: str) -> Invalid:
    return Invalid("inventory.missing", f"{path} is missing.", remedy=f"Give {wanted}.", path=path)


def wrong(path: str, value: object, wanted: str) -> Invalid:
    return Invalid(
        "inventory.value",
        f"{path} cannot be {_shown(value)}.",
        remedy=f"Give {wanted}.",
        path=path,
    )


def dangling(path: str, name: str, what: str) -> Invalid:
    return Invalid(
        "inventory.dangling",
        f"{path}: there is no {what} {_shown(name)} in this file.",
        remedy=f"Describe it under {what}s, or correct the name.",
        path=path,
    )


def _shown(value: object) -> str:
    """A value as JSON spells it, in ASCII, and not all of it if it is long."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        value = value[: _SHOWN + 1]
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
