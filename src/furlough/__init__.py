"""Furlough puts a virtualization host on leave: host maintenance mode for KVM/libvirt fleets."""

__version__ = "0.1.0"
