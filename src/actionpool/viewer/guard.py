"""Checks of every request before it reaches the application, and security headers of every response."""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MAX_BODY_BYTES = 16 * 2**20  # of a request; uploads are counted by their queue
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Lets only requests through that the viewer's own page makes in a browser on this machine.

    The first page load carries the token in its address. The response moves it to a cookie that scripts cannot read and
    other sites cannot send, and redirects to the address without it.

    Args:
        app: the application to guard.
        token: the secret.
        port: port of the server. The Host header must name it with 127.0.0.1 or localhost, so that a foreign name that
            resolves to this machine (DNS rebinding) is refused.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self._app, self._token = app, token
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"} | ({"127.0.0.1", "localhost"} if port == 80 else set())
        # Cookies are shared by all ports of a host: two viewers need two names.
        self.cookie = f"actionpool-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._answer(scope, Headers(scope=scope))
        await (answer or self._app)(scope, receive, send_guarded)

    def _answer(self, scope: Scope, headers: Headers) -> Response | None:
        """A refusal, or the redirect after the first page load; None lets the request through."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return PlainTextResponse(
                "This address is not served here; open the address that 'actionpool view' printed.\n", 421
            )
        is_page = scope["path"] == "/" and scope["method"] in ("GET", "HEAD")
        site = headers.get("sec-fetch-site", "none")
        # Browsers treat another server on this machine as the same site; only links to the page may come from it.
        if site not in ("same-origin", "none") and not (is_page and headers.get("sec-fetch-mode") == "navigate"):
            return PlainTextResponse("Another page made this request; only the viewer's own page may.\n", 403)
        if is_page and (given := parse_qs(scope["query_string"].decode("latin-1")).get("token")):
            if self._is_token(given[0]):
                redirect = RedirectResponse("/", 303)
                redirect.set_cookie(self.cookie, self._token, httponly=True, samesite="strict", path="/")
                return redirect
        elif self._is_token(self._from_cookie(headers)):
            return None if scope["path"] == "/api/uploads" else _check_body(headers)
        return PlainTextResponse(
            "The viewer did not recognise this browser. Open the address that 'actionpool view' printed, with its "
            "token; each start of the viewer has a new one.\n",
            403,
        )

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode("utf-8", "surrogatepass"), self._token.encode())

    def _from_cookie(self, headers: Headers) -> str:
        try:
            morsel = SimpleCookie("; ".join(headers.getlist("cookie"))).get(self.cookie)
        except CookieError:
            return ""
        return morsel.value if morsel is not None else ""


def _check_body(headers: Headers) -> Response | None:
    """A refusal of a body that is too large or of unknown length; None lets the request through."""
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not (length.isascii() and length.isdigit()):
        return PlainTextResponse("The request does not say how long it is.\n", 411)
    if len(length) > 15 or int(length) > _MAX_BODY_BYTES:
        return PlainTextResponse(f"The request is larger than {_MAX_BODY_BYTES >> 20} MiB.\n", 413)
    return None
