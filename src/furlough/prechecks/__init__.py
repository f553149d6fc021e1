"""The pure prechecks: what stands against a request, found before anything is done."""
