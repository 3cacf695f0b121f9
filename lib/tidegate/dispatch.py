"""The end of the corridor: one attempt, from the request's encoding to the last byte of its answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from decimal import Decimal

from tidegate.attempts import Attempt
from tidegate.chat.reply import Chunk, Completion, Ending, Reply, Stream
from tidegate.chat.usage import Usage
from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.errors import CallError, Cancelled, DeadlineExceeded, StreamInterrupted, TruncatedStream
from tidegate.options import Options, Seconds
from tidegate.pipeline.call import Call, Route
from tidegate.pipeline.events import AttemptEnded, Event
from tidegate.providers.base import Delta, Provider, StreamDecoder
from tidegate.providers.exchange import decode, encode
from tidegate.transport.base import HttpResponse, Patience, Transport
from tidegate.transport.sse import read_events

BODY_LIMIT = 64 * 2**20
"""Bytes of a decoded answer; more is refused."""

ERROR_BODY_LIMIT = 64 * 2**10
"""Bytes of an error body that are read at all."""

USAGE_GRACE = 1.0
"""Seconds to wait, after the answer is whole, for the usage that some servers send last and some never."""

DRAIN_GRACE = 0.05
"""Seconds to wait, after everything has come, for the end of the body, so that the connection can be kept."""

CountUsage = Callable[[Call, Completion], Usage]
"""Tokens of a question and its answer, counted here."""

Price = Callable[[str, tuple[str, ...], Usage | None], Decimal | None]
"""`price(provider, models, usage)` in US dollars."""


class Timeouts(Options):
    """Limits of the parts of a call, in seconds. Each is cut short by the call's own deadline."""

    connect: Seconds = 5.0
    """Name look-up, TCP and TLS together."""
    first_token: Seconds | None = 30.0
    """Streams only: from sending the request to the first content. None: only the deadline counts."""
    idle: Seconds | None = 15.0
    """Streams only: from one content to the next, counted while waiting. Keep-alives are no content."""


class Dispatch:
    """Sends one attempt of a call and reads its answer. Shared by threads."""

    def __init__(
        self,
        *,
        transport: Transport,
        provider_of: Callable[[Route], Provider],
        price: Price,
        timeouts: Timeouts,
        count_usage: CountUsage | None = None,
        announce: Callable[[Event], None] = lambda _: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._transport = transport
        self._provider_of = provider_of
        self._price = price
        self._count_usage = count_usage
        self._timeouts = timeouts
        self._announce = announce
        self._clock = clock

    def __call__(self, call: Call) -> Reply:
        """The completion, or a stream whose first content has arrived. Raises a `CallError`."""
        began = self._clock.monotonic()
        try:
            reply = self._attempt(call)
        except CallError as error:
            self._note(call, began, error.locate(call.route.provider, call.route.model))
            raise
        except (KeyboardInterrupt, SystemExit) as stop:  # the request may have left all the same
            self._note(call, began, Cancelled(f"the attempt was stopped by {type(stop).__name__}"))
            raise
        reply.when_done(lambda ending: self._ended(call, began, ending))
        return reply

    def _attempt(self, call: Call) -> Reply:
        call.cancel.raise_if_cancelled()
        if call.deadline.expired:
            raise DeadlineExceeded("the deadline of the call passed before it could be sent")
        if call.streamed:
            answer = self._open(call)
            call.trace.enter("consumer")
            return Stream(answer)
        if call.stall_detection:
            return self._drained(call, self._open(call))
        return self._plain(call)

    def _plain(self, call: Call) -> Completion:
        provider = self._provider_of(call.route)
        response = self._send(call, provider, streamed=False)
        try:
            call.trace.enter("stream")
            body = response.read(BODY_LIMIT)
        finally:
            response.close()
        call.trace.enter("own")
        return self.finished(call, decode(provider, call.request, body, call.route.model))

    def _send(self, call: Call, provider: Provider, *, streamed: bool) -> HttpResponse:
        """The response, if it is a good one. Raises what a bad one means."""
        self._ready(call, provider)
        request = encode(provider, call.request, call.route.model, streamed=streamed)
        timeouts = self._timeouts
        response = self._transport.send(
            request,
            Patience(
                call.deadline, call.cancel, call.trace, timeouts.connect,
                timeouts.first_token if streamed else None, timeouts.idle if streamed else None,
            ),
        )  # fmt: skip
        if call.heed is not None:
            call.heed(response.status, response.headers)
        call.trace.request_id = provider.request_id(response.headers)
        if 200 <= response.status < 300:
            return response
        raise self._refusal(call, provider, response)

    def _refusal(self, call: Call, provider: Provider, response: HttpResponse) -> CallError:
        """What it means. The body is no local of a frame that raises: it may repeat the key, and locals get logged."""
        try:
            body = response.read_some(ERROR_BODY_LIMIT)
        finally:
            response.close()
            call.trace.enter("own")
        return provider.refusal(response.status, response.headers, body, self._clock.time())

    @staticmethod
    def _ready(call: Call, provider: Provider) -> None:
        call.trace.enter("connect")
        try:
            provider.ready(call.deadline.remaining())
        except TimeoutError:
            late = True
        else:
            late = False
        if late:
            raise DeadlineExceeded("the deadline of the call passed before its server was up")
        call.trace.enter("own")

    def _open(self, call: Call) -> _Answer:
        """A stream's source whose first content has arrived: a failure before that is like any other."""
        provider = self._provider_of(call.route)
        response = self._send(call, provider, streamed=True)
        try:
            if "json" in response.headers.get("content-type", "").lower():
                # The server did not stream: an error inside a 200, or a host that cannot.
                whole = provider.decode(response.read(BODY_LIMIT), call.route.model)
                return _Answer(self, call, response, _AlreadyWhole(whole))
            answer = _Answer(self, call, response, provider.stream_decoder(call.route.model))
            answer.open()
        except BaseException:
            response.close()
            call.trace.enter("own")
            raise
        return answer

    @staticmethod
    def _drained(call: Call, answer: _Answer) -> Completion:
        """The whole of a stream that nobody watches: a failure is what it is, for nothing was shown."""
        call.trace.enter("stream")
        try:
            while answer.advance() is not None:
                pass
        finally:
            answer.close()
            call.trace.enter("own")
        return answer.completion(interrupted=False)

    def time(self) -> float:
        """Seconds since 1970."""
        return self._clock.time()

    def finished(self, call: Call, completion: Completion, *, interrupted: bool = False) -> Completion:
        """The provider's answer with what the corridor knows of it: its cost and its trace."""
        usage = completion.usage
        if usage is None and self._count_usage is not None:  # the provider's figures did not come, or not yet
            usage = self._count_usage(call, completion)
        cost = self._price(completion.provider, (completion.model, call.route.model), usage)
        return dataclasses.replace(completion, usage=usage, cost=cost, trace=call.trace, interrupted=interrupted)

    def _ended(self, call: Call, began: float, ending: Ending) -> None:
        if ending.error is not None:
            ending.error.locate(call.route.provider, call.route.model)
        self._note(call, began, ending.error)

    def _note(self, call: Call, began: float, error: CallError | None) -> None:
        cause = error.__cause__ if isinstance(error, StreamInterrupted) else error
        attempt = Attempt(
            number=call.attempt,
            provider=call.route.provider,
            model=call.route.model,
            duration=self._clock.monotonic() - began,
            outcome="ok" if error is None else type(cause).__name__,
            status=error.status if error is not None else None,
            retry_after=error.retry_after if error is not None else None,
            request_id=call.trace.request_id,
        )
        call.trace.request_id = None
        call.trace.attempts.append(attempt)
        self._announce(AttemptEnded(call, attempt, error))


class _AlreadyWhole:
    """The decoder of an answer that came in one piece."""

    finished = settled = True

    def __init__(self, completion: Completion) -> None:
        self._completion = completion

    def feed(self, event: str, data: str) -> Delta | None:
        """Nothing is fed: there is no stream."""
        raise TruncatedStream(f"an event `{event}` of {len(data)} characters after the whole answer")

    def completion(self) -> Completion:
        """The answer."""
        return self._completion


class _Answer:
    """An answer as it comes: the source of a `Stream`'s chunks."""

    def __init__(self, dispatch: Dispatch, call: Call, response: HttpResponse, decoder: StreamDecoder) -> None:
        self._dispatch = dispatch
        self._call = call
        self._response = response
        self._decoder = decoder
        self._index = 0
        self._first: Chunk | None = None
        self._whole = isinstance(decoder, _AlreadyWhole)
        if self._whole:
            done = decoder.completion()
            self._first = self._chunk(Delta(done.text, done.reasoning, done.finish_reason))
        self._events = read_events(response.pieces()) if not self._whole else iter(())

    def open(self) -> None:
        """Wait for the first content."""
        self._first = self.advance()
        self._call.trace.mark_first_token()

    def next_chunk(self) -> Chunk | None:
        """The next piece. Raises `StreamInterrupted` (its cause says why), `DeadlineExceeded` or `Cancelled`."""
        chunk, self._first = self._first, None
        if chunk is not None:
            self._call.trace.enter("consumer")
            return chunk
        trace = self._call.trace
        trace.enter("stream")
        try:
            chunk = self.advance()
        except (Cancelled, DeadlineExceeded):
            raise
        except CallError as error:
            cause = error
        else:
            trace.enter("own" if chunk is None else "consumer")
            return chunk
        raise StreamInterrupted.because(cause.locate(self._call.route.provider, self._call.route.model)) from cause

    def advance(self) -> Chunk | None:
        """Read on to the next content; None when the answer is whole."""
        if self._call.deadline.expired and not self._decoder.finished:
            raise DeadlineExceeded("the deadline of the call passed before its answer was whole")
        for event in self._events:
            delta = self._decoder.feed(event.event, event.data) if not self._decoder.settled else None
            if self._decoder.finished:
                self._response.wind_down(DRAIN_GRACE if self._decoder.settled else USAGE_GRACE)
            if delta is not None and delta.content:
                self._response.content_seen()
                return self._chunk(delta)
        if not self._decoder.finished:
            raise TruncatedStream("the stream ended before the answer was whole (no finish reason, no end mark)")
        return None

    def _chunk(self, delta: Delta) -> Chunk:
        self._index += 1
        now = self._dispatch.time()
        return Chunk(delta.text, self._index - 1, now, delta.finish_reason, reasoning=delta.reasoning)

    def close(self) -> None:
        """Free the connection; a thread that waits in `next_chunk` gets `Cancelled`."""
        self._response.close()

    def completion(self, *, interrupted: bool) -> Completion:
        """The answer so far."""
        return self._dispatch.finished(self._call, self._decoder.completion(), interrupted=interrupted)
