// Preloaded into a peer's process: it ends with whoever started it, even one that was killed and could end nothing,
// because its standard input is a pipe that only the starter holds open.
process.stdin.on("end", () => process.exit(0));
process.stdin.on("error", () => process.exit(0));
process.stdin.resume();
// Alone it is no reason to go on.
process.stdin.unref();
