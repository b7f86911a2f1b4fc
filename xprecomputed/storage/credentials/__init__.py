"""Who asks: options, secrets files and environments."""
