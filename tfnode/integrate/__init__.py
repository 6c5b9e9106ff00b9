"""The numerics: an integration is a grid and a walk. Nothing here knows a Keras layer.

`grids` says where the steps are, `runge_kutta` takes one, `walks` goes along, `loops` runs the walk
and its gradient on each backend, `adaptive` and `tfp` find the steps by an error estimate.
"""
