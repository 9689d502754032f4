"""What one run leaves in the store for the next: where time stands, users, settings."""
