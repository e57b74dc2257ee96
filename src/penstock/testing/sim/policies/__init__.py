"""Autoscaling laws as the simulator drives them: one file each, found by its name, with a function `build(setup, options)`."""
