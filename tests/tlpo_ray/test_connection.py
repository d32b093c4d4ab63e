"""Addresses of a Ray dashboard that cannot be spoken with, on real sockets: each is one line that says what to do."""

from __future__ import annotations

import json
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.clusters import free_port
from tlpo_ray.errors import ResourceError
from tlpo_ray.jobs.ray_shell import Jobs

BUNDLE = "REQUESTS_CA_BUNDLE"


class Dashboard(BaseHTTPRequestHandler):
    """Answers as Ray's dashboard does when it is asked for its version."""

    def do_GET(self) -> None:
        content = json.dumps({"version": "4", "ray_version": "2.60.0"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make certificates that nobody but themselves vouches for: a good one, an expired one, one of another host."""
    folder = tmp_path_factory.mktemp("certificates")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    for stem, host, days in (("good", "localhost", 1), ("expired", "localhost", -1), ("other", "elsewhere", 1)):
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        (folder / f"{stem}.pem").write_bytes(certificate.public_bytes(pem))
        (folder / f"{stem}.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return folder


@contextmanager
def dashboard(certificate: Path | None) -> Iterator[int]:
    """Serve a dashboard over https with this certificate, or over http without one; yields the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def refusal(address: str) -> str:
    with pytest.raises(ResourceError) as caught:
        Jobs(address)
    message = str(caught.value)
    assert "\n" not in message and address in message
    return message


@pytest.mark.parametrize(
    ("certificate", "trusted", "problem"),
    [
        (
            "good",
            False,
            f"is not trusted (self-signed certificate): set {BUNDLE} to the file with the certificate of the",
        ),
        ("expired", True, "has expired: renew it, or check the clock of this machine"),
        ("other", True, "is that of another host (Hostname mismatch, certificate is not valid for 'localhost'.): give"),
    ],
)
def test_the_problem_of_a_certificate_is_named(
    certificate: str, trusted: bool, problem: str, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = certificates / f"{certificate}.pem"
    if trusted:
        monkeypatch.setenv(BUNDLE, str(file))
    with dashboard(file) as port:
        assert f"the certificate of the Ray dashboard at https://localhost:{port} {problem}" in refusal(
            f"https://localhost:{port}"
        )


def test_a_certificate_of_ones_own_is_accepted_for_requests_and_output(
    certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job's output comes over a web socket, which does not know requests' variable."""
    monkeypatch.setenv(BUNDLE, str(certificates / "good.pem"))
    with dashboard(certificates / "good.pem") as port:
        address = f"https://localhost:{port}"
        context = Jobs(address)._client._ssl_context
        with urllib.request.urlopen(f"{address}/api/version", context=context, timeout=10) as answer:
            assert answer.status == HTTPStatus.OK


def test_http_and_https_are_not_confused(certificates: Path) -> None:
    with dashboard(None) as port:
        Jobs(f"http://localhost:{port}")
        assert refusal(f"https://localhost:{port}").endswith("does not speak https: give its address with http://")
    with dashboard(certificates / "good.pem") as port:
        assert "if it speaks https, give its address with https://" in refusal(f"http://localhost:{port}")


def test_a_port_without_a_dashboard_is_not_a_matter_of_certificates(certificates: Path) -> None:
    for scheme in ("http", "https"):
        assert "check that the cluster is running and its port forwarded" in refusal(
            f"{scheme}://localhost:{free_port()}"
        )
    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        assert "check that" in refusal(f"http://localhost:{server.getsockname()[1]}")


def test_a_wrong_bundle_is_named(certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    with dashboard(certificates / "good.pem") as port:
        for bundle, problem in (("missing.pem", "does not exist"), ("text.pem", "does not hold certificates")):
            monkeypatch.setenv(BUNDLE, str(tmp_path / bundle))
            with pytest.raises(ResourceError) as caught:
                Jobs(f"https://localhost:{port}")
            assert BUNDLE in str(caught.value) and problem in str(caught.value) and "\n" not in str(caught.value)
