"""Durable work: a level-triggered reconciler over stored operations. Knows ports, not adapters."""
