"""Int8: its arithmetic to the bit, and the recipe that turns a trained network into it."""
