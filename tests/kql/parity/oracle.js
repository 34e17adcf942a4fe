// What Microsoft's own KQL parser and analyser say of queries, a JSON line for a JSON line.
//
// The first line is the tables: {catalogue: [{"name", "columns": [[name, type], ...]}, ...], ...}. Then:
// in:  {"id", "kql", "catalogue": a name, or null where only syntax is asked for}
// out: {"id", "parses", "binds", "errors": [message at its place, ...], "schema": [[name, type], ...] or null}
//
// "parses": the text is KQL. "binds": names and types are right too. "schema" is null where the result is no table, or
// where the analyser itself says that it does not know all of the columns (a plugin whose columns are in the data).

"use strict";

require("@kusto/language-service-next/bridge.min.js");
require("@kusto/language-service-next/Kusto.Language.Bridge.min.js");

const { Language } = Kusto;
const { Symbols } = Language;
const list = (items) => (items == null ? [] : Bridge.toArray(items));
const isError = (diagnostic) => diagnostic.Severity === Language.DiagnosticSeverity.Error;
const told = (errors) => errors.map((e) => `${e.Message} (${e.Code} at ${e.Start})`);
const quoted = (name) => "['" + name.replace(/\\/g, "\\\\").replace(/'/g, "\\'") + "']";

function globals(tables) {
  const symbols = tables.map(({ name, columns }) =>
    Symbols.TableSymbol.From(`(${columns.map(([n, type]) => `${quoted(n)}: ${type}`).join(", ")})`).WithName(name),
  );
  const database = new Symbols.DatabaseSymbol.$ctor3("watchfloor", null, symbols, false);
  return Language.GlobalState.Default.WithDatabase(database);
}

// Every kind of dynamic (array, bag, a value of known type) is "dynamic" to whoever reads the result.
const typeName = (type) => (Bridge.is(type, Symbols.DynamicSymbol) ? "dynamic" : type.Name);

function answer({ id, kql, catalogue }, catalogues) {
  let code = Language.KustoCode.Parse(kql, catalogues.get(catalogue) ?? Language.GlobalState.Default);
  const wrong = list(code.GetSyntaxDiagnostics()).filter(isError);
  const parses = wrong.length === 0;
  if (catalogue === null || !parses) return { id, parses, binds: false, errors: told(wrong), schema: null };
  let errors;
  try {
    code = code.Analyze();
    errors = list(code.GetDiagnostics()).filter(isError);
  } catch (crash) {
    return { id, parses, binds: false, errors: [`the analyser failed: ${crash.message}`], schema: null };
  }
  const result = code.ResultType;
  const isKnown = result != null && Bridge.is(result, Symbols.TableSymbol) && !result.IsOpen;
  return {
    id,
    parses,
    binds: errors.length === 0,
    errors: told(errors),
    schema: isKnown ? list(result.Columns).map((c) => [c.Name, typeName(c.Type)]) : null,
  };
}

let catalogues = null;
require("readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const said = JSON.parse(line);
    if (catalogues === null) catalogues = new Map(Object.entries(said).map(([name, tables]) => [name, globals(tables)]));
    else process.stdout.write(JSON.stringify(answer(said, catalogues)) + "\n");
  });
