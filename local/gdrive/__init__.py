"""A Google Drive on loopback: the Drive v3 API of one domain, for tests and for the one-machine run."""
