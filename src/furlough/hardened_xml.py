"""The one way in which XML from outside becomes a tree.

No document type, no entities, no network, nothing huge: libvirt's XML carries what users wrote
into it, and a client's SOAP is a client's.
"""

from __future__ import annotations

import codecs

from lxml import etree

from furlough.errors import Invalid

LARGEST = 4 << 20
DEEPEST = 64
MOST_ATTRIBUTES = 256


def parse(text: bytes | str, *, what: str) -> etree._Element:
    """The root element. Raises `Invalid`, naming `what`, for anything but plain, modest XML."""
    raw = _utf8(text, what)
    if b"<!DOCTYPE" in raw or b"<!ENTITY" in raw:
        raise Invalid("xml.doctype", f"{what} has a document type, which is not accepted.")
    parser = etree.XMLParser(
        # Whatever encoding it declares: in another one the check above would have seen nothing.
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(raw, parser)
    except etree.XMLSyntaxError as error:
        raise Invalid("xml.syntax", f"{what} is not well-formed: {error.msg}.") from error
    _check_shape(root, what)
    return root


def _utf8(text: bytes | str, what: str) -> bytes:
    """The document in UTF-8, the one encoding that is read, without a byte order mark."""
    try:
        raw = text.encode() if isinstance(text, str) else text
        if len(raw) > LARGEST:
            raise Invalid("xml.too_large", f"{what} is larger than {LARGEST} bytes.")
        raw.decode()
    except UnicodeError as error:
        raise Invalid("xml.encoding", f"{what} is not UTF-8.") from error
    return raw.removeprefix(codecs.BOM_UTF8)


def _check_shape(root: etree._Element, what: str) -> None:
    depth = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > DEEPEST or len(element.attrib) > MOST_ATTRIBUTES:
            raise Invalid("xml.shape", f"{what} is nested too deeply or has too many attributes.")
