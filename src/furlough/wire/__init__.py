"""The JSON of the API, and its way from and to core types. Shared by API and client."""
