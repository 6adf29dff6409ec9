"""Messages that name the nearest valid name, and errors that carry their exit code."""

import pytest

from caretrace import errors
from caretrace.errors import CaretraceError, unknown_name


def test_the_nearest_name_and_all_names():
    assert unknown_name("backbone", "grru", ["lstm", "gru"]) == (
        "unknown backbone 'grru': did you mean 'gru'? valid names are gru, lstm"
    )


def test_nothing_near_is_no_guess():
    assert unknown_name("split", "xyz", ["train"]) == "unknown split 'xyz': valid names are train"


def test_an_empty_table_says_so():
    assert unknown_name("task", "x", []) == "unknown task 'x': valid names are (none)"


@pytest.mark.parametrize("name", [n for n, v in vars(errors).items() if n.endswith("Error")])
def test_every_error_is_one_the_user_can_mend(name):
    kind = getattr(errors, name)
    assert issubclass(kind, CaretraceError)
    assert kind.exit_code in (1, 3)
    assert kind.__doc__
