"""`mnv2 bottleneck`: what a ReLU loses (arXiv 1801.04381, 3.2), of a spiral and in trained networks."""
