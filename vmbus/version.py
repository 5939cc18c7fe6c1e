"""The version of this package, which pyproject.toml reads from here."""

__all__ = ["VERSION"]

VERSION = "0.1.0"
