"""The pure planner: which host each VM goes to, when, and by which steps. Built on the core."""
