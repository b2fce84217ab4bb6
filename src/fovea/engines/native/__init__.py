"""The native engine: graphs lowered to one program that the compiled core runs."""

from fovea.engines.native.engine import NativeEngine

__all__ = ["NativeEngine"]
