"""What a step minimises: a sampled softmax over the catalogue, and the ranking heads."""

from typing import Any

from models.network.tensorflow_runtime import Tensor, recommenders, tensorflow
from models.schema import BINARY_HEADS, HEADS

tf: Any = tensorflow()
tfrs: Any = recommenders()

__all__ = ["ranking_loss", "ranking_tasks", "retrieval_loss"]


def retrieval_loss(
    positive: Tensor,
    negative: Tensor,
    correction: Tensor,
    masked: Tensor,
    wanted: Tensor,
    disliked: Tensor,
) -> Tensor:
    """Sampled softmax, as a logistic loss on each row's margin over its negatives.

    With z = positive − logsumexp(negative + correction), the row's own softmax
    probability is σ(z): a wanted row loses −ln σ(z), a disliked one −ln(1 − σ(z)).
    The correction is −ln of a negative's inclusion probability, which makes the
    sum an unbiased estimate of that over all items (Bengio and Senécal, 2008).

    Args:
        positive: `[b]` scores of the rows' own items, uncorrected.
        negative: `[b, k]` scores.
        correction: `[k]` −ln P(included); about −1e9 on padding.
        masked: `[b, k]` bool: accidental hits and items that the user has had.
        wanted: `[b]` weights of positives.
        disliked: `[b]` weights of dislikes.

    Returns:
        `[b]` float32 weighted losses; 0 where nothing is left to compete with.
    """
    together, most = _summed(negative, correction, masked)
    alone = most < -1e8
    z = tf.where(alone, 0.0, positive - together)
    loss = wanted * tf.nn.softplus(-z) + disliked * tf.nn.softplus(z)
    return tf.where(alone, 0.0, loss)


def _summed(negative: Tensor, correction: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
    """Ln of the sum of exp(negative + correction) over what is not masked, and the largest, `[b]`.

    With a gradient by the scores in two passes over them, which are most of a step's numbers:
    what is masked is exp(−1e9) there, nothing, where anything is left beside it.
    """

    @tf.custom_gradient
    def logsumexp(scores: Tensor) -> Any:
        others = tf.where(masked, -1e9, scores + correction[None, :])
        most = tf.reduce_max(others, axis=1)
        shares = tf.exp(others - most[:, None])
        total = tf.reduce_sum(shares, axis=1)

        def gradient(upstream: Tensor, _: Tensor) -> Tensor:
            return (upstream * tf.math.reciprocal(total))[:, None] * shares

        return (tf.math.log(total) + most, most), gradient

    return logsumexp(negative)


def ranking_tasks() -> list[Any]:
    """TFRS' tasks: of the heads that say yes or no, and of those that give a number."""
    binary = tf.keras.losses.BinaryCrossentropy(from_logits=True)
    squared = tf.keras.losses.MeanSquaredError()
    return [tfrs.tasks.Ranking(loss=loss) for loss in (binary, squared)]


def ranking_loss(tasks: list[Any], out: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Sum over the heads of their mean loss, float32 scalar.

    Args:
        tasks: see `ranking_tasks`.
        out: `[b, heads]` what the heads say, logits and numbers.
        targets: `[b, heads]`.
        weights: `[b, heads]`; 0 where nothing is known.
    """
    losses = []
    for task, first, last in zip(tasks, (0, BINARY_HEADS), (BINARY_HEADS, len(HEADS)), strict=True):
        # One column, as Keras would average over several before it weighs them.
        labels, predictions, present = (
            tf.reshape(x[:, first:last], [-1, 1]) for x in (targets, out, weights)
        )
        loss = task(
            labels=labels,
            predictions=predictions,
            sample_weight=present[:, 0],
            compute_metrics=False,
        )
        losses.append(loss * (last - first))
    return tf.add_n(losses)
