"""Keeping it running: reconciliation, and the replay of parked messages."""
