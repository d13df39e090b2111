"""The client for event loops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from vqtok.errors import ServiceError
from vqtok.sequences import OutputType
from vqtok.serve.client.core import Core, OnError, Options

if TYPE_CHECKING:
    from vqtok.pictures import Pixels
    from vqtok.serve.facts import Facts
    from vqtok.types import Codes

__all__ = ["AsyncClient"]


class AsyncClient:
    """`Client` for asyncio: the same arguments, methods and results; see there.

    It belongs to the loop that it is first used in. Also takes asynchronous iterables of pictures.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: int = 4,
        concurrency: int = 4,
        per_request: int = 32,
    ) -> None:
        options = Options(timeout, retries, concurrency, per_request)
        self._core = Core(url, model, api_key, options)
        self._closed = False

    # --- pictures and codes -----------------------------------------------------------------

    async def encode(self, images: Any, *, on_error: OnError = "raise") -> Any:
        """See `Client.encode`."""
        return await self._open.encode(images, on_error)

    async def encode_many(self, images: Any, *, on_error: OnError = "raise") -> AsyncIterator[Any]:
        """See `Client.encode_many`."""
        flow = await self._open.encode_many(images, on_error)
        try:
            while outcomes := await flow.next():
                for one in outcomes:
                    yield one
        finally:
            await flow.close()

    async def decode(
        self, codes: Any, *, output_type: OutputType = "pil", on_error: OnError = "raise"
    ) -> Any:
        """See `Client.decode`."""
        return await self._open.decode(codes, output_type, on_error)

    async def encode_clip(self, clip: Any) -> Codes:
        """See `Client.encode_clip`."""
        return await self._open.encode_clip(clip)

    async def decode_frames(self, codes: Any) -> AsyncIterator[Pixels]:
        """See `Client.decode_frames`."""
        flow = await self._open.decode_frames(codes)
        try:
            while frames := await flow.next():
                for frame in frames:
                    yield frame
        finally:
            await flow.close()

    async def reconstruct(
        self, images: Any, *, output_type: OutputType = "pil", on_error: OnError = "raise"
    ) -> Any:
        """See `Client.reconstruct`."""
        return await self._open.reconstruct(images, output_type, on_error)

    async def latents(self, images: Any, *, on_error: OnError = "raise") -> Any:
        """See `Client.latents`."""
        return await self._open.latents(images, on_error)

    # --- the server -------------------------------------------------------------------------

    async def model(self) -> Facts:
        """See `Client.model`."""
        return await self._open.model()

    async def wait_until_ready(self, seconds: float = 60.0) -> None:
        """See `Client.wait_until_ready`."""
        await self._open.wait_until_ready(seconds)

    async def aclose(self) -> None:
        """Closes the connections; the client is of no use afterwards."""
        self._closed = True
        await self._core.connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncClient({self._core.url!r})"

    # --- inside -----------------------------------------------------------------------------

    @property
    def _open(self) -> Core:
        if self._closed:
            raise ServiceError(f"this client of {self._core.url} is closed; make a new one")
        return self._core
