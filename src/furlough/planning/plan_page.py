"""A plan as one HTML page that needs nothing else: no script, no style sheet, no network.

What names say is text of a tree that lxml writes, never markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lxml import etree

from furlough.planning.pictures import gantt_tree, load_tree, shown
from furlough.planning.unplaced import StayingVm
from furlough.planning.what_if import WhatIf

# Nothing may be fetched or run, whatever stands in the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
body { font: 15px/1.5 sans-serif; color: #222; background: #fff; max-width: 60em;
       margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .2em .8em .2em 0;
       border-bottom: 1px solid #d8dce2; vertical-align: top; }
svg { max-width: 100%; height: auto; }
footer { color: #555; overflow-wrap: anywhere; margin-top: 2em; }
"""


def page(plan: WhatIf, *, known_as: tuple[str, str] | None = None) -> str:
    """The page as text, to be written in UTF-8. `known_as`: id and hash under which the plan is
    approved, where these are not its own."""
    plan_id, plan_hash = known_as or (plan.id, plan.hash)
    title = f"Plan to empty {', '.join(plan.wishes.hosts)}"
    body = _element("body", _element("h1", title), *_summary(plan))
    if plan.unplaced:
        body.extend([_element("h2", "VMs that stay"), _unplaced(plan.unplaced)])
    body.extend([_element("h2", "The hosts before and after"), load_tree(plan)])
    if plan.steps:
        body.extend([_element("h2", "The moves in time"), gantt_tree(plan)])
        body.extend([_element("h2", "The moves"), _moves(plan)])
    taken = f"{plan.taken_at:%Y-%m-%d %H:%M:%S} UTC"
    body.append(_element("footer", f"From facts of {taken}. {plan_id}, hash {plan_hash}"))
    tree = _element("html", _head(title), body)
    tree.set("lang", "en")
    return etree.tostring(tree, encoding="unicode", method="html", doctype="<!DOCTYPE html>")


def _head(title: str) -> etree._Element:
    charset, policy = _element("meta"), _element("meta")
    charset.set("charset", "utf-8")
    policy.set("http-equiv", "Content-Security-Policy")
    policy.set("content", _POLICY)
    return _element("head", charset, policy, _element("title", title), _element("style", _STYLE))


def _summary(plan: WhatIf) -> Iterable[etree._Element]:
    yield _element(
        "p",
        f"{len(plan.steps)} migrations (no plan takes fewer than {plan.bound_migrations}), "
        f"{plan.eta.low:.0f} s to {plan.eta.high:.0f} s, as planned {plan.makespan_s:.0f} s "
        f"(no schedule of these moves takes less than {plan.bound_s:.0f} s). Then the fullest host "
        f"holds {plan.load_after.max:.1%} of what its VMs may take.",
    )
    notes = [f"The estimate is a range: {reason}." for reason in plan.eta_reasons]
    notes += [f"Not held: {rule} ({', '.join(vms)})." for rule, vms in plan.broken.items()]
    notes += [
        f"If {host} were lost too, {len(vms)} of its VMs would find no room (N+1)."
        for host, vms in plan.gaps.items()
    ]
    yield _element("ul", *(_element("li", note) for note in notes))


def _unplaced(unplaced: Sequence[StayingVm]) -> etree._Element:
    return _table(("VM", "UUID", "why"), [(one.vm_name, one.vm_uuid, one.why) for one in unplaced])


def _moves(plan: WhatIf) -> etree._Element:
    rows = [
        (
            step.vm_name,
            step.source,
            f"{step.target} (to wait there)" if step.is_detour else step.target,
            f"{step.start_s:.1f} s",
            f"{step.duration_s:.1f} s",
            f"{step.downtime_ms} ms",
        )
        for step in plan.steps
    ]
    return _table(("VM", "from", "to", "start", "takes", "pause"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> etree._Element:
    head = _element("tr", *(_element("th", column) for column in columns))
    lines = [_element("tr", *(_element("td", cell) for cell in row)) for row in rows]
    return _element("table", _element("thead", head), _element("tbody", *lines))


def _element(tag: str, *children: etree._Element | str) -> etree._Element:
    """An element with other elements in it, or with a text."""
    found = etree.Element(tag)
    for child in children:
        if isinstance(child, str):
            found.text = child if tag == "style" else shown(child)
        else:
            found.append(child)
    return found
