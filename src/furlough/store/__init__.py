"""Adapters of the Store port: SQLite for one process, PostgreSQL for several, one code path."""
