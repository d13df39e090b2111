"""The client that waits."""

from __future__ import annotations

import os
import weakref
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from vqtok.errors import ServiceError
from vqtok.sequences import OutputType
from vqtok.serve.client.background import Background, Ended, Waiter
from vqtok.serve.client.core import Core, OnError, Options

if TYPE_CHECKING:
    from vqtok.pictures import Pixels
    from vqtok.serve.client.codec import RemoteCodec
    from vqtok.serve.facts import Facts
    from vqtok.tokenizer import VisualTokenizer
    from vqtok.types import Codes

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """Talks to a server of tokens (`vqtok serve`), from any number of threads at once.

    A picture is a path, bytes, an open file, a PIL image, an array or a tensor, as
    `vqtok.preprocess` takes them, and so are clips where the model takes clips. Files go as they
    are, everything else as pixels; the server brings them to its size. One of them gives one
    result, any collection of them a list, in order; a folder is the collection of its pictures.
    Many are cut into requests that the server takes, several of which are under way at once.

    All that a server does can be asked again, so what may pass is: no connection, 429 and 503 until
    the timeout, as while the server is started again; a connection that breaks, 502 and 504
    `retries` times. Pauses grow to 2 seconds; a longer Retry-After is respected. When the tokenizer
    behind the address is exchanged for another one, the next answer is a `MismatchError`. All
    errors are `VqtokError`; those of the service itself `ServiceError`.

    Requests go through proxies and trust certificates as the environment says it when the client
    is made: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR.

    url          such as http://127.0.0.1:8000
    model        the name of one of several on the server; by default its first
    api_key      by default the environment's VQTOK_API_KEY
    timeout      seconds until the whole answer to a request, with all that it is sent again; of
                 clips, which may take any time, seconds without anything that moves, but for codes
                 when a clip is sent: up to an hour
    retries      how often that is after 502, 504 and connections that broke; no connection, 429
                 and 503 are asked again until the timeout, whatever this says. 0: nothing is
    concurrency  requests of one call that are under way at once
    per_request  pictures in one
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
        # By process: a fork copies the loop, but not the thread that it runs in.
        self._backgrounds: dict[int, Background] = {}
        self._finish = weakref.finalize(self, _close, self._backgrounds)

    # --- pictures and codes -----------------------------------------------------------------

    def encode(self, images: Any, *, on_error: OnError = "raise") -> Any:
        """A picture or clip -> its `Codes`, a batch of one; several -> a list of such.

        on_error  "return" puts the exception of a picture that fails in its place in the list
        """
        return self._run(lambda core: core.encode(images, on_error))

    def encode_many(self, images: Any, *, on_error: OnError = "raise") -> Iterator[Any]:
        """As `encode`, one `Codes` after another, of any number of pictures in bounded memory.

        `images` is an iterable, or a folder. It is read as results are taken, some requests ahead.
        """
        waiter = self._waiter()
        core = self._core.using(waiter.call)
        flow = self._waited(waiter, lambda: core.encode_many(images, on_error))
        try:
            while outcomes := self._waited(waiter, flow.next):
                yield from outcomes
        finally:
            waiter.leave(flow)

    def decode(
        self, codes: Any, *, output_type: OutputType = "pil", on_error: OnError = "raise"
    ) -> Any:
        """`Codes` of one picture -> that picture; of several, or a list of any -> a list.

        Also takes grids of codes (h, w) as arrays, and what `latents` gave. A picture is a PIL
        image, a uint8 array (H, W, 3) or a tensor (3, H, W), as `output_type` says; a clip a list
        of such images, (T, H, W, 3) or (T, 3, H, W). `Codes` of another codebook are a
        `MismatchError`.
        """
        return self._run(lambda core: core.decode(codes, output_type, on_error))

    def encode_clip(self, clip: Any) -> Codes:
        """A clip of any length -> its `Codes`, a batch of one; it is read while it is sent.

        It is what `encode` takes for one clip, or an iterator of frames. Memory holds some frames
        at a time. Where an iterator has begun, nothing is sent again.
        """
        return self._run(lambda core: core.encode_clip(clip))

    def decode_frames(self, codes: Any) -> Iterator[Pixels]:
        """The codes of one clip -> its frames, (H, W, 3) uint8 each, as the server makes them.

        Memory holds some at a time, and codes of any length are taken. Where the connection breaks,
        all are asked for again, and given from there on.
        """
        waiter = self._waiter()
        flow = self._waited(waiter, lambda: self._core.using(waiter.call).decode_frames(codes))
        try:
            while frames := self._waited(waiter, flow.next):
                yield from frames
        finally:
            waiter.leave(flow)

    def reconstruct(
        self, images: Any, *, output_type: OutputType = "pil", on_error: OnError = "raise"
    ) -> Any:
        """Pictures or clips -> the same after encoding and decoding."""
        return self._run(lambda core: core.reconstruct(images, output_type, on_error))

    def latents(self, images: Any, *, on_error: OnError = "raise") -> Any:
        """A picture or clip -> its `Latents`, what is before quantization; several -> a list.

        These are `values`, (D, *grid) float32, and `size`, to which `decode` brings them back.
        """
        return self._run(lambda core: core.latents(images, on_error))

    # --- the server -------------------------------------------------------------------------

    def model(self) -> Facts:
        """What the server says of the tokenizer: fingerprint, preprocessing, codebook, ..."""
        return self._run(lambda core: core.model())

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Returns once the server is ready; a `ServiceError` where it is not by then."""
        self._run(lambda core: core.wait_until_ready(seconds))

    def codec(self) -> RemoteCodec:
        """The server's model as a `vqtok.types.Codec`, or `ClipCodec`, of preprocessed pixels."""
        from vqtok.serve.client.codec import codec_of

        return codec_of(self)

    def tokenizer(self) -> VisualTokenizer:
        """A `VisualTokenizer` that runs on the server and preprocesses here; no weights here."""
        from vqtok.serve.client.codec import tokenizer_of

        return tokenizer_of(self)

    def close(self) -> None:
        """Closes the connections; the client is of no use afterwards."""
        self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Of the server, as people may see it: without a password in it."""
        return self._core.url

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    # --- inside -----------------------------------------------------------------------------

    def _run(self, ask: Callable[[Core], Awaitable[T]]) -> T:
        waiter = self._waiter()
        return self._waited(waiter, lambda: ask(self._core.using(waiter.call)))

    def _waiter(self) -> Waiter:
        if not self._finish.alive:
            raise self._ended()
        pid = os.getpid()
        if pid not in self._backgrounds:
            self._backgrounds.setdefault(pid, Background(self._core.connection.close))
        return Waiter(self._backgrounds[pid])

    def _waited(self, waiter: Waiter, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            return waiter.run(ask)
        except Ended:
            raise self._ended() from None

    def _ended(self) -> ServiceError:
        return ServiceError(f"this client of {self._core.url} is closed; make a new one")


def _close(backgrounds: dict[int, Background]) -> None:
    """Of this process; at its end at the latest."""
    if (found := backgrounds.get(os.getpid())) is not None:
        found.close()
