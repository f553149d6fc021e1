"""The native REST API: routes that translate in, call the service, and translate out."""
