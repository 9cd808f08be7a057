"""Other programs and data that tests check against, and what happens where they are missing."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def _missing(reason: str) -> None:
    """Fail where the whole set of tools is promised (CI); skip with the reason elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def no_models_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither see nor change the catalogue of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPINDOSE_MODELS", str(tmp_path_factory.mktemp("models")))
        yield


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """The path of another program by its name, such as ``dcmdump``."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            _missing(f"needs the program {name}")
        return str(path)

    return find


@pytest.fixture(scope="session")
def fedn_python() -> Path:
    """Python of the environment that FEDn's server is in."""
    path = Path(__file__).parents[1] / "benchmarks" / "peer" / "fedn" / ".venv" / "bin" / "python"
    if not path.is_file():
        _missing("needs FEDn in an environment of its own (make fedn)")
    return path


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of public data that SPINDOSE_DATA names."""
    folder = os.environ.get("SPINDOSE_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs SPINDOSE_DATA to name the folder of public data")
    return Path(folder)


@pytest.fixture(scope="session")
def dciodvfy(tool: Callable[[str], str]) -> Callable[[Path], list[str]]:
    """The errors that dciodvfy finds in a DICOM file; none when it is valid.

    It exits with 0 or 1; anything else (134 on 32-bit doses) is a crash and never a pass.
    """
    program = tool("dciodvfy")

    def errors(path: Path) -> list[str]:
        done = subprocess.run(
            [program, str(path)], capture_output=True, text=True, errors="replace", check=False
        )
        assert done.returncode in (0, 1), f"dciodvfy crashed with {done.returncode}"
        found = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        assert bool(found) == (done.returncode == 1), done.stderr
        return found

    return errors
