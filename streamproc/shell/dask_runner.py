"""Tasks on Dask: workers of this machine, or those of a scheduler that is there already.

Dask is imported here only, and late: it is an optional part. Answers are fetched one by one as they come, so a worker that
is killed takes with it what it was at, and nothing that was fetched before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

from streamproc.errors import DataError
from streamproc.evaluation.series.many import Answer, Runner, Task, Work, broken, version

LOCAL = "local"
CONNECT_S = 10.0  # to reach a scheduler
WORKERS_S = 30.0  # until its first worker is there
WORKER_DEATHS_PER_SERIES = 3  # then the series is given up: it is likely what kills them (out of memory)
RETRIES_PER_SERIES = 1  # after an error that is none of the data
LOCAL_SETTINGS = {
    "distributed.scheduler.allowed-failures": WORKER_DEATHS_PER_SERIES,
    "distributed.worker.profile.enabled": False,  # looks at every call stack a hundred times a second
    # In place of Dask's own, which also have MALLOC_TRIM_THRESHOLD_: with it every larger array is asked of the system anew.
    "distributed.nanny.pre-spawn-environ": {
        "OMP_NUM_THREADS": 1,
        "OPENBLAS_NUM_THREADS": 1,
        "MKL_NUM_THREADS": 1,
        "DASK_LOGGING__DISTRIBUTED": "critical",  # workers that end say much
    },
}
SCHEDULER_ERRORS = (OSError, TimeoutError, CancelledError)


@contextmanager
def dask_runner(scheduler: str, workers: int) -> Iterator[tuple[Runner, int]]:
    """Yield what runs tasks on Dask, and how many workers there are; raises DataError.

    Args:
        scheduler: "local" for processes of this machine, or the address of a scheduler, tcp://host:port.
        workers: processes to start; of a scheduler that is there already it says nothing.

    """
    try:
        import dask  # noqa: PLC0415 - an optional part
        import distributed  # noqa: PLC0415
    except ImportError as error:
        raise DataError(f'--scheduler {scheduler}: needs Dask: pip install "streamproc[dask]"') from error
    for name in ("distributed", "distributed.client", "distributed.scheduler", "distributed.nanny"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # we say what matters of it, in one sentence
    with ExitStack() as stack:
        if scheduler == LOCAL:
            stack.enter_context(dask.config.set(LOCAL_SETTINGS))
            client = _local(stack, distributed, workers)
        else:
            client = _connected(stack, distributed, scheduler)
        count = _checked(client, scheduler)

        def run(tasks: Sequence[Task], work: Work) -> Iterator[Answer]:
            return _answers(distributed, client, scheduler, tasks, work)

        yield run, count


def _local(stack: ExitStack, distributed: Any, workers: int) -> Any:  # noqa: ANN401 - distributed has no types
    try:
        cluster = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            host="127.0.0.1",
        )
        return stack.enter_context(distributed.Client(stack.enter_context(cluster), set_as_default=False))
    except (OSError, TimeoutError, RuntimeError) as error:
        raise DataError(f"--scheduler local: {workers} workers cannot be started: {error}") from error


def _connected(stack: ExitStack, distributed: Any, address: str) -> Any:  # noqa: ANN401
    try:
        client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        words = "start one with `dask scheduler`, or write --scheduler local"
        raise DataError(
            f"--scheduler {address}: no Dask scheduler answers there within {CONNECT_S:.0f} s; {words}"
        ) from error
    return stack.enter_context(client)


def _checked(client: Any, scheduler: str) -> int:  # noqa: ANN401
    """Return how many workers there are; raises DataError if there is none, or one with another streamproc."""
    try:
        client.wait_for_workers(1, timeout=WORKERS_S)
    except (OSError, TimeoutError) as error:
        words = f"start some with `dask worker {scheduler} --nthreads 1`"
        raise DataError(
            f"--scheduler {scheduler}: no worker came within {WORKERS_S:.0f} s; {words}"
        ) from error
    try:
        found: dict[str, str] = client.run(version)
    except Exception as error:  # whatever the import on a worker raises
        words = f"install streamproc {version()} where they run"
        raise DataError(
            f"--scheduler {scheduler}: its workers cannot run streamproc ({error}); {words}"
        ) from error
    for address, there in found.items():
        if there != version():
            words = f"results would differ; install streamproc {version()} there"
            raise DataError(f"--scheduler {scheduler}: the worker {address} has streamproc {there}; {words}")
    return len(found)


def _answers(
    distributed: Any,  # noqa: ANN401
    client: Any,  # noqa: ANN401
    scheduler: str,
    tasks: Sequence[Task],
    work: Work,
) -> Iterator[Answer]:
    # Keys of their own for each run: a scheduler that others use too would hand out their results for equal keys.
    run = f"backtest-{uuid4().hex}"
    keys = [(run, place) for place in range(len(tasks))]
    futures = client.map(work, tasks, key=keys, retries=RETRIES_PER_SERIES, pure=False)
    waiting = distributed.as_completed(futures, loop=client.loop)
    del futures  # whoever holds a future holds its result on the worker
    missing = dict(zip(keys, tasks, strict=True))
    try:
        for future in waiting:
            if future.status == "error":
                yield _refused(distributed, missing.pop(future.key), future.exception())
            else:
                answer: Answer = future.result()
                missing.pop(future.key)
                yield answer
    except SCHEDULER_ERRORS as error:
        words = "start again with the same --out: what is there is kept"
        raise DataError(
            f"--scheduler {scheduler}: it went away while {len(missing)} series were missing; {words}"
        ) from error


def _refused(distributed: Any, task: Task, error: BaseException) -> Answer:  # noqa: ANN401
    """Return the answer of a task that Dask gave up."""
    if not isinstance(error, distributed.KilledWorker):
        return broken(task, error)
    where = f"{task.question.path}: target {task.question.wanted.target!r}"
    words = "is there enough memory? Try fewer --workers, or this series on its own"
    return Answer(task.name, error=f"{where}: its worker died again and again; {words}")
