"""A signal stops what may be stopped at once, and waits for what must be whole."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from tmgan.common.interrupt import Interrupted, StopRequest


@pytest.fixture
def stop():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    request = StopRequest()
    yield request
    request.restore()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_at_once_by_default(stop, capfd):
    with pytest.raises(Interrupted, match="SIGTERM"):
        signal.raise_signal(signal.SIGTERM)
    assert stop.signal == "SIGTERM" and "SIGTERM: stopping. Again to stop at once." in capfd.readouterr().err
    with pytest.raises(Interrupted, match="SIGTERM"):  # its exception may have been lost
        stop.check()


def test_what_must_be_whole_is_finished(stop, capfd):
    with stop.deferred():
        signal.raise_signal(signal.SIGINT)
        assert stop.signal == "SIGINT" and "SIGINT: finishing this step" in capfd.readouterr().err
        with pytest.raises(Interrupted, match="SIGINT"), stop.at_once():
            pytest.fail("the signal has come already")


def test_what_need_not_be_whole_is_left(stop):
    with stop.deferred():
        with pytest.raises(Interrupted), stop.at_once():
            signal.raise_signal(signal.SIGTERM)
            pytest.fail("it went on")
        assert stop._deferred


@pytest.mark.parametrize("deferred", [True, False])
def test_the_second_signal_ends_the_process(stop, deferred, monkeypatch, capfd):
    monkeypatch.setattr(os, "_exit", lambda status: (_ for _ in ()).throw(SystemExit(status)))
    stop.signal = "SIGTERM"
    stop._deferred = deferred
    with pytest.raises(SystemExit) as end:
        signal.raise_signal(signal.SIGINT)
    assert end.value.code == 130 and "the last checkpoint is intact" in capfd.readouterr().err


def test_no_handlers_outside_the_main_thread():
    """Only the main thread may set them."""
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        request = StopRequest()
        with request.deferred():
            seen.append((request.signal, signal.getsignal(signal.SIGTERM)))
        request.restore()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]
