"""What the commands do with a --model: a model of any library, fused in place."""
