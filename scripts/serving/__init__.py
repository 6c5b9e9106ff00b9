"""Models for TensorFlow Serving, and how to ask them."""
