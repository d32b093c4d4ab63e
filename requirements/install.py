"""Install the pinned packages and this project into the virtual environment whose Python runs this file.

`make setup` runs `.venv/bin/python requirements/install.py requirements/cpu.lock`: pip installs uv, and uv everything
else, in a fraction of pip's time. uv does not read pip's configuration, so it is translated into uv's own; the user's
variables `UV_*` win. Where uv is missing or fails, one line says why, and pip installs.

Only pip and the standard library are imported here, because nothing else is installed yet.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

UV = "uv==0.13.9"
PIP = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps")

VARIABLES = {
    "index_url": "UV_INDEX_URL", "extra_index_urls": "UV_EXTRA_INDEX_URL", "trusted_hosts": "UV_INSECURE_HOST",
    "constraints": "UV_CONSTRAINT", "build_constraints": "UV_BUILD_CONSTRAINT", "retries": "UV_HTTP_RETRIES",
    "client_cert": "SSL_CLIENT_CERT",
}  # fmt: skip
"""Settings of pip, by their names in its parser, that uv takes from a variable of the same form."""
WITHOUT_EFFECT = {
    "cache_dir", "compile", "debug_mode", "disable_pip_version_check", "exists_action", "features_enabled",
    "ignore_dependencies", "log", "no_color", "no_input", "no_python_version_warning", "override_externally_managed",
    "pre", "prefer_binary", "progress_bar", "quiet", "release_control", "require_venv", "resume_retries",
    "root_user_action", "upgrade_strategy", "use_pep517", "verbose", "warn_about_conflicts", "warn_script_location",
}  # fmt: skip
"""Settings of pip that change neither which of the pinned packages are installed nor where they come from."""


class NoUv(Exception):  # noqa: N818
    """uv cannot be used; the message says why."""


def main() -> int:
    """Install with uv, or else with pip, and return the exit code."""
    parser = argparse.ArgumentParser(description="Install pinned packages and this project.")
    parser.add_argument("lock", type=Path)
    parser.add_argument("--installer", choices=("uv", "pip"), default="uv")
    asked = parser.parse_args()
    if sys.prefix == sys.base_prefix:
        parser.error(f"{sys.executable} is not in a virtual environment: run make setup")
    torch_index = os.environ.get("TORCH_INDEX", "")
    where, began = os.path.relpath(sys.prefix), time.monotonic()
    packages = sum("==" in line for line in asked.lock.read_text(encoding="utf-8").splitlines())
    say(f"Setting up {where}: {packages} pinned packages, several GB …")
    installer = asked.installer
    try:
        if installer == "uv":
            install_with_uv(asked.lock, torch_index)
    except NoUv as reason:
        say(f"{reason}: installing with pip, which takes several minutes")
        installer = "pip"
    code = install_with_pip(asked.lock, torch_index) if installer == "pip" else 0
    if not code:
        say(f"{packages} packages installed with {installer} in {time.monotonic() - began:.0f} s")
    return code


def install_with_uv(lock: Path, torch_index: str) -> None:
    """Fetch uv with pip and install with it, from where pip is configured to take packages.

    Raises:
        NoUv: pip finds no uv, a setting of pip has no equivalent, or uv fails.
    """
    arguments, variables = uv_configuration(pip_settings(), torch_index, os.environ)
    fetched = subprocess.run([*PIP, "-qq", "--only-binary", "uv", UV], capture_output=True, text=True, errors="replace")
    if fetched.returncode:
        raise NoUv(f"pip cannot install {UV} ({first_error(fetched.stderr)})")
    forget_unfinished()
    uv = Path(sysconfig.get_path("scripts"), "uv")
    environment = with_defaults(os.environ, variables)
    try:
        if not same_file_system(uv, environment):
            environment.setdefault("UV_LINK_MODE", "copy")  # hard links are impossible: uv would warn and copy
        quiet = [] if sys.stderr.isatty() else ["--quiet"]
        command = [uv, "pip", "install", "--python", sys.executable, "--no-deps", *quiet, *arguments]
        code = subprocess.run([*command, "-r", lock, "-e", "."], env=environment).returncode
    except OSError as error:
        raise NoUv(f"{UV} does not start ({error.strerror})") from error
    if code:
        raise NoUv(f"{UV} failed with exit code {code}")


def install_with_pip(lock: Path, torch_index: str) -> int:
    """Install with pip alone and return its exit code."""
    forget_unfinished()  # of uv too, if it has failed halfway
    quiet = [] if sys.stdout.isatty() else ["-qq"]
    index = [part for url in torch_index.split() for part in ("--extra-index-url", url)]
    return subprocess.run([*PIP, *quiet, *index, "-r", lock, "-e", "."]).returncode


def pip_settings() -> dict[str, Any]:
    """Return the settings of `pip install` that differ from its defaults, by their names in pip's parser.

    pip's own parser reads them: `pip config list` does not say which of several files wins.

    Raises:
        NoUv: this version of pip has no such parser, which is not part of its public interface.
    """
    try:
        from pip._internal.commands import create_command

        defaults = create_command("install").parser.defaults
        options, _ = create_command("install").parse_args([])
    except (ImportError, AttributeError) as error:
        raise NoUv(f"the settings of this version of pip cannot be read ({error})") from error
    return {name: value for name, value in vars(options).items() if value != defaults.get(name)}


def uv_configuration(
    settings: Mapping[str, Any], torch_index: str, environ: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Translate pip's settings into arguments and variables for uv.

    Addresses, which may contain a password, become variables: everyone on a machine can read arguments.

    Raises:
        NoUv: uv has no equivalent of a setting.
    """
    left = {name: value for name, value in settings.items() if name not in WITHOUT_EFFECT}
    # To pip all indexes are one. Exact pins may be in a later one only, so uv must not stop at the first with the name.
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match", **certificates(left.pop("cert", None), environ)}
    # Otherwise what is imported is compiled once, by the first process, in less time than everything is.
    if environ.get("PYTHONDONTWRITEBYTECODE"):
        variables["UV_COMPILE_BYTECODE"] = "true"
    arguments = ["--no-index"] if left.pop("no_index", False) else []
    if control := left.pop("format_control", None):
        arguments += [f"--no-binary={name}" for name in sorted(control.no_binary)]
        arguments += [f"--only-binary={name}" for name in sorted(control.only_binary)]
    if "index_url" in left:
        left["index_url"] = address(left["index_url"])
    if extra := [*left.pop("extra_index_urls", []), *torch_index.split()]:
        left["extra_index_urls"] = list(map(address, extra))
    if links := left.pop("find_links", None):
        variables["UV_FIND_LINKS"] = ",".join(address(link).replace(",", "%2C") for link in links)
    if timeout := left.pop("timeout", None):
        variables["UV_HTTP_TIMEOUT"] = str(math.ceil(timeout))
    if proxy := left.pop("proxy", None):
        variables |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy)
    if not left.pop("build_isolation", True):
        variables["UV_NO_BUILD_ISOLATION"] = "true"
    if left.pop("require_hashes", False):
        variables["UV_REQUIRE_HASHES"] = "true"
    if left.get("keyring_provider") in ("subprocess", "disabled"):
        variables["UV_KEYRING_PROVIDER"] = left.pop("keyring_provider")
    for name in VARIABLES.keys() & left.keys():
        value = left.pop(name)
        variables[VARIABLES[name]] = " ".join(value) if isinstance(value, list) else str(value)
    if left:
        raise NoUv(f"uv has no equivalent of pip's setting {', '.join(sorted(left))}")
    return arguments, variables


def certificates(bundle: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables for the certificates that pip trusts: its own setting, those of requests, or the machine's."""
    bundle = bundle or environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE")
    if bundle:
        return {"SSL_CERT_DIR" if Path(bundle).is_dir() else "SSL_CERT_FILE": bundle}
    machine = ssl.get_default_verify_paths()
    return {"UV_SYSTEM_CERTS": "true"} if machine.cafile or (machine.capath and os.listdir(machine.capath)) else {}


def address(place: str) -> str:
    """Return a URL as it is, and a path, which pip accepts as well, as a URL."""
    return place if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", place) else Path(place).expanduser().resolve().as_uri()


def with_defaults(environ: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with further variables; those of uv that the user has set keep the user's values."""
    return {**environ, **{name: variables[name] for name in variables if not (name[:3] == "UV_" and name in environ)}}


def same_file_system(uv: Path, environment: Mapping[str, str]) -> bool:
    """Return whether uv's cache is on the file system of the virtual environment, so that files can be hard-linked."""
    listed = subprocess.run([uv, "cache", "dir"], env=environment, stdout=subprocess.PIPE, text=True)
    cache = Path(listed.stdout.strip()).absolute()
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    return existing.stat().st_dev == Path(sys.prefix).stat().st_dev


def forget_unfinished() -> None:
    """Remove the metadata of packages whose installation was interrupted, so that they are installed again.

    Both installers take a package for installed when its metadata exists, but write the file INSTALLER only at the end.
    """
    installed = sorted(Path(sysconfig.get_path("purelib")).glob("*.dist-info"))
    unfinished = [info for info in installed if not (info / "INSTALLER").exists()]
    for info in unfinished:
        shutil.rmtree(info)
    if unfinished:
        say(f"Interrupted before, installed again: {', '.join(info.stem for info in unfinished)}")


def first_error(stderr: str) -> str:
    """Return the last error of pip, which names the package, without credentials."""
    lines = stderr.strip().splitlines() or ["no message"]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return re.sub(r"(?<=://)[^/\s]+@", "", (errors or lines)[-1])


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\ninterrupted: make setup continues from here")
