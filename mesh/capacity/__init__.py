"""Capacity on paper: what a mesh of a given size needs, from measured unit costs and published figures."""
