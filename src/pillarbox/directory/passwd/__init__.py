"""kind = "passwd": htpasswd and passwd-file."""
