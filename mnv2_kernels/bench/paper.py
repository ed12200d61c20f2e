"""What the paper prints (arXiv 1801.04381), for tables that have it beside what is measured here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Headline:
    """One network of its table 4: ImageNet accuracy, and time on one big core of a Pixel 1."""

    top1: float
    parameters: float
    macs: float
    ms: float


HEADLINES = {
    "V1 1.0": Headline(70.6, 4.2e6, 575e6, 113),
    "V2 1.0": Headline(72.0, 3.4e6, 300e6, 75),
    "V2 1.4": Headline(74.7, 6.9e6, 585e6, 143),
}

# Its table 3: the most channels and kilobytes at 16 bit that have to exist at a resolution, of V1 and V2.
TABLE_3_V1 = {112: (64, 1600), 56: (128, 800), 28: (256, 400), 14: (512, 200), 7: (1024, 199)}
TABLE_3_V2 = {112: (16, 400), 56: (32, 200), 28: (64, 100), 14: (160, 62), 7: (320, 32)}
