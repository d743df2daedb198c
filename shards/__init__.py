"""What is kept: the shard model, shard types, identity, ordering, and the stores with their twins."""
