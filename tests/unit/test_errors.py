"""Whatever a worker raised, the user reads one line, and the exit status fits."""

import pytest

from pipelines.errors import JobError, RequestError, SourceError, StoreError, explain

TRACE = """Traceback (most recent call last):
  File "common.py", line 1512, in process
{first}

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "sdk_worker.py", line 310, in _execute
    raise JobError("no: raise this line")
{last} [while running 'Train/Train']
"""


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (StoreError("in use"), StoreError, "in use"),
        (
            JobError("batch 3 failed:\nfree some [while running 'Train/Train']"),
            JobError,
            "batch 3 failed: free some",
        ),
        (
            RuntimeError(TRACE.format(first="ValueError: x", last="models.errors.StoreError: bad")),
            StoreError,
            "bad",
        ),
        (
            RuntimeError(
                TRACE.format(first="pipelines.errors.SourceError: a: b", last="RuntimeError: x")
            ),
            SourceError,
            "a: b",
        ),
        (
            RuntimeError(TRACE.format(first="KeyError: 1", last="ValueError: no such thing")),
            JobError,
            "the job failed in step Train/Train: ValueError: no such thing "
            "(see the trace with --debug)",
        ),
        (
            KeyError("k [while running 'Read']"),
            JobError,
            'the job failed in step Read: KeyError: "k" (see the trace with --debug)',
        ),
        (
            RuntimeError("MemoryError [while running 'Read']"),
            JobError,
            "out of memory in step Read: give the job more, or raise --shards",
        ),
    ],
)
def test_one_line_of_the_right_kind(error, kind, text):
    told = explain(error)
    assert type(told) is kind
    assert str(told) == text
    assert told.exit_status == (2 if issubclass(kind, RequestError) else 1)
