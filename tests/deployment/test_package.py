"""What goes to Azure: all that the app needs there, and nothing else."""

import shutil
import subprocess
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from agreement import Files
from app_bindings import app_bindings
from functions_host.environment import worker_python
from functions_host.worker import IndexingError, Worker
from imported_modules import imported_modules

from infra.package import package_files, write_package

pytestmark = pytest.mark.xdist_group("package")

ROOT = Path(__file__).parents[2]
STAYS_HERE = {".azure", ".cache", ".ci", ".github", ".venv", "bench", "cli", "docs", "infra", "local", "tests"}


@pytest.fixture(scope="module")
def files() -> list[PurePosixPath]:
    """The files of the package."""
    return package_files()


def test_the_app_goes_and_what_only_this_side_needs_stays(files: list[PurePosixPath]) -> None:
    names = {str(file) for file in files}
    assert names >= {"function_app.py", "composition.py", "settings.py", "host.json", "requirements.txt"}
    assert {file.parts[0] for file in files} & STAYS_HERE == set()
    assert {file.suffix for file in files} == {".py", ".json", ".txt"}
    for secret in ("local.settings.json", "local.settings.example.json", ".env", ".gitignore", "app.zip"):
        assert secret not in names


def test_no_file_of_the_package_imports_one_that_stays(files: list[PurePosixPath]) -> None:
    """Late imports too, which indexing the app would not meet."""
    modules = {str(file.with_suffix("")).replace("/", ".").removesuffix(".__init__") for file in files}
    own = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    own |= {path.stem for path in ROOT.glob("*.py")} | STAYS_HERE
    missing = {
        f"{file} imports {name}"
        for file in files
        if file.suffix == ".py"
        for name in imported_modules(ROOT / file)
        if name.partition(".")[0] in own and name not in modules
    }
    assert missing == set()


def unpacked(target: Path) -> Path:
    """The package in a folder of its own."""
    write_package(target / "app.zip")
    with zipfile.ZipFile(target / "app.zip") as package:
        package.extractall(target / "app")
    return target / "app"


async def test_the_worker_indexes_the_package_with_the_settings_that_are_deployed(tmp_path: Path) -> None:
    settings = Files(ROOT).deployed_settings()
    worker = await Worker.start(worker_python(), unpacked(tmp_path), settings, tmp_path / "worker.log")
    try:
        assert set(worker.functions) == set(app_bindings())
    finally:
        await worker.stop()


async def test_a_package_that_lacks_a_module_has_no_functions_at_all(tmp_path: Path) -> None:
    app, settings = unpacked(tmp_path), Files(ROOT).deployed_settings()
    shutil.rmtree(app / "messaging")
    with pytest.raises(IndexingError, match="messaging"):
        await Worker.start(worker_python(), app, settings, tmp_path / "worker.log")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small working tree with tracked, new, left-out and deleted files."""
    root = tmp_path / "tree"
    for name, text in {
        ".funcignore": "/tests/\n*.md\n.*\n",
        "function_app.py": "app",
        "README.md": "read",
        "tests/test_app.py": "test",
        "gone.py": "gone",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    (root / "gone.py").unlink()
    (root / "new.py").write_text("new")
    (root / "new.md").write_text("new")
    return root


def test_what_git_would_ignore_by_the_file_is_left_out(tree: Path) -> None:
    assert [str(file) for file in package_files(tree)] == ["function_app.py", "new.py"]


def test_the_same_files_make_the_same_package(tree: Path, tmp_path: Path) -> None:
    assert write_package(tmp_path / "one.zip", tree) == 2
    (tree / "new.py").touch()
    write_package(tmp_path / "two.zip", tree)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as package:
        assert package.read("function_app.py") == b"app"
