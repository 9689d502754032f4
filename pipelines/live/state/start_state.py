"""What a stream starts with: what runs on files before it left in `store/state`."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipelines.arrow.hashing import hash_strings
from pipelines.bounded.between_runs.run_state import load_run_state
from pipelines.config import CleanConfig, FeatureConfig
from pipelines.features.user_state import UserMemory
from pipelines.live.state.seen_events import SeenEvents
from pipelines.live.state.user_features import UserFeatures

__all__ = ["StartState"]


@dataclass(frozen=True)
class StartState:
    """Shards as a stream finds them; read anew wherever a shard is opened.

    Attributes:
        config: of features; its shards are the stream's.
        state: folder that the last completed run on files left, or one that does not exist.
        clean: which events are quarantined.
    """

    config: FeatureConfig
    state: Path | None = None
    clean: CleanConfig = field(default_factory=CleanConfig)

    def ids(self, shard: int) -> SeenEvents:
        """A shard of ids that remembers those that the runs before have seen."""
        config = self.config
        empty = SeenEvents(config.window, config.dedupe_horizon, config.allowed_lateness)
        if self.state is None:
            return empty
        past = load_run_state(self.state)
        mine = past.ids % np.uint64(config.shards) == shard
        empty.begin(past.frontier, past.ids[mine], past.times[mine])
        return empty

    def users(self, shard: int) -> UserFeatures:
        """A shard of users with what the runs before remembered of them."""
        empty = UserFeatures(self.config, clean=self.clean)
        if self.state is None:
            return empty
        past = load_run_state(self.state)
        empty.begin(past.frontier, past.revisions)
        for path in sorted(self.state.glob("users-*.bin")):
            memory = UserMemory.from_bytes(path.read_bytes())
            theirs = hash_strings(memory.facts.column("user_id")) % np.uint64(self.config.shards)
            empty.remember(memory.take(np.flatnonzero(theirs == shard)))
        return empty
