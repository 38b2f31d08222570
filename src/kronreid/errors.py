"""The one error that is the user's to mend, not ours."""


class InputError(ValueError):
    """Bad input: a file, an option or a value that cannot be used.

    The message is one line that names the file or option, says what is wrong with it and what to do. The
    command line prints it and exits with status 2; any other exception is a bug and keeps its traceback.
    """


def one_line(error: BaseException) -> str:
    """The message of a library's error, which may have many lines, as one."""
    return " ".join(str(error).split())
