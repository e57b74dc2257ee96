"""Penstock serves AI models: on one machine with one command, on a cluster with the same manifests."""

__version__ = "0.1.0"
