"""The disks of a lab's VMs: one image each, served over NBD or seen as files by every host."""

from furlough.lab.blueprint import DISK_SIZE_MIB, NBD_PORT, Blueprint
from furlough.lab.command import run
from furlough.lab.namespaces import Namespaces


def create_images(blueprint: Blueprint) -> None:
    """One small empty image per VM."""
    disks = blueprint.site.disks
    disks.mkdir(parents=True)
    for vm in blueprint.vms:
        run(
            [
                "qemu-img",
                "create",
                "-q",
                "-f",
                "qcow2",
                disks / f"{vm.name}.qcow2",
                f"{DISK_SIZE_MIB}M",
            ]
        )


def serve(blueprint: Blueprint, switch: Namespaces) -> None:
    """Serve every image to any number of clients, from the switch.

    One server for all: it opens each image once, so QEMU's image lock sees one user however
    many hosts write. That is what a network disk without locks is, and is meant to be.
    """
    argv = ["qemu-storage-daemon", "--daemonize", "--pidfile", "/run/disks.pid"]
    argv += ["--nbd-server"]
    argv += [
        f"addr.type=inet,addr.host={blueprint.switch_address},addr.port={NBD_PORT},max-connections=0"
    ]
    for vm in blueprint.vms:
        path = blueprint.site.disks / f"{vm.name}.qcow2"
        argv += ["--blockdev", f"driver=file,node-name={vm.name}-file,filename={path}"]
        argv += ["--blockdev", f"driver=qcow2,node-name={vm.name},file={vm.name}-file"]
        argv += [
            "--export",
            f"type=nbd,id={vm.name},node-name={vm.name},name={vm.name},writable=on",
        ]
    switch.run(argv)
