"""Stories played on the simulator with the real controller, on virtual time."""
