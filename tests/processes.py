"""Waiting for processes without a clock."""

from __future__ import annotations

import os
import select

MOST_SECONDS = 300  # after which a process is taken to be running for good; an idle machine needs none of them


def ended(pid: int) -> bool:
    """Wait until the process, of anyone, has ended. False when it goes on and on."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], MOST_SECONDS)[0])
    finally:
        os.close(descriptor)
