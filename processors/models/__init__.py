"""The models that processors ask: embedding."""
