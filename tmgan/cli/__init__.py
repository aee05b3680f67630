"""The command line: `tmgan COMMAND ...`. One module per command; each only parses, calls and prints.

Modules are imported only when their command is called, so help stays quick.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import os
import sys
import traceback

from tmgan.common.errors import OUR_FAULT, REFUSED, STATUSES, exit_status, sentence
from tmgan.common.interrupt import raise_on_signals
from tmgan.common.progress import quiet
from tmgan.common.version import __version__

# command -> (module, one-line help)
COMMANDS = {
    "data synth": ("data_synth", "draw birds with captions and true masks, as a CUB folder"),
    "data prepare": ("data_prepare", "turn a folder of photos and captions into a pack"),
    "data masks": ("data_masks", "find the object in every image of a pack and store its mask"),
    "data doctor": ("data_doctor", "say what a folder holds and what is missing"),
    "damsm": ("damsm", "train the text and photo encoders"),
    "train": ("train", "train the editor; with no arguments on drawn birds"),
    "edit": ("edit", "edit photos with a trained editor"),
    "evaluate": ("evaluate", "measure a trained editor"),
    "compare": ("compare", "measure runs on the same photos, side by side, and say which differences are real"),
    "tables": ("tables", "reproduce the paper's tables and figures; with no arguments on drawn birds"),
    "report": ("report", "write a one-page report of a run: pictures, curves, metrics, settings"),
    "replay": ("replay", "compute a step of a run once more and say which tensor went bad first"),
    "import": ("import_", "make a run of published weights: edit with them, train on from them"),
    "export": ("export", "write a run's networks as the files that the published code reads"),
    "bench": ("bench", "measure the training step on this machine"),
    "weights": ("weights", "say which third-party weights are here and what needs them, and download them"),
    "doctor": ("doctor", "print device, versions, what is installed and which weights are found"),
}

QUIET = "--quiet"  # for every command, so no command's own flag


def main(arguments: list[str] | None = None) -> None:
    """Run a command. It exits with the statuses that `tmgan --help` lists."""
    _prepare_streams()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    silent = QUIET in arguments
    arguments = [argument for argument in arguments if argument != QUIET]
    name = " ".join(arguments[: 2 if arguments[:1] == ["data"] else 1])
    try:
        with raise_on_signals(), quiet() if silent else contextlib.nullcontext():
            _run(name, arguments)
            sys.stdout.flush()  # here, where a full disk or a closed pipe can still be said
    except BaseException as error:
        _end(name, error)


def _prepare_streams() -> None:
    """Have something to print to, also where the caller has closed it (`>&-`): Python has no stream then."""
    for number in range(3):  # or the next file that is opened would get the number, and what others print
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be valid text


def _run(name: str, arguments: list[str]) -> None:
    if name in ("", "-h", "--help"):
        print(_help())
        return
    if name == "--version":
        print(f"tmgan {__version__}")
        return
    if name in ("data", "data -h", "data --help"):
        print(_help("data "))
        return
    if name not in COMMANDS:
        nearest = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean `tmgan {nearest[0]}`?" if nearest else ""
        print(f"There is no command `tmgan {name}`.{hint}\n\n{_help()}", file=sys.stderr)
        sys.exit(REFUSED)
    module = importlib.import_module(f"tmgan.cli.{COMMANDS[name][0]}")
    module.main(arguments[len(name.split()) :])


def _end(name: str, error: BaseException) -> None:
    """Say what has happened, and exit."""
    unread = _give_up_output()
    if isinstance(error, SystemExit):
        if error.code or unread is None:
            raise error
        error = unread
    status = exit_status(error)
    if isinstance(error, BrokenPipeError):  # nothing can be said
        sys.exit(status)
    message = sentence(error)
    if status == OUR_FAULT:
        message = "this is a fault of tmgan. Please report it with the lines above."
    with contextlib.suppress(OSError):  # nobody reads this either
        if status == OUR_FAULT or os.environ.get("TMGAN_TRACEBACK"):
            traceback.print_exception(error)
        print(f"tmgan {name}: {message}", file=sys.stderr)
    _give_up_output()
    sys.exit(status)


def _give_up_output() -> OSError | None:
    """Flush what was printed. What cannot be written goes nowhere, or Python would say so once more on its way out."""
    failure = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            failure = failure or error
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return failure


def _help(group: str = "") -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(
        f"  tmgan {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items() if name.startswith(group)
    )
    return (
        f"tmgan trains GANs that edit a photo from a sentence.\n\n{lines}\n\n"
        f"Each command has --help, and takes {QUIET}: no progress and no status lines (a run's log.txt has them),\n"
        "only notes, errors and what is asked for. Begin with `tmgan train`: it needs no arguments and no data.\n\n"
        f"{STATUSES}"
    )
