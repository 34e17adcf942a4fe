"""Functions and operators on strings.

A string is a sequence of code points: lengths and positions count those. Case does not count where two strings are
equal with every character in lower case (one for one). A term is a longest run of letters and digits of any script;
everything else, the underscore too, stands between terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from watchfloor.kql import ir, regex
from watchfloor.kql.functions.convert import dynamic_text
from watchfloor.kql.functions.spec import REFUSED, Template, scalar

MAX_TEXT: Final = 16 * 1024 * 1024
"""A string that a function makes longer than this is cut off by an error: a row is not a way to fill the memory."""

_IS_ASCII: Final = "strlen($a) = length($a)"


def lower(text: str) -> str:
    """``text`` in lower case, character by character: as many as before."""
    if text.isascii():
        return text.lower()
    return "".join(c.lower()[0] for c in text)


def upper(text: str) -> str:
    """``text`` in upper case, character by character: as many as before."""
    if text.isascii():
        return text.upper()
    return "".join(_upper(c) for c in text)


def _upper(character: str) -> str:
    for form in (character.upper(), character.title()):
        if len(form) == 1:
            return form
    return character


def constant(argument: Any) -> Any:
    """The value of an ``ir`` argument that is a constant, else None."""
    return argument.value if isinstance(argument, ir.Const) else None


def check_pattern(position: int) -> Callable[[Sequence[Any]], str | None]:
    """A check that the argument at ``position``, if it is a constant, is a regular expression."""

    def check(arguments: Sequence[Any]) -> str | None:
        pattern = constant(arguments[position])
        return regex.check(pattern) if isinstance(pattern, str) else None

    return check


def _compiled(argument: Any) -> regex.Regex | None:
    pattern = constant(argument)
    return regex.compile(pattern) if isinstance(pattern, str) and regex.check(pattern) is None else None


def guarded(compiled: regex.Regex | None, sql: str, subject: str = "$a") -> Template | None:
    """``sql``, with ``$pattern`` for the pattern. Where RE2 knows only its ASCII form, the routine does other texts."""
    if compiled is None:
        return None
    if (pattern := compiled.re2) is not None:
        return Template(sql, {"pattern": pattern})
    if (pattern := compiled.re2_ascii) is not None:
        text = f"CASE WHEN strlen({subject}) = length({subject}) THEN {sql} ELSE $routine END"
        return Template(text, {"pattern": pattern})
    return None


# -- operators --------------------------------------------------------------------------------------------------------


def contains_term(text: str, term: str, is_begin: bool = True, is_end: bool = True) -> bool:
    """Whether ``term`` is in ``text`` so that no term of ``text`` is cut: at its begin, at its end. Where ``term`` has
    no letter or digit at that side, nothing can be cut there."""
    is_begin = is_begin and term[:1].isalnum()
    is_end = is_end and term[-1:].isalnum()
    at = text.find(term)
    while at >= 0:
        end = at + len(term)
        if not (is_begin and text[at - 1 : at].isalnum()) and not (is_end and text[end : end + 1].isalnum()):
            return True
        at = text.find(term, at + 1)
    return False


def term_pattern(terms: Sequence[str], ignores_case: bool, is_begin: bool = True, is_end: bool = True) -> str:
    """A pattern of RE2 for ``contains_term`` of any of ``terms``; without case for terms that are in lower case."""
    options = []
    for term in terms:
        begin = r"(?:\A|[^\pL\pN])" if is_begin and term[:1].isalnum() else ""
        end = r"(?:\z|[^\pL\pN])" if is_end and term[-1:].isalnum() else ""
        options.append(begin + "".join(_character_pattern(c, ignores_case) for c in term) + end)
    return "|".join(options)


def _character_pattern(character: str, ignores_case: bool) -> str:
    forms = {character}
    if ignores_case:
        # beside the upper case: the sign of kelvin and the dotted I
        forms |= {form for form in (_upper(character), "\u212a", "\u0130") if lower(form) == character}
    texts = sorted(f if f.isalnum() and f.isascii() else rf"\x{{{ord(f):X}}}" for f in forms)
    return texts[0] if len(texts) == 1 else f"[{''.join(texts)}]"


def _is_foldable(term: str) -> bool:
    """Whether every character of ``term`` is known to ``_character_pattern`` with all its forms."""
    return term.isascii()


def _like(needle: str, before: str, after: str) -> str | None:
    """``needle`` as a pattern of ILIKE between wildcards; None if it holds wildcards itself."""
    return None if "%" in needle or "_" in needle else before + needle + after


def _insensitive(name: str, before: str, after: str) -> Callable[[Sequence[Any]], Template]:
    """The template of contains, startswith, endswith without case. ``name``: DuckDB's function with case."""

    def template(arguments: Sequence[Any]) -> Template:
        needle = constant(arguments[1])
        if not isinstance(needle, str):
            return Template(f"{name}(lower($a), lower($b))")
        pattern = _like(needle, before, after)
        if pattern is None:
            return Template(f"{name}(lower($a), $needle)", {"needle": lower(needle)})
        return Template("$a ILIKE $pattern", {"pattern": pattern})

    return template


def _negated(template: Callable[[Sequence[Any]], Template | None] | str) -> Callable[[Sequence[Any]], Template | None]:
    def negated(arguments: Sequence[Any]) -> Template | None:
        found = Template(template) if isinstance(template, str) else template(arguments)
        return None if found is None else Template(f"NOT ({found.text})", found.values)

    return negated


def _prefiltered(terms: Sequence[str], test: str) -> Template:
    """``test``, behind a cheap look for any of ``terms`` (in lower case) where they are few."""
    values = {}
    looks = []
    for number, term in enumerate(terms):
        key = "needle" + "abcd"[number]
        pattern = _like(term, "%", "%")
        looks.append(f"contains(lower($a), ${key})" if pattern is None else f"$a ILIKE ${key}")
        values[key] = term if pattern is None else pattern
    return Template(f"({' OR '.join(looks)}) AND {test}", values)


def _term_template(ignores_case: bool, is_begin: bool, is_end: bool) -> Callable[[Sequence[Any]], Template | None]:
    def template(arguments: Sequence[Any]) -> Template | None:
        needle = constant(arguments[1])
        if not isinstance(needle, str):
            return None
        if not needle:
            return Template("TRUE")
        if not ignores_case:
            if not (is_begin and needle[0].isalnum()) and not (is_end and needle[-1].isalnum()):
                return Template("contains($a, $needle)", {"needle": needle})
            pattern = term_pattern([needle], False, is_begin, is_end)
            return Template(
                "contains($a, $needle) AND regexp_matches($a, $pattern)", {"needle": needle, "pattern": pattern}
            )
        needle = lower(needle)
        folded = _is_foldable(needle)
        found = _prefiltered([needle], f"regexp_matches({'$a' if folded else 'lower($a)'}, $pattern)")
        return Template(found.text, {**found.values, "pattern": term_pattern([needle], folded, is_begin, is_end)})

    return template


def _register_operator(
    name: str, page: str, python: Callable[[str, str], bool], duckdb: Callable[[Sequence[Any]], Template | None] | str
) -> None:
    """``name`` and its negation."""

    def negation(left: str, right: str) -> bool:
        return not python(left, right)

    negative = {"=~": "!~"}.get(name, "!" + name)
    scalar(name, "string string", "bool", page=page, nulls="total", duckdb=duckdb)(python)
    scalar(negative, "string string", "bool", page="not-" + page, nulls="total", duckdb=_negated(duckdb))(negation)


def _without_case(python: Callable[[str, str], bool]) -> Callable[[str, str], bool]:
    def test(left: str, right: str) -> bool:
        return python(lower(left), lower(right))

    return test


def _has(is_begin: bool, is_end: bool) -> Callable[[str, str], bool]:
    def test(text: str, term: str) -> bool:
        return contains_term(text, term, is_begin, is_end)

    return test


for _name, _is_begin, _is_end in (("has", True, True), ("hasprefix", True, False), ("hassuffix", False, True)):
    _test = _has(_is_begin, _is_end)
    _register_operator(_name, f"{_name}-operator", _without_case(_test), _term_template(True, _is_begin, _is_end))
    _register_operator(f"{_name}_cs", f"{_name}-cs-operator", _test, _term_template(False, _is_begin, _is_end))

for _name, _function, _test, _before, _after in (
    ("contains", "contains", str.__contains__, "%", "%"),
    ("startswith", "starts_with", str.startswith, "", "%"),
    ("endswith", "ends_with", str.endswith, "%", ""),
):
    _register_operator(_name, f"{_name}-operator", _without_case(_test), _insensitive(_function, _before, _after))
    _register_operator(f"{_name}_cs", f"{_name}-cs-operator", _test, f"{_function}($a, $b)")

_register_operator("=~", "equals-operator", _without_case(str.__eq__), "lower($a) = lower($b)")

for _name in ("like", "notlike", "likecs", "notlikecs"):
    REFUSED[_name] = "use contains, startswith, endswith or matches regex"


def _matches_template(arguments: Sequence[Any]) -> Template | None:
    return guarded(_compiled(arguments[1]), "regexp_matches($a, $pattern)")


@scalar(
    "matches regex", "string string", "bool", page="matches-regex-operator", nulls="total",
    duckdb=_matches_template, check=check_pattern(1),
)  # fmt: skip
def matches_regex(text: str, pattern: str) -> bool:
    return regex.check(pattern) is None and regex.compile(pattern).matches(text)


def _terms(values: Sequence[Any]) -> list[str]:
    """The terms of a list of strings and dynamic arrays, in lower case."""
    found = []
    for value in values:
        found.extend(value if isinstance(value, list) else [value])
    return [lower(value if isinstance(value, str) else dynamic_text(value)) for value in found]


def _constant_terms(arguments: Sequence[Any]) -> list[str] | None:
    if not all(isinstance(argument, ir.Const) for argument in arguments[1:]):
        return None
    return list(dict.fromkeys(_terms([argument.value for argument in arguments[1:]])))


def _has_any_template(arguments: Sequence[Any]) -> Template | None:
    terms = _constant_terms(arguments)
    if terms is None:
        return None
    if not terms:
        return Template("FALSE")
    if "" in terms:
        return Template("TRUE")
    folded = all(map(_is_foldable, terms))
    pattern = term_pattern(terms, folded)
    if len(pattern) > 100_000:
        return None
    test = f"regexp_matches({'$a' if folded else 'lower($a)'}, $pattern)"
    found = _prefiltered(terms, test) if len(terms) <= 3 else Template(test)
    return Template(found.text, {**found.values, "pattern": pattern})


@scalar("has_any", "string terms+", "bool", page="has-any-operator", nulls="total", duckdb=_has_any_template)
def has_any(text: str, *terms: Any) -> bool:
    folded = lower(text)
    return any(contains_term(folded, term) for term in _terms(terms))


def _has_all_template(arguments: Sequence[Any]) -> Template | None:
    terms = _constant_terms(arguments)
    if terms is None or len(terms) > 50:
        return None
    values: dict[str, Any] = {}
    tests = []
    for number, term in enumerate(term for term in terms if term):
        letters = chr(97 + number // 26) + chr(97 + number % 26)
        folded = _is_foldable(term)
        pattern = _like(term, "%", "%")
        values["needle" + letters] = term if pattern is None else pattern
        values["pattern" + letters] = term_pattern([term], folded)
        look = f"contains(lower($a), $needle{letters})" if pattern is None else f"$a ILIKE $needle{letters}"
        tests.append(f"{look} AND regexp_matches({'$a' if folded else 'lower($a)'}, $pattern{letters})")
    return Template(" AND ".join(tests) or "TRUE", values)


@scalar("has_all", "string terms+", "bool", page="has-all-operator", nulls="total", duckdb=_has_all_template)
def has_all(text: str, *terms: Any) -> bool:
    folded = lower(text)
    return all(contains_term(folded, term) for term in _terms(terms))


@scalar("has_any_index", "string dynamic", "long", page="has-any-index-function", nulls="total")
def has_any_index(text: str, terms: Any) -> int:
    folded = lower(text)
    items = _terms([terms]) if isinstance(terms, list) else []
    return next((number for number, term in enumerate(items) if contains_term(folded, term)), -1)


# -- case, length, order ----------------------------------------------------------------------------------------------

scalar("tolower", "text", "string", page="tolower-function", duckdb="lower($a)")(lower)
scalar(
    "toupper", "text", "string", page="toupper-function",
    duckdb="CASE WHEN contains($a, 'ß') THEN $routine ELSE upper($a) END",
)(upper)  # fmt: skip


@scalar("strlen", "string", "long", page="strlen-function", duckdb="length($a)")
def strlen(text: str) -> int:
    return len(text)


@scalar("string_size", "string", "long", page="string-size-function", duckdb="strlen($a)")
def string_size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


@scalar(
    "reverse",
    "text",
    "string",
    page="reverse-function",
    duckdb=f"CASE WHEN {_IS_ASCII} THEN reverse($a) ELSE $routine END",
)
def reverse(text: str) -> str:
    return text[::-1]


@scalar(
    "strcmp", "text text", "long", page="strcmp-function",
    duckdb="CAST(CASE WHEN $a = $b THEN 0 WHEN $a < $b THEN -1 ELSE 1 END AS BIGINT)",
)  # fmt: skip
def strcmp(left: str, right: str) -> int:
    return (left > right) - (left < right)


@scalar("isascii", "text", "bool", page="isascii", duckdb=_IS_ASCII)
def isascii(text: str) -> bool:
    return text.isascii()


@scalar("isutf8", "text", "bool", page="isutf8-function", duckdb="$a IS NOT NULL")
def isutf8(text: str) -> bool:
    return True


# -- putting together -------------------------------------------------------------------------------------------------


@scalar("strcat", "text+", "string", page="strcat-function", duckdb="concat($*)")
def strcat(*texts: str) -> str:
    if sum(map(len, texts)) > MAX_TEXT:
        raise ValueError("strcat() makes a string that is too long")
    return "".join(texts)


@scalar("strcat_delim", "text text text+", "string", page="strcat-delim-function", duckdb="concat_ws($*)")
def strcat_delim(delimiter: str, *texts: str) -> str:
    return delimiter.join(texts)


@scalar(
    "strcat_array", "dynamic text", "string", page="strcat-array-function", nulls="total", aliases=("array_strcat",)
)
def strcat_array(array: Any, delimiter: str) -> str:
    if not isinstance(array, list):
        return dynamic_text(array)
    return delimiter.join(dynamic_text(item) for item in array)


@scalar("strrep", "text integer text?", "string", page="strrep-function")
def strrep(text: str, times: int, delimiter: str = "") -> str:
    times = max(0, min(times, 1024))
    if (len(text) + len(delimiter)) * times > MAX_TEXT:
        raise ValueError("strrep() makes a string that is too long")
    return delimiter.join([text] * times)


# -- taking apart -----------------------------------------------------------------------------------------------------


def _substring_template(arguments: Sequence[Any]) -> Template | None:
    start = constant(arguments[1])
    if not isinstance(start, int) or abs(start) > 2**31:
        return None
    if start < 0:
        text = f"CASE WHEN length($a) >= {-start} THEN right($a, {-start}) ELSE '' END"
        return Template(text if len(arguments) == 2 else f"coalesce(left({text}, greatest($c, 0)), '')")
    if len(arguments) == 2:
        return Template(f"substring($a, {start + 1})")
    length = constant(arguments[2])
    if isinstance(length, int):
        return Template(f"substring($a, {start + 1}, {min(max(length, 0), 2**31)})")
    return Template(f"CASE WHEN $c > 0 THEN substring($a, {start + 1}, least($c, 2147483647)) ELSE '' END")


@scalar("substring", "text integer integer?", "string", page="substring-function", duckdb=_substring_template)
def substring(text: str, start: int, length: int | None = None) -> str:
    if start < 0:
        start += len(text)
        if start < 0:
            return ""
    return text[start:] if length is None else text[start : start + max(length, 0)]


def _split_template(arguments: Sequence[Any]) -> Template | None:
    if len(arguments) > 2 or not constant(arguments[1]):
        return None
    return Template("CAST(to_json(string_split($a, $b)) AS VARCHAR)")


@scalar("split", "text string integer?", "dynamic", page="split-function", duckdb=_split_template)
def split(text: str, delimiter: str, index: int | None = None) -> list[str]:
    parts = text.split(delimiter) if delimiter else [text]
    if index is None:
        return parts
    return [parts[index]] if 0 <= index < len(parts) else []


def _starts(text: str, start: int, length: int) -> tuple[int, int]:
    """Where a match may begin: from the first position on, before the second."""
    if start < 0:
        start = max(0, len(text) + start)
    return start, len(text) + 1 if length < 0 else start + length


def _is_plain(arguments: Sequence[Any]) -> bool:
    return len(arguments) == 2


@scalar(
    "indexof", "text text integer? integer? integer?", "long", page="indexof-function",
    duckdb="CAST(strpos($a, $b) - 1 AS BIGINT)", when=_is_plain,
)  # fmt: skip
def indexof(text: str, match: str, start: int = 0, length: int = -1, occurrence: int = 1) -> int | None:
    if length < -1 or occurrence < 0:
        return None
    at, end = _starts(text, start, length)
    at -= 1
    for _ in range(occurrence):
        at = text.find(match, at + 1)
        if not 0 <= at < end:
            return -1
    return at if occurrence else -1


@scalar(
    "indexof_regex", "text =text integer? integer? integer?", "long", page="indexof-regex-function",
    check=check_pattern(1),
)  # fmt: skip
def indexof_regex(text: str, pattern: str, start: int = 0, length: int = -1, occurrence: int = 1) -> int | None:
    if length < -1 or occurrence < 0:
        return None
    low, end = _starts(text, start, length)
    for number, spans in enumerate(regex.compile(pattern).find_all(text, low), 1):
        assert spans[0] is not None
        if spans[0][0] >= end:
            break
        if number == occurrence:
            return spans[0][0]
    return -1


def _check_countof(arguments: Sequence[Any]) -> str | None:
    kind = constant(arguments[2]) if len(arguments) > 2 else "normal"
    if kind not in ("normal", "regex"):
        return 'the kind of countof() is "normal" or "regex"'
    return check_pattern(1)(arguments) if kind == "regex" else None


@scalar("countof", "string string =string?", "long", page="countof-function", check=_check_countof)
def countof(text: str, search: str, kind: str = "normal") -> int:
    if kind == "regex":
        return sum(1 for _ in regex.compile(search).find_all(text))
    count, at = 0, text.find(search) if search else -1
    while at >= 0:
        count, at = count + 1, text.find(search, at + 1)
    return count


# -- regular expressions ----------------------------------------------------------------------------------------------


def _group(text: str, spans: regex.Spans, number: int) -> str:
    span = spans[number] if 0 <= number < len(spans) else None
    return "" if span is None else text[slice(*span)]


def _extract_template(arguments: Sequence[Any]) -> Template | None:
    compiled, group = _compiled(arguments[0]), constant(arguments[1])
    if compiled is None or not isinstance(group, int):
        return None
    if not 0 <= group <= compiled.groups:
        return Template("''")
    if group > 9:
        return None
    return guarded(compiled, f"regexp_extract($c, $pattern, {group})", "$c")


@scalar(
    "extract", "=string integer string", "string", page="extract-function", duckdb=_extract_template,
    check=check_pattern(0),
)  # fmt: skip
def extract(pattern: str, group: int, text: str) -> str:
    spans = regex.compile(pattern).search(text)
    return "" if spans is None else _group(text, spans, group)


def _check_extract_all(arguments: Sequence[Any]) -> str | None:
    pattern = constant(arguments[0])
    if not isinstance(pattern, str):
        return None
    if (wrong := regex.check(pattern)) is not None:
        return wrong
    if not 1 <= regex.compile(pattern).groups <= 16:
        return "extract_all() wants a regular expression with 1 to 16 groups in parentheses"
    if len(arguments) == 3 and not isinstance(arguments[1], ir.Const):
        return "the groups that extract_all() is to give must be a constant"
    return None


def _all_matches(pattern: str, text: str, chosen: Any) -> list[Any] | None:
    compiled = regex.compile(pattern)
    groups = []
    for item in chosen if isinstance(chosen, list) else ():
        number = compiled.names.get(item) if isinstance(item, str) else item
        if isinstance(number, int) and 1 <= number <= compiled.groups:
            groups.append(number)
    groups = groups or list(range(1, compiled.groups + 1))
    found = [[_group(text, spans, number) for number in groups] for spans in compiled.find_all(text)]
    if not found:
        return None
    return [match[0] for match in found] if len(groups) == 1 else found


@scalar(
    "extract_all", "=string string", "dynamic", page="extract-all-function", check=_check_extract_all,
    aliases=("extractall",),
)  # fmt: skip
def extract_all(pattern: str, text: str) -> list[Any] | None:
    return _all_matches(pattern, text, None)


@scalar(
    "extract_all", "=string dynamic string", "dynamic", page="extract-all-function", check=_check_extract_all,
    nulls="total",
)  # fmt: skip
def extract_all_of(pattern: str, groups: Any, text: str) -> list[Any] | None:
    return _all_matches(pattern, text, groups)


def _rewritten(text: str, spans: regex.Spans, parts: list[str | int]) -> str:
    return "".join(part if isinstance(part, str) else _group(text, spans, part) for part in parts)


def _rewrite_parts(rewrite: str) -> list[str | int]:
    r"""Literal parts and group numbers of a rewrite pattern: ``\1`` is a group, ``\\`` a backslash."""
    parts: list[str | int] = []
    at = 0
    while at < len(rewrite):
        following = rewrite[at + 1 : at + 2]
        if rewrite[at] == "\\" and following.isascii() and (following.isdigit() or following == "\\"):
            parts.append(int(following) if following.isdigit() else "\\")
            at += 2
        else:
            parts.append(rewrite[at])
            at += 1
    return parts


def _replace_template(pattern: Any, rewrite: Any, subject: str) -> Template | None:
    compiled, text = _compiled(pattern), constant(rewrite)
    if compiled is None or not isinstance(text, str):
        return None
    sign = ""
    for part in _rewrite_parts(text):
        if isinstance(part, int):
            sign += f"\\{part}" if part <= compiled.groups else ""
        else:
            sign += "\\\\" if part == "\\" else part
    found = guarded(compiled, f"regexp_replace({subject}, $pattern, $rewrite, 'g')", subject)
    return None if found is None else Template(found.text, {**found.values, "rewrite": sign})


def _replaced(text: str, pattern: str, rewrite: str) -> str:
    parts, pieces, at = _rewrite_parts(rewrite), [], 0
    for spans in regex.compile(pattern).find_all(text):
        assert spans[0] is not None
        pieces.append(text[at : spans[0][0]])
        pieces.append(_rewritten(text, spans, parts))
        at = spans[0][1]
    return "".join([*pieces, text[at:]])


@scalar(
    "replace_regex", "string =string =string", "string", page="replace-regex-function", check=check_pattern(1),
    duckdb=lambda arguments: _replace_template(arguments[1], arguments[2], "$a"),
)  # fmt: skip
def replace_regex(text: str, pattern: str, rewrite: str) -> str:
    return _replaced(text, pattern, rewrite)


@scalar(
    "replace", "=string =string string", "string", page="replace-regex-function", check=check_pattern(0),
    duckdb=lambda arguments: _replace_template(arguments[0], arguments[1], "$c"),
)  # fmt: skip
def replace(pattern: str, rewrite: str, text: str) -> str:
    return _replaced(text, pattern, rewrite)


@scalar(
    "replace_string", "string string string", "string", page="replace-string-function", duckdb="replace($a, $b, $c)",
    when=lambda arguments: bool(constant(arguments[1])),
)  # fmt: skip
def replace_string(text: str, lookup: str, rewrite: str) -> str:
    return text.replace(lookup, rewrite) if lookup else text


@scalar("replace_strings", "string dynamic dynamic", "string", page="replace-strings-function", nulls="total")
def replace_strings(text: str, lookups: Any, rewrites: Any) -> str:
    """One lookup after the other, each in what no earlier one has found. With no string to replace it by, what is found
    stays, and is found all the same."""
    if not isinstance(lookups, list) or not isinstance(rewrites, list):
        return text
    pieces = [(text, False)]
    for lookup, rewrite in zip(lookups, rewrites, strict=False):
        if not isinstance(lookup, str) or not lookup:
            continue
        found = (rewrite if isinstance(rewrite, str) else lookup, True)
        divided: list[tuple[str, bool]] = []
        for piece, is_found in pieces:
            if is_found or lookup not in piece:
                divided.append((piece, is_found))
                continue
            for part in piece.split(lookup):
                divided += [(part, False), found]
            divided.pop()
        pieces = divided
    return "".join(piece for piece, _ in pieces)


def _anchored(pattern: str, before: str, after: str) -> regex.Regex:
    """``pattern`` between two anchors. A line break ends what may be a comment in it."""
    end = "\n" if "(?" in pattern and "#" in pattern else ""
    return regex.compile(f"{before}(?:{pattern}{end}){after}")


def _without_start(pattern: str, text: str) -> str:
    spans = _anchored(pattern, r"\A", "").search(text)
    return text if spans is None or spans[0] is None else text[spans[0][1] :]


def _without_end(pattern: str, text: str) -> str:
    spans = _anchored(pattern, "", r"\z").search(text)
    return text if spans is None or spans[0] is None else text[: spans[0][0]]


def _trim_template(before: str, after: str) -> Callable[[Sequence[Any]], Template | None]:
    def template(arguments: Sequence[Any]) -> Template | None:
        pattern = constant(arguments[0])
        if not isinstance(pattern, str) or ("(?" in pattern and "#" in pattern):
            return None
        text = f"{before}(?:{pattern}){after}"
        return guarded(None if regex.check(text) else regex.compile(text), "regexp_replace($b, $pattern, '')", "$b")

    return template


def _trim_both_template(arguments: Sequence[Any]) -> Template | None:
    start, end = _trim_template(r"\A", "")(arguments), _trim_template("", r"\z")(arguments)
    if start is None or end is None or "$routine" in start.text or "$routine" in end.text:
        return None
    text = "regexp_replace(regexp_replace($b, $pattern, ''), $ending, '')"
    return Template(text, {"pattern": start.values["pattern"], "ending": end.values["pattern"]})


@scalar(
    "trim_start", "=string string", "string", page="trim-start-function", check=check_pattern(0),
    duckdb=_trim_template(r"\A", ""),
)  # fmt: skip
def trim_start(pattern: str, text: str) -> str:
    return _without_start(pattern, text)


@scalar(
    "trim_end", "=string string", "string", page="trim-end-function", check=check_pattern(0),
    duckdb=_trim_template("", r"\z"),
)  # fmt: skip
def trim_end(pattern: str, text: str) -> str:
    return _without_end(pattern, text)


@scalar("trim", "=string string", "string", page="trim-function", check=check_pattern(0), duckdb=_trim_both_template)
def trim(pattern: str, text: str) -> str:
    return _without_end(pattern, _without_start(pattern, text))


@scalar("regex_quote", "text", "string", page="regex-quote-function")
def regex_quote(text: str) -> str:
    return regex.quote(text)


# -- characters -------------------------------------------------------------------------------------------------------


@scalar("translate", "string string string", "string", page="translate-function")
def translate(search: str, replacement: str, text: str) -> str:
    if not replacement:
        table: dict[int, str | None] = dict.fromkeys(map(ord, search))
    else:
        padded = replacement + replacement[-1] * max(0, len(search) - len(replacement))
        table = {}
        for old, new in zip(search, padded, strict=False):
            table.setdefault(ord(old), new)
    return text.translate(table)


@scalar(
    "unicode_codepoints_to_string", "integer|dynamic+", "string", page="unicode-codepoints-to-string-function",
    nulls="total", aliases=("make_string",),
)  # fmt: skip
def unicode_codepoints_to_string(*codes: Any) -> str:
    flat: list[Any] = []
    for code in codes:
        flat.extend(code if isinstance(code, list) else [code])
    is_code = (isinstance(code, int) and not isinstance(code, bool) for code in flat)
    if not all(is_code) or not all(0 <= code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF for code in flat):
        return ""
    return "".join(map(chr, flat))


@scalar(
    "unicode_codepoints_from_string", "text", "dynamic", page="unicode-codepoints-from-string-function",
    aliases=("to_utf8",),
)  # fmt: skip
def unicode_codepoints_from_string(text: str) -> list[int]:
    return [ord(c) for c in text]


_UNITS: Final = ("Bytes", "KB", "MB", "GB", "TB", "PB", "EB")


def _check_format_bytes(arguments: Sequence[Any]) -> str | None:
    unit = constant(arguments[2]) if len(arguments) > 2 else ""
    if unit and unit not in _UNITS:
        return f"the units of format_bytes() are {', '.join(_UNITS)}"
    return None


@scalar(
    "format_bytes", "real|decimal =integer? =string?", "string", page="format-bytes-function",
    check=_check_format_bytes,
)  # fmt: skip
def format_bytes(size: Any, precision: int = 0, unit: str = "") -> str:
    if size != size or size in (float("inf"), float("-inf")):
        return ""
    precision = max(0, min(precision, 15))
    if unit:
        power = _UNITS.index(unit)
    else:
        power, rest = 0, abs(size)
        while rest >= 1024 and power < len(_UNITS) - 1:
            power, rest = power + 1, rest / 1024
    text = f"{_rounded(size / 1024**power, precision):.{precision}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return f"{'0' if text == '-0' else text} {_UNITS[power]}"


def _rounded(value: Any, digits: int) -> Any:
    """Halves away from zero."""
    scaled = abs(value) * 10**digits
    whole = int(scaled)
    if scaled - whole >= 0.5:
        whole += 1
    return (-1 if value < 0 else 1) * whole / 10**digits


# -- punycode ---------------------------------------------------------------------------------------------------------

_DOTS: Final = "\u3002\uff0e\uff61"
"""What stands for a dot in the domain names of other scripts."""


_MAX_PUNYCODE: Final = 1_000
"""Encoding takes time that grows with the square of the length: longer ones are not encoded."""


def _to_punycode(text: str) -> str:
    return text.encode("punycode").decode("ascii") if len(text) <= _MAX_PUNYCODE else ""


def _from_punycode(text: str) -> str:
    try:
        return text.encode("ascii").decode("punycode") if len(text) <= _MAX_PUNYCODE else ""
    except (UnicodeError, OverflowError, ValueError):
        return ""


@scalar("punycode_from_string", "string", "string", page="punycode-from-string-function")
def punycode_from_string(text: str) -> str:
    return _to_punycode(text)


@scalar("punycode_to_string", "string", "string", page="punycode-to-string-function")
def punycode_to_string(text: str) -> str:
    return _from_punycode(text)


@scalar("punycode_domain_to_string", "string", "string", page="punycode-domain-to-string-function")
def punycode_domain_to_string(domain: str) -> str:
    for dot in _DOTS:
        domain = domain.replace(dot, ".")
    labels = domain.split(".")
    return ".".join(label if label.isascii() else "xn--" + _to_punycode(label) for label in labels)


@scalar("punycode_domain_from_string", "string", "string", page="punycode-domain-from-string-function")
def punycode_domain_from_string(domain: str) -> str:
    labels = [_from_punycode(label[4:]) if label[:4].lower() == "xn--" else label for label in domain.split(".")]
    is_decoded = all(label or not coded for label, coded in zip(labels, domain.split("."), strict=True))
    return ".".join(labels) if is_decoded else ""
