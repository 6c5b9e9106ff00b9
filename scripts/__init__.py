"""The project's command lines, and beside them, in packages, what they share."""
