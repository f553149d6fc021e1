"""XML from outside: plain and modest documents become a tree, everything else is refused."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from furlough.errors import Invalid
from furlough.hardened_xml import DEEPEST, LARGEST, MOST_ATTRIBUTES, parse

XXE = '<!DOCTYPE d [<!ENTITY e SYSTEM "file://{}">]><d>&e;</d>'
LAUGHS = (
    '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>'
    "<d x='&c;'>&c;</d>"
)


def refused(text: bytes | str) -> str:
    """The code with which a document is refused; that the message names the document."""
    with pytest.raises(Invalid) as caught:
        parse(text, what="a letter")
    assert "a letter" in caught.value.message
    return caught.value.code


def test_a_plain_document_becomes_its_tree() -> None:
    for text in ("<d n='1'><e>é &amp; &#x41;</e></d>", b"<d n='1'><e>\xc3\xa9 &amp; A</e></d>"):
        root = parse(text, what="a letter")
        assert (root.tag, root.get("n"), root.findtext("e")) == ("d", "1", "é & A")


def test_a_declaration_and_a_byte_order_mark_are_accepted() -> None:
    declared = '<?xml version="1.0" encoding="UTF-8"?><d>é</d>'
    for text in (declared, declared.encode(), codecs.BOM_UTF8 + declared.encode()):
        assert parse(text, what="a letter").text == "é"


def test_comments_and_instructions_are_dropped() -> None:
    root = parse("<d><!-- x --><?php y?><e/></d>", what="a letter")
    assert [child.tag for child in root] == ["e"]


def test_a_file_that_an_entity_names_is_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush", encoding="utf-8")
    assert refused(XXE.format(secret)) == "xml.doctype"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_hides_no_document_type(encoding: str) -> None:
    """There the bytes of `<!DOCTYPE` look different."""
    for text in (LAUGHS, f'<?xml version="1.0" encoding="{encoding}"?>{LAUGHS}'):
        assert refused(text.encode(encoding)) in ("xml.encoding", "xml.syntax")


def test_what_is_declared_of_the_encoding_is_not_believed() -> None:
    hidden = LAUGHS.replace("<!", "+ADwAIQ-")
    assert refused(f'<?xml version="1.0" encoding="UTF-7"?>{hidden}') == "xml.syntax"
    assert parse('<?xml version="1.0" encoding="UTF-16"?><d>é</d>', what="a letter").text == "é"


def test_entities_that_grow_are_refused_before_they_do() -> None:
    assert refused(LAUGHS) == "xml.doctype"


@pytest.mark.parametrize(
    "text",
    ["", "  ", "text", "<d>", "<d></e>", "<d/><d/>", "<d>&e;</d>", "<d>\x00</d>", "<d a=1/>"],
)
def test_what_is_not_well_formed_is_refused(text: str) -> None:
    assert refused(text) == "xml.syntax"


@pytest.mark.parametrize("text", [b"<d>\xff</d>", "<d>\ud800</d>", b"<d>\xc3</d>"])
def test_what_is_not_utf_8_is_refused(text: bytes | str) -> None:
    assert refused(text) == "xml.encoding"


def test_limits_are_what_they_say() -> None:
    assert parse("<d>" * DEEPEST + "</d>" * DEEPEST, what="a letter").tag == "d"
    assert refused("<d>" * (DEEPEST + 1) + "</d>" * (DEEPEST + 1)) == "xml.shape"
    assert refused("<d>" * 100_000) in ("xml.shape", "xml.syntax")
    attributes = [f"a{n}='1'" for n in range(MOST_ATTRIBUTES + 1)]
    assert parse(f"<d {' '.join(attributes[:-1])}/>", what="a letter").tag == "d"
    assert refused(f"<d {' '.join(attributes)}/>") == "xml.shape"
    filling = "x" * (LARGEST - len("<d></d>"))
    assert parse(f"<d>{filling}</d>", what="a letter").tag == "d"
    assert refused(f"<d>{filling}x</d>") == "xml.too_large"
