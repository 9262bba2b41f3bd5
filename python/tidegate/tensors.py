"""The safetensors format (https://github.com/huggingface/safetensors, "Format"), read by memory map."""

from __future__ import annotations

import json
import os
import struct

import numpy as np

_DTYPES = {"U64": "<u8", "I64": "<i8", "F64": "<f8", "F32": "<f4", "I32": "<i4", "U32": "<u4", "F16": "<f2", "U8": "u1"}


def read_tensors(path: str) -> dict[str, np.ndarray]:
    """{name: array} of a file. ValueError: what is wrong with it."""
    size = os.path.getsize(path)
    with open(path, "rb") as f:
        head = f.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        if length > size - 8:
            raise ValueError("%s: no safetensors file, or truncated" % path)
        header = json.loads(f.read(length))
    data_bytes = size - 8 - length
    tensors = {}
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        if tensor["dtype"] not in _DTYPES:
            raise ValueError('%s: tensor "%s": dtype %s is not known here' % (path, name, tensor["dtype"]))
        dtype = np.dtype(_DTYPES[tensor["dtype"]])
        begin, end = tensor["data_offsets"]
        elements = 1
        for s in tensor["shape"]:
            elements *= s
        if not 0 <= begin <= end <= data_bytes or end - begin != elements * dtype.itemsize:
            raise ValueError('%s: tensor "%s": its bytes do not fit its shape' % (path, name))
        shape = tuple(tensor["shape"])
        if elements == 0:
            tensors[name] = np.zeros(shape, dtype)
        else:
            tensors[name] = np.memmap(path, dtype, "r", 8 + length + begin, shape)
    return tensors
