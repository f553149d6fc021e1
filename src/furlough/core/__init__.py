"""The pure part that all else rests on: facts, states, journal, policy and settlement. No I/O, no
clock, no randomness, no async."""
