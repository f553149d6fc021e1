"""The pure part: facts, judgements and decisions. No I/O, no clock, no randomness, no async."""
