"""Measurements of time and memory, each in a process of its own."""
