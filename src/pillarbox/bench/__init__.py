"""The load client, built on the client role of our own core."""
