"""The error of a setting that cannot be used."""


class SettingError(ValueError):
  """A setting has a value that cannot be used.

  The text of the error is one line: the field, then the message. A program that
  reads the setting from elsewhere, say from a flag, can name that instead.

  Attributes:
    field: name of the setting.
    message: what is wrong with its value and what would be right; it follows
      the name, as in "must be at least 1, not 0".
  """

  def __init__(self, field: str, message: str):
    """Keeps the name, and the message in one line."""
    super().__init__(field, message)
    self.field = field
    self.message = " ".join(message.split())

  def __str__(self) -> str:
    """The field and the message."""
    return f"{self.field} {self.message}"
