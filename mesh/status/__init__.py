"""How a running mesh does: `murphey status`."""
