"""The command line: a user of the REST API, as anybody could be."""
