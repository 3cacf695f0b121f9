"""Events as records of the stdlib logger `tidegate`: figures and names, never a prompt, an answer or a key.

A retry and a hedge are logged at INFO, a failed call at WARNING, everything else at DEBUG. The figures are also in
`extra`, as `tidegate_…` attributes, for whoever formats logs as JSON.
"""

from __future__ import annotations

import logging

from tidegate.pipeline.events import AttemptEnded, BudgetAlert, CallEnded, Event, FellBack, HedgeSent, RetryScheduled

LOGGER = logging.getLogger("tidegate")
LOGGER.addHandler(logging.NullHandler())  # a program that configures no logging sees nothing: errors are raised anyway


def log_events(event: Event) -> None:
    """The listener."""
    match event:
        case CallEnded():
            _call_ended(event)
        case RetryScheduled():
            _retry_scheduled(event)
        case HedgeSent():
            _hedge_sent(event)
        case FellBack():
            _fell_back(event)
        case BudgetAlert():
            _budget_alert(event)
        case AttemptEnded():
            _attempt_ended(event)


def _call_ended(event: CallEnded) -> None:
    level = logging.DEBUG if event.error is None else logging.WARNING
    if not LOGGER.isEnabledFor(level):
        return
    call, usage = event.call, event.completion.usage if event.completion else None
    outcome = "ok" if event.error is None else f"{type(event.error).__name__}: {event.error}"
    extra = {
        "tidegate_call": call.id,
        "tidegate_route": str(call.route),
        "tidegate_seconds": call.trace.duration,
        "tidegate_attempts": len(call.trace.attempts),
        "tidegate_outcome": "ok" if event.error is None else type(event.error).__name__,
        "tidegate_input_tokens": usage.input_tokens if usage else None,
        "tidegate_output_tokens": usage.output_tokens if usage else None,
    }
    LOGGER.log(
        level, "call %s to %s ended after %.3f s: %s", call.id, call.route, call.trace.duration, outcome, extra=extra
    )


def _retry_scheduled(event: RetryScheduled) -> None:
    if LOGGER.isEnabledFor(logging.INFO):
        LOGGER.info(
            "call %s: attempt %d failed (%s), again in %.3f s",
            event.call.id,
            event.call.attempt,
            type(event.error).__name__,
            event.delay,
            extra={"tidegate_call": event.call.id, "tidegate_delay": event.delay},
        )


def _hedge_sent(event: HedgeSent) -> None:
    if LOGGER.isEnabledFor(logging.INFO):
        LOGGER.info(
            "call %s: %s has not answered within %.3f s, asked a second time beside it",
            event.call.id,
            event.call.route,
            event.after,
            extra={"tidegate_call": event.call.id, "tidegate_after": event.after},
        )


def _fell_back(event: FellBack) -> None:
    LOGGER.warning(
        "call %s: %s failed (%s), asking %s",
        event.call.id,
        event.call.route,
        type(event.error).__name__,
        event.following,
        extra={"tidegate_call": event.call.id, "tidegate_route": str(event.following)},
    )


def _budget_alert(event: BudgetAlert) -> None:
    LOGGER.warning(
        "budget %s: %.0f %% are used, $%s",
        event.budget,
        100 * event.share,
        f"{event.spent.normalize():f}",
        extra={"tidegate_budget": event.budget, "tidegate_share": event.share, "tidegate_spent": str(event.spent)},
    )


def _attempt_ended(event: AttemptEnded) -> None:
    if LOGGER.isEnabledFor(logging.DEBUG):
        attempt = event.attempt
        LOGGER.debug(
            "call %s: attempt %d: %s in %.3f s", event.call.id, attempt.number, attempt.outcome, attempt.duration
        )
