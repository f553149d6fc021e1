"""Pictures of a plan, as SVG: the load of hosts before and after, and its moves in time.

Names come from strangers. They become text nodes of a tree that lxml writes, so that no name is
ever markup; characters that XML does not know are shown as `?`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lxml import etree

from furlough.planning.what_if import HostLoad, Step, WhatIf

# What a page can show and a person can read; what is left out is counted below the picture.
MOST_ROWS = 400
_SVG = "http://www.w3.org/2000/svg"
_ROW, _BAR, _NAMES, _WIDTH, _TOP = 22, 7, 190, 620, 30
_INK, _PAPER, _PALE, _GRID = "#222222", "#ffffff", "#6b7686", "#d8dce2"
# What a page's style sheet may call them by; where it says nothing, the colours themselves hold.
_CLASSES = {_INK: "ink", _PAPER: "paper", _PALE: "pale", _GRID: "grid"}
_EARLY = 0.6
_AFTER, _EMPTIED, _OVER = "#1f6fb2", "#8a5a00", "#b3261e"
# Moves out of one host have one colour; told apart by position and label too.
_COLOURS = ("#1f6fb2", "#8a5a00", "#2e7d4f", "#7a3b9c", "#a8456b", "#4b6173")


@dataclass(frozen=True, kw_only=True)
class Span:
    """A bar in time: what stands beside it, on it, and what it says when one points at it; from
    when to when, in seconds from the left edge. `colour`: 0 and up, or -1 for what is pale."""

    name: str
    label: str
    words: str
    start_s: float
    end_s: float
    colour: int = 0


def load_picture(plan: WhatIf) -> str:
    """SVG text: two bars per host, the memory load before and after. Hosts whose load changes come
    first, the most changed one foremost."""
    return written(load_tree(plan))


def gantt_picture(plan: WhatIf) -> str:
    """SVG text: one bar per move, from its start to its end, in the order of the plan."""
    return written(gantt_tree(plan))


def written(tree: etree._Element) -> str:
    """The tree as text."""
    return etree.tostring(tree, encoding="unicode")


def shown(text: str) -> str:
    """A text as pictures and pages can carry it."""
    return "".join(char if char.isprintable() else "?" for char in text)


def load_tree(plan: WhatIf) -> etree._Element:
    """The picture of `load_picture` as a tree, to stand in a page."""
    return loads_tree(plan.loads, plan.wishes.hosts)


def loads_tree(every: Sequence[HostLoad], emptied: Sequence[str]) -> etree._Element:
    """The same for any loads: of all hosts concerned, and which of them are emptied."""
    ranked = sorted(every, key=lambda one: -abs(one.after - one.before))
    loads = ranked[:MOST_ROWS]
    full = max([1.0, *(max(one.before, one.after) for one in loads)])
    picture = _frame(len(loads), "Memory load of the hosts before and after the plan")
    for share in (0.25, 0.5, 0.75, 1.0):
        _line(picture, share / full, len(loads), f"{share:.0%}")
    for row, load in enumerate(loads):
        _load_row(picture, row, load, full, is_emptied=load.host in emptied)
    _left_out(picture, len(loads), len(ranked), "hosts")
    return picture


def _load_row(
    picture: etree._Element, row: int, load: HostLoad, full: float, *, is_emptied: bool
) -> None:
    top = _TOP + row * _ROW
    _text(picture, _NAMES - 8, top + 12, _short(load.host), anchor="end")
    words = f"{load.host}: {load.before:.1%} before, {load.after:.1%} after"
    colour = _EMPTIED if is_emptied else _OVER if load.after > 1 else _AFTER
    _bar(picture, (0, load.before / full), top, _PALE, words)
    _bar(picture, (0, load.after / full), top + _BAR + 1, colour, words)


def gantt_tree(plan: WhatIf) -> etree._Element:
    """The picture of `gantt_picture` as a tree."""
    title = "The moves in time, in seconds from the start of the plan"
    return spans_tree([_span(step, plan.wishes.hosts) for step in plan.steps], title, "moves")


def spans_tree(every: Sequence[Span], title: str, what: str) -> etree._Element:
    """One bar per span, in their order. `what`: what they are, for those that are left out."""
    spans = every[:MOST_ROWS]
    length_s = max([1.0, *(span.end_s for span in spans)])
    picture = _frame(len(spans), title)
    for second in ticks(length_s):
        _line(picture, second / length_s, len(spans), f"{second:g} s")
    for row, span in enumerate(spans):
        top = _TOP + row * _ROW
        share = (span.start_s / length_s, span.end_s / length_s)
        _text(picture, _NAMES - 8, top + 12, _short(span.name), anchor="end")
        colour = _PALE if span.colour < 0 else _COLOURS[span.colour % len(_COLOURS)]
        _bar(picture, share, top, colour, span.words, height=2 * _BAR)
        _label(picture, share, top + 12, span.label)
    _left_out(picture, len(spans), len(every), what)
    return picture


def _span(step: Step, leaving: Sequence[str]) -> Span:
    """Coloured by the host it leaves; who makes room for others is pale."""
    aside = ", to wait there" if step.is_detour else ""
    return Span(
        name=step.vm_name,
        label=f"{step.source} → {step.target}",
        words=f"{step.vm_name}: {step.source} to {step.target}{aside}, "
        f"{step.start_s:.1f} s to {step.end_s:.1f} s, pause {step.downtime_ms} ms",
        start_s=step.start_s,
        end_s=step.end_s,
        colour=leaving.index(step.source) if step.source in leaving else -1,
    )


def _label(picture: etree._Element, span: tuple[float, float], y: float, words: str) -> None:
    """Behind a bar that ends early, before one that starts late, and else inside."""
    left, right = (_NAMES + share * _WIDTH for share in span)
    if span[1] < _EARLY:
        _text(picture, right + 6, y, words)
    elif span[0] > 1 - _EARLY:
        _text(picture, left - 6, y, words, anchor="end")
    else:
        _text(picture, left + 6, y, words, colour=_PAPER)


def ticks(length_s: float) -> list[float]:
    """Round seconds for the axis of a picture, at most ten and not the start."""
    rough = length_s / 8
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [step * number for number in range(1, int(length_s / step + 1e-9) + 1)]


# --- parts of pictures ---------------------------------------------------------------------------


def _frame(rows: int, title: str) -> etree._Element:
    width, height = _NAMES + _WIDTH + 60, _TOP + rows * _ROW + 30
    # The stubs know no default namespace.
    picture = etree.Element(f"{{{_SVG}}}svg", nsmap={None: _SVG})  # type: ignore[dict-item]
    picture.set("viewBox", f"0 0 {width} {height}")
    picture.set("width", str(width))
    picture.set("height", str(height))
    picture.set("role", "img")
    picture.set("font-family", "sans-serif")
    picture.set("font-size", "12")
    etree.SubElement(picture, f"{{{_SVG}}}title").text = title
    return picture


def _line(picture: etree._Element, share: float, rows: int, label: str) -> None:
    """A line from top to bottom, with a label above it."""
    x = _NAMES + share * _WIDTH
    line = etree.SubElement(picture, f"{{{_SVG}}}line")
    for name, value in (("x1", x), ("x2", x), ("y1", _TOP - 6), ("y2", _TOP + rows * _ROW)):
        line.set(name, f"{value:.1f}")
    line.set("stroke", _GRID)
    line.set("class", _CLASSES[_GRID])
    _text(picture, x, _TOP - 12, label, anchor="middle")


def _bar(
    picture: etree._Element,
    span: tuple[float, float],
    top: float,
    colour: str,
    words: str,
    height: float = _BAR,
) -> None:
    """A bar from one share of the width to another; `words` appear when one points at it."""
    bar = etree.SubElement(picture, f"{{{_SVG}}}rect")
    left, right = (_NAMES + share * _WIDTH for share in span)
    sizes = (("x", left), ("y", top), ("width", max(0.0, right - left)), ("height", height))
    for name, value in sizes:
        bar.set(name, f"{value:.1f}")
    bar.set("fill", colour)
    if colour in _CLASSES:
        bar.set("class", _CLASSES[colour])
    etree.SubElement(bar, f"{{{_SVG}}}title").text = shown(words)


def _text(
    picture: etree._Element,
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    colour: str = _INK,
) -> None:
    text = etree.SubElement(picture, f"{{{_SVG}}}text")
    text.set("x", f"{x:.1f}")
    text.set("y", f"{y:.1f}")
    text.set("fill", colour)
    text.set("class", _CLASSES[colour])
    text.set("text-anchor", anchor)
    text.text = shown(words)


def _left_out(picture: etree._Element, rows: int, total: int, what: str) -> None:
    if rows < total:
        words = f"{total - rows} more {what} are not shown"
        _text(picture, _NAMES, _TOP + rows * _ROW + 18, words)


def _short(name: str) -> str:
    """As much of a name as fits beside the picture."""
    return name if len(name) <= 26 else f"{name[:25]}…"
