"""Who may talk to the viewer: this machine's browser with the token, and no page of another site.

A page elsewhere can make a browser send requests to 127.0.0.1, by its own name for it (DNS rebinding) or across
origins. The first shows in the Host header, the second in Origin; both are refused, as is whoever has no token.
"""

import hmac
import secrets

from aiohttp import web
from aiohttp.typedefs import Handler

LOCAL_NAMES = {"127.0.0.1", "localhost"}
"""Any port: an SSH tunnel may end at another one."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """The token of one server, and the check that every request passes first."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self.token = token or secrets.token_urlsafe(24)
        # Cookies are shared by all ports of a host, so the name tells viewers apart.
        self.cookie = f"cryoformer-view-{port}"

    def admit(self, response: web.StreamResponse) -> None:
        """Let the browser that gets this response come again without the token in the address."""
        response.set_cookie(self.cookie, self.token, httponly=True, samesite="Strict", path="/")

    def has_token(self, request: web.Request) -> bool:
        """Whether the address or the cookie holds the token."""
        given = [request.query.get("token", ""), request.cookies.get(self.cookie, "")]
        return any(hmac.compare_digest(value.encode(), self.token.encode()) for value in given)

    def refusal(self, request: web.Request) -> str | None:
        """Why a request is refused, or None."""
        host = request.headers.get("Host", "")
        if host.rsplit(":", 1)[0] not in LOCAL_NAMES:
            return "this viewer answers only as 127.0.0.1 or localhost"
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            return "requests of other sites are refused"
        if not self.has_token(request):
            return "open the address that 'cryoformer view' printed, with its token"
        return None

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse (403) or handle, and set the headers that keep other sites out."""
        reason = self.refusal(request)
        if reason is not None:
            return web.Response(status=403, text=f"Refused: {reason}.\n", headers=HEADERS)
        response = await handler(request)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response
