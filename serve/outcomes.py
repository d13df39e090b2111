"""How a picture can end other than with an answer. No HTTP here: who asks makes statuses of these.

```
EngineError (VqtokError)
├── Busy     no slot is free
├── Late     the deadline came first
├── Lost     no worker is up
│   └── Deadly   as many workers died over it as may
│       └── Severed  the one worker ended that had the first half of it
├── Refused  the input cannot be done; the message is the engine's, for the one who asked
└── Broken   anything else that the engine raised
```
"""

from __future__ import annotations

from vqtok.errors import VqtokError

__all__ = ["Broken", "Busy", "Deadly", "EngineError", "Late", "Lost", "Refused", "Severed"]


class EngineError(VqtokError):
    """There is no answer to what was asked of a desk."""


class Busy(EngineError):
    """All slots of the kind are taken."""


class Late(EngineError):
    """The deadline came before a slot, or before the answer."""


class Lost(EngineError):
    """No worker is up."""


class Deadly(Lost):
    """As many workers died over it as may; another time it may end as many more."""


class Severed(Deadly):
    """The worker ended that was in the middle of this clip; no other can go on with it."""


class Refused(EngineError):
    """The engine cannot do this with this input (its `InputError`)."""


class Broken(EngineError):
    """The engine failed on this input, alone in its batch."""
