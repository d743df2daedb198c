"""What Shardline costs and what it loses, measured on this machine beside floors and peers: ``python -m bench``."""
