"""What each stateful stage of the live job holds, as plain values: no Beam."""
