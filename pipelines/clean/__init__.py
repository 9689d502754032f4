"""From what was read to events that count once: validate, deduplicate, dead letters."""
