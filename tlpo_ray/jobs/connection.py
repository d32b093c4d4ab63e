"""Why no connection to a Ray dashboard comes about, as one line that says what to do."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator

from tlpo_ray.errors import first_line

_BUNDLE = "REQUESTS_CA_BUNDLE"
_EXPIRED, _NOT_YET_VALID = 10, 9
_WRONG_NAME, _WRONG_IP = 62, 64
"""OpenSSL's codes of what is wrong with a certificate (`X509_V_ERR_…`); other codes mean that nobody vouches for it."""


def connection_problem(where: str, error: BaseException) -> str:
    """Return the line about a connection that failed.

    Args:
        where: address of the dashboard.
        error: what the request raised; its causes are looked at, too.
    """
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate of the Ray dashboard at {where} {_certificate_problem(cause)}"
        if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return f"the Ray dashboard at {where} does not speak https: give its address with http://"
        if isinstance(cause, ssl.SSLError) and cause.library == "X509":
            return f"the file that {_BUNDLE} names does not hold certificates in PEM form: {first_line(cause)}"
        if isinstance(cause, ssl.SSLError):
            return f"no secure connection to the Ray dashboard at {where}: {first_line(cause)}"
        if isinstance(cause, http.client.BadStatusLine | ConnectionResetError) and not where.startswith("https"):
            return (
                f"what answers at {where} closes the connection or does not speak http: if it speaks https, give its "
                f"address with https://; otherwise check that the port is that of the Ray dashboard"
            )
    if isinstance(error, FileNotFoundError) or type(error) is OSError:
        return f"{_BUNDLE} does not name a file of certificates: {first_line(error)}"
    hint = "" if "://" in where else ", and give the address as http://HOST:8265"
    return f"no Ray dashboard answers at {where}: check that the cluster is running and its port forwarded{hint}"


def _certificate_problem(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
        when = "has expired" if error.verify_code == _EXPIRED else "is not valid yet"
        return f"{when}: renew it, or check the clock of this machine"
    if error.verify_code in (_WRONG_NAME, _WRONG_IP):
        return f"is that of another host ({error.verify_message}): give the address by a name that it is made for"
    return (
        f"is not trusted ({error.verify_message}): set {_BUNDLE} to the file with the certificate of the authority "
        f"that signed it, or with the certificate itself if nobody else did"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and everything that it was raised from, also what libraries only keep as an argument."""
    while error is not None:
        yield error
        reason = getattr(error, "reason", None)
        nested = [inner for inner in (*error.args, reason) if isinstance(inner, BaseException)]
        for inner in nested:
            yield from _causes(inner)
        error = error.__cause__ or error.__context__
