"""The error for bad input, which the user can fix."""


class InputError(ValueError):
    """Bad input: a file, an option or a value that cannot be used.

    Its text is one line, ``where: what``. The command line prints it and exits with status 2. Any other
    exception is a bug and keeps its traceback.

    Args:
        where: The file, the option or the value. Any object is accepted and stored as text. It is empty if
            only the caller knows the place.
        what: What is wrong and what to do, in one line.

    Attributes:
        where: The file, the option or the value, as text.
        what: What is wrong and what to do.
    """

    def __init__(self, where: object, what: str) -> None:
        self.where, self.what = str(where), what
        super().__init__(self.where, what)

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what

    def within(self, where: object) -> "InputError":
        """The same error, reported for an enclosing object, like the file that holds the bad value."""
        return InputError(where, self.what if str(where) == self.where else str(self))


def one_line(error: BaseException) -> str:
    """The message of a library's error on one line."""
    return " ".join(str(error).split())
