"""stub"""
from factory.store import open_store
def open_source(path):
    return open_store(path)
