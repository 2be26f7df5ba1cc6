"""Requests become tokens here: one thread batches, samples and stops, whatever the backend."""
