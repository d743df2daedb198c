"""The emulators in Docker that the Functions Core Tools run the app against."""
