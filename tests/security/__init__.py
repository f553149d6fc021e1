"""Acceptance tests of the security requirements; the daemon of the API's stories serves them."""
