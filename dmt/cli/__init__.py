"""The command line. Importing it costs little: each command imports what it needs when it runs."""

from .app import dreamtalk, main

__all__ = ["dreamtalk", "main"]
