"""The load client (`pillarbox bench`), built on the client role of our own core, and a sink to relay to."""
