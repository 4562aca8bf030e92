"""The one exception for input that a person can mend."""


class InputError(ValueError):
    """Bad input: one sentence that says what was expected, what came and what to do.

    The command line prints the sentence and exits with status 2; no other
    exception is shown to a user without its traceback.
    """


LONGEST = 200
"""Characters of another library's words that a sentence of ours may quote."""


def why(error: BaseException) -> str:
    """What another library says of its error, fit for a sentence: one printable line, cut where it is long.

    Such words may quote whatever lies in a damaged file. Lines are joined, not dropped: torch's first line often only
    announces what the next ones say.
    """
    said = "".join(letter if letter.isprintable() else "?" for letter in " ".join(str(error).split()))
    return (said if len(said) <= LONGEST else f"{said[:LONGEST]}...") or type(error).__name__
