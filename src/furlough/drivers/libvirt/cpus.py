"""Whether a host could run a VM as it runs elsewhere now: CPU, machine type, emulator.

    live XML of the VM, from its own host ──► Need ─┐
                                                    ├─► words of what does not fit, or none
    capabilities of the target ──► Offer ───────────┘      (the target's libvirt compares CPUs)

libvirt compares CPU models and their features, and says nothing of a CPU that is passed through:
there both hosts' own descriptions are compared, as far as libvirt gives them (not the kernels).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import libvirt
from lxml import etree
from lxml.etree import _Element as Element

from furlough import hardened_xml
from furlough.core.cpu_model import HOST_PASSTHROUGH
from furlough.drivers.libvirt import errors
from furlough.drivers.libvirt.domain_xml import root_of
from furlough.drivers.libvirt.inventory import read_emulator_version
from furlough.errors import Invalid

_MOST_REMEMBERED = 10_000


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a running VM needs of its host. `cpu`: its live CPU as libvirt writes it, empty if it
    has none of its own; `mode` and `model` are from there."""

    virtualization: str
    architecture: str
    machine: str
    cpu: str = ""
    mode: str = ""
    model: str = ""
    check: str = ""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a host's libvirt says of its emulators and its CPU. `machines` and `kinds` (of
    virtualization): by architecture. `cpu`: the traits that a passed-through CPU would show."""

    machines: Mapping[str, frozenset[str]]
    kinds: Mapping[str, frozenset[str]]
    emulator_version: int
    cpu: tuple[tuple[str, str], ...] = ()


def need_of(text: str) -> Need | None:
    """What a VM needs by its XML; None for one that is off, which takes what it finds."""
    root = root_of(text)
    if not root.get("id"):
        return None
    kind = root.find("os/type")
    cpu = root.find("cpu")
    traits = {} if cpu is None else _cpu_traits(cpu)
    return Need(
        virtualization=root.get("type", ""),
        architecture="" if kind is None else kind.get("arch", ""),
        machine="" if kind is None else kind.get("machine", ""),
        **traits,
    )


def _cpu_traits(cpu: Element) -> dict[str, str]:
    cpu.tail = None
    return {
        "cpu": etree.tostring(cpu, encoding="unicode"),
        "mode": cpu.get("mode", "custom"),
        "model": cpu.findtext("model", ""),
        "check": cpu.get("check", ""),
    }


def read_need(connection: libvirt.virConnect, vm: str) -> Need | None:
    """The need of a VM of this host; None where it is not there or off, or cannot be read, which
    its own findings tell."""
    try:
        return need_of(connection.lookupByUUIDString(vm).XMLDesc(0))
    except Invalid:
        return None
    except libvirt.libvirtError as error:
        if not errors.is_absent(error):
            raise
        return None


def read_offer(connection: libvirt.virConnect) -> Offer:
    """The offer of this host."""
    return offer_of(connection.getCapabilities(), read_emulator_version(connection))


def offer_of(text: str, emulator_version: int) -> Offer:
    """The offer in a host's capabilities."""
    root = hardened_xml.parse(text, what="capabilities")
    machines: dict[str, frozenset[str]] = {}
    kinds: dict[str, frozenset[str]] = {}
    for architecture in root.iterfind("guest/arch"):
        name = architecture.get("name", "")
        machines[name] = frozenset(one.text for one in architecture.iter("machine") if one.text)
        kinds[name] = frozenset(one.get("type", "") for one in architecture.iter("domain"))
    return Offer(
        machines=machines,
        kinds=kinds,
        emulator_version=emulator_version,
        cpu=_host_cpu(root.find("host/cpu")),
    )


def _host_cpu(cpu: Element | None) -> tuple[tuple[str, str], ...]:
    if cpu is None:
        return ()
    microcode, signature = cpu.find("microcode"), cpu.find("signature")
    features = sorted(feature.get("name", "") for feature in cpu.iterfind("feature"))
    return (
        ("architecture", cpu.findtext("arch", "")),
        ("model", cpu.findtext("model", "")),
        ("vendor", cpu.findtext("vendor", "")),
        ("stepping", "" if signature is None else " ".join(map(str, signature.attrib.values()))),
        ("microcode", "" if microcode is None else microcode.get("version", "")),
        ("features", " ".join(features)),
    )


# --- judging ----------------------------------------------------------------------------------


class Comparison:
    """What the libvirt of one host has said of CPUs so far. It is asked once for each kind."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def misfit(
        self,
        connection: libvirt.virConnect,
        need: Need,
        here: Offer,
        there: Offer,
        cpu_models: frozenset[str],
    ) -> str:
        """What stands against `need` on this host, in words; empty if nothing does. `there`: the
        host on which the VM runs now; `cpu_models`: those that this host can give."""
        words = of_emulator(need, here, there)
        if words or not need.cpu:
            return words
        if need.mode in (HOST_PASSTHROUGH, "maximum"):
            return of_copied_cpu(need, here, there)
        text = f"{here.emulator_version} {need}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest not in self._said:
            if len(self._said) >= _MOST_REMEMBERED:
                self._said.clear()
            self._said[digest] = compare(connection, need, cpu_models)
        return self._said[digest]


def of_emulator(need: Need, here: Offer, there: Offer) -> str:
    """What stands against it in the emulators: it fails at the end of the copying, if not here."""
    if need.virtualization not in here.kinds.get(need.architecture, frozenset()):
        return f"it has no {need.virtualization} for {need.architecture}"
    if need.machine not in here.machines.get(need.architecture, frozenset()):
        return f"its emulator has no machine {need.machine}"
    # Emulators of one release line take each other's VMs, whatever was mended in between.
    if 0 < here.emulator_version // 1000 < there.emulator_version // 1000:
        return (
            f"its emulator is older ({_version(here)}) than the one that the VM runs on "
            f"({_version(there)})"
        )
    return ""


def _version(offer: Offer) -> str:
    number = offer.emulator_version
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def of_copied_cpu(need: Need, here: Offer, there: Offer) -> str:
    """A copy of the host's CPU runs only where hosts and emulators are equal."""
    if here.emulator_version != there.emulator_version:
        return (
            f"the VM's CPU is a copy of its host's, and the emulators differ ({_version(here)}, "
            f"there {_version(there)})"
        )
    if need.virtualization != "kvm":
        return ""  # Then the emulator makes it up, and they have the same one.
    ours, theirs = dict(here.cpu), dict(there.cpu)
    for trait, value in theirs.items():
        if ours.get(trait) != value:
            return f"the VM's CPU is a copy of its host's, and {_difference(trait, ours, theirs)}"
    return ""


def _difference(trait: str, ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    if trait != "features":
        return f"the {trait} differs ({ours.get(trait) or 'unknown'}, there {theirs[trait]})"
    differing = set(ours.get(trait, "").split()) ^ set(theirs[trait].split())
    return f"the CPUs differ in {', '.join(sorted(differing))}"


def compare(connection: libvirt.virConnect, need: Need, cpu_models: frozenset[str]) -> str:
    """What the host's libvirt says of a CPU. Where it cannot tell, the name of the model decides:
    a VM whose CPU nobody checked at its start (`check='none'`) may lack what its model has."""
    if need.check == "none":
        return _by_model(need, cpu_models)
    flags = libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE
    try:
        connection.compareHypervisorCPU(
            None, need.architecture, need.machine, need.virtualization, need.cpu, flags
        )
    except libvirt.libvirtError as error:
        if errors.is_lost(error):
            raise
        if error.get_error_code() == libvirt.VIR_ERR_CPU_INCOMPATIBLE:
            return error.get_error_message() or "the CPU is incompatible with its own"
        return _by_model(need, cpu_models)
    return ""


def _by_model(need: Need, cpu_models: frozenset[str]) -> str:
    if need.model and cpu_models and need.model not in cpu_models:
        return f"it cannot give the CPU {need.model}"
    return ""
