"""Messages: envelope and content, octets in and octets out. Pure; imports smtp only for its values."""
