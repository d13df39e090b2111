"""The client that waits."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from vqtok.errors import ServiceError
from vqtok.sequences import OutputType
from vqtok.serve.client.core import Core, OnError, Options, headers_of
from vqtok.serve.client.crew import Crew
from vqtok.serve.client.effects import Steps
from vqtok.serve.client.lanes import Lanes

if TYPE_CHECKING:
    from vqtok.serve.client.codec import RemoteCodec
    from vqtok.serve.facts import Facts
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["Client"]


class Client:
    """Talks to a server of tokens (`vqtok serve`), from any number of threads at once.

    A picture is a path, bytes, an open file, a PIL image, an array or a tensor, as
    `vqtok.preprocess` takes them, and so are clips where the model takes clips. Files go as they
    are, everything else as pixels; the server brings them to its size. One of them gives one
    result, any collection of them a list, in order; a folder is the collection of its pictures.
    Many are cut into requests that the server takes, several of which are under way at once.

    All that a server does can be asked again, so what may pass is: no connection, 429, 502, 503
    and 504. When the tokenizer behind the address is exchanged for another one, the next answer
    is a `MismatchError`. All errors are `VqtokError`; those of the service itself `ServiceError`.

    url          such as http://127.0.0.1:8000
    model        the name of one of several on the server; by default its first
    api_key      by default the environment's VQTOK_API_KEY
    timeout      seconds for a request, with all that it is sent again
    retries      how often that is after failures; a server that is full is asked again until the
                 timeout. 0: never
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
        self._core = Core(url, model, Options(timeout, retries, concurrency, per_request))
        self._lanes = Lanes(self._core.url, headers_of(api_key))
        self._closed = False

    # --- pictures and codes -----------------------------------------------------------------

    def encode(self, images: Any, *, on_error: OnError = "raise") -> Any:
        """A picture or clip -> its `Codes`, a batch of one; several -> a list of such.

        on_error  "return" puts the exception of a picture that fails in its place in the list
        """
        return self._run(self._core.encode(images, on_error))

    def encode_many(self, images: Any, *, on_error: OnError = "raise") -> Iterator[Any]:
        """As `encode`, one `Codes` after another, of any number of pictures in bounded memory.

        `images` is an iterable, or a folder. It is read as results are taken, some requests ahead.
        """
        return self._iterate(self._core.encode_many(images, on_error))

    def decode(
        self, codes: Any, *, output_type: OutputType = "pil", on_error: OnError = "raise"
    ) -> Any:
        """`Codes` of one picture -> that picture; of several, or a list of any -> a list.

        Also takes grids of codes (h, w) as arrays, and what `latents` gave. A picture is a PIL
        image, a uint8 array (H, W, 3) or a tensor (3, H, W), as `output_type` says; a clip a list
        of such images, (T, H, W, 3) or (T, 3, H, W). `Codes` of another codebook are a
        `MismatchError`.
        """
        return self._run(self._core.decode(codes, output_type, on_error))

    def reconstruct(
        self, images: Any, *, output_type: OutputType = "pil", on_error: OnError = "raise"
    ) -> Any:
        """Pictures or clips -> the same after encoding and decoding."""
        return self._run(self._core.reconstruct(images, output_type, on_error))

    def latents(self, images: Any, *, on_error: OnError = "raise") -> Any:
        """Pictures or clips -> the vectors before quantization, (D, *grid) float32 each."""
        return self._run(self._core.latents(images, on_error))

    # --- the server -------------------------------------------------------------------------

    def model(self) -> Facts:
        """What the server says of the tokenizer: fingerprint, preprocessing, codebook, ..."""
        facts: Facts = self._run(self._core.model())
        return facts

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Returns once the server is ready; a `ServiceError` where it is not by then."""
        self._run(self._core.wait_until_ready(seconds))

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
        self._closed = True
        self._lanes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._core.url!r})"

    # --- inside -----------------------------------------------------------------------------

    def _run(self, steps: Steps[Any]) -> Any:
        self._check_open()
        with Crew(self._lanes) as crew:
            return crew.run(steps)

    def _iterate(self, steps: Steps[None]) -> Iterator[Any]:
        self._check_open()
        with Crew(self._lanes) as crew:
            yield from crew.drive(steps)

    def _check_open(self) -> None:
        if self._closed:
            raise ServiceError(f"this client of {self._core.url} is closed; make a new one")
