"""The simulator: request traces against the real decisions, under virtual time, with simulated engines."""
