"""Arrays by row follow from their declaration alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.row_arrays import NEVER, Column, RowArrays, grown, under, with_prefix


class Inner(RowArrays):
    counts = Column(np.float64, 2)


class Outer(RowArrays):
    names = Column(np.int32, "width", fill=-1)
    times = Column(np.int64, fill=NEVER)
    total = Column(np.float64, 3, by_row=False)

    def __init__(self, size: int) -> None:
        self.inner = Inner(size)
        super().__init__(size, parts={"inner/": self.inner}, width=4)


def test_the_declaration_gives_shape_type_and_fill():
    made = Outer(5)
    shapes = {name: (array.shape, array.dtype.name) for name, array in made.arrays().items()}
    assert shapes == {
        "names": ((5, 4), "int32"),
        "times": ((5,), "int64"),
        "total": ((3,), "float64"),
        "inner/counts": ((5, 2), "float64"),
    }
    assert (made.names == -1).all()
    assert (made.times == NEVER).all()


def test_a_class_without_an_instance_has_no_arrays():
    with pytest.raises(AttributeError, match="Outer has its arrays once"):
        _ = Outer.times


@given(st.integers(1, 6), st.integers(0, 9), st.data())
def test_growing_and_resetting_touch_rows_and_nothing_else(size, more, data):
    made, value = Outer(size), data.draw(st.integers(1, 100))
    for array in made.arrays().values():
        array[...] = value
    gone = data.draw(st.lists(st.integers(0, size - 1), unique=True))
    made.grow(more)
    made.reset(np.array(gone, int))
    kept = sorted(set(range(size)) - set(gone))
    assert (made.total == value).all()
    for name, fill in (("names", -1), ("times", NEVER), ("inner/counts", 0)):
        array = made.arrays()[name]
        assert len(array) == max(size, more)
        assert (array[kept] == value).all()
        assert (np.delete(array, kept, axis=0) == fill).all()


def test_what_was_saved_is_loaded_and_other_names_are_left_aside():
    one, two = Outer(3), Outer(2)
    one.inner.counts[2] = 7.0
    one.total[:] = 1.0
    two.load(with_prefix("a/", {"other": np.zeros(1)}) | one.arrays())
    assert two.arrays().keys() == one.arrays().keys()
    assert all((two.arrays()[name] == array).all() for name, array in one.arrays().items())
    assert (two.inner.counts == one.inner.counts).all()


def test_an_array_that_is_missing_is_named():
    arrays = Outer(3).arrays()
    del arrays["inner/counts"]
    with pytest.raises(KeyError, match="counts"):
        Outer(3).load(arrays)


def test_prefixes_are_put_on_and_taken_off():
    arrays = {"x": np.arange(3)}
    assert with_prefix("p/", arrays).keys() == {"p/x"}
    assert under("p/", with_prefix("p/", arrays) | {"q/x": np.zeros(1)}).keys() == {"x"}


def test_an_array_that_is_long_enough_stays_the_same_one():
    array = np.arange(4)
    assert grown(array, 3) is array
    assert grown(array, 6, fill=9).tolist() == [0, 1, 2, 3, 9, 9]
