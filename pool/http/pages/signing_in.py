"""Signing in with an account's token, and out."""

from __future__ import annotations

import re

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.accounts import PAYOUT_TOKEN_PREFIX
from pool.http.deps import deps_of
from pool.http.pages.frame import Page, guarded, see
from pool.http.pages.visits import (
    Visit,
    forget_session,
    keep_session,
    read_form,
    session_secret,
    visit_of,
)
from pool.store.pagesessions import end_session, open_session

_OWN_PATH = re.compile(r"/(?!/)[A-Za-z0-9_./-]{0,200}")


async def _load(visit: Visit) -> dict[str, object]:
    return {"then": _own_path(visit.request.query_params.get("then", ""))}


PAGE = Page("/signin", "signin.html", _load)


async def sign_in(request: Request) -> Response:
    """Open a session for the account of the token."""
    deps = deps_of(request)
    fields = await read_form(request)
    token = fields.get("token", "").strip()
    found = await trio.to_thread.run_sync(
        open_session, deps.store.database, token, deps.clock.now()
    )
    if found is None:
        problem = "This token opens no account. Check it, or ask the operator for a new one."
        if token.startswith(PAYOUT_TOKEN_PREFIX):
            problem = (
                "This is a payout token, which only says where you are paid. Sign in with the "
                "account's token; the payout token is asked for where you change the address."
            )
        return await PAGE.show(await visit_of(request), 401, problem=problem)
    account, secret = found
    home = "/operator" if account.role == "operator" else "/account"
    response = see(_own_path(fields.get("then", "")) or home)
    keep_session(request, response, secret)
    return response


async def sign_out(request: Request) -> Response:
    """End the session."""
    await read_form(request)
    secret = session_secret(request)
    if secret:
        await trio.to_thread.run_sync(end_session, deps_of(request).store.database, secret)
    response = see("/")
    forget_session(request, response)
    return response


def _own_path(path: str) -> str:
    return path if _OWN_PATH.fullmatch(path) else ""


ROUTES = [
    Route("/signin", guarded(PAGE.get), methods=["GET"]),
    Route("/signin", guarded(sign_in), methods=["POST"]),
    Route("/signout", guarded(sign_out), methods=["POST"]),
]
