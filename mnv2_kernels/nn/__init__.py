"""The modules: FusedMobileNetV2, its parts, and what it becomes for deployment."""
