"""One inference request into one answer, whatever it came by: HTTP and gRPC both go through here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numpy.typing import NDArray

from streamproc.core.oip import Request, TensorSpec, chosen
from streamproc.errors import RequestError
from streamproc.shell.serve.batcher import Batcher, BatchLimits
from streamproc.shell.serve.catalogue import Catalogue, Served
from streamproc.shell.serve.meter import Meter

SLOW_THREADS = 1  # calls that are not quick, at the same time: the others share what is left of the machine


class Door:
    """The models behind their batchers."""

    def __init__(self, catalogue: Catalogue, limits: BatchLimits, meter: Meter, timeout_s: float) -> None:
        self.catalogue = catalogue
        self.meter = meter
        self._timeout_s = timeout_s
        self._executor = ThreadPoolExecutor(SLOW_THREADS, thread_name_prefix="infer")
        self._batchers = {
            name: Batcher(model, limits, self._executor, meter.called(name))
            for name, model in catalogue.models.items()
        }

    def model(self, name: str, version: str = "") -> Served:
        """Return the model; raises RequestError 404."""
        found = self.catalogue.find(name, version)
        if found is None:
            told = f" version {version!r:.40}" if version else ""
            raise RequestError(404, f"no model {name!r:.80}{told}; there are {sorted(self.catalogue.models)}")
        return found

    async def infer(self, model: Served, request: Request) -> tuple[list[TensorSpec], list[NDArray[Any]]]:
        """Return the wanted outputs and their arrays; raises RequestError."""
        specs = chosen(request, model.outputs)
        timeout_s = self._timeout_s
        if request.timeout_us is not None:
            timeout_s = min(timeout_s, request.timeout_us / 1e6)
        self._same_rows(model, request.inputs)
        future = self._batchers[model.name].ask(request.inputs, timeout_s)
        try:
            if model.quick:  # it is answered in the next turn of the loop; the batcher watches the deadline
                arrays = await future
            else:
                async with asyncio.timeout(timeout_s):
                    arrays = await future
        except TimeoutError as error:
            raise RequestError(504, f"model {model.name}: no answer within {timeout_s:g} s") from error
        places = {spec.name: place for place, spec in enumerate(model.outputs)}
        return specs, [arrays[places[spec.name]] for spec in specs]

    def close(self) -> None:
        """Let go of the threads; a call that runs is waited for."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    @staticmethod
    def _same_rows(model: Served, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Refuse inputs whose free first axes differ, before they meet those of others in one call."""
        if model.batched and len({array.shape[0] for array in inputs.values()}) > 1:
            sizes: Sequence[str] = [f"{name} {array.shape[0]}" for name, array in inputs.items()]
            raise RequestError(400, f"inputs: the first axes differ ({', '.join(sizes)})")
