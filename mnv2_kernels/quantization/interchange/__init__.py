"""Quantised networks of other libraries, to and from ``QuantizedMobileNetV2``."""
