"""The command line. ``main`` is the program ``fovea``; each command is a thin layer over the public Python names."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from fovea.errors import FoveaError
from fovea.progress import speaks

__all__ = ["main"]

ALONE_SECONDS = 2.0
BROKEN_PIPE, USER_ERROR, INTERRUPTED = 1, 2, 130  # 130 is 128 + the signal's number, as shells count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code.

    0 done; 1 `data check` found errors, `verify` a difference, or the reader of a pipe went away; 2 what a user can
    mend, said in one line on stderr; 130 interrupted.
    """
    from fovea.cli.app import app

    for stream in (sys.stdout, sys.stderr):  # a file name that is not UTF-8 must not end a listing
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(list(sys.argv[1:] if arguments is None else arguments), prog_name="fovea", standalone_mode=False)
        sys.stdout.flush()
    except FoveaError as error:
        return _fail(str(error), error.elsewhere)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains again at exit
        return BROKEN_PIPE
    except OSError as error:
        return _fail(f"[{error.filename or 'file'}] {error.strerror or error}; check path, permissions and free space")
    except MemoryError:
        return _fail(
            "[memory] expected enough memory for this input, got too little; use a smaller --batch-size or --size"
        )
    except KeyboardInterrupt:
        return _interrupted()
    except Exception as error:
        if type(error).__name__ == "Abort":  # Typer's word for ctrl-c
            return _interrupted()
        if not hasattr(error, "format_message"):
            raise  # a defect of fovea's own: the traceback is what a bug report needs
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.ctx.get_help())  # type: ignore[attr-defined]  # Typer's errors carry their command
            return 0
        return _fail(_usage(error))
    return code if isinstance(code, int) else 0


def _fail(message: str, elsewhere: bool = False) -> int:
    """Say an error. Of the processes of torchrun the first speaks; another one only when it fails alone."""
    if not speaks():
        time.sleep(ALONE_SECONDS)  # torchrun ends this process meanwhile when the first has failed, and said it, too
        message = f"process {os.environ.get('RANK')}: {message}"
    if not elsewhere:
        print(" ".join(message.split()), file=sys.stderr, flush=True)
    return USER_ERROR


def _interrupted() -> int:
    print("interrupted", file=sys.stderr)
    return INTERRUPTED


def _usage(error: Exception) -> str:
    """Typer's complaint about the words of a command line, in one line with the way to help."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "fovea"
    message = str(error.format_message()).rstrip(".")  # type: ignore[attr-defined]  # the caller saw that it has one
    return f"[{command}] {message}; see {command} --help"
