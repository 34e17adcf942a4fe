"""What SQL is printed: one SELECT where one will do, nothing of the user's in the text, nothing that nobody reads."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlglot

from watchfloor import kql
from watchfloor.kql import ir
from watchfloor.kql.functions import AGGREGATES, FUNCTIONS
from watchfloor.kql.routines import RoutineRef, physical
from watchfloor.kql.sql import Compiled, generate
from watchfloor.kql.sql.dialect import Dialect, is_atom, template
from watchfloor.kql.sql.relations import Relations
from watchfloor.kql.sql.scalars import json_path, real

from .running import schema_of

TABLE = schema_of(
    "Calls",
    {
        "Timestamp": "datetime",
        "TenantId": "string",
        "Agent": "string",
        "Text": "string",
        "Size": "long",
        "Took": "real",
        "Tags": "dynamic",
    },
)
SCHEMA = kql.Schema({"Calls": TABLE, "S1": schema_of("S1", {"c1": "long", "Name": "string"})})


def compiled(text: str, **options: Any) -> Compiled:
    found = kql.compile(text, SCHEMA, kql.Scope(("default",)), now=0, **options)
    assert not isinstance(found, kql.Pending)
    sqlglot.parse_one(found.sql, read="duckdb")  # whatever is printed is a well-formed query
    return found


def column(number: int, kind: str = "long") -> ir.BoundColumn:
    return ir.BoundColumn(number, kind, kind != "string")


# -- shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("Calls | where Size > 5 | take 3 | project Size", 'SELECT "Size" AS c5 FROM "Calls" WHERE "Size" > 5 LIMIT 3'),
        ("Calls | count", 'SELECT count(*) AS c8 FROM "Calls"'),
        ("Calls | top 2 by Size | project Agent",
         'SELECT "Agent" AS c3 FROM "Calls" ORDER BY "Size" DESC NULLS LAST LIMIT 2'),
        ("Calls | distinct Agent", 'SELECT "Agent" AS c3 FROM "Calls" GROUP BY "Agent"'),
        ("Calls | where Agent == 'a' or Size in (1, 2) | count",
         'SELECT count(*) AS c8 FROM "Calls" WHERE (("Agent" = $p0) OR ("Size" IN (1, 2)))'),
        ("Calls | summarize n = count() by Agent | where n > 1",
         'WITH s1 AS (SELECT "Agent" AS c3, count(*) AS c8 FROM "Calls" GROUP BY "Agent") '
         "SELECT c3, c8 FROM s1 WHERE c8 > 1"),
        ("print a = 1, b = true", "SELECT CAST(1 AS BIGINT) AS c1, true AS c2"),
    ],
)  # fmt: skip
def test_what_one_select_can_say_is_one_select(text: str, sql: str) -> None:
    assert compiled(text).sql == sql


def test_columns_that_nobody_reads_are_not_read() -> None:
    found = compiled("Calls | extend a = strcat(Text, 'x'), b = tostring(Tags.p) | summarize max(Size) by Agent").sql
    assert "Text" not in found and "Tags" not in found and "Timestamp" not in found


def test_a_parameter_that_was_pruned_is_not_handed_over() -> None:
    found = compiled("Calls | extend a = strcat(Text, 'gone') | where Agent == 'kept' | project Size")
    assert list(found.params.values()) == ["kept"]


def test_a_routine_that_was_pruned_is_not_asked_for() -> None:
    text = "Calls | extend a = url_decode(url_encode_component(strcat(Text, hash_xxhash64(Text)))) | project Size"
    assert compiled(text).routines == frozenset()


def test_a_common_table_expression_is_never_called_as_a_table_is() -> None:
    found = compiled("S1 | summarize n = sum(c1) by Name | where n > 1").sql
    assert 'FROM "S1"' in found and "WITH ss1 AS" in found


def test_a_column_called_like_ours_is_read_before_anything_is_called_so() -> None:
    assert compiled("S1 | where c1 > 1 | project Name").sql.startswith('WITH ss1 AS (SELECT "c1" AS c1, "Name" AS c2')


# -- the user's text --------------------------------------------------------------------------------------------------

HOSTILE = "x'; DROP TABLE Calls; --"


@pytest.mark.parametrize(
    "text",
    [
        f'Calls | where Text == "{HOSTILE}"',
        f'Calls | where Text has "{HOSTILE}" or Text contains "{HOSTILE}" or Text startswith "{HOSTILE}"',
        f'Calls | where Text in ("{HOSTILE}", "b") or Text in~ ("{HOSTILE}")',
        f'Calls | extend x = Tags["{HOSTILE}"].a["{HOSTILE}"]',
        f'Calls | extend x = tostring(Tags["{HOSTILE}"])',
        f'datatable(a:string, b:dynamic)["{HOSTILE}", dynamic({{"{HOSTILE}": 1}})] | where a == "{HOSTILE}"',
        f"print x = dynamic([\"{HOSTILE}\"]) | mv-expand x | extend ['{HOSTILE.replace(chr(39), '')}'] = 1",
        f'Calls | summarize make_set(strcat(Text, "{HOSTILE}")), countif(Text == "{HOSTILE}") by Agent',
        f'Calls | extend r = replace_string(Text, "{HOSTILE}", "{HOSTILE}"), i = indexof(Text, "{HOSTILE}")',
        f'Calls | parse Text with "{HOSTILE}" a: long "{HOSTILE}" b',
    ],
)
def test_text_becomes_parameters_and_names_become_numbers(text: str) -> None:
    assert "DROP" not in compiled(text).sql


def test_equal_text_is_one_parameter() -> None:
    assert list(compiled("Calls | where Agent == 'a' and Text == 'a'").params) == ["p0"]


def test_long_lists_are_one_parameter() -> None:
    names = ", ".join(f"'a{n}'" for n in range(200))
    found = compiled(f"Calls | where Agent in ({names})")
    (values,) = found.params.values()
    assert len(values) == 200 and "unnest" in found.sql


def test_long_tables_are_a_parameter_a_column() -> None:
    rows = ", ".join(f"{n}, 'a{n}', {n}.5" for n in range(100))
    found = compiled(f"datatable(a:long, b:string, c:real)[{rows}] | summarize count() by b, a, c")
    assert sorted(len(v) for v in found.params.values()) == [100, 100, 100]


def test_times_are_parameters_so_that_a_query_is_the_same_text_at_any_time() -> None:
    text = "Calls | where Timestamp > ago(1h) | count"
    one = kql.compile(text, SCHEMA, kql.Scope(("default",)), now=638_000_000_000_000_000)
    two = kql.compile(text, SCHEMA, kql.Scope(("default",)), now=639_000_000_000_000_000)
    assert not isinstance(one, kql.Pending) and not isinstance(two, kql.Pending)
    assert one.sql == two.sql and one.params != two.params


# -- what cannot be said ----------------------------------------------------------------------------------------------


def test_an_unknown_dialect_is_refused_by_name() -> None:
    with pytest.raises(kql.KqlError, match="There is no dialect 'duckdbb'") as refusal:
        compiled("print 1", dialect="duckdbb")
    assert (refusal.value.kind, refusal.value.remedy) == ("unsupported", "Did you mean duckdb?")


def test_what_a_dialect_lacks_is_refused_by_name() -> None:
    poor = Dialect("poor", {"long": "Int64"}, {"cast": "CAST($a AS $b)"}, {})
    relation = ir.Join("leftsemi", ir.Values((column(1),), ((1,),)), ir.Values((column(2),), ((1,),)), ())
    with pytest.raises(kql.KqlError, match="The dialect 'poor' has no semi") as refusal:
        Relations(poor).query(relation, [column(1)])
    assert refusal.value.kind == "unsupported"
    with pytest.raises(kql.KqlError, match="has no type guid"):
        Relations(poor).query(ir.Values((column(1, "guid"),), (("a",), ("c",))), [column(1, "guid")])


def test_an_expression_that_doubles_at_every_step_is_refused() -> None:
    grown = "a"
    for _ in range(60):
        grown = f"({grown} == b)"
    text = f"datatable(a:bool, b:bool)[true, false, bool(null), true] | extend x = {grown}"
    with pytest.raises(kql.KqlError, match="too long") as refusal:
        compiled(text)
    assert refusal.value.kind == "limit"


def test_templates_do_not_repeat_what_is_long_or_volatile() -> None:
    text = (
        "datatable(a:real)[1.0, 2.0] | extend x = tostring(todatetime(tostring(toreal(tostring(tolong(tostring(a)))))))"
    )
    assert len(compiled(text).sql) < 20_000
    assert len(re.findall(r"random\(", compiled("datatable(a:real)[1.0, 2.0] | extend x = tostring(rand())").sql)) == 1


def test_a_range_of_too_many_numbers_is_refused_before_it_begins() -> None:
    with pytest.raises(kql.KqlError, match="100000000001 rows") as refusal:
        compiled("range x from 0 to 100000000000 step 1 | count")
    assert refusal.value.kind == "limit"


# -- pieces -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("c1", True), ("$p0", True), ("12", True), ("f(a, (b))", True), ("(a + b)", True), ("''", True),
        ("CASE WHEN a THEN b END", True), ("CASE WHEN a THEN CASE WHEN b THEN c END END", True),
        ("a + b", False), ("f(a) + g(b)", False), ("(a) + (b)", False), ("NOT a", False), ("f(')') + g('(')", False),
        ("CASE WHEN a THEN b END + CASE WHEN c THEN d END", False), ("a::INTEGER", False),
    ],
)  # fmt: skip
def test_atoms_are_what_can_stand_anywhere(text: str, wanted: bool) -> None:
    assert is_atom(text) is wanted


def test_a_template_is_filled_in_one_pass() -> None:
    found = template("f($a, $b, $a, $word)")
    assert found.fill({"a": "$b", "b": "$a", "word": "x"}.__getitem__) == "f($b, $a, $b, x)"
    assert found.repeated == {"a": 1}


@pytest.mark.parametrize("value", [0.1, 0.30000000000000004, -1.5, 1e300, 5e-324, 123456789.123456789, -0.0, 1e22])
def test_reals_are_printed_exactly(value: float) -> None:
    assert float(real(value, "DOUBLE").strip("()")) == value


def test_paths_quote_their_names() -> None:
    assert json_path(["a b", 'q"q', "s\\s", 0, -1, "$kind", "*"]) == '$."a b"."q\\"q"."s\\\\s"[0][#-1]."$kind"."*"'


# -- relations made by hand -------------------------------------------------------------------------------------------


def test_a_shared_relation_is_printed_once() -> None:
    shared = ir.Shared(1, ir.Group(ir.Scan(TABLE, ((column(1, "string"), "Agent"),), ()), (column(1, "string"),)), True)
    uses = [ir.Use(shared, ((column(n, "string"), column(1, "string")),)) for n in (2, 3)]
    joined = ir.Join("inner", uses[0], uses[1], ((ir.Ref(column(2, "string")), ir.Ref(column(3, "string"))),))
    found = generate(ir.Plan(joined, (("a", column(2, "string")),))).sql
    assert found.count('"Calls"') == 1 and found.count("AS MATERIALIZED (") == 1


def test_a_group_without_keys_is_one_row_even_if_nobody_reads_it() -> None:
    counted = AGGREGATES["count"][0]
    inner = ir.Group(ir.Values((column(1),), ()), (), ((column(2), ir.Call(counted, ())),))
    outer = ir.Group(inner, (), ((column(3), ir.Call(counted, ())),))
    assert "count(*) AS c2" in generate(ir.Plan(outer, (("n", column(3)),))).sql


def test_a_function_without_a_template_is_called_as_a_routine() -> None:
    function = next(
        f for rows in FUNCTIONS.values() for f in rows if not f.sql and [p.types for p in f.takes] == [("string",)]
    )
    value = ir.Apply(function, (ir.Ref(column(1, "string")),), "string")
    relation = ir.Compute(ir.Values((column(1, "string"),), (("a",), ("b",))), ((column(2, "string"), value),))
    found = generate(ir.Plan(relation, (("x", column(2, "string")),)))
    (routine,) = found.routines
    assert routine == RoutineRef("function", function.name, function.number, ("string",), ("string",))
    assert f"{routine.sql_name}($budget, c1)" in found.sql and found.needs_budget


# -- routines ---------------------------------------------------------------------------------------------------------


def test_a_routine_travels_and_comes_back() -> None:
    sent = RoutineRef("relation", "scan", 0, ("long", "string"), ("datetime",), (2,))
    assert RoutineRef.from_wire(sent.to_wire()) == sent
    assert sent.sql_name != RoutineRef("relation", "scan", 0, ("string", "long"), ("datetime",), (2,)).sql_name


@pytest.mark.parametrize(
    "sent",
    [
        [],
        ["function", "f", 0, [], []],
        ["eval", "f", 0, [], ["long"], []],
        ["function", "f", 0, ["BIGINT"], ["long"], []],
    ],
)
def test_what_is_no_routine_is_refused(sent: list[Any]) -> None:
    with pytest.raises(ValueError):
        RoutineRef.from_wire(sent)


def test_an_unknown_routine_is_found_out_before_it_is_registered() -> None:
    for ref in (
        RoutineRef("function", "no_such", 0, (), ("long",)),
        RoutineRef("relation", "no_such", 0, (), ("long",)),
    ):
        with pytest.raises(LookupError):
            physical(ref)


@pytest.mark.parametrize(
    ("source", "target", "value", "wanted"),
    [
        ("string", "datetime", "2024-01-01", 638396640000000000),
        ("string", "datetime", "no time", None),
        ("string", "real", "nan", "nan"),
        ("string", "decimal", "1.50", "1.50"),
        ("dynamic", "string", '{"a":1}', '{"a":1}'),
        ("dynamic", "long", "12.7", 12),
        ("long", "string", None, ""),
    ],
)
def test_values_reach_a_routine_and_return(source: str, target: str, value: Any, wanted: Any) -> None:
    found = physical(RoutineRef("conversion", target, 0, (source,), (target,)))
    assert found.call("", value) == wanted
