"""The channel between our own processes: frames, both ends of a UNIX stream socket. No policy."""
