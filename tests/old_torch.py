"""Files as old versions of torch wrote them: by Python 2, and before torch 0.4."""

from __future__ import annotations

import io
import pickle
import types
from collections import OrderedDict
from typing import Any

import torch

_Pickler: Any = pickle._Pickler  # whose inside no type stubs describe


class _OldPickler(_Pickler):
    """An ordered dictionary is made of its pairs, texts are bytes, and a tensor has no word about gradients."""

    dispatch = dict(_Pickler.dispatch)

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, OrderedDict):
            return OrderedDict, ([[key, entry] for key, entry in value.items()],), vars(value) or None
        if isinstance(value, torch.Tensor):
            about = value.storage_offset(), tuple(value.shape), value.stride()
            return torch._utils._rebuild_tensor, (value._typed_storage(), *about)
        return NotImplemented

    def save_text(self, value: str) -> None:
        data = value.encode("ascii")
        self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        self.memoize(value)

    dispatch[str] = save_text


def old_file(state: dict[str, Any]) -> bytes:
    """What torch 0.3 under Python 2 saved of a state dict."""
    module, out = types.ModuleType("cPickle"), io.BytesIO()
    module.__dict__.update(Pickler=_OldPickler, dump=pickle.dump)
    torch.save(OrderedDict(state), out, pickle_module=module, _use_new_zipfile_serialization=False)
    return out.getvalue()
