import pytest
import typer

from app.console import one_sentence


@pytest.mark.parametrize("error", [ValueError("expected a, got b"), MemoryError("expected 1 GiB, got 2 GiB")])
def test_bad_input_and_too_much_of_it_end_with_status_2_and_their_sentence(capsys, error):
    with pytest.raises(typer.Exit) as ended, one_sentence():
        raise error
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == f"spindose: {error}\n"


def test_a_defect_is_not_hidden():
    with pytest.raises(ZeroDivisionError), one_sentence():
        raise ZeroDivisionError
