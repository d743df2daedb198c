"""What the errors of azure-servicebus mean for the port: which are worth another try, and what people can do."""

from datetime import timedelta
from typing import Final

from azure.core.exceptions import ClientAuthenticationError
from azure.servicebus.exceptions import (
    MessagingEntityDisabledError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusQuotaExceededError,
    ServiceBusServerBusyError,
)

from messaging.bus import BusUnavailableError

SEND: Final = "Send"
LISTEN: Final = "Listen"
"""The rights that Service Bus tells apart, as a shared access policy names them."""

_ROLES: Final = {SEND: "Azure Service Bus Data Sender", LISTEN: "Azure Service Bus Data Receiver"}

FULL_FOR: Final = timedelta(minutes=1)
"""When a full queue is worth asking again: it empties no faster than its consumers work."""


def unavailable(queue: str, right: str, error: Exception) -> BusUnavailableError:
    """*error* of an operation on *queue* that needed *right*, in the port's words: what is wrong and what to do."""
    cause = getattr(error, "inner_exception", None)
    told = "; ".join(" ".join(str(one).split()) for one in (error, cause) if one is not None and str(one))
    # What the SDK did not expect it wraps: a credential's refusal, for one.
    match cause if isinstance(cause, ClientAuthenticationError) else error:
        case ServiceBusQuotaExceededError():
            return BusUnavailableError(
                f"{queue}: the queue is full, or the namespace has no connection left ({told}); it empties as its"
                " messages are consumed and its dead letters are parked",
                retry_after=FULL_FOR,
            )
        case ServiceBusServerBusyError():
            return BusUnavailableError(f"{queue}: Service Bus is throttling this namespace ({told})")
        case ServiceBusAuthenticationError() | ServiceBusAuthorizationError() | ClientAuthenticationError():
            return BusUnavailableError(
                f"{queue}: Service Bus refuses this app ({told}); give its identity the role {_ROLES[right]!r} on this"
                f" queue, or the right {right} to the policy that its connection string names"
            )
        case MessagingEntityNotFoundError():
            return BusUnavailableError(f"{queue}: the namespace has no such queue; deploy infra/ to it ({told})")
        case MessagingEntityDisabledError():
            return BusUnavailableError(f"{queue}: the queue is disabled; enable it in the portal ({told})")
        case _:
            return BusUnavailableError(
                f"{queue}: Service Bus does not answer ({': '.join(filter(None, (type(error).__name__, told)))})"
            )
