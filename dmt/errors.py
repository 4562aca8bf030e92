"""The one exception for input that a person can mend."""


class InputError(ValueError):
    """Bad input: one sentence that says what was expected, what came and what to do.

    The command line prints the sentence and exits with status 2; no other
    exception is shown to a user without its traceback.
    """
