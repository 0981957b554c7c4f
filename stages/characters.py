"""Text as it comes from people, web pages and other programs -> text that every tokenizer takes."""


def well_formed(text: str) -> str:
    """The text with halves of surrogate pairs joined, and those without their other half as U+FFFD.

    JSON may carry such halves ("\\ud83d"), which are no characters: tokenizers and files refuse the whole text.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
