"""The chain: normalize, enrich, prepare, embed. Plain async functions over typed values and ports."""
