"""Slack: what a workspace sends, what is asked of it, and what its exports hold."""
