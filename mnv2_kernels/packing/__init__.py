"""Packed weights: made, kept while they are those of the parameters, and made anew."""
