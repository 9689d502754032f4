"""Jobs on a log that ends: the stages wired, and what one run leaves to the next."""
