"""The routing simulator: simulated engines, one heap, and the policies of routers: this platform's own code, and peers' rules as baselines."""
