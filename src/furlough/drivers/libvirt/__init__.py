"""The Hypervisor port over libvirt: its words appear here and nowhere else."""
