"""The classes for zstd, from the standard library (Python 3.14 and later) or its backport.

The backport is 1.4 MB, `zstandard` 23 MB, and both give the same frames from 1 MiB on. The standard
library uses the libzstd that Python was built with.
"""

import sys

if sys.version_info >= (3, 14):
    from compression.zstd import CompressionParameter, ZstdCompressor, ZstdDecompressor, ZstdError
else:
    from backports.zstd import CompressionParameter, ZstdCompressor, ZstdDecompressor, ZstdError

__all__ = ["CompressionParameter", "ZstdCompressor", "ZstdDecompressor", "ZstdError"]
