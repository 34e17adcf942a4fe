"""What queries mean: names, types, scopes and refusals, through ``bind()`` against a catalogue in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from watchfloor.kql import ir
from watchfloor.kql.bind import bind
from watchfloor.kql.errors import KqlError
from watchfloor.kql.parser import parse
from watchfloor.kql.schema import Column, NamedList, Schema, Scope, TableSchema

NOW = 638_000_000_000_000_000
DAY = 864_000_000_000


def table(name: str, columns: str, **places: str) -> TableSchema:
    pairs = (column.split(":") for column in columns.split())
    return TableSchema(name, tuple(Column(n, t) for n, t in pairs), **places)


THINGS = "a:long b:real i:int s:string t:datetime ts:timespan d:dynamic e:dynamic bo:bool g:guid dec:decimal"
SUSPECTS = NamedList("Suspects", (Column("Address", "string"), Column("Score", "long")), (("10.0.0.1", 5),), "Address")
SCHEMA = Schema(
    {
        t.name: t
        for t in (
            table("T", THINGS),
            table("Events", "At:datetime Name:string Tenant:string", tenant_column="Tenant", time_column="At"),
            table("EventLog", "At:datetime Text:string", tenant_column="Tenant", time_column="At"),
            table("Secrets", "Value:string"),
        )
    },
    {"Suspects": SUSPECTS},
)
SCOPE = Scope(("us",), frozenset({"T", "Events", "EventLog"}))


def plan(text: str, scope: Scope = SCOPE, **given: Any) -> ir.Plan:
    bound = bind(parse(text), SCHEMA, scope, now=NOW, **given)
    assert isinstance(bound, ir.Plan)
    return bound


def columns(text: str, **given: Any) -> dict[str, str]:
    return {name: column.type for name, column in plan(text, **given).columns}


def value(expression: str, lets: str = "", **given: Any) -> Any:
    """What ``print expression`` folds to."""
    found = scalar(f"{lets} print {expression}", **given)
    assert isinstance(found, ir.Const), found
    return found.value


def scalar(text: str, **given: Any) -> ir.Scalar:
    """The scalar of the first result column, where the last step computes it."""
    bound = plan(text, **given)
    assert isinstance(bound.relation, ir.Compute)
    return dict(bound.relation.columns)[bound.columns[0][1]]


def over(expression: str) -> ir.Scalar:
    """``expression`` over the columns of T."""
    return scalar(f"T | project x = {expression}")


def refused(text: str, scope: Scope = SCOPE, **given: Any) -> KqlError:
    with pytest.raises(KqlError) as caught:
        bind(parse(text), SCHEMA, scope, now=NOW, **given)
    return caught.value.locate(text)


def relations(bound: ir.Plan) -> list[ir.Relation]:
    found: list[ir.Relation] = []
    waiting = [bound.relation]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting.extend(ir.inputs(node))
    return found


def scans(bound: ir.Plan) -> list[ir.Scan]:
    return [r for r in relations(bound) if isinstance(r, ir.Scan)]


# -- who may see what -------------------------------------------------------------------------------------------------


def test_a_table_that_is_not_permitted_does_not_exist_by_any_way_of_naming_it() -> None:
    spellings = (
        "Secrets",
        "table('Secrets')",
        "database('watchfloor').Secrets",
        "T | where s in (Secrets)",
        "T | union Secrets",
        "let x = Secrets; T",
        "T | where s in ((Secrets | project Value))",
        "print toscalar(Secrets | count)",
    )
    for spelling in spellings:
        error = refused(spelling)
        assert "There is no" in error.message, spelling
        assert "Secrets?" not in error.remedy


def test_wildcards_reach_permitted_tables_only() -> None:
    assert {s.table.name for s in scans(plan("union *"))} == {"T", "Events", "EventLog"}
    assert {s.table.name for s in scans(plan("union E*"))} == {"Events", "EventLog"}
    assert "No table matches S*" in refused("union S*").message


def test_every_scan_is_limited_to_the_tenants_and_times_of_the_asker() -> None:
    scope = Scope(("us", "them"), None, since=5, until=9)
    (scan,) = scans(plan("Events | project Name", scope))
    tenants, since, until = scan.filters
    assert isinstance(tenants, ir.OneOf)
    assert [i.value for i in tenants.items if isinstance(i, ir.Const)] == ["us", "them"]
    assert isinstance(since, ir.Compare) and since.operator == ">=" and since.right == ir.Const(5, "datetime")
    assert isinstance(until, ir.Compare) and until.operator == "<" and until.right == ir.Const(9, "datetime")


def test_a_tenant_column_that_the_table_does_not_show_is_filtered_all_the_same() -> None:
    (scan,) = scans(plan("EventLog"))
    assert [name for _, name in scan.columns] == ["At", "Text", "Tenant"]
    assert columns("EventLog") == {"At": "datetime", "Text": "string"}
    assert len(scan.filters) == 1


def test_an_asker_without_tenants_sees_no_rows() -> None:
    (scan,) = scans(plan("Events", Scope(())))
    assert scan.filters == (ir.Const(False, "bool"),)


def test_restrict_access_hides_what_it_does_not_name_but_not_from_what_it_names() -> None:
    lets = "let View = view () { Events | project Name }; restrict access to (View, T);"
    assert columns(f"{lets} View") == {"Name": "string"}
    assert "There is no table Events" in refused(f"{lets} Events").message
    assert {s.table.name for s in scans(plan("restrict access to (Event*); union *"))} == {"Events", "EventLog"}


def test_other_databases_clusters_and_outside_data_are_refused_by_name() -> None:
    assert "no database Other" in refused("database('Other').T").message
    assert "cluster()" in refused("cluster('c').database('watchfloor').T").message
    error = refused("externaldata(a:string)['https://example.org/list.csv']")
    assert "externaldata" in error.message and "_GetWatchlist" in error.remedy
    assert refused("alias database d = cluster('x').database('y'); print 1").kind == "unsupported"


def test_our_own_database_is_found_by_its_name_and_by_none() -> None:
    assert columns("database('watchfloor').Events | project Name") == {"Name": "string"}
    assert columns("database().Events | project Name") == {"Name": "string"}


# -- named lists ------------------------------------------------------------------------------------------------------


def test_a_named_list_is_a_table_by_name_and_by_getwatchlist() -> None:
    assert columns("Suspects") == {"Address": "string", "Score": "long"}
    assert columns("_GetWatchlist('Suspects')") == {"SearchKey": "string", "Address": "string", "Score": "long"}
    found = plan("_GetWatchlist('Suspects')").relation
    assert isinstance(found, ir.Values) and found.rows == (("10.0.0.1", "10.0.0.1", 5),)
    assert refused("_GetWatchlist('Suspect')").remedy == "Did you mean Suspects?"


# -- names ------------------------------------------------------------------------------------------------------------


def test_a_column_hides_a_let_of_its_name() -> None:
    assert columns("let s = 5; T | project s") == {"s": "string"}


def test_a_let_hides_a_table_of_its_name() -> None:
    assert columns("let T = print x = 1; T") == {"x": "long"}


def test_an_unknown_name_names_the_nearest_one() -> None:
    assert refused("Event").remedy == "Did you mean Events?"
    assert refused("Events | where Nam == 'x'").remedy == "Did you mean Name?"
    assert refused("print stcat('a')").remedy == "Did you mean strcat?"
    assert refused("let first = 1; print frst").remedy == "Did you mean first?"


def test_several_errors_are_found_in_one_pass_and_none_follows_from_another() -> None:
    error = refused("let a = nosuch; Events | extend x = missing + 1 | where x > 2 and wrong == a | project y")
    assert [e.message for e in (error, *error.others)] == [
        "There is no table or value nosuch here.",
        "There is no column or value missing here.",
        "There is no column or value wrong here.",
        "There is no column or value y here.",
    ]
    assert (error.line, error.column) == (1, 9)


def test_what_depends_on_a_faulty_let_causes_no_further_error() -> None:
    error = refused("let Bad = Nowhere | take 5; Bad | where x == 1 | join (Bad) on k")
    assert error.message == "There is no table Nowhere." and error.others == ()


def test_null_is_refused_with_what_to_write_instead() -> None:
    assert "isnull" in refused("T | where a == null").remedy


def test_what_the_function_table_has_for_the_binder_only_cannot_be_called() -> None:
    for call in ("negate(1)", "in_array(1, dynamic([1]))", "__parse_matches('a')"):
        assert "There is no function" in refused(f"print {call}").message


def test_a_table_is_no_value_and_a_value_no_table() -> None:
    assert "toscalar(T" in refused("print x = T").remedy
    assert "a table is expected" in refused("let v = 5; v | count").message
    assert "a table is expected" in refused("let f = () { 5 }; f() | count").message


def test_a_bare_value_is_printed() -> None:
    assert columns("strlen('abc')") == {"print_0": "long"}


# -- let, functions ---------------------------------------------------------------------------------------------------


def test_named_arguments_are_bound_by_name() -> None:
    lets = "let f = (a:long, b:string='d', c:long=0) { strcat(a, '-', b, '-', c) };"
    assert value("f(12)", lets) == "12-d-0"
    assert value("f(c=7, a=12)", lets) == "12-d-7"
    assert value("f(12, c=7)", lets) == "12-d-7"
    assert "no parameter z" in refused(f"{lets} print f(1, z=2)").message
    assert "needs its argument a" in refused(f"{lets} print f()").message
    assert "given twice" in refused(f"{lets} print f(1, a=2)").message
    assert "3 arguments" in refused(f"{lets} print f(1, 'x', 2, 3)").message


def test_arguments_become_what_their_parameters_are() -> None:
    assert columns("let f = (a:real) { a }; print f(1)") == {"print_0": "real"}
    assert value("f(1)", "let f = (a:real) { a };") == 1.0
    assert "must be a long" in refused("let f = (a:long) { a }; T | extend f(s)").message


def test_a_function_sees_the_names_of_its_place_not_of_its_call() -> None:
    assert value("f()", "let x = 1; let f = () { x }; let g = () { let x = 2; f() };") == 1
    assert value("g()", "let x = 1; let f = () { x }; let g = () { let x = 2; f() };") == 1


def test_recursion_is_refused_by_name() -> None:
    assert "f calls itself" in refused("let f = (n:long) { f(n - 1) }; print f(3)").message
    assert "f calls itself" in refused("let f = () { f() | take 1 }; f()").message


def test_a_tabular_parameter_states_the_columns_it_needs() -> None:
    lets = "let f = (R:(a:long, s:string), least:long) { R | where a > least };"
    assert "dec" in columns(f"{lets} f(T, 5)")
    assert "needs a column a of type long" in refused(f"{lets} f(Events, 5)").message
    assert columns("let f = (R:(*)) { R | count }; Events | invoke f()") == {"Count": "long"}


def test_a_let_that_is_used_twice_is_shared_and_one_that_is_used_once_is_not() -> None:
    twice = plan("let x = Events | where Name == 'a'; x | join kind=inner (x) on Name")
    keys = {r.shared.key for r in relations(twice) if isinstance(r, ir.Use)}
    assert len(keys) == 1 and len([r for r in relations(twice) if isinstance(r, ir.Use)]) == 2
    once = plan("let x = Events | where Name == 'a'; x | count")
    assert not [r for r in relations(once) if isinstance(r, ir.Use)]


def test_materialize_is_computed_once() -> None:
    bound = plan("let x = materialize(Events | take 5); union x, x")
    uses = [r for r in relations(bound) if isinstance(r, ir.Use)]
    assert uses and all(u.shared.is_materialized for u in uses)


def test_columns_of_two_uses_of_a_table_are_apart() -> None:
    bound = plan("let x = Events; x | join kind=inner (x) on Name")
    numbers = [c.number for _, c in bound.columns]
    assert len(numbers) == len(set(numbers))


def test_a_name_is_declared_once() -> None:
    assert "x is declared twice" in refused("let x = 1; let x = 2; print x").message


def test_query_parameters_come_from_the_request_or_have_a_default() -> None:
    declared = "declare query_parameters(n:long = 5, who:string = 'x', at:datetime = datetime(2020-01-01));"
    assert value("n", declared) == 5
    assert value("n", declared, parameters={"n": "7"}) == 7
    assert value("n", declared, parameters={"n": "long(7)"}) == 7
    assert value("n", declared, parameters={"n": 7}) == 7
    assert value("who", declared, parameters={"who": "it's"}) == "it's"
    assert value("who", declared, parameters={"who": '"quoted"'}) == "quoted"
    assert value("at", declared, parameters={"at": "datetime(2021-01-01)"}) > value("at", declared)
    assert "was not given" in refused("declare query_parameters(n:long); print n").message
    assert "is no long" in refused(f"{declared} print n", parameters={"n": "many"}).message


def test_a_pattern_chooses_its_body_by_arguments_and_path() -> None:
    lets = """declare pattern place = (name:string)[scope:string] {
        ("a").["x"] = { print X = 1 };
        ("a").["y"] = { print Y = 1 };
    };"""
    assert columns(f"{lets} place('a').y") == {"Y": "long"}
    assert "declares nothing" in refused(f"{lets} place('b').y").message


def test_options_are_ignored_unless_they_change_the_answer() -> None:
    assert columns("set notruncation; set truncationmaxrecords = 5; print 1") == {"print_0": "long"}
    assert "query_take_max_records" in refused("set query_take_max_records = 5; T").message


def test_now_is_one_instant_and_may_be_set() -> None:
    assert value("now()") == NOW
    assert value("ago(1d)") == NOW - DAY
    assert value("now(-1d)") == NOW - DAY
    assert value("now()", "set query_now = datetime(0001-01-02);") == DAY


# -- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "type_"),
    [
        ("a + i", "long"),
        ("i + i", "long"),
        ("i * b", "real"),
        ("b * dec", "decimal"),
        ("t - t", "timespan"),
        ("t - 1d", "datetime"),
        ("ts / 1h", "real"),
        ("ts * 2", "timespan"),
        ("d + 1", "long"),
        ("d + 1.5", "real"),
        ("d.x - t", "timespan"),
        ("d + d", "dynamic"),
        ("-i", "long"),
        ("iff(bo, 1, 2.5)", "real"),
        ("iff(bo, i, i)", "int"),
        ("iff(bo, d.x, 'text')", "dynamic"),
        ("case(bo, 1, a > 5, 2, int(null))", "long"),
        ("coalesce(a, 1.5)", "real"),
        ("max_of(i, i)", "int"),
        ("bin(i, 5)", "long"),
        ("bin(t, 1h)", "datetime"),
        ("d.x", "dynamic"),
        ("tostring(d.x)", "string"),
        ("extract('a(b)', 1, s, typeof(long))", "long"),
        ("gettype(a)", "string"),
    ],
)
def test_types_are_those_of_the_language(expression: str, type_: str) -> None:
    assert over(expression).type == type_


@pytest.mark.parametrize(
    "expression",
    ["s + s", "a + s", "t + t", "t * t", "bo + 1", "not(s)", "a == s", "d == e", "s < 's'", "a has 'x'", "bo and 1",
     "s.x", "abs(s)", "round(d.x)", "strlen(a)", "a in~ (1)", "iff(s, 1, 2)", "bo == s",
     "iff(bo, 1, 'text')", "t > '2020-01-01'", "a == 'many'", "toscalar(T | summarize max(d))"],
)  # fmt: skip
def test_what_has_no_clear_meaning_is_refused(expression: str) -> None:
    error = refused(f"T | project x = {expression}")
    assert error.message and error.others == ()


def test_joining_strings_with_plus_names_strcat() -> None:
    assert refused("print 'a' + 'b'").remedy == "Use strcat( ... )."


def test_an_aggregate_outside_summarize_is_refused() -> None:
    assert "belongs into summarize" in refused("T | extend x = count()").message


# -- constants --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("7 / 2", 3),
        ("7 / 2.0", 3.5),
        ("1 == 1.0", True),
        ("'a' == 'A'", False),
        ("'a' =~ 'A'", True),
        ("int(null) == 1", False),
        ("int(null) != 1", True),
        ("int(null) == int(null)", None),
        ("int(null) < 1", None),
        ("bool(null) and false", False),
        ("bool(null) or true", True),
        ("not(bool(null))", None),
        ("5 between (1 .. 5)", True),
        ("5 !between (1 .. 4)", True),
        ("datetime(2020-01-02) between (datetime(2020-01-01) .. 1d)", True),
        ("2 in (1, 2)", True),
        ("int(2) in (1, 2)", True),
        ("2 !in (dynamic([1, 2]))", False),
        ("'b' in~ ('A', 'B')", True),
        ("dynamic({'a': {'b': [1, 2]}}).a.b[-1]", 2),
        ("dynamic({'a': 1})['b']", None),
        ("dynamic([1]).x", None),
        ("dynamic([1, 2])[5]", None),
        ("iff(true, 1, 2)", 1),
        ("case(false, 1, true, 2, 3)", 2),
        ("tolong('x')", None),
        ("tostring(int(null))", ""),
        ("dynamic('x') == 'x'", True),
        ("dynamic(5) == 5", True),
        ("dynamic(5.5) == 5", False),
        ("dynamic(5.5) > 5", True),
        ("toscalar(datatable(x:long)[7, 8])", 7),
        ("gettype(long(null))", "long"),
        ("1 == '1'", True),
        ("datetime(2020-01-01) == '2020-01-01'", True),
        ("coalesce(dynamic([1]), 5)", [1]),
        ("dynamic(null) == ''", True),
    ],
)
def test_constants_are_folded_by_the_rules_of_the_language(expression: str, expected: Any) -> None:
    found = value(expression)
    assert found == expected and type(found) is type(expected)


def test_random_values_are_not_folded() -> None:
    assert isinstance(scalar("print rand()"), ir.Apply)


# -- dynamic values ---------------------------------------------------------------------------------------------------


def test_a_path_of_any_length_is_one_path() -> None:
    found = over("d.a['b c'][0][s]")
    assert isinstance(found, ir.Path) and isinstance(found.base, ir.Ref)
    assert found.steps[:3] == ("a", "b c", 0) and isinstance(found.steps[3], ir.Ref)


def test_a_dynamic_value_is_compared_as_what_it_is_compared_with() -> None:
    text = over("d.x == 'y'")
    assert isinstance(text, ir.Compare) and isinstance(text.left, ir.Convert) and text.left.type == "string"
    number = over("d.x == 5")
    assert isinstance(number, ir.Compare) and number.left.type == "real"
    large = over("d.x == 9007199254740993")
    assert isinstance(large, ir.Junction) and {o.left.type for o in large.operands if isinstance(o, ir.Compare)} == {
        "long", "real",
    }  # fmt: skip


def test_a_member_of_a_string_names_parse_json() -> None:
    assert refused("T | project s.x").remedy == "Use parse_json(s)."


def test_a_dynamic_array_that_is_known_is_spread_and_one_that_is_not_is_searched() -> None:
    spread = over("s in (dynamic(['a', 'b']))")
    assert isinstance(spread, ir.OneOf) and len(spread.items) == 2
    searched = over("s in (d)")
    assert isinstance(searched, ir.Apply) and searched.function.name == "in_array"


# -- tables in expressions --------------------------------------------------------------------------------------------


def test_in_over_a_table_looks_in_its_first_column() -> None:
    found = over("s in ((Events | project Name))")
    assert isinstance(found, ir.InRelation) and found.column.type == "string"
    assert isinstance(over("s !in (Suspects)"), ir.InRelation)


def test_toscalar_is_the_first_value_of_a_table() -> None:
    found = over("toscalar(Events | summarize max(At))")
    assert isinstance(found, ir.FirstOf) and found.type == "datetime"


def test_a_table_inside_an_expression_cannot_depend_on_the_rows_outside() -> None:
    lets = "let f = (x:string) { toscalar(Events | where Name == x | count) };"
    assert "rows outside" in refused(f"{lets} T | extend n = f(s)").message
    assert columns(f"{lets} print n = f('a')") == {"n": "long"}


def test_a_toscalar_where_a_constant_is_needed_is_asked() -> None:
    text = "let n = toscalar(Events | count); T | project s | take n"
    question = bind(parse(text), SCHEMA, SCOPE, now=NOW)
    assert isinstance(question, ir.Question)
    assert [c.type for _, c in question.plan.columns] == ["long"]
    bound = plan(text, answers={question.key: [[3]]})
    assert isinstance(bound.relation, ir.Limit) and bound.relation.rows == 3


def test_a_query_of_the_first_value_again_comes_to_the_same_question() -> None:
    text = "let n = toscalar(Events | count); let m = toscalar(T | count); T | take n | take m"
    keys: list[str] = []
    answers: Mapping[str, Any] = {}
    for _ in range(3):
        bound = bind(parse(text), SCHEMA, SCOPE, now=NOW, answers=answers)
        if isinstance(bound, ir.Plan):
            break
        keys.append(bound.key)
        answers = {**answers, bound.key: [[1]]}
    assert len(keys) == 2 and len(set(keys)) == 2


# -- several results, windows -----------------------------------------------------------------------------------------


def test_a_function_with_several_results_gives_its_first_where_one_is_needed() -> None:
    assert over("array_length(array_sort_asc(d))").type == "long"
    assert columns("T | project array_sort_asc(d, e)") == {"d_sorted": "dynamic", "e_sorted": "dynamic"}
    assert value("array_sort_asc(dynamic([2, 1]), dynamic(['b', 'a']))[1]") == ["a", "b"]


def test_a_window_function_needs_an_order() -> None:
    assert "in an order" in refused("T | extend p = prev(a)").message
    assert columns("T | sort by a | project p = prev(a, 1, 0), n = row_number()") == {"p": "long", "n": "long"}
    assert columns("range x from 1 to 5 step 1 | project row_cumsum(x)") == {"Column1": "long"}


# -- aggregates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("summarize", "expected"),
    [
        ("count(), dcount(a), countif(bo)", "count_:long dcount_a:long countif_bo:long"),
        ("sum(i), avg(a), max(s)", "sum_i:long avg_a:real max_s:string"),
        ("sum(a) / count(), x = count() * 2", "Column1:long x:long"),
        ("round(avg(b), 2)", "avg_b:real"),
        ("make_list(s), make_set(a + 1)", "list_s:dynamic set_:dynamic"),
        ("makeset(s), makelist(s)", "set_s:dynamic list_s:dynamic"),
        ("make_list(s), make_list(s)", "list_s:dynamic list_s1:dynamic"),
        ("percentile(b, 95), percentiles(a, 5, 99.9)",
         "percentile_b_95:real percentile_a_5:long percentile_a_99_9:long"),
        ("arg_max(t, s, a)", "t:datetime s:string a:long"),
        ("arg_max(a, a + 1, tostring(d.x))", "a:long max_a_arg1:long d_x:string"),
        ("arg_min(a + 1, s)", "min_:long s:string"),
        ("arg_max(t, *) by s, g", "s:string g:guid t:datetime a:long b:real i:int ts:timespan d:dynamic e:dynamic "
                                  "bo:bool dec:decimal"),
        ("take_any(a), any(a), any(s, i)", "a:long any_a:long any_s:string any_i:int"),
        ("take_any(a + 1, s)", "any_arg0:long s:string"),
        ("(x, y) = arg_max(t, a, s)", "x:datetime y:long s:string"),
        ("argmax(a, s)", "max_a:long max_a_s:string"),
        ("sumif(a, bo), make_set_if(s, bo, 5), dcountif(s, bo, 2)", "sumif_a:long set_s:dynamic dcountif_s:long"),
        ("take_anyif(s, bo)", "s:string"),
        ("covariance(a, b)", "covariance_a_b:real"),
        ("array_sort_asc(make_list(a), make_list(s))[1]", "list_s_sorted:dynamic"),
        ("tostring(take_any(s)), tostring(max(s))", "s:string max_s:string"),
        ("round(percentile(b, 50), 1), round(percentile(b, 99.9), 1)", "percentile_b_50:real percentile_b_99_9:real"),
    ],
)  # fmt: skip
def test_aggregates_have_the_names_and_types_of_the_language(summarize: str, expected: str) -> None:
    assert columns(f"T | summarize {summarize}") == dict(pair.split(":") for pair in expected.split())


def test_what_stands_outside_every_aggregate_is_refused() -> None:
    assert "outside every aggregate" in refused("T | summarize x = a + count()").message
    assert "outside every aggregate" in refused("T | summarize s").message


def test_aggregates_do_not_stand_in_one_another() -> None:
    assert "belongs into summarize" in refused("T | summarize sum(count())").message


def test_a_table_inside_an_aggregate_expression_has_aggregates_of_its_own() -> None:
    text = "T | summarize x = count() * 1.0 / toscalar(Events | summarize count())"
    assert columns(text) == {"x": "real"}


# -- limits -----------------------------------------------------------------------------------------------------------


def test_what_doubles_with_every_let_is_refused_before_it_is_large() -> None:
    values = "".join(f"let v{n} = v{n - 1} + v{n - 1};" for n in range(1, 40))
    assert refused(f"let v0 = rand(); {values} print v39").kind == "limit"
    tables = "".join(f"let t{n} = t{n - 1} | union t{n - 1};" for n in range(1, 40))
    assert refused(f"let t0 = Events; {tables} t39").kind == "limit"
    calls = "".join(f"let f{n} = (x:long) {{ f{n - 1}(x) + f{n - 1}(x) }};" for n in range(1, 40))
    assert refused(f"let f0 = (x:long) {{ x + rand() }}; {calls} print f39(1)").kind == "limit"


def test_deep_nesting_never_escapes_as_a_recursion_error() -> None:
    chain = "".join(f"let v{n} = {'-(' * 20}v{n - 1}{')' * 20};" for n in range(1, 30))
    assert refused(f"let v0 = rand(); {chain} print v29").kind == "limit"
    functions = "".join(f"let f{n} = (x:long) {{ f{n - 1}(x + 1) }};" for n in range(1, 150))
    assert refused(f"let f0 = (x:long) {{ x }}; {functions} print f149(1)").kind == "limit"
    pipeline = " | where a > 1" * 400
    assert refused(f"T{pipeline}").kind == "limit"
