"""Raises what the connection refused, or found unread, where errors become answers."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import AnswerUnreadError
from request_state import state_of


def behind_connection(app: ASGIApp) -> ASGIApp:
    """`app`, with the connection's refusals raised around it, for the edge to answer.

    Raises:
        GateError: the head or the framing of the request is beyond its bounds.
        AnswerUnreadError: the connection was aborted, because the client does not read.
    """

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_or_raise() -> Message:
            message = await receive()
            _raise_refused(scope)
            return message

        async def send_or_raise(message: Message) -> None:
            await send(message)
            if state_of(scope).unread:
                raise AnswerUnreadError

        _raise_refused(scope)
        await app(scope, receive_or_raise, send_or_raise)

    return told


def _raise_refused(scope: Scope) -> None:
    if error := state_of(scope).refused:
        raise error
