"""The job of `bench peers`, once per record and once over arrays; the same recurrence, the same alerts.

A record is 72 bytes: a time and 16 channels of one device. Per device and channel an exponential mean and
variance; an alert where a channel is more than 8 standard deviations off. Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

DEVICES, CHANNELS = 1000, 16
WEIGHT, LIMIT_SD = 0.02, 8.0
ROW = np.dtype([("t_s", "<f8"), ("x", "<f4", CHANNELS)])


def key_of(device: int) -> bytes:
    """Return the key of a device."""
    return b"%04d" % device


class RecordJob:
    """As one writes it for one record at a time."""

    def __init__(self) -> None:
        self._mean: dict[bytes, Any] = {}
        self._variance: dict[bytes, Any] = {}
        self.alerts = 0

    def __call__(self, key: bytes, value: bytes) -> None:
        """Take one record."""
        x = np.frombuffer(value, "<f4", offset=8)
        mean = self._mean.get(key)
        if mean is None:
            self._mean[key] = x.astype("f8")
            self._variance[key] = np.ones(CHANNELS)
            return
        variance = self._variance[key]
        off = x - mean
        if (np.abs(off) / np.sqrt(variance)).max() > LIMIT_SD:
            self.alerts += 1
        mean += WEIGHT * off
        variance += WEIGHT * (off * off - variance)


class BatchJob:
    """The same over a batch: rounds in which every device comes once keep the order of each device."""

    def __init__(self) -> None:
        self._mean = np.zeros((DEVICES, CHANNELS))
        self._variance = np.ones((DEVICES, CHANNELS))
        self._seen = np.zeros(DEVICES, dtype=bool)
        self.alerts = 0

    def __call__(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Take one batch."""
        x = np.frombuffer(b"".join(values), ROW)["x"]
        device = np.array(keys, dtype="S4").astype("i4")
        order = np.argsort(device, kind="stable")
        ordered = device[order]
        starts = np.r_[True, ordered[1:] != ordered[:-1]]
        place = np.arange(device.size)
        rank = np.empty(device.size, dtype=np.int64)
        rank[order] = place - np.maximum.accumulate(np.where(starts, place, 0))
        for number in range(int(rank.max()) + 1):
            chosen = np.flatnonzero(rank == number)
            self._round(device[chosen], x[chosen].astype("f8"))

    def _round(self, device: Any, x: Any) -> None:  # noqa: ANN401
        new = ~self._seen[device]
        if new.any():
            first = device[new]
            self._mean[first], self._variance[first], self._seen[first] = x[new], 1.0, True
            device, x = device[~new], x[~new]
        if device.size == 0:
            return
        mean, variance = self._mean[device], self._variance[device]
        off = x - mean
        self.alerts += int(((np.abs(off) / np.sqrt(variance)).max(axis=1) > LIMIT_SD).sum())
        self._mean[device] = mean + WEIGHT * off
        self._variance[device] = variance + WEIGHT * (off * off - variance)
