"""Loads an export of Tidegate (`tidegate export`) with nothing but numpy.

    import tidegate
    model = tidegate.load("export")
    model.score([{"user": "u7", "item": "i12", "price": 3.5}])
"""

from .export import Export, ExportError, load
from .readers import DataError, read_rows
from .xxh3 import feature_key, missing_key, out_of_vocabulary_key, stable_hash

__all__ = ["DataError", "Export", "ExportError", "feature_key", "load", "missing_key", "out_of_vocabulary_key", "read_rows", "stable_hash"]
__version__ = "0.1.0"
