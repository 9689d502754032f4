"""The simulated world: its items, its people, and what they do."""
