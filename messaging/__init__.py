"""Messages between the functions: contracts, queue names, the codec, and the bus with its twins."""
