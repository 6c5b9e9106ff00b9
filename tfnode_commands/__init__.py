"""The command `tfnode`, which is installed with the package.

It lies beside `tfnode`, not in it: whatever imports `tfnode` loads a backend, which takes seconds,
and help and misuse are answered at once.
"""
