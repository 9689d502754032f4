"""The retrieval + ranking model: towers, losses, optimizers, and what they read."""
