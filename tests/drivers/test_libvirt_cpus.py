"""Whether a host could run a VM that runs elsewhere, by canned answers of libvirt: a translated
guest gets no passed-through CPU, so no lab can show one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.binding import needing_libvirt, private_host

libvirt = needing_libvirt("libvirt")
cpus = needing_libvirt("furlough.drivers.libvirt.cpus")

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
CUSTOM = (
    "<cpu mode='custom' match='exact' check='full'><model fallback='forbid'>EPYC-Milan</model>"
    "<feature policy='require' name='x2apic'/></cpu>"
)
PASSED_THROUGH = "<cpu mode='host-passthrough' check='none' migratable='on'/>"


def capabilities(
    *,
    model: str = "EPYC-Milan",
    microcode: str = "167776725",
    features: tuple[str, ...] = ("monitor", "pcid"),
    kinds: tuple[str, ...] = ("qemu", "kvm"),
    machines: tuple[str, ...] = ("pc-q35-7.2", "q35"),
) -> str:
    """What the libvirt of a server says of it, shortened."""
    return f"""\
<capabilities>
  <host>
    <uuid>1e5dd8e1-90f1-561f-bf05-608aa36eeaec</uuid>
    <cpu>
      <arch>x86_64</arch>
      <model>{model}</model>
      <vendor>AMD</vendor>
      <microcode version='{microcode}'/>
      <signature family='25' model='1' stepping='1'/>
      <counter name='tsc' frequency='2445405000' scaling='yes'/>
      <topology sockets='1' dies='1' cores='32' threads='2'/>
      {"".join(f"<feature name='{one}'/>" for one in features)}
      <pages unit='KiB' size='4'/>
    </cpu>
  </host>
  <guest>
    <os_type>hvm</os_type>
    <arch name='x86_64'>
      <wordsize>64</wordsize>
      {"".join(f"<machine maxCpus='288'>{one}</machine>" for one in machines)}
      {"".join(f"<domain type='{one}'/>" for one in kinds)}
    </arch>
  </guest>
</capabilities>"""


def offer(emulator_version: int = 7_002_022, **traits: Any) -> Any:
    return cpus.offer_of(capabilities(**traits), emulator_version)


def running(cpu: str = CUSTOM, *, kind: str = "kvm", machine: str = "pc-q35-7.2") -> str:
    """The live XML of a VM, shortened."""
    return (
        f"<domain type='{kind}' id='3'><name>web01</name><uuid>{UUID}</uuid>"
        f"<os><type arch='x86_64' machine='{machine}'>hvm</type></os>{cpu}</domain>"
    )


def need(cpu: str = CUSTOM, **traits: Any) -> Any:
    found = cpus.need_of(running(cpu, **traits))
    assert found is not None
    return found


@dataclass
class Target:
    """libvirt, as far as CPUs are compared: says no with this number, and remembers what it was
    asked."""

    number: int | None = None
    text: str = "Host CPU does not provide required features: x2apic"
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def compareHypervisorCPU(self, *question: Any) -> int:  # noqa: N802
        self.asked.append(question)
        if self.number is not None:
            error = libvirt.libvirtError("incompatible")
            error.err = (self.number, 31, self.text, 2, None, None, None, -1, -1)
            raise error
        return 2


def misfit(target: Target, wanted: Any, here: Any, there: Any, models: str = "") -> str:
    words = cpus.Comparison().misfit(target, wanted, here, there, frozenset(models.split()))
    assert isinstance(words, str)
    return words


# --- a named model --------------------------------------------------------------------------------


def test_the_live_cpu_goes_to_the_targets_libvirt_as_the_vm_runs_now() -> None:
    target = Target()
    assert misfit(target, need(), offer(), offer()) == ""
    ((emulator, architecture, machine, kind, cpu, flags),) = target.asked
    # The source's path of the emulator means nothing here.
    assert emulator is None
    assert (architecture, machine, kind) == ("x86_64", "pc-q35-7.2", "kvm")
    assert "EPYC-Milan" in cpu
    assert "x2apic" in cpu
    assert flags == libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE


def test_what_libvirt_misses_is_told_in_its_own_words() -> None:
    target = Target(number=libvirt.VIR_ERR_CPU_INCOMPATIBLE)
    assert "x2apic" in misfit(target, need(), offer(), offer())


@pytest.mark.parametrize(
    "number",
    [
        libvirt.VIR_ERR_NO_SUPPORT,
        libvirt.VIR_ERR_INTERNAL_ERROR,
        libvirt.VIR_ERR_INVALID_ARG,
        libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    ],
)
def test_where_libvirt_cannot_compare_the_name_of_the_model_decides(number: int) -> None:
    target = Target(number=number, text="cannot tell")
    assert misfit(target, need(), offer(), offer(), "EPYC-Milan qemu64") == ""
    assert "EPYC-Milan" in misfit(target, need(), offer(), offer(), "Haswell qemu64")
    # A host whose models are not known accuses nobody.
    assert misfit(target, need(), offer(), offer()) == ""


def test_a_lost_connection_is_no_answer() -> None:
    with pytest.raises(libvirt.libvirtError):
        misfit(Target(number=libvirt.VIR_ERR_RPC, text="gone"), need(), offer(), offer())


def test_a_cpu_that_nobody_checked_at_the_start_is_judged_by_its_name() -> None:
    target = Target(number=libvirt.VIR_ERR_CPU_INCOMPATIBLE)
    unchecked = need(CUSTOM.replace("full", "none"))
    assert misfit(target, unchecked, offer(), offer(), "EPYC-Milan") == ""
    assert target.asked == []


def test_libvirt_is_asked_once_for_each_kind_of_cpu_and_anew_after_an_upgrade() -> None:
    target, comparison = Target(), cpus.Comparison()

    def ask(wanted: Any, here: Any) -> None:
        assert comparison.misfit(target, wanted, here, offer(), frozenset()) == ""

    for _ in range(3):
        ask(need(), offer())
    assert len(target.asked) == 1
    ask(need(CUSTOM.replace("Milan", "Rome")), offer())
    assert len(target.asked) == 2
    ask(need(), offer(8_000_000))
    assert len(target.asked) == 3


def test_a_vm_without_a_cpu_of_its_own_takes_any() -> None:
    target = Target()
    assert misfit(target, need(""), offer(), offer()) == ""
    assert target.asked == []


# --- a CPU that is passed through -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"model": "EPYC-Rome"}, "the model differs (EPYC-Rome, there EPYC-Milan)"),
        ({"microcode": "1"}, "the microcode differs (1, there 167776725)"),
        ({"features": ("monitor", "pku")}, "the CPUs differ in pcid, pku"),
        ({"emulator_version": 7_002_023}, "the emulators differ (7.2.23, there 7.2.22)"),
    ],
)
def test_a_copy_of_a_cpu_runs_only_on_an_equal_host(other: dict[str, Any], words: str) -> None:
    target = Target()
    wanted = need(PASSED_THROUGH)
    assert misfit(target, wanted, offer(), offer()) == ""
    assert words in misfit(target, wanted, offer(**other), offer())
    # libvirt would say yes to anything.
    assert target.asked == []


def test_the_number_of_cores_is_no_trait_of_a_cpu() -> None:
    text = capabilities().replace("cores='32'", "cores='16'")
    assert misfit(Target(), need(PASSED_THROUGH), cpus.offer_of(text, 7_002_022), offer()) == ""


def test_what_an_emulator_makes_up_is_the_same_wherever_the_emulator_is() -> None:
    wanted = need("<cpu mode='maximum'/>", kind="qemu")
    assert misfit(Target(), wanted, offer(model="Haswell"), offer()) == ""
    assert misfit(Target(), wanted, offer(8_000_000), offer()) != ""


# --- emulators ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (offer(machines=("pc-q35-7.1",)), "no machine pc-q35-7.2"),
        (offer(kinds=("qemu",)), "no kvm for x86_64"),
        (offer(7_001_000), "older (7.1.0) than the one that the VM runs on (7.2.22)"),
        (replace(offer(), machines={}, kinds={}), "no kvm for x86_64"),
    ],
)
def test_an_emulator_that_would_fail_at_the_end_of_the_copying_is_told_before(
    here: Any, words: str
) -> None:
    target = Target()
    assert words in misfit(target, need(), here, offer())
    assert target.asked == []


@pytest.mark.parametrize("version", [7_002_000, 7_002_022, 9_000_000, 0])
def test_a_newer_emulator_or_one_mended_less_takes_the_vm(version: int) -> None:
    assert misfit(Target(), need(), offer(version), offer()) == ""


# --- asking a host --------------------------------------------------------------------------------


def test_a_vm_that_is_off_or_gone_needs_nothing(tmp_path: Path) -> None:
    handle = libvirt.open(private_host(tmp_path))
    try:
        domain = handle.lookupByName("test")
        assert cpus.read_need(handle, domain.UUIDString()).virtualization == "test"
        domain.destroy()
        assert cpus.read_need(handle, domain.UUIDString()) is None
        assert cpus.read_need(handle, "00000000-0000-4000-8000-000000000000") is None
    finally:
        handle.close()


def test_a_host_is_read_as_it_offers_itself() -> None:
    handle = libvirt.open("test:///default")
    try:
        found = cpus.read_offer(handle)
    finally:
        handle.close()
    assert found.kinds["i686"] == {"test"}
    assert found.emulator_version > 0
    assert dict(found.cpu)["architecture"] == "i686"
