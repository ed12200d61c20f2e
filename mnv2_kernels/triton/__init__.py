"""The operators on GPUs, written in Triton: imported at the first call with a GPU's tensor."""
