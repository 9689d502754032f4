"""The kernel: events in, feature rows out. numpy and Arrow only; no Beam."""
