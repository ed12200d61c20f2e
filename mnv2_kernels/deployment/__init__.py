"""Trained networks on their way to production."""
