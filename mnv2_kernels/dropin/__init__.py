"""``fuse(model)``: what matching recognises runs by the operators, under the model's own classes."""
