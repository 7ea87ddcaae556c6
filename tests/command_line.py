"""The command line in this process, for tests."""

import contextlib
import io
import warnings

import pytest

from unsteep.cli import main


def unsteep_(*arguments: object) -> tuple[int, str, str]:
    """A command: its exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("default")
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


def made(*arguments: object) -> str:
    """What a command says that must succeed."""
    code, out, err = unsteep_(*arguments)
    assert code == 0, out + err
    return out
