"""SMTP as octets and events, without any I/O (sans-IO), for both roles.

The room's public names are imported from here. It imports nothing of ours, no asyncio, socket, ssl, time or
logging, so that every rule of the protocol can be tested with octets alone.
"""
