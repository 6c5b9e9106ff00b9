"""The command `tfnode`, which is installed with the package.

It answers help and misuse at once: a backend is loaded where the work begins.
"""
