"""Object detection: which classes are where in an image."""
