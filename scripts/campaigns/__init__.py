"""Campaigns: many random cases of one kind each, for minutes, reproducible by a seed."""
