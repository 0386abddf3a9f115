"""Simulations of exported vectors against an array."""
