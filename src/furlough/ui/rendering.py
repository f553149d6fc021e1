"""Pages from templates: everything is escaped, and what a template misspells is an error."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from lxml import etree
from markupsafe import Markup

from furlough import __version__
from furlough.ui import words
from furlough.ui.forms import with_page

_HERE = Path(__file__).parent
STATIC = _HERE / "static"


def make_environment() -> Environment:
    """Templates with our words as filters."""
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=words.seen,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        mib=words.mib,
        data=words.data,
        lasting=words.lasting,
        at=words.at,
        of_day=words.of_day,
        tone=words.tone,
        plain=words.plain,
        kind=words.kind,
        drawn=drawn,
    )
    environment.globals.update(
        between=words.between,
        share=words.share,
        STATUS=words.STATUS,
        with_page=with_page,
        version=__version__,
        asset=asset,
    )
    return environment


def page_of(name: str) -> str:
    """The file of the template with this name."""
    return f"{name}.html"


def drawn(tree: etree._Element) -> Markup:
    """A picture to stand in a page. lxml has escaped what names say."""
    return Markup(etree.tostring(tree, encoding="unicode"))  # noqa: S704


@cache
def asset(name: str) -> str:
    """The address of a file of ours, another one whenever the file changes."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()
    return f"/static/{name}?{digest[:12]}"
