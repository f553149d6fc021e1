"""A lab: real libvirt hosts with real QEMU guests, side by side on one machine.

    Lab.load("lab").host("h1").virsh("list")

Everything a lab is made of lives in namespaces it made and in two directories:

    root namespace                     namespaces of the lab
    ──────────────                     ─────────────────────────────────────────────
    fl-NAME 10.213.N.254 ──veth── switch: bridge 10.213.N.1, disk server (NBD)
                                      ├─veth─ h1: eth0 10.213.N.11, libvirtd, QEMU, collector
                                      ├─veth─ h2: eth0 10.213.N.12, ...
    /run/furlough-lab/NAME     description, sockets, logs, witness
    /var/lib/furlough-lab/NAME disk images

Whatever the lab starts carries the lab's mark in its environment, and whatever runs in a
host dies with the host's first process: so `down` needs no record to leave nothing behind.

Not for production: libvirt is open to every user of this machine while a lab is up.
"""
