"""joblib on plasmid's tasks: what `joblib.Parallel` runs, scikit-learn's searches among it."""

from __future__ import annotations

__all__ = ["register", "register_ray"]


def register() -> None:
    """Have joblib know the backends "plasmid" and "ray", which are the same.

        plasmid.util.joblib.register()
        with joblib.parallel_config(backend="plasmid", n_jobs=-1):
            search.fit(X, y)

    Options of the tasks may be given there: `ray_remote_args={"num_cpus": 2}`. ImportError if
    joblib is not installed.
    """
    try:
        from joblib import register_parallel_backend

        from plasmid.util.joblib.backend import TaskBackend
    except ImportError as error:
        raise ImportError(
            f"plasmid.util.joblib needs joblib: pip install 'plasmid[joblib]' ({error})"
        ) from None
    for name in ("plasmid", "ray"):
        register_parallel_backend(name, TaskBackend)


register_ray = register
