"""HTTP for readers and operators."""
