"""Detectors at work: whole images and tiles of them, several views, boxes drawn and written down."""
