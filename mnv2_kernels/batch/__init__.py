"""Many images through one network: `mnv2 batch`, and its callable for other engines."""

from .classifier import Classifier as Classifier
