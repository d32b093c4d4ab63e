"""`make setup`: uv gets pip's configuration, pip takes over where uv fails, and an interrupted set-up is finished."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pip
import pytest

SCRIPT = Path(__file__).parents[1] / "requirements" / "install.py"
BACKEND = """
import zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{folder}/project-1.0-py3-none-any.whl", "w") as wheel:
        info = "project-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: project\\nVersion: 1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return "project-1.0-py3-none-any.whl"
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def load_script() -> ModuleType:
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("install", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


install = load_script()


@pytest.fixture(autouse=True)
def unconfigured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove the configuration of pip and uv that this machine has in its environment and its user's files."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")) or name.endswith("_CA_BUNDLE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.chdir(tmp_path)


def translated(torch_index: str = "", **environ: str) -> tuple[list[str], dict[str, str]]:
    """Return arguments and variables for uv, from what pip's parser reads now."""
    arguments, variables = install.uv_configuration(install.pip_settings(), torch_index, environ)
    return arguments, variables


@pytest.mark.parametrize(
    ("name", "value", "variables"),
    [
        ("INDEX_URL", "https://a/simple", {"UV_INDEX_URL": "https://a/simple"}),
        ("INDEX_URL", "mirror/simple", {"UV_INDEX_URL": "file://{here}/mirror/simple"}),
        ("EXTRA_INDEX_URL", " https://a\n file:///b\tc d", {"UV_EXTRA_INDEX_URL": "https://a file:///b {c} {d}"}),
        ("FIND_LINKS", "wheels https://a/x,y.html", {"UV_FIND_LINKS": "file://{here}/wheels,https://a/x%2Cy.html"}),
        ("FIND_LINKS", "file:///w/a%20b ~", {"UV_FIND_LINKS": "file:///w/a%20b,{home}"}),
        ("CERT", "/etc/mine.pem", {"SSL_CERT_FILE": "/etc/mine.pem"}),
        ("CERT", "{here}", {"SSL_CERT_DIR": "{here}"}),
        ("CLIENT_CERT", "/me.pem", {"SSL_CLIENT_CERT": "/me.pem"}),
        ("TRUSTED_HOST", "a b:8080", {"UV_INSECURE_HOST": "a b:8080"}),
        ("CONSTRAINT", "a.txt https://b/c.txt", {"UV_CONSTRAINT": "a.txt https://b/c.txt"}),
        ("TIMEOUT", "2.5", {"UV_HTTP_TIMEOUT": "3"}),
        ("DEFAULT_TIMEOUT", "180", {"UV_HTTP_TIMEOUT": "180"}),
        ("RETRIES", "0", {"UV_HTTP_RETRIES": "0"}),
        ("REQUIRE_HASHES", "yes", {"UV_REQUIRE_HASHES": "true"}),
        ("NO_BUILD_ISOLATION", "no", {"UV_NO_BUILD_ISOLATION": "true"}),  # as in pip, "no" means no isolation
        ("PROXY", "http://me:pw@p:3", {name: "http://me:pw@p:3" for name in ("HTTPS_PROXY", "https_proxy")}),
    ],
)
def test_a_setting_of_pip_becomes_one_of_uv(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, variables: dict[str, str]
) -> None:
    places = {
        "here": tmp_path,
        "home": Path.home().as_uri(),
        "c": (tmp_path / "c").as_uri(),
        "d": (tmp_path / "d").as_uri(),
    }
    monkeypatch.setenv(f"PIP_{name}", value.format_map(places))
    arguments, came = translated()
    assert arguments == [], "a password in an argument is shown by ps"
    assert came.items() >= {name: value.format_map(places) for name, value in variables.items()}.items()


@pytest.mark.parametrize(
    ("name", "value", "arguments"),
    [
        ("NO_INDEX", "on", ["--no-index"]),
        ("NO_INDEX", "false", []),
        ("NO_BINARY", "b,a", ["--no-binary=a", "--no-binary=b"]),
        ("ONLY_BINARY", ":all:", ["--only-binary=:all:"]),
        ("INDEX_URL", "", []),
        ("PROGRESS_BAR", "off", []),
    ],
)
def test_a_switch_of_pip_becomes_an_argument(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, arguments: list[str]
) -> None:
    monkeypatch.setenv(f"PIP_{name}", value)
    assert translated()[0] == arguments


def test_everything_is_compiled_only_where_imports_compile_nothing() -> None:
    assert translated(PYTHONDONTWRITEBYTECODE="1")[1]["UV_COMPILE_BYTECODE"] == "true"
    assert "UV_COMPILE_BYTECODE" not in translated()[1]


def test_without_configuration_only_the_strategy_is_set() -> None:
    arguments, variables = translated(REQUESTS_CA_BUNDLE="/ca.pem")
    assert (arguments, variables) == (
        [],
        {"UV_INDEX_STRATEGY": "unsafe-best-match", "SSL_CERT_FILE": "/ca.pem"},
    )


def test_the_index_of_torch_is_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://a")
    assert translated("https://torch/cpu")[1]["UV_EXTRA_INDEX_URL"] == "https://a https://torch/cpu"


def test_the_nearer_configuration_wins_as_in_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def write(file: Path, text: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    monkeypatch.delenv("PIP_CONFIG_FILE")
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "machine"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    write(
        tmp_path / "machine/pip/pip.conf",
        "[global]\nindex-url = https://machine\nextra-index-url =\n  https://b\n  https://c\n",
    )
    assert translated()[1]["UV_INDEX_URL"] == "https://machine"
    write(tmp_path / "user/pip/pip.conf", "[global]\nindex-url = https://user\nretries = 1\n[install]\nretries = 2\n")
    variables = translated()[1]
    assert (variables["UV_INDEX_URL"], variables["UV_HTTP_RETRIES"]) == ("https://user", "2")
    assert variables["UV_EXTRA_INDEX_URL"] == "https://b https://c"
    monkeypatch.setenv("PIP_INDEX_URL", "https://environment")
    assert translated()[1]["UV_INDEX_URL"] == "https://environment"


def test_variables_of_uv_win_and_certificates_of_pip_too() -> None:
    user = {"UV_INDEX_URL": "mine", "SSL_CERT_FILE": "/all.pem", "PATH": "/bin"}
    ours = {"UV_INDEX_URL": "pips", "UV_HTTP_RETRIES": "2", "SSL_CERT_FILE": "/pip.pem"}
    assert install.with_defaults(user, ours) == {
        "UV_INDEX_URL": "mine", "UV_HTTP_RETRIES": "2", "SSL_CERT_FILE": "/pip.pem", "PATH": "/bin"
    }  # fmt: skip


@pytest.mark.parametrize(("name", "value", "setting"), [("TARGET", "/x", "target_dir"), ("USER", "1", "use_user_site")])
def test_a_setting_without_equivalent_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, setting: str
) -> None:
    monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(install.NoUv, match=f"uv has no equivalent of pip's setting {setting}$"):
        translated()


Machine = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a function that sets up a project with one package, `tiny`, from a folder of wheels and nothing else."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "backend.py").write_text(BACKEND)
    venv.create(tmp_path / "venv")
    # pip alone, which is quicker than to install it, and nothing that is installed beside it, such as uv.
    only_pip = tmp_path / "only-pip"
    only_pip.mkdir()
    (only_pip / "pip").symlink_to(Path(pip.__file__).parent)

    def run(lock: str = "tiny==1.0\n", **environ: Any) -> subprocess.CompletedProcess[str]:
        (tmp_path / "lock").write_text(lock)
        only = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PYTHONPATH": str(only_pip)}
        command = [tmp_path / "venv/bin/python", SCRIPT, "lock"]
        return subprocess.run(command, env={**os.environ, **only, **environ}, capture_output=True, text=True)

    make_wheel(wheels, "tiny", "1.0", {"tiny.py": "ANSWER = 42\n"})
    return run


def make_wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> None:
    """Write a wheel."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            file = zipfile.ZipInfo(path)
            file.external_attr = 0o100755 << 16
            wheel.writestr(file, text)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in files))


def site_packages(root: Path) -> Path:
    """Return the folder of installed packages."""
    return next((root / "venv/lib").glob("python*/site-packages"))


def test_pip_installs_where_there_is_no_uv(machine: Machine, tmp_path: Path) -> None:
    done = machine()
    _, why, last = done.stdout.splitlines()
    reason = f"pip cannot install {install.UV} (No matching distribution found for {install.UV})"
    assert why == f"{reason}: installing with pip, which takes several minutes"
    assert last.startswith("1 packages installed with pip in ") and done.returncode == 0, done.stderr
    assert (site_packages(tmp_path) / "tiny.py").exists()


def test_the_message_of_pip_is_the_last_word(machine: Machine) -> None:
    done = machine("absent==7.0\n")
    assert done.returncode == 1 and "No matching distribution found for absent==7.0" in done.stderr


FAILING = """#!/bin/sh
[ "$1" = cache ] && exec echo /tmp
env >"$SEEN"
mkdir "$HALF" && printf 'Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n' >"$HALF/METADATA"
echo "error: disk full" >&2
exit 3
"""
"""A stand-in for a uv that fails halfway: it has written the metadata of a package, and none of its modules."""


def test_pip_installs_where_uv_fails(machine: Machine, tmp_path: Path) -> None:
    name, version = install.UV.split("==")
    make_wheel(tmp_path / "wheels", name, version, {f"uv-{version}.data/scripts/uv": FAILING})
    seen, half = tmp_path / "seen", site_packages(tmp_path) / "tiny-1.0.dist-info"
    done = machine(SEEN=str(seen), HALF=str(half), PIP_EXTRA_INDEX_URL="https://me:secret@a.example/simple")
    reason = f"{install.UV} failed with exit code 3: installing with pip, which takes several minutes"
    assert reason in done.stdout.splitlines()
    assert "error: disk full" in done.stderr and done.returncode == 0
    assert (site_packages(tmp_path) / "tiny.py").exists()
    assert "UV_EXTRA_INDEX_URL=https://me:secret@a.example/simple\n" in seen.read_text()
    assert "secret" not in done.stdout + done.stderr


def test_an_interrupted_package_is_installed_again(machine: Machine, tmp_path: Path) -> None:
    assert machine().returncode == 0
    package = site_packages(tmp_path)
    (package / "tiny.py").unlink()
    (package / "tiny-1.0.dist-info" / "INSTALLER").unlink()
    done = machine()
    assert "Interrupted before, installed again: tiny-1.0" in done.stdout.splitlines()
    assert (package / "tiny.py").exists()


def test_a_pip_whose_settings_cannot_be_read_installs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pip._internal.commands", None)
    with pytest.raises(install.NoUv, match=r"^the settings of this version of pip cannot be read"):
        install.pip_settings()


def test_outside_a_virtual_environment_nothing_is_installed(tmp_path: Path) -> None:
    command = [getattr(sys, "_base_executable", sys.executable), SCRIPT, "lock"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "is not in a virtual environment: run make setup" in done.stderr


def test_credentials_are_not_shown() -> None:
    shown = install.first_error("WARNING: x\nERROR: no match at https://me:secret@a.example/simple/uv\n")
    assert shown == "no match at https://a.example/simple/uv"
