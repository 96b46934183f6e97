"""The one exception that means: the input is at fault, not the program."""


class UserError(ValueError):
    """Bad input, told in one sentence: what is wrong, where (file, field, value) and what to do.

    The command line prints the sentence and exits with code 2; Python callers may catch it as a ``ValueError``.
    """
