"""The delivery role: leases what is due, speaks to next hops, settles outcomes. Never listens."""
