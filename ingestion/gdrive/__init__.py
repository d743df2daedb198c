"""Google Drive: its files and folders, from the delta loop of a Drive or from a folder tree on disk."""
