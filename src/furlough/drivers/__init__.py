"""Adapters of the Hypervisor port, one package each, unaware of each other."""
