"""Tests of the prechecks: for every trouble the finding that names it."""
