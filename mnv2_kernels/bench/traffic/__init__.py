"""Memory traffic, counted in a simulated cache."""
