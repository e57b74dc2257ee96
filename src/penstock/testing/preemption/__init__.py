"""Plays preemption on virtual time: training beside bursts of inference, decided by the product's own code or as Kubernetes would."""
