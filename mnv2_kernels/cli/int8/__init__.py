"""What the commands do with an int8 network."""
