"""Tests of the lab: plans and witness without root, hosts and VMs with it."""
