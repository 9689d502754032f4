"""Questions to a served version: what to recommend, and why."""
