"""Values to bytes and back: what is stored for a value, and the value read from it.

    plan(value) -> Plan          sizes first: nothing is written yet
    Plan.write(target)           then every byte once, straight to its place
    load(buffer, refs) -> value  views of the stored bytes wherever that is possible

This package knows nothing of the arena. It needs two small things from the layer below: a
:class:`Writer` to copy pieces to, and a buffer that owns its bytes to read from.

    value.py      which planner serves a type, which loader a kind      (calls all below)
    tensor.py     numpy.ndarray: a header of 64 bytes, then its memory
    arrow.py      pyarrow tables, batches, arrays: an Arrow IPC stream
    pickled.py    everything else: pickle 5, large buffers beside it
    frames.py     what pandas' own pickling would copy; likewise polars.py, images.py (PIL),
                  torch.py, stdlib.py (array.array)
    by_value.py   cloudpickle: functions, and classes no other process can import
    failure.py    which attribute was it that could not be pickled
    exported.py   what cannot be pickled, but offers its data as Arrow
    recipe.py     how to rebuild one exception
    custom.py     serializers that users register
    reducers.py   how types of ours and of libraries go into a pickle
    sharing.py    memory that lies in the store already
    inspect.py    how a stored object is stored
    layout.py     the stored header, the Plan                           (calls nothing)

Importing it loads neither numpy, pyarrow, pandas nor cloudpickle; each is loaded by the first
value that needs it.
"""

from __future__ import annotations

from .by_value import dumps_function, loads_function
from .inspect import Explanation, describe, explain_small
from .layout import Plan, Writer
from .reducers import register_reducer, register_ref_type
from .sharing import use_store
from .value import body, in_place_buffer_header, load, plan

__all__ = [
    "Explanation",
    "Plan",
    "Writer",
    "body",
    "describe",
    "dumps_function",
    "explain_small",
    "in_place_buffer_header",
    "load",
    "loads_function",
    "plan",
    "register_reducer",
    "register_ref_type",
    "use_store",
]
