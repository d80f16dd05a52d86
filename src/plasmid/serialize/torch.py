"""torch: dense CPU tensors, their memory beside the pickle; views of one storage stay so.

Of a storage those bytes are stored that the tensors of a value use, from the first to the last, any
between them included: a slice of rows goes at its own size, and two slices of one storage still
share their memory afterwards.

torch knows no read-only memory, and a write to the store's read-only map would kill the process. So
what is read is a view of a private mapping of the object, copy-on-write, one for all its tensors: a
write to a tensor changes that tensor and whatever shares its memory in the same got value, and
nobody's object. It costs 60 us for a get, and 35 us for each MB that is touched first after each
get. What was got is copied when it is put again, since it may have been written.

Sparse, quantized and conjugated tensors, and classes derived from Tensor but Parameter, take
torch's own way; the parts of sparse ones come back here.
"""

from __future__ import annotations

import pickle
import threading
from typing import Any
from weakref import WeakValueDictionary

import torch

from . import pickled, reducers, sharing
from .layout import Stream
from .tensor import memory_at

_ALIGNED = 64  # of the first stored byte in its storage: then offsets are whole items for any dtype


class _Extent:
    """What the tensors of one value use of a storage. It lives as long as a pickler's memo."""

    def __init__(self, storage: Any) -> None:
        self.storage = storage
        self.first = self.last = 0

    def widen(self, first: int, last: int) -> None:
        """Take in the bytes from `first` up to `last`."""
        first &= -_ALIGNED
        if self.last:
            first, last = min(first, self.first), max(last, self.last)
        self.first, self.last = first, last


class _Memory(Stream):
    """The bytes of an extent, which is known only when all tensors have been pickled."""

    def __init__(self, extent: _Extent) -> None:
        super().__init__(0, ())
        self.extent = extent

    def settled(self) -> Stream:
        extent, nbytes = self.extent, self.extent.last - self.extent.first
        if not nbytes:
            return Stream(0, ())
        address = extent.storage.data_ptr() + extent.first
        return Stream(nbytes, ((0, memory_at(extent.storage, address, nbytes)),))


class _First(_Memory):
    """Where an extent begins in its storage."""

    def settled(self) -> Stream:
        return Stream(8, ((0, self.extent.first.to_bytes(8, "little")),))


_extents: WeakValueDictionary[tuple[int, int], _Extent] = WeakValueDictionary()


def reduce_tensor(tensor: Any) -> Any:
    """A Tensor or Parameter as storage, dtype and layout."""
    if not _is_plain(tensor):
        return reduce_other(tensor)
    storage, size = tensor.untyped_storage(), tensor.element_size()
    extent = _extents.setdefault((threading.get_ident(), storage.data_ptr()), _Extent(storage))
    shape, strides = tuple(tensor.shape), tensor.stride()
    offset = 0
    if tensor.numel():
        offset = tensor.storage_offset() * size
        items = 1 + sum(s * (n - 1) for n, s in zip(shape, strides, strict=True))
        extent.widen(offset, offset + items * size)
    make = _parameter if type(tensor) is torch.nn.Parameter else _tensor
    arguments = (extent, tensor.dtype, offset, shape, strides, tensor.requires_grad)
    return make, arguments, vars(tensor) or None, None, None, _set_attributes


def reduce_other(tensor: Any) -> Any:
    """By torch's own pickling, which copies. TypeError for memory that is being made in place."""
    if sharing.any_in_place():
        memory = _memory_of(tensor)
        if memory is not None:
            sharing.refuse_in_place(memory, type(tensor))
    return tensor.__reduce_ex__(5)


def _memory_of(tensor: Any) -> Any:
    try:
        storage = tensor.untyped_storage()
        address, nbytes = storage.data_ptr(), storage.nbytes()
    except RuntimeError:  # sparse tensors and some classes have none
        return None
    return memory_at(storage, address, nbytes) if address and nbytes else None


def _is_plain(tensor: Any) -> bool:
    return (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
        and not (tensor._is_zerotensor() or tensor._backward_hooks)
        and not getattr(tensor, "has_names", bool)()  # torch 2.13 has no names any more
    )


def _reduce_extent(extent: _Extent) -> Any:
    return _storage, (pickle.PickleBuffer(_Memory(extent)), pickle.PickleBuffer(_First(extent)))


def _storage(data: Any, first: Any) -> tuple[Any, int]:
    """A storage over the stored memory, and where it began in the one that was pickled."""
    view = memoryview(data)
    if not view.nbytes:
        return torch.UntypedStorage(0), 0
    if view.readonly:
        view = pickled.private(view)
    storage = torch.frombuffer(view, dtype=torch.uint8).untyped_storage()
    return storage, int.from_bytes(first, "little")


def _tensor(
    stored: tuple[Any, int],
    dtype: Any,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    requires_grad: bool = False,
) -> Any:
    storage, first = stored
    made = torch.empty(0, dtype=dtype)
    place = max(0, offset - first) // made.element_size()
    made.set_(storage, place, shape, strides)
    return made.requires_grad_() if requires_grad else made


def _parameter(*arguments: Any) -> Any:
    *described, requires_grad = arguments
    return torch.nn.Parameter(_tensor(*described), requires_grad)


def _set_attributes(tensor: Any, attributes: dict[str, Any]) -> None:
    vars(tensor).update(attributes)


PLANNERS: dict[type, Any] = {}
LOADERS: dict[int, Any] = {}
reducers.register_reducer(torch.Tensor, reduce_tensor)
reducers.register_reducer(torch.nn.Parameter, reduce_tensor)
reducers.register_reducer(_Extent, _reduce_extent)
reducers.register_base_reducer(torch.Tensor, reduce_other)
