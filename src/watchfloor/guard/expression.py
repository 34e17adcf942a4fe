"""CEL, Google's own implementation, narrowed to what a policy may say.

Compiles and checks conditions, joins many into one, and evaluates them over an activation. Names come from
``names.py``; policies, verdicts and facts are unknown here.

Bounds, so that no policy can stall the data plane: CEL itself refuses more than 32 levels of nesting and stops a
comprehension after 10,000 steps; regular expressions are RE2 (linear). We add limits on the length of a condition and
on comprehensions inside comprehensions, and ``cost`` says when the data of a call is too much for a condition that
loops. How much data there can be at all is bounded by ``content.Limits``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from cel_expr_python import cel

from watchfloor.guard import names
from watchfloor.guard.problems import Problem, did_you_mean

MAX_LENGTH: Final = 4_000
"""Characters of one condition."""

MAX_COMPREHENSION_DEPTH: Final = 2
"""``exists`` inside ``exists`` is the most that a condition may nest."""

MOST_STEPS: Final = 10_000
"""Steps after which CEL gives up on a comprehension."""

MAX_COST: Final = 5e8
"""Nanoseconds that looping over the data of one call may take in the worst case."""

_FUSED_LENGTH: Final = 60_000
"""CEL refuses expressions of more than 100,000 characters; a join of many conditions stays well below."""

_CEL_TYPES: Final = {
    names.STRING: cel.Type.STRING,
    names.STRINGS: cel.Type.List(cel.Type.STRING),
    names.INT: cel.Type.INT,
    names.DOUBLE: cel.Type.DOUBLE,
    names.BOOL: cel.Type.BOOL,
    names.TIMESTAMP: cel.Type.TIMESTAMP,
    names.ARGUMENTS: cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
}

_ENV: Final = cel.NewEnv(
    variables={name.name: _CEL_TYPES[name.type] for name in names.NAMES},
    functions=[
        cel.FunctionDecl(
            function.name,
            [
                cel.Overload(
                    f"watchfloor_string_{function.name}",
                    _CEL_TYPES[function.result],
                    [cel.Type.STRING],
                    True,
                    function.call,
                )
            ],
        )
        for function in names.FUNCTIONS
    ],
)

_BOOL: Final = cel.Type.BOOL

_MACROS: Final = ("exists", "exists_one", "all", "map", "filter")
_CEL_FUNCTIONS: Final = (
    *_MACROS, "has", "size", "contains", "startsWith", "endsWith", "matches", "int", "uint", "double", "string",
    "bool", "bytes", "timestamp", "duration", "type", "dyn", "getFullYear", "getMonth", "getDayOfMonth", "getDayOfWeek",
    "getDayOfYear", "getDate", "getHours", "getMinutes", "getSeconds", "getMilliseconds", "in", "true", "false", "null",
)  # fmt: skip
_KNOWN_WORDS: Final = (
    *names.BY_NAME,
    *_CEL_FUNCTIONS,
    *(function.name for function in names.FUNCTIONS),
)

_SEARCHES: Final = frozenset(
    {"contains", "matches", "startsWith", "endsWith", "size", *(f.name for f in names.FUNCTIONS)}
)

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
      | (?P<string>[rRbB]{0,2}(?:\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''
                   |"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>\.?\d[\w.]*)
      | (?P<mark>==|!=|<=|>=|&&|\|\||.)""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A piece of a condition; dotted names are one piece."""

    kind: str
    text: str
    offset: int


class Premise(NamedTuple):
    """A program over settled names."""

    names: frozenset[str]
    program: Any


class Condition(NamedTuple):
    """A compiled condition: its source, the declared names that it reads, how deep its comprehensions nest.

    ``premise`` is the part of it that depends on settled names alone (``Name.fact``), if there is one: where that is
    false, so is the condition, whatever the rest says.
    """

    source: str
    names: frozenset[str]
    depth: int
    searches: bool
    """Whether it looks through strings, rather than compare them."""
    program: Any
    premise: Premise | None


class EvaluationError(Exception):
    """CEL could not say yes or no. ``str(error)`` may quote values: never show it to the caller."""


def tokenize(source: str) -> list[Token]:
    """The pieces of ``source`` without space and comments; what CEL would refuse comes out as marks."""
    tokens: list[Token] = []
    for match in _TOKEN.finditer(source):
        kind = match.lastgroup or "mark"
        if kind == "space":
            continue
        text = match[0]
        # ``agent . id`` is one name to CEL, so it is one here.
        if kind == "name" and len(tokens) >= 2 and tokens[-1].text == "." and tokens[-2].kind == "name":
            head = tokens[-2]
            tokens[-2:] = [Token("name", f"{head.text}.{text}", head.offset)]
        else:
            tokens.append(Token(kind, text, match.start()))
    return tokens


def declared_name(dotted: str) -> str | None:
    """The declared name that ``dotted`` starts with: ``args`` for ``args.to``, ``None`` for a bound variable."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        candidate = ".".join(parts[:length])
        if candidate in names.BY_NAME:
            return candidate
    return None


def compile_condition(source: str) -> Condition:
    """``source`` compiled. Raises ``RuntimeError`` where ``check_condition`` finds problems."""
    program = _ENV.compile(source)
    tokens = tokenize(source)
    used = {declared_name(token.text) for token in tokens if token.kind == "name"}
    depth = max((depth for depth, _ in _nesting(tokens)), default=0)
    searches = any(token.text == "+" or token.text.rpartition(".")[2] in _SEARCHES for token in tokens)
    return Condition(
        source, frozenset(name for name in used if name), depth, searches, program, _premise(tokens, source)
    )


def _premise(tokens: list[Token], source: str) -> Premise | None:
    """The conjuncts of ``source`` that read settled names only; ``None`` when there are none.

    INVARIANT: ``source`` is ``… && premise && …``. CEL's ``&&`` is false when one side is, even if the other fails.
    """
    fixed, used = [], set[str]()
    for piece in _conjuncts(tokens, source):
        found = {declared_name(token.text) for token in tokenize(piece) if token.kind == "name"} - {None}
        if found and all(name and names.BY_NAME[name].fact for name in found):
            fixed.append(f"(\n{piece}\n)")
            used.update(name for name in found if name)
    return Premise(frozenset(used), _ENV.compile("&&".join(fixed))) if fixed else None


def _conjuncts(tokens: list[Token], source: str) -> list[str]:
    """The operands of the outermost ``&&``; all of ``source`` where something weaker stands outside."""
    cuts, level = [0], 0
    for token in tokens:
        if token.text in ("(", "[", "{"):
            level += 1
        elif token.text in (")", "]", "}"):
            level -= 1
        elif level == 0 and token.text in ("||", "?"):
            return [source]
        elif level == 0 and token.text == "&&":
            cuts += [token.offset, token.offset + 2]
    cuts.append(len(source))
    return [source[start:end] for start, end in zip(cuts[::2], cuts[1::2], strict=True)]


def cost(depth: int, items: int, longest: int) -> float:
    """The most nanoseconds that loops of ``depth`` take over ``items``, when each may search ``longest`` characters.

    Measured: 3 ns a character for a search made to be slow, 40 ns an item where a list is searched or copied.
    """
    if not depth:
        return 0.0
    steps = min(float(items) ** depth, MOST_STEPS)
    return steps * (3.0 * longest + 40.0 * items)


def fuse(conditions: Sequence[Condition]) -> tuple[Any, ...]:
    """Programs that together are true when any of ``conditions`` is.

    INVARIANT: when all of them come out false, every condition is false and none failed: CEL's ``||`` gives an error
    unless another side is true. One evaluation then answers for all, which is what makes hundreds of policies cheap.
    """
    programs: list[Any] = []
    chunk: list[str] = []
    length = 0
    for condition in conditions:
        # On lines of their own, so that a comment at the end of a condition does not swallow the parenthesis.
        piece = f"(\n{condition.source}\n)"
        if chunk and length + len(piece) > _FUSED_LENGTH:
            programs.append(_ENV.compile("||".join(chunk)))
            chunk, length = [], 0
        chunk.append(piece)
        length += len(piece) + 2
    if chunk:
        programs.append(_ENV.compile("||".join(chunk)))
    return tuple(programs)


def may_hold(premise: Premise | None, values: Mapping[str, Any]) -> bool:
    """Whether a condition with ``premise`` can be true where settled names have ``values``."""
    try:
        return premise is None or evaluate_once(premise.program, values)
    except EvaluationError:
        return True


def activation(values: Mapping[str, Any]) -> Any:
    """``values`` by declared name, ready for any number of evaluations."""
    return _ENV.Activation(values)


def evaluate(program: Any, bound: Any) -> bool:
    """Whether ``program`` holds. Raises ``EvaluationError`` when it has no answer.

    INVARIANT: only CEL's own ``true`` and ``false`` are answers. A failed evaluation comes back as a value of type
    ERROR whose Python value is truthy; it must never count as either.
    """
    return _answer(program.eval, bound)


def evaluate_once(program: Any, values: Mapping[str, Any]) -> bool:
    """As ``evaluate``, with ``values`` by declared name: cheaper when nothing else is evaluated with them."""
    return _answer(program.eval, None, values)


def _answer(run: Any, bound: Any, values: Mapping[str, Any] | None = None) -> bool:
    try:
        value = run(bound) if values is None else run(data=values)
    except Exception as error:  # the binding raises for exhausted budgets and values that it cannot convert
        raise EvaluationError(str(error)) from None
    answer = value.value()
    if answer is True or answer is False:
        return bool(answer)
    raise EvaluationError(str(answer))


# -- the publish-time check ---------------------------------------------------------------------------------------


def check_condition(source: str, where: str = "when") -> list[Problem]:
    """Everything that is wrong with ``source``; empty means that it can be published."""
    if not source.strip():
        return [
            Problem(where, "the condition is empty.", "Write a CEL expression that is true when the policy applies.")
        ]
    if len(source) > MAX_LENGTH:
        return [
            Problem(
                where,
                f"the condition has {len(source)} characters; at most {MAX_LENGTH} are allowed.",
                "Split it into several policies.",
            )
        ]
    try:
        source.encode()
    except UnicodeEncodeError:
        return [Problem(where, "the condition is not valid Unicode.", "Remove the broken character.")]
    tokens = tokenize(source)
    problems = [*_check_has(tokens, source, where), *_check_nesting(tokens, source, where)]
    has_problem = bool(problems)
    try:
        program = _ENV.compile(source)
        if not has_problem and program.return_type() != _BOOL:
            kind = program.return_type().name().lower()
            problems.append(
                Problem(where, f"the condition gives {kind}, not true or false.", "Compare it with something.")
            )
        elif not has_problem:
            _ENV.compile(f"(\n{source}\n)||(\n{source}\n)")  # as it will be evaluated
    except RuntimeError as error:
        # A misused has() confuses the checker: its follow-up messages would only distract.
        if not has_problem:
            problems += _explain(str(error), source, where)
    problems += _check_values(tokens, source, where)
    return problems


def place(source: str, offset: int, where: str) -> str:
    """``when: line 2, column 7`` for an offset into ``source``."""
    before = source[:offset]
    return f"{where}: line {before.count(chr(10)) + 1}, column {offset - before.rfind(chr(10))}"


_COMPILER_ERROR: Final = re.compile(r"^(?:INVALID_ARGUMENT: )?ERROR: <input>:(-?\d+):(-?\d+): (.*)$", re.MULTILINE)
_UNDECLARED: Final = re.compile(r"undeclared reference to '([^']*)'")
_OPERATOR: Final = re.compile(r"found no matching overload for '([^']*)' applied to '([^']*)'")


def _explain(error: str, source: str, where: str) -> list[Problem]:
    """CEL's messages in our words, with the nearest right name; one for each cause."""
    if "recursion" in error:
        return [Problem(where, "the condition is nested too deeply.", "Simplify it or split it into several policies.")]
    found: list[tuple[int, int, str, str]] = []
    for line, column, message in _COMPILER_ERROR.findall(error):
        message = message.removesuffix(" [INVALID_ARGUMENT]")
        undeclared = _UNDECLARED.search(message)
        overload = _OPERATOR.search(message)
        remedy = ""
        if undeclared:
            wrong = undeclared[1]
            message = f"`{wrong}` is not a name that policies know."
            remedy = did_you_mean(wrong, _KNOWN_WORDS) or "See the table of names in docs/policies.md."
        elif overload:
            operator = overload[1].strip("_").strip("@")
            message = f"`{operator}` does not work on {overload[2]}."
            remedy = "Convert one side, for example with double() or string()."
        elif "Syntax error" in message:
            message = f"syntax error: {message.partition('Syntax error: ')[2].partition(' expecting')[0]}."
        found.append((int(line), max(1, int(column)), message, remedy))
    # A wrong function name makes CEL also complain about the variable inside its macro: keep the cause only.
    misspelt_macro = any(did in remedy for _, _, _, remedy in found for did in (f"`{macro}`" for macro in _MACROS))
    bound = set(re.findall(r"\(\s*([A-Za-z_]\w*)\s*,", source)) if misspelt_macro else set()
    problems = [
        Problem(f"{where}: line {line}, column {column}", message, remedy)
        for line, column, message, remedy in sorted(found)
        if not any(message.startswith((f"`{name}`", f"`{name}.")) for name in bound)
    ]
    return problems or [Problem(where, f"CEL refuses the condition: {error.splitlines()[0][:200]}")]


def _check_has(tokens: list[Token], source: str, where: str) -> list[Problem]:
    problems = []
    for before, opening, token in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if before.text == "has" and opening.text == "(" and token.text in names.BY_NAME:
            problems.append(
                Problem(
                    place(source, before.offset, where),
                    f"has() is for members of `args`; `{token.text}` is always there.",
                    "Compare it with an empty value instead.",
                )
            )
    return problems


def _check_nesting(tokens: list[Token], source: str, where: str) -> list[Problem]:
    """Comprehensions inside comprehensions multiply their work."""
    for depth, token in _nesting(tokens):
        if depth > MAX_COMPREHENSION_DEPTH:
            return [
                Problem(
                    place(source, token.offset, where),
                    f"more than {MAX_COMPREHENSION_DEPTH} of {', '.join(_MACROS)} inside one another.",
                    "Use the destinations.* and amounts.* names, or split the condition.",
                )
            ]
    return []


def _nesting(tokens: list[Token]) -> list[tuple[int, Token]]:
    """Every opening parenthesis of a comprehension, with how deep it stands in others."""
    found = []
    is_macro: list[bool] = []
    for index, token in enumerate(tokens):
        if token.text == "(":
            before = tokens[index - 1].text if index else ""
            is_macro.append(before.rpartition(".")[2] in _MACROS)
            if is_macro[-1]:
                found.append((sum(is_macro), token))
        elif token.text == ")" and is_macro:
            is_macro.pop()
    return found


def _check_values(tokens: list[Token], source: str, where: str) -> list[Problem]:
    """Comparing ``tool.effect`` with ``"sned"`` is valid CEL and never true: say so before it is published."""
    problems = []
    for index, token in enumerate(tokens):
        known = names.BY_NAME.get(token.text)
        if token.kind != "name" or known is None or not known.values:
            continue
        for text in _compared_with(tokens, index):
            value = _unquote(text.text)
            if value is not None and value not in known.values:
                problems.append(
                    Problem(
                        place(source, text.offset, where),
                        f'`{token.text}` is never "{value}".',
                        did_you_mean(value, known.values)
                        or f"It is one of {', '.join(value for value in known.values if value)}.",
                    )
                )
    return problems


def _compared_with(tokens: list[Token], index: int) -> list[Token]:
    """The string literals that the name at ``index`` is compared with directly."""

    def at(position: int) -> Token:
        return tokens[position] if 0 <= position < len(tokens) else Token("", "", 0)

    found = []
    if at(index + 1).text in ("==", "!=") and at(index + 2).kind == "string":
        found.append(at(index + 2))
    if at(index - 1).text in ("==", "!=", "in") and at(index - 2).kind == "string":
        found.append(at(index - 2))
    if at(index + 1).text == "in" and at(index + 2).text == "[":
        position = index + 3
        while at(position).text not in ("]", ""):
            if at(position).kind == "string":
                found.append(at(position))
            position += 1
    return found


def _unquote(literal: str) -> str | None:
    """The value of a plain string literal; ``None`` for raw, bytes and escaped ones."""
    if len(literal) >= 2 and literal[0] in "\"'" and "\\" not in literal:
        return literal.strip(literal[0])
    return None
