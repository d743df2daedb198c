"""Ids of what is made while the simulator runs."""

import secrets


def new_file_id(*, is_native: bool) -> str:
    """A new file id: 44 characters for a native type, 33 else."""
    return "1" + secrets.token_urlsafe(40)[: 43 if is_native else 32]
