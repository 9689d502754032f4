"""The training log: the micro-batches that a store's versions were made of."""

from dataclasses import dataclass

import pyarrow as pa

from models.errors import StoreError
from models.store.manifest import Manifest
from models.store.store import Store

__all__ = ["TrainingLog", "last_part_start"]


def last_part_start(count: int, last: float) -> int:
    """Place in `count` micro-batches at which the last part begins, a share `last` of them.

    There is something before it, and in it, where there are two or more.

    >>> last_part_start(10, 0.2), last_part_start(2, 0.99), last_part_start(2, 0.01)
    (8, 1, 1)
    """
    return min(max(1, round((1 - last) * count)), count - 1)


@dataclass(frozen=True)
class TrainingLog:
    """Micro-batches that were trained on, by their numbers, whole and as they were.

    Attributes:
        store: that holds them.
        made: the version that each was first trained into; refused ones are in it.
    """

    store: Store
    made: dict[int, Manifest]

    @classmethod
    def of(cls, store: Store) -> "TrainingLog":
        """What is there.

        Raises:
            StoreError: a micro-batch before the last one, or its version, is missing.
        """
        found = map(store.manifest, store.versions())
        made = {one.batch: one for one in found if one.retrain_of is None}
        logged = set(store.batches())
        for number in range(1, max(made, default=0) + 1):
            if number not in made:
                raise StoreError(
                    f"store {store.root} has no version of micro-batch {number}, but later ones: "
                    "restore its folder versions from a copy of the store"
                )
            if number not in logged:
                raise StoreError(
                    f"micro-batch {store.batch_path(number)} is missing, version "
                    f"{made[number].version} was trained on it: restore it from a copy of the store"
                )
        return cls(store, made)

    def accepted(self) -> list[int]:
        """Numbers of those that the gate let through, ascending."""
        return sorted(number for number, one in self.made.items() if one.gate.served)

    def refused(self) -> set[int]:
        """Those that the gate kept out of the lineage: nothing was learned from them."""
        return {number for number, one in self.made.items() if not one.gate.served}

    def read(self, number: int) -> pa.RecordBatch:
        """One of them; its hash is in `made`.

        Raises:
            StoreError: missing, damaged, or another one than the version was trained on.
        """
        return self.store.read_trained(self.made[number], number)
