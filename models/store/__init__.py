"""The store on disk: training log, manifests, checkpoints, embeddings, and the gate."""
