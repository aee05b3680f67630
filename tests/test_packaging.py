"""What `pip install .` and `pip install ./kernels` install, and that a source archive gives the same."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = """
import sys
from setuptools import build_meta

_, out, *kinds = sys.argv  # which setuptools replaces
for kind in kinds:
    print("made", getattr(build_meta, f"build_{kind}")(out))
"""
# Built where a developer has compiled kernels and run things: none of that travels.
LEFT_BEHIND = ("libtmgan.so", "libtmgan_host.so", "libtmgan_host.lock")


def build(project: Path, out: Path, *kinds: str) -> list[Path]:
    """What setuptools makes of a folder with a pyproject.toml: as pip does, but with the setuptools that is here."""
    out.mkdir(parents=True, exist_ok=True)
    process = subprocess.run(
        [sys.executable, "-c", BUILD, str(out.resolve()), *kinds], cwd=project, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return [out / line.split()[1] for line in process.stdout.splitlines() if line.startswith("made ")]


def contents(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel, but for its .dist-info."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}


def unpacked(sdist: Path, place: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    return place / sdist.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what packages are made of: building leaves folders behind."""
    place = tmp_path_factory.mktemp("packaging") / "checkout"
    others = [path.name for path in ROOT.iterdir() if path.is_dir()]
    for kept in ("csrc", "docs", "examples", "kernels", "tests", "tmgan"):
        others.remove(kept)
    ignore = shutil.ignore_patterns("__pycache__", "*.so", "*.lock", "*.egg-info", "build", "goldens", *others)
    shutil.copytree(ROOT, place, symlinks=True, ignore=ignore)
    for name in LEFT_BEHIND:
        (place / "kernels/tmgan_kernels" / name).write_text("binary")
    return place


@pytest.fixture(scope="module")
def tmgan(checkout: Path) -> tuple[Path, Path]:
    """(wheel, sdist) of the whole."""
    wheel, sdist = build(checkout, checkout.parent / "tmgan", "wheel", "sdist")
    return wheel, sdist


@pytest.fixture(scope="module")
def kernels(checkout: Path) -> tuple[Path, Path]:
    """(wheel, sdist) of the operations alone."""
    wheel, sdist = build(checkout / "kernels", checkout.parent / "kernels", "wheel", "sdist")
    return wheel, sdist


def sources_of_the_kernels() -> dict[str, Path]:
    """Name in a wheel -> file in the checkout: modules, the marker of type hints, verdicts, and csrc/."""
    modules = {path.name: path for path in (ROOT / "kernels/tmgan_kernels").glob("*.py")}
    cuda = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "csrc").rglob("[!.]*") if path.is_file()}
    verdicts = {f"verdicts/{path.name}": path for path in (ROOT / "kernels/tmgan_kernels/verdicts").iterdir()}
    files = modules | cuda | verdicts | {"py.typed": ROOT / "kernels/tmgan_kernels/py.typed"}
    return {f"tmgan_kernels/{name}": path for name, path in files.items()}


def test_a_wheel_of_the_kernels_holds_them_and_their_cuda_sources(kernels):
    found = contents(kernels[0])
    assert found == {name: path.read_bytes() for name, path in sources_of_the_kernels().items()}
    assert "tmgan_kernels/csrc/include/tmgan.h" in found and "tmgan_kernels/csrc/host/simt.cpp" in found


def test_a_wheel_of_tmgan_holds_every_module_preset_and_table(tmgan):
    files = [path for path in (ROOT / "tmgan").rglob("*") if path.is_file() and path.suffix in (".py", ".yaml")]
    wanted = {path.relative_to(ROOT).as_posix() for path in files} | {"tmgan/py.typed"}
    assert "tmgan/config/presets/quickstart.yaml" in wanted and "tmgan/paper/paper.yaml" in wanted
    assert set(contents(tmgan[0])) == wanted | set(sources_of_the_kernels())


def test_both_bring_the_same_operations(tmgan, kernels):
    """Whoever installs both has one package tmgan_kernels, whichever came last."""
    whole = {name: data for name, data in contents(tmgan[0]).items() if name.startswith("tmgan_kernels/")}
    assert whole == contents(kernels[0])


def test_wheels_carry_the_licence_and_run_anywhere(tmgan, kernels):
    for wheel, _ in (tmgan, kernels):
        assert wheel.name.endswith("-py3-none-any.whl")
        with zipfile.ZipFile(wheel) as archive:
            (licence,) = (name for name in archive.namelist() if name.endswith("licenses/LICENSE"))
            assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("which", ["tmgan", "kernels"])
def test_a_source_archive_makes_the_same_wheel(which, request, tmp_path):
    wheel, sdist = request.getfixturevalue(which)
    (again,) = build(unpacked(sdist, tmp_path), tmp_path / "out", "wheel")
    assert contents(again) == contents(wheel)


def test_a_source_archive_has_what_the_readme_leads_to_and_no_tests(tmgan, tmp_path):
    folder = unpacked(tmgan[1], tmp_path)
    examples = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert examples and {path.name for path in (folder / "examples").glob("*.py")} == examples
    assert (folder / "docs/architecture.md").exists() and (folder / "CHANGELOG.md").exists()
    assert not (folder / "tests").exists() and not any(path.is_symlink() for path in folder.rglob("*"))


def test_an_installed_package_builds_from_the_sources_that_it_brought(kernels, tmp_path):
    with zipfile.ZipFile(kernels[0]) as archive:
        archive.extractall(tmp_path)
    spec = importlib.util.spec_from_file_location("installed_build", tmp_path / "tmgan_kernels/build.py")
    installed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(installed)
    assert (tmp_path / "tmgan_kernels/csrc").resolve() == installed.SOURCES
    assert [path.name for path in installed.kernel_files()] == sorted(
        path.name for path in (ROOT / "csrc").glob("*.cu")
    )
    shutil.rmtree(installed.SOURCES)
    with pytest.raises(installed.BuildError, match="install the package again"):
        installed.kernel_files()


def test_where_nothing_can_be_written_building_says_so(monkeypatch, tmp_path):
    from tmgan_kernels import build as module

    monkeypatch.setattr(module, "LIBRARY", tmp_path / "not there/libtmgan.so")
    with pytest.raises(module.BuildError, match="cannot write into"):
        module.build()


def test_both_ask_for_the_same_of_what_they_share():
    whole, alone = (
        tomllib.loads((ROOT / path).read_text())["project"] for path in ("pyproject.toml", "kernels/pyproject.toml")
    )
    assert alone["optional-dependencies"]["cuda"] == whole["optional-dependencies"]["cuda"]
    assert set(alone["dependencies"]) <= set(whole["dependencies"])
    assert alone["requires-python"] == whole["requires-python"] and alone["classifiers"] == whole["classifiers"]
