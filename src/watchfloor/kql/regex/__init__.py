"""Regular expressions as Kusto reads them: the syntax of Rust's regex crate, in time linear in the text.

``compile`` reads one. The result finds matches itself, and knows how to say the same in RE2's syntax, which is what
engines of SQL run. Nothing here backtracks without bound, whatever the pattern and the text are: look-around and
references back to a group do not exist, and a text that would cost too much is refused.
"""

from watchfloor.kql.regex.match import Regex, Spans, check, compile, quote
from watchfloor.kql.regex.syntax import RegexError

__all__ = ["Regex", "RegexError", "Spans", "check", "compile", "quote"]
