"""The interface of `multiprocessing.Pool` on actors."""

from plasmid.util.multiprocessing.pool import AsyncResult, Pool, TimeoutError

__all__ = ["AsyncResult", "Pool", "TimeoutError"]
