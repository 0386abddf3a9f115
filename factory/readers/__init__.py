"""Readers of integers that were made elsewhere: each gives the layers of one kind of source as coded layers."""
