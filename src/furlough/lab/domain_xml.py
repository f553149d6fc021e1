"""The libvirt XML of the lab's VMs and of the network they are attached to. Pure."""

from html import escape
from pathlib import Path

from furlough.lab.blueprint import (
    NBD_PORT,
    Accelerator,
    Blueprint,
    Options,
    Storage,
    VmPlan,
)

NETWORK_NAME = "vms"
# The same path on every host, each time a private directory.
SERIAL_DIRECTORY = "/var/log/libvirt/serial"
GUEST_DIRECTORY = "/run/furlough-guest"
SHARED_DIRECTORY = "/srv/furlough-vms"

NETWORK = f"""\
<network>
  <name>{NETWORK_NAME}</name>
  <uuid>{{uuid}}</uuid>
  <forward mode='bridge'/>
  <bridge name='{{bridge}}'/>
</network>
"""

DOMAIN = """\
<domain type='{kind}'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory_mib}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{guest_directory}/initramfs</initrd>
    <cmdline>{command_line}</cmdline>
  </os>
  <features><acpi/><apic/>{translation_cache}</features>
  <cpu mode='custom' match='exact' check='none'>
    <model fallback='forbid'>qemu64</model>
  </cpu>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
{disk}
    <interface type='network'>
      <mac address='{mac}'/>
      <source network='{network}'/>
      <model type='virtio'/>
    </interface>
    <serial type='file'>
      <source path='{serial_directory}/{name}' append='on'/>
      <target port='0'/>
    </serial>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""

NBD_DISK = """\
    <disk type='network' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <source protocol='nbd' name='{name}'>
        <host name='{server}' port='{port}'/>
      </source>
      <target dev='vda' bus='virtio'/>
    </disk>"""

FILE_DISK = """\
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none'/>
      <source file='{directory}/{name}.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>"""

# Words for the kernel's command line that make a guest contrary; `guest` says what they do.
IGNORES_SHUTDOWN = "furlough_shutdown=ignore"
REBOOTS_INSTEAD = "furlough_shutdown=reboot"
SLEEPS_INSTEAD = "furlough_shutdown=sleep"
PANICS_INSTEAD = "furlough_shutdown=panic"
AGENT_HANGS = "furlough_agent=hangs"
WRITES_TO_DISK = "furlough_disk=writes"

AGENT_CHANNEL = """\
    <channel type='unix'>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
    </channel>"""

CDROM = """\
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/>
      <source file='{medium}'/>
      <target dev='hdc' bus='ide'/>
      <readonly/>
    </disk>"""

# Without a limit each translating QEMU grows by 1 GiB.
TRANSLATION_CACHE = "<tcg><tb-cache unit='MiB'>64</tb-cache></tcg>"


def network(uuid: str, bridge: str) -> str:
    """The network every host offers its VMs: a bridge of that host, no DHCP, no NAT."""
    return NETWORK.format(uuid=uuid, bridge=bridge)


def domain(blueprint: Blueprint, vm: VmPlan, kernel: Path) -> str:
    """The definition of one VM, the same on whichever host it is."""
    options = blueprint.options
    is_translated = options.accelerator is Accelerator.TCG
    return DOMAIN.format(
        kind="qemu" if is_translated else "kvm",
        name=vm.name,
        uuid=vm.uuid,
        memory_mib=options.memory_mib,
        kernel=escape(str(kernel)),
        guest_directory=GUEST_DIRECTORY,
        command_line=command_line(options),
        translation_cache=TRANSLATION_CACHE if is_translated else "",
        disk=disk(blueprint, vm),
        mac=vm.mac,
        network=NETWORK_NAME,
        serial_directory=SERIAL_DIRECTORY,
    )


def disk(blueprint: Blueprint, vm: VmPlan) -> str:
    """The one disk of a VM, uncached so that it may migrate."""
    if blueprint.options.storage is Storage.DIR:
        return FILE_DISK.format(directory=SHARED_DIRECTORY, name=vm.name)
    return NBD_DISK.format(name=vm.name, server=blueprint.switch_address, port=NBD_PORT)


def command_line(options: Options) -> str:
    """The kernel command line. What it does not know itself becomes init's environment."""
    return (
        # Self-tests of the kernel's ciphers are a fifth of the time a translated guest boots.
        "console=ttyS0 quiet panic=-1 cryptomgr.notests"
        f" furlough_fill_mib={options.filled_mib}"
        f" furlough_hot_mib={options.hot_mib} furlough_hot_mib_s={options.hot_mib_s}"
    )


def with_words(definition: str, *words: str) -> str:
    """The definition of a VM whose guest is told these words, too."""
    return definition.replace("</cmdline>", "".join(f" {word}" for word in words) + "</cmdline>")


def with_device(definition: str, device: str) -> str:
    """The definition of a VM that has this device, too."""
    return definition.replace("  </devices>", f"{device}\n  </devices>")
