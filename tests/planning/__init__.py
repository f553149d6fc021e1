"""Tests of the planner: stories about where VMs go and when, without a clock or a host."""
