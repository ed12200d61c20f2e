"""From torch's modules to layers that the kernels compute: what may be replaced, and what that computes."""
