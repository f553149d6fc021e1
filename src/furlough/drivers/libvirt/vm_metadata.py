"""The policy that travels with a VM, as its domain's metadata carries it.

    <metadata>
      <furlough:policy xmlns:furlough="urn:furlough:vm:1" on_maintenance="shut_down"/>
    </metadata>

One element, one attribute per setting, under the names that people type. Whoever owns the VM may
have written it by hand: what cannot be read becomes a word that no setting knows, so that it is
told as a trouble of this VM and hides no other one.
"""

from __future__ import annotations

import libvirt
from lxml import etree

from furlough import hardened_xml
from furlough.core.vm_policy import Words
from furlough.errors import Invalid, Refused

NAMESPACE = "urn:furlough:vm:1"
PREFIX = "furlough"
_POLICY = f"{{{NAMESPACE}}}policy"
_MOST_WORDS = 64
# One more than the longest word that any setting takes: what is cut off is refused anyway.
_LONGEST = 16_385


def words_in(metadata: etree._Element | None) -> Words:
    """What a domain's `<metadata>` says of policy, in the order of the names."""
    if metadata is None:
        return ()
    found = [one for one in metadata if _namespace(one) == NAMESPACE]
    words = {name: word for one in found for name, word in _words(one)}
    return tuple(sorted(words.items()))


def _namespace(element: etree._Element) -> str | None:
    return etree.QName(element).namespace


def _words(element: etree._Element) -> Words:
    """The words of one element; what is no policy, or more than one can be, is one odd word."""
    if element.tag != _POLICY:
        return ((f"<{etree.QName(element).localname[:64]}>", ""),)
    words = [(str(name)[:64], str(word)[:_LONGEST]) for name, word in element.attrib.items()]
    words += [(f"<{etree.QName(child).localname[:64]}>", "") for child in element]
    if len(words) > _MOST_WORDS:
        return (("<policy of too many words>", ""),)
    return tuple(words)


def element_of(words: Words) -> str | None:
    """The element that says these words; None where there is nothing to say. libvirt gives it its
    namespace."""
    if not words:
        return None
    element = etree.Element("policy", dict(words))
    return etree.tostring(element, encoding="unicode")


def write(domain: libvirt.virDomain, words: Words) -> None:
    """Replace a VM's policy: of the running VM, of its definition, or of both, whichever there
    is. Read back, since only what is there then travels. `Refused` if it is not."""
    places = _places(domain)
    flags = sum(places)
    kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
    domain.setMetadata(kind, element_of(words), PREFIX, NAMESPACE, flags)
    for place in places:
        if _read(domain, place) != tuple(sorted(words)):
            raise Refused(
                "hypervisor.failed",
                f"VM {domain.name()}: its policy was written and reads otherwise.",
                remedy="Somebody may have written it at the same moment: look, then set it again.",
            )


def _places(domain: libvirt.virDomain) -> list[int]:
    places: list[int] = []
    if domain.isActive():
        places.append(libvirt.VIR_DOMAIN_AFFECT_LIVE)
    if domain.isPersistent():
        places.append(libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    return places


def _read(domain: libvirt.virDomain, place: int) -> Words:
    kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
    try:
        text = domain.metadata(kind, NAMESPACE, place)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            raise
        return ()
    try:
        # Read alone, the element comes without its namespace.
        element = hardened_xml.parse(text, what="a VM's policy")
    except Invalid:
        return (("<unreadable>", ""),)
    return tuple(sorted((str(name), str(word)) for name, word in element.attrib.items()))
