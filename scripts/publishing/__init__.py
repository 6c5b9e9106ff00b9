"""The zoo's weights: how they are trained, measured and described."""
