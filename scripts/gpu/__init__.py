"""Runs of the paper on a machine with a GPU that has little else."""
