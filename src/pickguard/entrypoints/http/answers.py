"""What every answer carries, whoever makes it."""

from collections.abc import Mapping
from typing import Final

HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""The headers of every answer; a page that shows something has a Content-Security-Policy of its own."""
OF_A_PAGE: Final[Mapping[str, str]] = {"Cross-Origin-Opener-Policy": "same-origin"}
"""What every page has beside them: its window for itself (ASVS 5.0 3.4.8)."""
STRICT_TRANSPORT_SECURITY: Final = "max-age=31536000; includeSubDomains"
"""What every answer over TLS has beside them."""
