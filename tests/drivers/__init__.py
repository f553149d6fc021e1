"""Tests of drivers, without a hypervisor: pure functions of texts, numbers and orders."""
