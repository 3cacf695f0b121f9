"""The client: what a program holds."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
import secrets
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar, Unpack, cast, overload

from tidegate.accounting.estimates import Estimate, estimate_of
from tidegate.accounting.ledger import Durability, Ledger
from tidegate.accounting.prices import Price
from tidegate.assembly import assemble
from tidegate.chat.messages import Message, Prompt, to_messages
from tidegate.chat.reply import Completion, Reply, Stream
from tidegate.chat.request import ChatRequest
from tidegate.chat.timeline import Phase, Trace
from tidegate.chat.tools import Tool
from tidegate.circuit import Breaker, State
from tidegate.clock import SYSTEM_CLOCK, CancelToken, Deadline
from tidegate.dispatch import Timeouts
from tidegate.errors import ConfigError
from tidegate.forking import reset_in_child
from tidegate.outcomes import Outcome, outcomes
from tidegate.pace.gate import LimitStatus
from tidegate.pipeline.call import Call, Recover, Route
from tidegate.pipeline.events import Listener
from tidegate.policies.admission import Limits
from tidegate.policies.budget_options import Budget
from tidegate.policies.hedge import Hedge
from tidegate.policies.retry import Retry
from tidegate.progress import progress_bar
from tidegate.reporting.metrics import Metrics
from tidegate.settings import ClientSettings, load_settings
from tidegate.workers import Workers, cancel_at_exit

if TYPE_CHECKING:
    from tidegate.chat.embedding import Embeddings, Purpose
    from tidegate.parsing.found import RepairLevel
    from tidegate.structured import Parsed, ParsedStream, SchemaRefusals


class _Unset:
    """The default of an argument that may also stand in the environment, where None has a meaning of its own."""

    def __repr__(self) -> str:
        return "<default>"


_UNSET: Any = _Unset()


class CallOptions(TypedDict, total=False):
    """The keywords of `complete`, for `submit` and `map`."""

    model: str | None
    system: str | None
    temperature: float | None
    max_tokens: int | None
    tools: Iterable[Tool | Mapping[str, Any]] | None
    schema: Any
    stop: str | Sequence[str] | None
    seed: int | None
    top_p: float | None
    tool_choice: str | None
    reasoning: str | int | None
    logprobs: int | None
    task: str | None
    tags: Mapping[str, str] | None
    priority: int
    budgets: Sequence[Budget]
    timeout: float | None
    cancel: CancelToken | None
    stall_detection: bool
    options: Mapping[str, Any] | None


class ParseOptions(CallOptions, total=False):
    """The keywords of `parse`; `schema` is made from `into`."""


class StreamOptions(CallOptions, total=False):
    """The keywords of `stream_parse`."""

    recover: Recover


T = TypeVar("T")


class Client:
    """A client of one model and, by `model=`, of others. Shared by threads; safe after `os.fork()`.

    ::

        client = tidegate.Client("openai/gpt-4o-mini")
        print(client.complete("What is a tide gate?").text)

    `model` is "provider/model"; without it TIDEGATE_MODEL counts, then the first provider whose key is in the
    environment, then the embedded model. `api_key` and `base_url` come from the provider's own environment names when
    not passed. `timeout` is the deadline of a whole call in seconds (60; None for none): queueing, retries and
    streaming together. `timeouts` limits parts of it. `retry=None` switches retries off.

    What calls use and cost is kept in `ledger`: a URL such as `sqlite:///usage.db`, by default one in the user's data
    folder; None for none. `budgets` bound it, `prices` are for models that the price tables do not know, `tz` is the
    time zone in which days are counted: see `docs/money.md`.

    `workers` is the number of threads of `submit` (32). `listeners` are called with every event of
    `tidegate.pipeline.events`. `ca_bundle`, `proxy` and `allow_http` are about the connection, see `docs/settings.md`.

    Raises `ConfigError` for whatever is wrong with these; nothing is sent.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = _UNSET,
        timeouts: Timeouts = _UNSET,
        retry: Retry | None = _UNSET,
        limits: Limits | None = None,
        breaker: Breaker | None = _UNSET,
        fallbacks: Sequence[str] = (),
        hedge: Hedge | None = _UNSET,
        ledger: str | None = _UNSET,
        budgets: Sequence[Budget] | None = None,
        prices: Mapping[str, Price] | None = None,
        tz: str | None = None,
        durability: Durability = _UNSET,
        default_max_tokens: int | None = None,
        workers: int | None = None,
        allow_http: bool = _UNSET,
        ca_bundle: str | None = None,
        proxy: str | None = _UNSET,
        listeners: Iterable[Listener] = (),
    ) -> None:
        absent = {
            "model": model,
            "api_key": api_key,
            "base_url": base_url,
            "workers": workers,
            "ca_bundle": ca_bundle,
            "limits": limits,
            "fallbacks": fallbacks or None,
            "budgets": budgets,
            "prices": prices,
            "tz": tz,
            "default_max_tokens": default_max_tokens,
        }
        unset: dict[str, Any] = {
            "timeout": timeout,
            "timeouts": timeouts,
            "retry": retry,
            "breaker": breaker,
            "hedge": hedge,
            "ledger": ledger,
            "durability": durability,
            "allow_http": allow_http,
            "proxy": proxy,
        }
        given: dict[str, Any] = {name: value for name, value in absent.items() if value is not None}
        given.update((name, value) for name, value in unset.items() if value is not _UNSET)
        self._build(load_settings(given), listeners)

    @classmethod
    def from_config(
        cls,
        file: str | os.PathLike[str],
        profile: str | None = None,
        *,
        listeners: Iterable[Listener] = (),
        **arguments: Any,
    ) -> Self:
        """A client from a TOML file, whose fields are the arguments of `Client`; `[profiles.<name>]` may override them.

        The environment overrides the file, and `arguments` override both. Raises `ConfigError`.
        """
        client = cls.__new__(cls)
        client._build(load_settings(arguments, file=file, profile=profile), listeners)  # noqa: SLF001 (another door of the same class)
        return client

    def _build(self, settings: ClientSettings, listeners: Iterable[Listener]) -> None:
        self._settings = settings
        self._corridor = assemble(settings, listeners=listeners)
        self._closed = False
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        """What threads hold: made anew in a forked child."""
        self._lock = threading.Lock()
        self._workers: Workers | None = None
        self._stopping = CancelToken()
        self._program_over = CancelToken()  # only for calls in the client's own threads: the program's may go on
        cancel_at_exit(self._program_over)
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._id_prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)  # its `next` is atomic

    @property
    def model(self) -> str:
        """The client's own model, as `provider/model`."""
        return str(self._corridor.endpoints.main.route)

    def complete(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        system: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        tools: Iterable[Tool | Mapping[str, Any]] | None = None,
        schema: Any = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        top_p: float | None = None,
        tool_choice: str | None = None,
        reasoning: str | int | None = None,
        logprobs: int | None = None,
        task: str | None = None,
        tags: Mapping[str, str] | None = None,
        priority: int = 0,
        budgets: Sequence[Budget] = (),
        timeout: float | None = _UNSET,
        cancel: CancelToken | None = None,
        stall_detection: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> Completion:
        """The whole answer to `prompt`: a string, a message, or a list of messages.

        `temperature` is 0 to 2, `max_tokens` bounds the answer, `schema` (a JSON schema or pydantic model) shapes it,
        `tool_choice` is `auto`, `none`, `required` or a tool's name, `reasoning` is how much to think (`none`,
        `minimal`, `low`, `medium`, `high`, or a number of tokens), `logprobs` asks for the tokens' probabilities (and
        so many alternatives to each). What a provider cannot do is a `ConfigError`.
        `budgets` are for this call, beside the client's.
        `timeout` is this call's deadline in seconds, `cancel` ends it from another thread, `stall_detection` streams
        underneath so that a silent server is noticed, `options` go into the request's body as they are.
        Raises `ConfigError` before anything is sent, or a `CallError`.
        """
        fields = locals()
        del fields["self"], fields["prompt"]
        return cast("Completion", self._run(*self._prepare(prompt, **fields)))

    def stream(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        system: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        tools: Iterable[Tool | Mapping[str, Any]] | None = None,
        schema: Any = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        top_p: float | None = None,
        tool_choice: str | None = None,
        reasoning: str | int | None = None,
        logprobs: int | None = None,
        task: str | None = None,
        tags: Mapping[str, str] | None = None,
        priority: int = 0,
        budgets: Sequence[Budget] = (),
        timeout: float | None = _UNSET,
        cancel: CancelToken | None = None,
        stall_detection: bool = False,
        options: Mapping[str, Any] | None = None,
        recover: Recover = "raise",
    ) -> Stream:
        """The answer as it comes; returns when its first content is there. Arguments as for `complete`.

        `recover="restart"`: when the stream breaks off, ask again and go on with a chunk marked `restarted`.
        """
        fields = locals()
        del fields["self"], fields["prompt"]
        stream = cast("Stream", self._run(*self._prepare(prompt, streamed=True, **fields)))
        self._streams.add(stream)
        return stream

    @overload
    def parse(
        self,
        prompt: Prompt,
        into: type[T],
        *,
        retries: int = 2,
        repair: RepairLevel = "safe",
        **options: Unpack[ParseOptions],
    ) -> T: ...
    @overload
    def parse(
        self,
        prompt: Prompt,
        into: Any,
        *,
        retries: int = 2,
        repair: RepairLevel = "safe",
        **options: Unpack[ParseOptions],
    ) -> Any: ...
    def parse(
        self,
        prompt: Prompt,
        into: Any,
        *,
        retries: int = 2,
        repair: RepairLevel = "safe",
        **options: Unpack[ParseOptions],
    ) -> Any:
        """A value: an instance of the pydantic model `into`, of any type that pydantic validates, or JSON of a schema.

        The provider is asked to keep to the schema where it can. An answer that is no such value is shown to the model
        again with what is wrong, `retries` times at most, within one deadline (`timeout`) and the same budgets.
        `repair` is how much may be read otherwise than it was written: see `tidegate.parsing.parse`. Other arguments as
        for `complete`. Raises `ParseError`, whose `texts` are all the answers, `ConfigError`, or a `CallError`.
        """
        return self.parse_with_completion(prompt, into, retries=retries, repair=repair, **options).data

    @overload
    def parse_with_completion(
        self,
        prompt: Prompt,
        into: type[T],
        *,
        retries: int = 2,
        repair: RepairLevel = "safe",
        **options: Unpack[ParseOptions],
    ) -> Parsed[T]: ...
    @overload
    def parse_with_completion(
        self,
        prompt: Prompt,
        into: Any,
        *,
        retries: int = 2,
        repair: RepairLevel = "safe",
        **options: Unpack[ParseOptions],
    ) -> Parsed[Any]: ...
    def parse_with_completion(
        self,
        prompt: Prompt,
        into: Any,
        *,
        retries: int = 2,
        repair: RepairLevel = "safe",
        **options: Unpack[ParseOptions],
    ) -> Parsed[Any]:
        """As `parse`, with the answer that the value was read in: `.data`, `.completion`, `.result`, `.attempts`."""
        from tidegate.structured import Asking  # noqa: PLC0415 (with all strategies)

        fields: dict[str, Any] = dict(options)
        _check_names(fields)
        if "schema" in fields:
            raise ConfigError("`parse` makes the schema from `into`; leave `schema=` out")
        seconds, system = self._seconds(fields.pop("timeout", _UNSET)), fields.pop("system", None)
        asking: Asking[Any] = Asking(
            self.complete, into, retries=retries, repair=repair, seconds=seconds, refusals=self._schema_refusals
        )
        return asking.ask(prompt, system, fields)

    def stream_parse(
        self, prompt: Prompt, into: Any, *, repair: RepairLevel = "safe", **options: Unpack[StreamOptions]
    ) -> ParsedStream[Any]:
        """Snapshots of a value while it is written: valid, typed, growing. Arguments as for `parse` and `stream`.

        ::

            with client.stream_parse("A pancake recipe, please", into=Recipe) as snapshots:
                for recipe in snapshots:
                    show(recipe)
            print(snapshots.data)

        There is one attempt. Raises `ParseError` at the end if the whole answer is no such value.
        """
        from tidegate.structured import ParsedStream, schema_of, with_schema  # noqa: PLC0415 (see above)

        fields: dict[str, Any] = dict(options)
        if "schema" in fields:
            raise ConfigError("`stream_parse` makes the schema from `into`; leave `schema=` out")
        schema = schema_of(into)
        messages = with_schema(to_messages(prompt, fields.pop("system", None)), schema)
        ask = functools.partial(self.stream, messages, **fields)
        return ParsedStream(lambda: self._schema_refusals.asked(ask, schema, fields.get("model")), into, repair)

    @functools.cached_property
    def _schema_refusals(self) -> SchemaRefusals:
        from tidegate.structured import SchemaRefusals  # noqa: PLC0415 (see above)

        return SchemaRefusals()

    def submit(self, prompt: Prompt, **options: Unpack[CallOptions]) -> Future[Completion]:
        """`complete` in one of the client's threads. Wrong input raises here, anything later is in the future.

        The deadline begins now: waiting for a free thread counts. A program that ends does so when what it submitted is
        done; a call without a deadline is cancelled 2 seconds later.
        """
        _check_names(options)
        call, unlink = self._prepare(prompt, phase="queue", **options)
        work = functools.partial(self._run_queued, call, unlink)
        with self._lock:
            self._check_open()
            if self._workers is None:
                self._workers = Workers(self._corridor.workers)
            future = self._workers.submit(work, call.deadline, call.cancel)
        future.add_done_callback(lambda _: unlink())  # also when it was cancelled before its work began
        return future

    def _run_queued(self, call: Call, unlink: Callable[[], None]) -> Completion:
        call.trace.enter("own")
        return cast("Completion", self._run(call, unlink))

    def map(
        self,
        prompts: Iterable[Prompt],
        *,
        workers: int | None = None,
        ordered: bool = True,
        progress: bool = False,
        **options: Unpack[CallOptions],
    ) -> Iterator[Outcome]:
        """Ask every prompt, `workers` at a time, and yield an `Outcome` each: in input order, or as they come.

        A failed prompt is an outcome with an `error`. The input may be endless: it is read as the outcomes are taken.
        `progress` draws a bar on a terminal. `options` are those of `complete`. Leaving the loop cancels the rest.
        """
        if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
            raise ConfigError(f"`workers` is a whole number of at least 1, not {workers!r}")
        if isinstance(prompts, str | bytes | Mapping | Message):
            raise ConfigError("`map` takes several prompts: put a single one into a list")
        self._check_open()
        _check_names(options)
        workers = workers or self._corridor.workers
        return self._outcomes(prompts, workers, options, ordered=ordered, progress=progress)

    def _outcomes(
        self, prompts: Iterable[Prompt], workers: int, options: CallOptions, *, ordered: bool, progress: bool
    ) -> Iterator[Outcome]:
        cancel = CancelToken()
        untie = _tie(cancel, self._program_over, options.get("cancel"))
        options["cancel"] = cancel
        ask = functools.partial(self.complete, **options)
        total = len(prompts) if progress and isinstance(prompts, Sequence) else None
        try:
            with progress_bar(total, visible=progress) as bar:
                yield from outcomes(
                    ask,
                    prompts,
                    workers=workers,
                    ordered=ordered,
                    cancel=cancel,
                    on_outcome=lambda outcome: bar.advance(outcome.completion),
                )
        finally:
            untie()

    def embed(
        self,
        texts: str | Iterable[str],
        *,
        model: str | None = None,
        dimensions: int | None = None,
        purpose: Purpose | None = None,
        workers: int = 4,
        task: str | None = None,
        tags: Mapping[str, str] | None = None,
        priority: int = 0,
        timeout: float | None = _UNSET,
        cancel: CancelToken | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Embeddings:
        """A vector for each text, in their order, by an embedding model such as `openai/text-embedding-3-small`.

        The texts go in as few requests as the provider takes, `workers` at a time, each through the same limits,
        budgets and retries as any call, all within one deadline (`timeout`). `dimensions` is the length of the vectors
        where the model lets one choose. `purpose` is what they are for (`document`, `query`, `classification`,
        `clustering`, `similarity`) where the provider asks: Cohere, for which they are documents otherwise, and Gemini.
        Fallbacks are not asked: their vectors would not go with the others. Raises `ConfigError`, or a
        `CallError`; then none of the vectors is there.
        """
        from tidegate.chat.embedding import EmbedRequest, checked_texts  # noqa: PLC0415 (few programs embed)
        from tidegate.embedding import batches, embedded  # noqa: PLC0415
        from tidegate.providers.exchange import embedder  # noqa: PLC0415

        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ConfigError(f"`workers` is a whole number of at least 1, not {workers!r}")
        _check_values(priority, cancel, "raise")
        groups = list(
            batches(checked_texts(texts), embedder(self._corridor.endpoints.named(model).provider).embed_batch)
        )
        deadline, token = Deadline.after(self._seconds(timeout)), CancelToken()

        def ask(group: tuple[str, ...]) -> Completion:
            request = EmbedRequest.of(group, dimensions=dimensions, purpose=purpose, options=options)
            call, unlink = self._called(
                lambda: request, model=model, task=task, tags=tags, priority=priority, timeout=None, cancel=token
            )
            return cast("Completion", self._run(dataclasses.replace(call, deadline=deadline), unlink))

        untie = _tie(token, cancel, self._program_over if len(groups) > 1 else None)
        try:
            return embedded(ask, groups, workers=min(workers, len(groups)), cancel=token)
        finally:
            untie()

    def count_tokens(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        system: str | None = None,
        tools: Iterable[Tool | Mapping[str, Any]] | None = None,
        remote: bool = False,
        timeout: float | None = _UNSET,
    ) -> int:
        """Tokens of a question, counted here: exactly for OpenAI's models, else estimated.

        `remote=True` asks the provider instead, where it has an endpoint for that (Anthropic, Gemini). That is a
        request of its own, which costs nothing, is in no ledger and no metrics, and is retried like any other.
        Raises `ConfigError`, and with `remote=True` a `CallError`.
        """
        fields: dict[str, Any] = {"system": system, "tools": tools}
        request = ChatRequest.build(prompt, **fields)
        self._check_open()
        if not remote:
            route = self._corridor.endpoints.named(model).route
            return self._corridor.counter.count(request, route.provider, route.model).tokens
        from tidegate.chat.embedding import CountRequest  # noqa: PLC0415 (as in `embed`)

        call, unlink = self._called(lambda: CountRequest.build(prompt, **fields), model=model, timeout=timeout)
        try:
            reply = cast("Completion", self._corridor.count(call))
        finally:
            unlink()
        return reply.usage.input_tokens if reply.usage is not None else 0

    def metrics(self) -> Metrics:
        """Figures over the last 1,000 calls."""
        return self._corridor.window.metrics()

    def limits(self) -> Mapping[Route, LimitStatus]:
        """What is configured, learned, in use and waiting, of each route that was asked so far."""
        return self._corridor.admission.status()

    def circuits(self) -> Mapping[Route, State]:
        """`closed`, `open` or `half-open`, of each route that was asked so far."""
        return {} if self._corridor.breaker is None else self._corridor.breaker.states()

    @property
    def ledger(self) -> Ledger:
        """Where its calls are recorded. Raises `ConfigError` when that is switched off."""
        if self._corridor.ledger is None:
            raise ConfigError("this client keeps no ledger (`ledger=None`)")
        return self._corridor.ledger

    def estimate(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        system: str | None = None,
        max_tokens: int | None = None,
        tools: Iterable[Tool | Mapping[str, Any]] | None = None,
        schema: Any = None,
    ) -> Estimate:
        """Tokens and cost of a call, before it is made: low, likely and high. Nothing is sent.

        The answer is likely to be as long as the model's answers have been to this client; it is at most `max_tokens`,
        or what budgets send in its place.
        """
        self._check_open()
        request = ChatRequest.build(prompt, system=system, max_tokens=max_tokens, tools=tools, schema=schema)
        corridor, route = self._corridor, self._corridor.endpoints.named(model).route
        count = corridor.counter.count(request, route.provider, route.model)
        most = max_tokens or self._settings.default_max_tokens
        expected = min(corridor.admission.expected_answer(route), most)
        quote = corridor.prices.quote(route.provider, (route.model,))
        return estimate_of((count.tokens, count.highest), (1, expected, most), quote, exact=count.exact)

    def close(self, *, cancel: bool = False) -> None:
        """Wait for what was submitted, then close the connections. `cancel=True` ends calls in flight instead.

        A stream that is still open may be read to its end; the books are closed when it has ended.
        """
        self._closed = True
        if cancel:
            self._stopping.cancel()
        with self._lock:
            workers, self._workers = self._workers, None
        if workers is not None:
            workers.close(cancel=cancel)
        streams = list(self._streams)
        if cancel:
            for stream in streams:
                stream.close()
        self._corridor.transport.close()
        _after(streams, self._corridor.close_books)

    def _prepare(
        self,
        prompt: Prompt,
        *,
        streamed: bool = False,
        phase: Phase = "own",
        model: str | None = None,
        task: str | None = None,
        tags: Mapping[str, str] | None = None,
        priority: int = 0,
        budgets: Sequence[Budget] = (),
        timeout: float | None = _UNSET,
        cancel: CancelToken | None = None,
        stall_detection: bool = False,
        recover: Recover = "raise",
        **request: Any,
    ) -> tuple[Call, Callable[[], None]]:
        """The call, and a function that unties it from the tokens that can end it."""
        return self._called(
            lambda: ChatRequest.build(prompt, **request), streamed=streamed, phase=phase, model=model, task=task,
            tags=tags, priority=priority, budgets=budgets, timeout=timeout, cancel=cancel,
            stall_detection=stall_detection, recover=recover,
        )  # fmt: skip

    def _called(
        self,
        request: Callable[[], ChatRequest],
        *,
        streamed: bool = False,
        phase: Phase = "own",
        model: str | None = None,
        task: str | None = None,
        tags: Mapping[str, str] | None = None,
        priority: int = 0,
        budgets: Sequence[Budget] = (),
        timeout: float | None = _UNSET,
        cancel: CancelToken | None = None,
        stall_detection: bool = False,
        recover: Recover = "raise",
    ) -> tuple[Call, Callable[[], None]]:
        self._check_open()
        trace = Trace(SYSTEM_CLOCK.monotonic, phase)
        _check_values(priority, cancel, recover)
        _check_labels(task, tags)
        token = CancelToken()
        call = Call(
            id=f"{self._id_prefix}-{next(self._numbers):x}",
            request=request(),
            route=self._corridor.endpoints.named(model).route,
            deadline=Deadline.after(self._seconds(timeout)),
            cancel=token,
            trace=trace,
            streamed=streamed,
            recover=recover,
            stall_detection=stall_detection,
            task=task,
            tags=dict(tags or {}),
            priority=priority,
            budgets=self._own_budgets(budgets),
        )
        endless = phase == "queue" and not math.isfinite(call.deadline.at)
        return call, _tie(token, self._stopping, cancel, self._program_over if endless else None)

    def _own_budgets(self, budgets: Sequence[Budget]) -> tuple[Budget, ...]:
        """The budgets of one call. Raises `ConfigError` where they could not be kept."""
        if not budgets:
            return ()
        if isinstance(budgets, Budget) or not all(isinstance(budget, Budget) for budget in budgets):
            raise ConfigError("`budgets` is a list of `Budget`")
        if not self._corridor.keeps_budgets:
            raise ConfigError("this client keeps no budgets (`ledger=None` or `budgets=()`), so a call cannot have one")
        return tuple(budgets)

    def _seconds(self, timeout: float | None) -> float | None:
        if timeout is _UNSET:
            return self._settings.timeout
        if timeout is not None and (
            isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= sys.float_info.max
        ):
            raise ConfigError(f"`timeout` is a number of seconds above 0, or None for no deadline, not {timeout!r}")
        return timeout

    def _run(self, call: Call, unlink: Callable[[], None]) -> Reply:
        try:
            reply = self._corridor.proceed(call)
        except BaseException:
            unlink()
            raise
        reply.when_done(lambda _: unlink())
        return reply

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigError("this client is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close(cancel=kind is not None)

    def __repr__(self) -> str:
        chain = " > ".join([repr(policy) for policy in self._corridor.policies] + ["Dispatch"])
        return f"<Client {self.model}: {chain}>"


def _after(streams: Sequence[Stream], last: Callable[[], None]) -> None:
    """Call `last` when all of these have ended: at once, if none is open."""
    left = itertools.count(len(streams), -1)

    def one_less(_: object = None) -> None:
        if next(left) == 0:
            last()

    one_less()
    for stream in streams:
        stream.when_done(one_less)


def _tie(token: CancelToken, *parents: CancelToken | None) -> Callable[[], None]:
    """Cancel `token` with any of `parents`, until the function that this answers is called."""
    ties = [parent.on_cancel(token.cancel) for parent in parents if parent is not None]

    def untie() -> None:
        for forget in ties:
            forget()

    return untie


def _check_values(priority: object, cancel: object, recover: object) -> None:
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise ConfigError(f"`priority` is a whole number, not {priority!r}")
    if cancel is not None and not isinstance(cancel, CancelToken):
        raise ConfigError(f"`cancel` is a `CancelToken`, not `{type(cancel).__name__}`")
    if recover not in ("raise", "restart"):
        raise ConfigError(f'`recover` is "raise" or "restart", not {recover!r}')


def _check_labels(task: object, tags: object) -> None:
    if task is not None and not isinstance(task, str):
        raise ConfigError(f"`task` is a text, not {task!r}")
    if tags is not None and not isinstance(tags, Mapping):
        raise ConfigError(f"`tags` is a dict of names and texts, not `{type(tags).__name__}`")
    for name, value in (tags or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ConfigError(f"`tags` is a dict of names and texts; {name!r}: {value!r} is no pair of them")


def _check_names(options: Mapping[str, Any]) -> None:
    """What `complete` itself would say: before the first prompt of `map`, and of what `submit` would pass on."""
    unknown = next((name for name in options if name not in CallOptions.__annotations__), None)
    if unknown is not None:
        raise TypeError(f"complete() got an unexpected keyword argument '{unknown}'")
