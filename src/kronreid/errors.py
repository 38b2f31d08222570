"""The one error that is the user's to mend, not ours."""


class InputError(ValueError):
    """Bad input: a file, an option or a value that cannot be used.

    Its text is one line, ``where: what``. The command line prints it and exits with status 2; any other
    exception is a bug and keeps its traceback.

    Args:
        where: The file, the option or the value; any object, which is kept as text. Empty for a problem whose
            place is known to the caller alone.
        what: What is wrong with it and what to do, in one line.

    Attributes:
        where: See above.
        what: See above.
    """

    def __init__(self, where: object, what: str) -> None:
        self.where, self.what = str(where), what
        super().__init__(self.where, what)

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what

    def within(self, where: object) -> "InputError":
        """The same problem as one of a larger thing: of the file that has the bad value."""
        return InputError(where, self.what if str(where) == self.where else str(self))


def one_line(error: BaseException) -> str:
    """The message of a library's error, which may have many lines, as one."""
    return " ".join(str(error).split())
