"""The rig: takes shares from a pool, computes them, streams the results back."""
