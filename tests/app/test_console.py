from pathlib import Path

import pytest
import typer

from app.console import one_sentence, run_folder


@pytest.mark.parametrize("error", [ValueError("expected a, got b"), MemoryError("expected 1 GiB, got 2 GiB")])
def test_bad_input_and_too_much_of_it_end_with_status_2_and_their_sentence(capsys, error):
    with pytest.raises(typer.Exit) as ended, one_sentence():
        raise error
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == f"spindose: {error}\n"


def test_a_defect_is_not_hidden():
    with pytest.raises(ZeroDivisionError), one_sentence():
        raise ZeroDivisionError


def test_a_training_goes_on_with_whatever_an_earlier_run_has_left(tmp_path: Path) -> None:
    kept = ("checkpoint", "volumes")
    new = tmp_path / "new"
    assert run_folder(new, None, *kept) == new
    with pytest.raises(ValueError, match="earlier run"):
        run_folder(None, tmp_path, *kept)
    (tmp_path / "volumes").mkdir()  # killed before its first checkpoint
    assert run_folder(None, tmp_path, *kept) == tmp_path
    with pytest.raises(ValueError, match="--resume"):
        run_folder(tmp_path, None, *kept)
    for both in ((None, None), (new, tmp_path)):
        with pytest.raises(ValueError, match="give one"):
            run_folder(*both, *kept)
