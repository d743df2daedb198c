"""Rich text (RTF)."""

from striprtf.striprtf import rtf_to_text

from ingestion.content.kept_text import KeptText


def read_rtf(content: bytes, kept: KeptText) -> None:
    """Rich text without its formats."""
    kept.add(rtf_to_text(content.decode("latin-1"), errors="replace"))
