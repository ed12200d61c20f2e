"""Files of Keras's MobileNetV2."""
