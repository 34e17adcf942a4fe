"""Functions that take texts of a known form apart: URLs, paths, command lines, CSV, XML, versions, JSON by path.

A text that is not of the form gives what the function's page says: null, '' or empty parts; never an error. XML is read
without entities of its own, so that a short text cannot become a long one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes
from xml.parsers import expat

from watchfloor.kql.functions.convert import dynamic_text
from watchfloor.kql.functions.dynamics import parse_json
from watchfloor.kql.functions.spec import REFUSED, scalar
from watchfloor.kql.functions.strings import constant

# -- URLs -------------------------------------------------------------------------------------------------------------

_URL: Final = re.compile(
    r"""(?P<Scheme>[A-Za-z][A-Za-z0-9+.-]*)://
    (?: (?P<Username>[^:@/?\#]*) : (?P<Password>[^@/?\#]*) @ )?
    (?P<Host>\[[^\]/?\#]*\]|[^:/?\#]*)
    (?: : (?P<Port>[0-9]*) )?
    (?P<Path>/[^?\#]*)?
    (?: \? (?P<Query>[^\#]*) )?
    (?: \# (?P<Fragment>.*) )?""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)


def _query_parameters(query: str) -> dict[str, Any]:
    """The parameters by name, in the order of their names. One that is given several times has an array."""
    found: dict[str, Any] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if not name or not value:
            continue
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return dict(sorted(found.items()))


@scalar("parse_url", "string", "dynamic", page="parse-url-function", aliases=("parseurl",))
def parse_url(url: str) -> dict[str, Any]:
    match = _URL.fullmatch(url)
    parts = {name: part or "" for name, part in match.groupdict().items()} if match else {}
    path = parts.get("Path", "")
    if path == "/" and url.endswith("/") and match is not None and match.end("Path") == len(url):
        path = ""
    names = ("Scheme", "Host", "Port", "Path", "Username", "Password", "Query Parameters", "Fragment")
    values = {**parts, "Path": path, "Query Parameters": _query_parameters(parts.get("Query", ""))}
    return {name: values.get(name, "") for name in names}


@scalar("parse_urlquery", "string", "dynamic", page="parse-url-query-function", aliases=("parseurlquery",))
def parse_urlquery(query: str) -> dict[str, Any]:
    return {"Query Parameters": _query_parameters(query)}


_SAFE_IN_URL: Final = "!()*-._"


def _percent_encoded(text: str) -> str:
    encoded = quote(text, safe=_SAFE_IN_URL).replace("~", "%7e")
    return re.sub("%[0-9A-F]{2}", lambda match: match.group().lower(), encoded)


@scalar("url_encode_component", "string", "string", page="url-encode-component-function")
def url_encode_component(url: str) -> str:
    return _percent_encoded(url)


@scalar("url_encode", "string", "string", page="url-encode-function")
def url_encode(url: str) -> str:
    return _percent_encoded(url).replace("%20", "+")


@scalar("url_decode", "string", "string", page="url-decode-function")
def url_decode(url: str) -> str:
    return unquote_to_bytes(url.replace("+", " ")).decode("utf-8", "replace")


# -- paths ------------------------------------------------------------------------------------------------------------

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)
_DRIVE: Final = re.compile(r"(?:[\\/]{2}\?[\\/])?[A-Za-z]:[\\/]", re.ASCII)


@scalar("parse_path", "string", "dynamic", page="parse-path-function")
def parse_path(path: str) -> dict[str, str]:
    scheme = _SCHEME.match(path)
    rest = path[scheme.end() :] if scheme else path
    drive = _DRIVE.match(rest)
    root = drive.group() if drive else ""
    slash = max(rest.rfind("/"), rest.rfind("\\"))
    directory, filename = (rest[:slash], rest[slash + 1 :]) if slash >= 0 else ("", rest)
    filename, _, stream = filename.partition(":")
    inner = directory[len(root) :] if len(directory) >= len(root) else ""
    return {
        "Scheme": scheme.group(1) if scheme else "",
        "RootPath": root,
        "DirectoryPath": root if len(directory) < len(root) else directory,
        "DirectoryName": re.split(r"[\\/]", inner)[-1],
        "Filename": filename,
        "Extension": filename.rpartition(".")[2] if "." in filename else "",
        "AlternateDataStreamName": stream,
    }


# -- command lines ----------------------------------------------------------------------------------------------------


def _check_parser(arguments: Sequence[Any]) -> str | None:
    parser = constant(arguments[1])
    return 'the parser of parse_command_line() is "windows"' if parser not in (None, "windows") else None


@scalar("parse_command_line", "text string", "dynamic", page="parse-command-line-function", check=_check_parser)
def parse_command_line(line: str, parser: str) -> list[str] | None:
    """By the rules of CommandLineToArgvW: in the first argument a backslash is a backslash; after it, backslashes in
    front of a quotation mark count in pairs, and three quotation marks in a row are one that is meant."""
    if parser != "windows":
        return None
    if not line:
        return []
    if line[0] == '"':
        end = line.find('"', 1)
        end = len(line) if end < 0 else end
        first, at = line[1:end], end + 1
    else:
        blank = re.search(r"[ \t]", line)
        end = blank.start() if blank else len(line)
        first, at = line[:end], end
    found = [first]
    rest = line[at:].lstrip(" \t")
    if rest:
        found.extend(_windows_arguments(rest))
    return found


def _windows_arguments(text: str) -> list[str]:
    found: list[str] = []
    current: list[str] = []
    quotes = backslashes = at = 0
    while at < len(text):
        character = text[at]
        if character in " \t" and quotes == 0:
            found.append("".join(current))
            current, backslashes = [], 0
            while at < len(text) and text[at] in " \t":
                at += 1
            if at == len(text):
                return found
            continue
        at += 1
        if character == "\\":
            current.append(character)
            backslashes += 1
        elif character == '"':
            is_meant = backslashes % 2 == 1
            del current[len(current) - (backslashes + 1) // 2 :]
            if is_meant:
                current.append('"')
            else:
                quotes += 1
            backslashes = 0
            while at < len(text) and text[at] == '"':
                at += 1
                quotes += 1
                if quotes == 3:
                    current.append('"')
                    quotes = 0
            if quotes == 2:
                quotes = 0
        else:
            current.append(character)
            backslashes = 0
    found.append("".join(current))
    return found


# -- CSV --------------------------------------------------------------------------------------------------------------

_CSV_VALUE: Final = re.compile(r'"((?:[^"]|"")*)"|([^,\r\n]*)')


@scalar("parse_csv", "string", "dynamic", page="parse-csv-function")
def parse_csv(text: str) -> list[str]:
    found, at = [], 0
    while True:
        match = _CSV_VALUE.match(text, at)
        assert match is not None
        value = match.group(2) if match.group(1) is None else match.group(1).replace('""', '"')
        at = match.end()
        if match.group(1) is not None:  # what stands between the closing mark and the comma belongs to it
            rest = re.compile(r"[^,\r\n]*").match(text, at)
            assert rest is not None
            value, at = value + rest.group(), rest.end()
        found.append(value)
        if text[at : at + 1] != ",":
            return found
        at += 1


# -- versions ---------------------------------------------------------------------------------------------------------

_VERSION: Final = re.compile(r"[0-9]{1,8}(?:[.][0-9]{1,8}){0,3}", re.ASCII)


_VERSION_PARTS: Final = ", ".join(f"lpad(split_part($a, '.', {n}), 8, '0')" for n in range(1, 5))


@scalar(
    "parse_version",
    "string",
    "decimal",
    page="parse-version-function",
    # 32 digits: whole numbers that are wider than other decimals may be.
    duckdb=f"CASE WHEN regexp_full_match($a, '{_VERSION.pattern}') "
    f"THEN CAST(concat({_VERSION_PARTS}) AS DECIMAL(38, 0)) END",
)
def parse_version(version: str) -> Decimal | None:
    if _VERSION.fullmatch(version) is None:
        return None
    parts = [int(part) for part in version.split(".")]
    number = 0
    for part in parts + [0] * (4 - len(parts)):
        number = number * 10**8 + part
    return Decimal(number)


# -- JSON by path -----------------------------------------------------------------------------------------------------

_STEP: Final = re.compile(r"""\.([A-Za-z_][\w-]*)|\[\s*'([^']*)'\s*\]|\[\s*"([^"]*)"\s*\]|\[\s*([0-9]{1,9})\s*\]""")


def json_path(path: str) -> list[str | int] | None:
    """The steps of a JSONPath; None if it is none, or has wildcards and the like."""
    if not path.startswith("$"):
        return None
    steps: list[str | int] = []
    at = 1
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            return None
        name, single, double, position = match.groups()
        steps.append(
            int(position) if position is not None else next(n for n in (name, single, double) if n is not None)
        )
        at = match.end()
    return steps


def _check_path(arguments: Sequence[Any]) -> str | None:
    path = constant(arguments[0])
    if isinstance(path, str) and json_path(path) is None:
        return "this is no JSON path: it begins with $, and has steps such as .name, ['name'] and [0]"
    return None


@scalar(
    "extract_json", "=string string", "string", page="extract-json-function", check=_check_path,
    aliases=("extractjson",),
)  # fmt: skip
def extract_json(path: str, text: str) -> str:
    steps = json_path(path)
    value = parse_json(text) if steps is not None else None
    for step in steps or ():
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = value[step] if isinstance(value, list) and step < len(value) else None
    return dynamic_text(value)


# -- XML --------------------------------------------------------------------------------------------------------------

MAX_XML: Final = 1_048_576
_MAX_XML_DEPTH: Final = 100


class _NotRead(Exception):
    """This text is not turned into a value."""


class _Element:
    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.members: dict[str, list[Any]] = {f"@{key}": [value] for key, value in attributes.items()}
        self.texts: list[str] = []

    def end_text(self) -> None:
        """What text was read since the last element is one text, without the blanks around it."""
        text = "".join(self.texts).strip()
        if text:
            self.members.setdefault("#text", []).append(text)
        self.texts.clear()

    def value(self) -> Any:
        if not self.members:
            return None
        members = {name: values[0] if len(values) == 1 else values for name, values in self.members.items()}
        return members["#text"] if list(members) == ["#text"] else members


class _XmlReader:
    def __init__(self) -> None:
        self.root: _Element | None = None
        self.open: list[_Element] = []
        self.is_in_cdata = False

    def read(self, text: str) -> Any:
        parser = expat.ParserCreate(encoding="utf-8")
        parser.buffer_text = True
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.text
        parser.StartDoctypeDeclHandler = self.refuse
        parser.StartCdataSectionHandler = lambda: self.cdata(True)
        parser.EndCdataSectionHandler = lambda: self.cdata(False)
        parser.Parse(text.encode(), True)
        return None if self.root is None else {self.root.name: self.root.value()}

    def refuse(self, *_: Any) -> None:
        raise _NotRead

    def cdata(self, is_begin: bool) -> None:
        self.is_in_cdata = is_begin

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self.open) >= _MAX_XML_DEPTH:
            raise _NotRead
        if self.open:
            self.open[-1].end_text()
        element = _Element(name, attributes)
        self.root = self.root or element
        self.open.append(element)

    def end(self, _: str) -> None:
        element = self.open.pop()
        element.end_text()
        if self.open:
            self.open[-1].members.setdefault(element.name, []).append(element.value())

    def text(self, data: str) -> None:
        if self.open and not self.is_in_cdata:
            self.open[-1].texts.append(data)


@scalar("parse_xml", "string", "dynamic", page="parse-xml-function")
def parse_xml(text: str) -> Any:
    if len(text) > MAX_XML or len(text.encode()) > MAX_XML:
        return None
    try:
        return _XmlReader().read(text.strip())
    except (expat.ExpatError, _NotRead):
        return None


REFUSED["parse_user_agent"] = "it needs a large list of patterns that is not part of this engine; use extract() or has"
