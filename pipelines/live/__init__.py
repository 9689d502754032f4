"""The live path: stateful per shard, event-time timers, one kernel with the bounded one."""
