import apache_beam as beam
import pyarrow as pa
from apache_beam.testing.util import assert_that
from apache_beam.typehints.native_type_compatibility import convert_to_beam_type

from pipelines.arrow.coder import RecordBatchCoder


def batch(ids):
    return pa.RecordBatch.from_pylist([{"id": i} for i in ids])


def test_the_coder_is_registered_for_plain_and_keyed_batches():
    assert beam.coders.registry.get_coder(pa.RecordBatch) == RecordBatchCoder()
    keyed = convert_to_beam_type(tuple[int, pa.RecordBatch])
    assert beam.coders.registry.get_coder(keyed).coders()[1] == RecordBatchCoder()


def test_batches_survive_a_shuffle():
    with beam.Pipeline() as p:
        got = (
            p
            | beam.Create([(1, batch(["a"])), (2, batch(["b"]))]).with_output_types(
                tuple[int, pa.RecordBatch]
            )
            | beam.GroupByKey()
            | beam.MapTuple(lambda k, v: (k, [b.to_pylist() for b in v]))
        )

        def check(rows):
            assert sorted(rows) == [(1, [[{"id": "a"}]]), (2, [[{"id": "b"}]])]

        assert_that(got, check)
