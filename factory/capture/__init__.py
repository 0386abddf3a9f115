"""Captured networks: integer codes that were made elsewhere."""
