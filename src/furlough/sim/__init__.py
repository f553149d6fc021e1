"""A cluster in memory: hosts, VMs, links and migrations, on virtual or real time, with faults.

It does what libvirt and QEMU were seen to do in the lab; one conformance suite runs on both.
"""
