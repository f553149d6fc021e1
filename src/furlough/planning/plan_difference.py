"""What two plans decide differently about VMs: from the JSON that `furlough plan --json` prints,
of live hosts or of an inventory file.

Such a file may have been edited or cut: what cannot be understood is told with its path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from furlough.errors import Invalid


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What a plan does with a VM: the method and the host it ends up on (None: it is not moved)."""

    vm_name: str
    method: str
    target: str | None

    def __str__(self) -> str:
        return self.method.replace("_", " ") if self.target is None else f"to {self.target}"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A VM that two plans treat differently; None: that plan does not speak of it."""

    vm_uuid: str
    vm_name: str
    before: Fate | None
    after: Fate | None


def changes(before: object, after: object, names: tuple[str, str]) -> tuple[Change, ...]:
    """The VMs that come, go, or go elsewhere, by name. `names`: of the two plans, for complaints.
    `Invalid` where one of them is no plan."""
    old, new = fates(before, names[0]), fates(after, names[1])
    found = [
        Change(
            vm_uuid=uuid,
            vm_name=(new.get(uuid) or old[uuid]).vm_name,
            before=old.get(uuid),
            after=new.get(uuid),
        )
        for uuid in {**old, **new}
        if old.get(uuid) != new.get(uuid)
    ]
    return tuple(sorted(found, key=lambda change: (change.vm_name, change.vm_uuid)))


def fates(plan: object, name: str) -> Mapping[str, Fate]:
    """What becomes of each VM by UUID. With a detour the last step counts."""
    rows = _rows(plan, "steps", name)
    found: dict[str, Fate] = {}
    for at, row in enumerate(rows):
        path = f"{name}: steps[{at}]"
        uuid = _text(row, "vm_uuid", path, is_optional=True)
        if uuid is not None:
            found[uuid] = Fate(
                vm_name=_text(row, "vm_name", path) or "",
                method=_text(row, "method", path) or "",
                target=_text(row, "target", path, is_optional=True),
            )
    for at, row in enumerate(_rows(plan, "unplaced", name)):
        path = f"{name}: unplaced[{at}]"
        uuid = _text(row, "vm_uuid", path) or ""
        # Plans made before names were kept there have the UUID only.
        named = _text(row, "vm_name", path, is_optional=True) or uuid
        found[uuid] = Fate(vm_name=named, method="stays", target=None)
    return found


def _rows(plan: object, key: str, name: str) -> list[Mapping[str, object]]:
    if not isinstance(plan, dict):
        raise _malformed(f"{name} is no JSON object")
    rows = plan.get(key)
    if not isinstance(rows, list):
        raise _malformed(f"{name}: {key} is missing or no list")
    return list(_objects(rows, f"{name}: {key}"))


def _objects(rows: list[object], path: str) -> Iterator[Mapping[str, object]]:
    for at, row in enumerate(rows):
        if not isinstance(row, dict):
            raise _malformed(f"{path}[{at}] is no object")
        yield row


def _text(
    row: Mapping[str, object], key: str, path: str, *, is_optional: bool = False
) -> str | None:
    value = row.get(key)
    if isinstance(value, str) or (value is None and is_optional):
        return value
    raise _malformed(f"{path}.{key} is missing or no text")


def _malformed(what: str) -> Invalid:
    return Invalid(
        "plan.malformed", f"{what}.", remedy="Give files that furlough plan --json has printed."
    )
