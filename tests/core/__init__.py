"""Tests of the pure core: stories about judgements, without a clock, a host or a store."""
