"""`vqtok retry-failed`: once more, the samples that failed."""

from __future__ import annotations

import shlex

from vqtok.commands.jobs import go
from vqtok.commands.named import again
from vqtok.commands.progress import say
from vqtok.commands.setup import Setup
from vqtok.commands.tokenize import Launching
from vqtok.offline.here import is_settled, retry_job

__all__ = ["run"]


def run(
    setup: Setup,
    out: str,
    source: list[str] | None,
    kind: str | None,
    launching: Launching,
    *,
    as_json: bool,
) -> int:
    """Makes up for what failed; returns the exit status."""
    chosen = launching.launch(setup.device)
    found = again(setup, out, source, kind)
    if is_settled(found):
        if chosen.leads:
            say("nothing has failed")
        return 0
    job = retry_job(found, chosen, launching.decoders, launching.checked_decode_in())
    line = f"`vqtok retry-failed {shlex.quote(out)}`"
    return go(job, chosen, launching.max_failed, again=line, as_json=as_json)
