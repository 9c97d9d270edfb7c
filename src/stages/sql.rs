//! Kind `sql`: one SQLite query over its inputs, on a database of its own that lasts for the query.

use std::cell::Cell;
use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use indexmap::IndexMap;
use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::{ToSqlOutput, Value as SqlValue, ValueRef};
use rusqlite::{Connection, params_from_iter};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use toml::Spanned;

use super::{
    Columns, Compile, Compiled, Components, Input, InputInfo, Kind, Sink, StageError, TableStage,
    Work, World, aside, functions,
};
use crate::clients::CallError;
use crate::manifest::{Problem, did_you_mean, nearest};
use crate::store::{Artifact, Store};
use crate::table::{Column, Row, Types};

pub struct Sql;

/// What `[stages.NAME]` may hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// One SQLite query, or a `.sql` file with one. Every input is a table named after it (a file
    /// after its name without folder and extension); names with `-` are quoted: `"root-cause"`.
    /// Fields are columns; nested values are JSON text for the JSON functions. Columns that come
    /// straight from an input keep their type; a computed one is text or a number unless its name
    /// says more: `AS "fixed_by: json"`, `AS "is_fixed: bool"`.
    #[schemars(with = "String")]
    query: Spanned<String>,
}

struct Stage {
    query: String,
    /// The tables that the inputs become, in the order of the inputs.
    tables: Vec<TableName>,
}

struct TableName {
    name: String,
    /// What is known of its columns, for a table that turns out to have no row.
    columns: Columns,
}

/// A table without a column cannot be made; one that is empty and unknown has this one.
const NO_COLUMN: &str = "_empty";
/// The memory that SQLite may take for pages, in KiB; the rest waits in the file.
const PAGES_KIB: i64 = 64 << 10;

impl Kind for Sql {
    fn name(&self) -> &'static str {
        "sql"
    }

    fn version(&self) -> u32 {
        1
    }

    fn settings(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Settings>()
    }

    fn compile(&self, cx: &mut Compile<'_>) -> Option<Compiled> {
        let settings: Settings = cx.settings()?;
        let plain = cx.no_row_settings("sql");
        let tables = tables(cx)?;
        let (query, columns) = query(cx, &settings.query, &tables)?;
        let key = cx.own_key(&columns)?;
        let work = Work::Table(Arc::new(Stage { query, tables }));
        plain.then(|| cx.compiled(work, columns, key))
    }
}

/// A query that can be asked of `tables`, and the columns of its rows.
fn query(
    cx: &mut Compile<'_>,
    text: &Spanned<String>,
    tables: &[TableName],
) -> Option<(String, Columns)> {
    let (source, inline) = cx.text_or_file(text, &[".sql"])?;
    let query = source.text.clone();
    match check(&query, tables) {
        Ok(columns) => Some((query, columns)),
        Err(fault) => {
            let range = fault.range(&query);
            let (at, range) = cx.place(&source, range, &inline);
            let (what, help) = fault.told(tables);
            let message = format!("the query cannot be used: {what}");
            cx.problems.add(Problem::new(message).at(&at, range).help(help));
            None
        }
    }
}

/// A query of a stage's own table.
pub(super) struct OwnQuery {
    pub text: String,
    table: TableName,
}

impl OwnQuery {
    /// The one input of `cx` is that table.
    pub fn compile(cx: &mut Compile<'_>, text: &Spanned<String>) -> Option<OwnQuery> {
        let mut tables = tables(cx)?;
        let (text, _) = query(cx, text, &tables)?;
        Some(OwnQuery { text, table: tables.remove(0) })
    }

    /// The first rows of its result, `most` of them. `path` is of a file that may be made.
    pub fn rows(
        &self,
        table: &Artifact,
        store: &Store,
        path: &Path,
        most: usize,
    ) -> Result<Vec<Row>, StageError> {
        let mut connection = open(path)?;
        fill(&mut connection, &self.table.name, &table.columns, store.rows(table))?;
        confine(&mut connection).map_err(failed)?;
        let mut found = Vec::new();
        each(&connection, &self.text, &mut |row, _| {
            found.push(row);
            Ok(found.len() < most)
        })?;
        Ok(found)
    }
}

/// Why a query that is of no stage gives nothing.
#[derive(Debug, Error)]
pub enum QueryError {
    /// Its text is wrong: what, where in it, and what helps.
    #[error("{message}")]
    Text { message: String, range: Range<usize>, help: Option<String> },
    #[error(transparent)]
    Stage(#[from] StageError),
}

/// Asks a query that is of no stage, by the same means and within the same limits as one that is.
/// It names its tables: `find` is asked for each, and only these are read. `names` are all there are.
/// `take` is handed every row; the columns come back.
pub fn query_by_name(
    query: &str,
    store: &Store,
    names: &[String],
    mut find: impl FnMut(&str) -> Result<Option<Artifact>, StageError>,
    mut take: impl FnMut(Row),
) -> Result<Vec<String>, QueryError> {
    // A file without a name is in memory while it is small, and gone with the connection.
    let mut connection = open(Path::new(""))?;
    let mut read: Vec<(TableName, Artifact)> = Vec::new();
    // SQLite itself tells which tables a query reads: the first that it misses, until none is.
    let columns = loop {
        confine(&mut connection).map_err(failed)?;
        let fault = match columns(&connection, query) {
            Ok(columns) => break columns,
            Err(fault) => fault,
        };
        let missing = fault.message.strip_prefix("no such table: ");
        let missing = missing.map(|name| name.strip_prefix("main.").unwrap_or(name).to_owned());
        let is_new = |name: &String| !read.iter().any(|(table, _)| table.name == *name);
        let found = match missing.filter(is_new) {
            Some(name) => find(&name)?.map(|artifact| (name, artifact)),
            None => None,
        };
        let Some((name, artifact)) = found else {
            let unread = names.iter().filter(|name| is_new(name));
            let unread = unread
                .map(|name| TableName { name: name.clone(), columns: Columns::Unknown })
                .collect::<Vec<_>>();
            let tables = read.into_iter().map(|(table, _)| table).chain(unread);
            return Err(fault.of_text(query, &tables.collect::<Vec<_>>()));
        };
        set_free(&mut connection).map_err(failed)?;
        create(&connection, &name, &artifact.columns).map_err(StageError::Failed)?;
        let columns = artifact.columns.iter().map(|column| column.name.clone()).collect();
        read.push((TableName { name, columns: Columns::Known(columns) }, artifact));
    };
    set_free(&mut connection).map_err(failed)?;
    for (table, artifact) in &read {
        insert(&mut connection, &table.name, &artifact.columns, store.rows(artifact))?;
    }
    confine(&mut connection).map_err(failed)?;
    each(&connection, query, &mut |row, _| {
        take(row);
        Ok(true)
    })?;
    Ok(columns)
}

/// The rows of `table`, which is called `name` there, for which `condition` is true: a query with
/// where the condition begins in it.
pub fn rows_where(name: &str, condition: &str) -> (String, usize) {
    let start = format!("SELECT * FROM {} WHERE ", quoted(name));
    (format!("{start}{condition}"), start.len())
}

/// An empty database for one query.
fn open(path: &Path) -> Result<Connection, StageError> {
    let connection = Connection::open(path).map_err(failed)?;
    functions::add(&connection).map_err(failed)?;
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
             PRAGMA temp_store = FILE; PRAGMA cache_size = -{PAGES_KIB};"
        ))
        .map_err(failed)?;
    Ok(connection)
}

/// What the table of an input is called: a file after its name without folder and extension.
pub fn table_name(input: &str) -> &str {
    let path = Path::new(input);
    path.extension().and(path.file_stem()).and_then(|stem| stem.to_str()).unwrap_or(input)
}

/// What each input's table is called.
fn tables(cx: &mut Compile<'_>) -> Option<Vec<TableName>> {
    if cx.inputs.is_empty() {
        let message = format!("stage `{}` has no input to query", cx.decl.name);
        cx.fail(cx.span(), message, Some("add `inputs = [\"...\"]`".into()));
        return None;
    }
    let mut seen = HashSet::new();
    let mut tables = Vec::new();
    for InputInfo { name, columns, .. } in cx.inputs.clone() {
        let table = table_name(&name).to_owned();
        if !seen.insert(table.to_lowercase()) {
            let message =
                format!("two inputs of stage `{}` become the table `{table}`", cx.decl.name);
            let help = "SQLite does not tell upper from lower case, nor folders; rename one";
            cx.fail(cx.span(), message, Some(help.into()));
            return None;
        }
        tables.push(TableName { name: table, columns });
    }
    Some(tables)
}

/// Why a query cannot be used.
struct Fault {
    message: String,
    offset: Option<usize>,
}

impl Fault {
    /// Whether it may be that the query is right and only the columns are not known yet.
    fn is_of_a_column(&self) -> bool {
        ["no such column", "cannot join using column", "a NATURAL join", "ambiguous column"]
            .iter()
            .any(|start| self.message.starts_with(start))
    }

    fn new(message: impl Into<String>) -> Fault {
        Fault { message: message.into(), offset: None }
    }

    /// What is marked of the query: the word that it is about, or else the first line.
    fn range(&self, query: &str) -> Range<usize> {
        let missing = self.message.strip_prefix("no such table: ");
        let table = || missing.and_then(|name| read_at(query, name));
        match self.offset.or_else(table) {
            Some(offset) => offset..word_end(query, offset),
            None => 0..query.find('\n').unwrap_or(query.len()),
        }
    }

    fn of_text(self, query: &str, tables: &[TableName]) -> QueryError {
        let (range, (message, help)) = (self.range(query), self.told(tables));
        QueryError::Text { message, range, help: Some(help) }
    }

    /// What is wrong, and what to do.
    fn told(&self, tables: &[TableName]) -> (String, String) {
        let message = match self.message.strip_prefix("not authorized") {
            Some("") => "it does more than read the tables of its inputs".to_owned(),
            Some(rest) => match rest.strip_prefix(" to use function: ") {
                Some(name) => format!("the function `{name}` is not there"),
                None => self.message.clone(),
            },
            None => self.message.clone(),
        };
        if let Some(help) = self.help(tables) {
            return (message, help);
        }
        let table = tables.first().map_or("...", |table| table.name.as_str());
        let help = match message.as_str() {
            "it is empty" => format!("write one: `SELECT ... FROM {}`", quoted(table)),
            it if it.contains("syntax error") || it.contains("incomplete input") => {
                "look at what stands before it, too: a mistyped word, a comma too many or too few"
                    .into()
            }
            it if it.contains("parameter") => "write the value itself".into(),
            it if it.contains("more than one statement") => {
                "keep one; another goes into a stage of its own".into()
            }
            it => match it.split_once("; ") {
                Some((what, help)) => return (what.to_owned(), help.to_owned()),
                None => "see https://sqlite.org/lang_select.html".into(),
            },
        };
        (message, help)
    }

    fn help(&self, tables: &[TableName]) -> Option<String> {
        if self.message.contains("not authorized") || self.message.contains("prohibited") {
            let help = "a query reads its tables and nothing else; what differs from run to run \
                        (chance, the time) is not there";
            return Some(help.into());
        }
        if let Some(name) = self.message.strip_prefix("no such table: ") {
            return did_you_mean(name, tables.iter().map(|table| table.name.as_str()));
        }
        if let Some(name) = self.message.strip_prefix("no such function: ") {
            return Some(match nearest(name, functions::KNOWN) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "functions are those of SQLite and of docs/manifest.md".into(),
            });
        }
        let name = self.message.strip_prefix("no such column: ")?;
        let name = name.split(" - ").next().unwrap_or(name);
        let name = name.rsplit('.').next().unwrap_or(name).trim_matches('"');
        let known = tables.iter().flat_map(|table| match &table.columns {
            Columns::Known(names) => names.clone(),
            Columns::Unknown => Vec::new(),
        });
        let known: Vec<String> = known.collect();
        did_you_mean(name, known.iter().map(String::as_str))
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Fault {
        match error {
            rusqlite::Error::SqlInputError { msg, offset, .. } => {
                Fault { message: msg, offset: usize::try_from(offset).ok() }
            }
            rusqlite::Error::SqliteFailure(_, Some(message)) => Fault::new(message),
            rusqlite::Error::Empty => Fault::new("it is empty"),
            rusqlite::Error::MultipleStatement => {
                Fault::new("it holds more than one statement, where one query is wanted")
            }
            other => Fault::new(other.to_string()),
        }
    }
}

/// Prepares the query against empty tables. Tells the columns of its rows where those of all its
/// inputs are known.
fn check(query: &str, tables: &[TableName]) -> Result<Columns, Fault> {
    // A manifest may hold thousands of queries, and a database takes longer to open than to clear.
    thread_local!(static IDLE: Cell<Option<Connection>> = const { Cell::new(None) });
    let mut connection = match IDLE.take() {
        Some(connection) => connection,
        None => {
            let connection = Connection::open_in_memory()?;
            functions::add(&connection)?;
            connection
        }
    };
    let checked = check_on(&mut connection, query, tables);
    let cleared = clear(&mut connection, tables);
    if cleared.is_ok() {
        IDLE.set(Some(connection));
    }
    checked
}

fn clear(connection: &mut Connection, tables: &[TableName]) -> rusqlite::Result<()> {
    set_free(connection)?;
    for table in tables {
        let drop = format!("DROP TABLE IF EXISTS main.{}", quoted(&table.name));
        connection.execute(&drop, [])?;
    }
    Ok(())
}

fn check_on(
    connection: &mut Connection,
    query: &str,
    tables: &[TableName],
) -> Result<Columns, Fault> {
    for table in tables {
        let columns: Vec<Column> = known_columns(table);
        create(connection, &table.name, &columns).map_err(Fault::new)?;
    }
    confine(connection)?;
    let all_known = tables.iter().all(|table| matches!(table.columns, Columns::Known(_)));
    match prepared(connection, query) {
        Ok(statement) if all_known => names(&statement).map(Columns::Known),
        Ok(_) => Ok(Columns::Unknown),
        // The column may be there at run time.
        Err(fault) if !all_known && fault.is_of_a_column() => Ok(Columns::Unknown),
        Err(fault) => Err(fault),
    }
}

/// The columns of the rows that come out of a query of the tables that are there.
fn columns(connection: &Connection, query: &str) -> Result<Vec<String>, Fault> {
    names(&prepared(connection, query)?)
}

fn names(statement: &rusqlite::Statement<'_>) -> Result<Vec<String>, Fault> {
    Ok(outputs(statement)?.into_iter().map(|output| output.name).collect())
}

fn prepared<'c>(connection: &'c Connection, query: &str) -> Result<rusqlite::Statement<'c>, Fault> {
    let statement = connection.prepare(query)?;
    if statement.column_count() == 0 {
        return Err(Fault::new("it is no query: no rows come out of it"));
    }
    if statement.parameter_count() > 0 {
        return Err(Fault::new("it has a parameter (`?`, `:name`), which nothing fills in"));
    }
    Ok(statement)
}

fn known_columns(table: &TableName) -> Vec<Column> {
    match &table.columns {
        Columns::Known(names) => names
            .iter()
            .map(|name| Column { name: name.clone(), types: Types::default() })
            .collect(),
        Columns::Unknown => Vec::new(),
    }
}

/// A query may read the tables that are there, and nothing else.
fn confine(connection: &mut Connection) -> rusqlite::Result<()> {
    // A misspelt `"name"` is a mistake, not a text.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.authorizer(Some(|context: AuthContext<'_>| {
        match context.action {
            AuthAction::Read { table_name, .. } if is_internal(table_name) => Authorization::Deny,
            AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => {
                Authorization::Allow
            }
            // What time it is, and what comes of chance, would differ from run to run.
            AuthAction::Function { function_name } => match function_name {
                "load_extension" | "readfile" | "writefile" | "random" | "randomblob"
                | "current_date" | "current_time" | "current_timestamp" => Authorization::Deny,
                _ => Authorization::Allow,
            },
            _ => Authorization::Deny,
        }
    }))
}

/// Lets the tables be made and filled; no query is asked meanwhile.
fn set_free(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)
}

/// What SQLite tells of itself: where the database is, how it is laid out.
fn is_internal(table: &str) -> bool {
    table.starts_with("sqlite_") || table.starts_with("pragma_") || table == "dbstat"
}

/// What a column holds, as parts of the type that it is declared with.
const BOOL: &str = "BOOL_";
const NUMBER: &str = "NUMBER_";
const STRING: &str = "STRING_";
const NESTED: &str = "NESTED_";

/// The type that a column is declared with: SQLite tells it again of a column that a query passes
/// on as it is. It ends so that SQLite converts no value.
fn declared(types: Types) -> String {
    let Types { boolean, number, text, nested, null: _ } = types;
    let parts = [(boolean, BOOL), (number, NUMBER), (text, STRING), (nested, NESTED)];
    let held = parts.into_iter().filter(|(held, _)| *held);
    held.map(|(_, part)| part).chain(["BLOB"]).collect()
}

/// What `declared` was made from; `None` for what a query computes.
fn straight(declared: Option<&str>) -> Option<Types> {
    let parts = declared?.strip_suffix("BLOB")?;
    let held = |part| parts.contains(part);
    let (boolean, number, text, nested) = (held(BOOL), held(NUMBER), held(STRING), held(NESTED));
    Some(Types { boolean, number, text, nested, null: true })
}

fn create(connection: &Connection, table: &str, columns: &[Column]) -> Result<(), String> {
    let definitions: Vec<String> = match columns.is_empty() {
        true => vec![quoted(NO_COLUMN)],
        false => columns
            .iter()
            .map(|column| format!("{} {}", quoted(&column.name), declared(column.types)))
            .collect(),
    };
    let create = format!("CREATE TABLE {} ({})", quoted(table), definitions.join(", "));
    connection.execute(&create, []).map(drop).map_err(|error| {
        let message = Fault::from(error).message;
        let why = match message.starts_with("duplicate column") {
            true => " (SQLite does not tell upper from lower case)",
            false => "",
        };
        format!("`{table}` cannot be a table: {message}{why}")
    })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl TableStage for Stage {
    fn describe(&self, components: &mut dyn Components) {
        components.add("query", &self.query);
        components.add("sqlite", rusqlite::version());
    }

    fn make<'a>(
        &'a self,
        inputs: Vec<Input>,
        sink: Sink,
        world: &'a World,
    ) -> BoxFuture<'a, Result<Sink, StageError>> {
        Box::pin(async move {
            let query = self.query.clone();
            let tables: Vec<(String, Vec<Column>, Input)> = self
                .tables
                .iter()
                .zip(inputs)
                .map(|(table, input)| (table.name.clone(), input.artifact.columns.clone(), input))
                .collect();
            let (store, transport) = (world.store.clone(), world.transport.clone());
            let (note, path) = (world.note.clone(), world.scratch.join("query.db"));
            let work = move || -> Result<Sink, StageError> {
                let mut connection = open(&path)?;
                let stop = transport.clone();
                connection
                    .progress_handler(100_000, Some(move || stop.is_stopped()))
                    .map_err(failed)?;
                for (name, columns, input) in &tables {
                    let rows = store.rows(&input.artifact);
                    // The handler is not asked between short statements.
                    let rows = rows.take_while(|_| !transport.is_stopped());
                    fill(&mut connection, name, columns, rows)?;
                }
                confine(&mut connection).map_err(failed)?;
                let made = ask(&connection, &query, sink, &*note);
                let made = made.map_err(|error| with_unknown(error, &tables));
                match transport.stopped() {
                    Some(why) => Err(StageError::Call(CallError::Stopped(why))),
                    None => made,
                }
            };
            aside(work).await
        })
    }
}

fn failed(error: rusqlite::Error) -> StageError {
    StageError::Failed(format!("the query failed: {}", Fault::from(error).message))
}

/// A column may be missed only because a table has no row to tell its columns.
fn with_unknown(error: StageError, tables: &[(String, Vec<Column>, Input)]) -> StageError {
    match error {
        StageError::Failed(why) if why.contains("no such column") => {
            let empty = tables.iter().filter(|(_, columns, _)| columns.is_empty());
            let empty: Vec<String> = empty.map(|(name, ..)| format!("`{name}`")).collect();
            StageError::Failed(match empty.is_empty() {
                true => why,
                false => format!("{why}; no columns are known of {}: no rows", empty.join(", ")),
            })
        }
        other => other,
    }
}

fn fill(
    connection: &mut Connection,
    table: &str,
    columns: &[Column],
    rows: impl Iterator<Item = Result<Row, crate::store::StoreError>>,
) -> Result<(), StageError> {
    create(connection, table, columns).map_err(StageError::Failed)?;
    insert(connection, table, columns, rows)
}

fn insert(
    connection: &mut Connection,
    table: &str,
    columns: &[Column],
    rows: impl Iterator<Item = Result<Row, crate::store::StoreError>>,
) -> Result<(), StageError> {
    let marks = vec!["?"; columns.len().max(1)].join(", ");
    let insert = format!("INSERT INTO {} VALUES ({marks})", quoted(table));
    let transaction = connection.transaction().map_err(failed)?;
    {
        let mut statement = transaction.prepare(&insert).map_err(failed)?;
        for row in rows {
            let row = row?;
            let values = columns.iter().map(|column| stored(row.get(&column.name)));
            statement.execute(params_from_iter(values)).map_err(failed)?;
        }
    }
    transaction.commit().map_err(failed)
}

/// A field as SQLite holds it.
fn stored(value: Option<&Value>) -> ToSqlOutput<'_> {
    let owned = ToSqlOutput::Owned;
    match value {
        None | Some(Value::Null) => owned(SqlValue::Null),
        Some(Value::Bool(truth)) => owned(SqlValue::Integer((*truth).into())),
        Some(Value::String(text)) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        Some(Value::Number(number)) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => owned(SqlValue::Integer(integer)),
            // Beyond SQLite's integers; as a float it would lose digits.
            (None, Some(large)) => owned(SqlValue::Text(large.to_string())),
            _ => owned(SqlValue::Real(number.as_f64().unwrap_or_default())),
        },
        Some(nested) => owned(SqlValue::Text(nested.to_string())),
    }
}

/// A column of the result: its name, and what its values become.
struct Output {
    name: String,
    form: Form,
}

#[derive(Clone, Copy)]
enum Form {
    /// As SQLite has it.
    Computed,
    /// Passed on from an input's column that holds these types.
    Straight(Types),
    /// Booleans: passed on, or told to be.
    Bool,
    /// Told to be JSON: all of it is parsed.
    Json,
}

impl From<Types> for Form {
    fn from(types: Types) -> Form {
        match types {
            Types { boolean: true, number: false, text: false, nested: false, .. } => Form::Bool,
            types => Form::Straight(types),
        }
    }
}

fn outputs(statement: &rusqlite::Statement<'_>) -> Result<Vec<Output>, Fault> {
    let mut seen = HashSet::new();
    let mut outputs = Vec::new();
    for column in statement.columns() {
        let (name, told) = match column.name().rsplit_once(':') {
            Some((name, told)) => (name.trim_end(), Some(told.trim())),
            None => (column.name(), None),
        };
        let (name, form) = match (told, straight(column.decl_type())) {
            (Some("json"), _) => (name, Form::Json),
            (Some("bool"), _) => (name, Form::Bool),
            (_, Some(types)) => (column.name(), types.into()),
            (_, None) => (column.name(), Form::Computed),
        };
        if !seen.insert(name.to_owned()) {
            let message = format!(
                "two columns of the result are called `{name}`; name the columns that are wanted, \
                 or give one another name with AS"
            );
            return Err(Fault::new(message));
        }
        outputs.push(Output { name: name.to_owned(), form });
    }
    Ok(outputs)
}

fn ask(
    connection: &Connection,
    query: &str,
    mut sink: Sink,
    note: &dyn Fn(String),
) -> Result<Sink, StageError> {
    // Whether a computed text has looked like JSON so far.
    let mut looks: IndexMap<String, bool> = IndexMap::new();
    each(connection, query, &mut |row, outputs| {
        for output in outputs.iter().filter(|output| matches!(output.form, Form::Computed)) {
            if let Some(Value::String(text)) = row.get(&output.name) {
                let looks = looks.entry(output.name.clone()).or_insert(true);
                *looks = *looks && nested(text).is_some();
            }
        }
        sink.push(&row)?;
        Ok(true)
    })?;
    for (name, _) in looks.into_iter().filter(|(_, looks)| *looks) {
        note(format!(
            "the column `{name}` holds JSON as text; write AS \"{name}: json\" to have it so"
        ));
    }
    Ok(sink)
}

/// Takes a row of a query's result; `false` where it has enough.
type Take<'a> = dyn FnMut(Row, &[Output]) -> Result<bool, StageError> + 'a;

/// Hands on each row of a query's result, until `take` has enough.
fn each(connection: &Connection, query: &str, take: &mut Take<'_>) -> Result<(), StageError> {
    let mut statement = connection.prepare(query).map_err(failed)?;
    let outputs = outputs(&statement).map_err(|fault| StageError::Failed(fault.message))?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut number = 0u64;
    while let Some(found) = rows.next().map_err(failed)? {
        number += 1;
        let mut row = Row::new();
        for (at, output) in outputs.iter().enumerate() {
            let value = found.get_ref(at).map_err(failed)?;
            let value = read(value, output.form).map_err(|what| {
                StageError::Failed(format!("row {number}, column `{}`: {what}", output.name))
            })?;
            row.insert(output.name.clone(), value);
        }
        if !take(row, &outputs)? {
            break;
        }
    }
    Ok(())
}

/// A value of the result as JSON.
fn read(value: ValueRef<'_>, form: Form) -> Result<Value, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match (value, form) {
        (ValueRef::Null, _) => Ok(Value::Null),
        (ValueRef::Integer(truth @ (0 | 1)), Form::Bool) => Ok(Value::Bool(truth == 1)),
        (value, Form::Bool) => Err(format!("{} is no boolean (0, 1 or NULL)", shown(value))),
        (ValueRef::Integer(truth @ (0 | 1)), Form::Straight(types))
            if types.boolean && !types.number =>
        {
            Ok(Value::Bool(truth == 1))
        }
        (ValueRef::Integer(integer), _) => Ok(integer.into()),
        (ValueRef::Real(real), _) => serde_json::Number::from_f64(real)
            .map(Value::Number)
            .ok_or_else(|| format!("{real} has no form in JSON")),
        (ValueRef::Text(bytes), Form::Json) => serde_json::from_slice(bytes)
            .map_err(|error| format!("{} is told to be JSON and is not: {error}", shown(value))),
        (ValueRef::Text(bytes), Form::Straight(types)) => {
            let text = text(bytes);
            let nested = types.nested.then(|| nested(&text)).flatten();
            let number = (types.number && !types.text).then(|| large(&text)).flatten();
            Ok(nested.or(number).unwrap_or(Value::String(text)))
        }
        (ValueRef::Text(bytes), Form::Computed) => Ok(Value::String(text(bytes))),
        (ValueRef::Blob(_), _) => {
            Err("a blob has no form in JSON; use json() or hex() in the query".into())
        }
    }
}

/// A value for people.
fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".into(),
        ValueRef::Integer(integer) => integer.to_string(),
        ValueRef::Real(real) => real.to_string(),
        ValueRef::Blob(_) => "a blob".into(),
        ValueRef::Text(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            match text.char_indices().nth(80) {
                Some((end, _)) => format!("the text \"{}...\"", &text[..end]),
                None => format!("the text \"{text}\""),
            }
        }
    }
}

/// A number that is kept as text, as it is beyond SQLite's integers.
fn large(text: &str) -> Option<Value> {
    let number: u64 = text.parse().ok()?;
    i64::try_from(number).is_err().then(|| number.into())
}

/// A text that is a whole JSON array or object.
fn nested(text: &str) -> Option<Value> {
    let begins = text.starts_with(['[', '{']);
    begins.then(|| serde_json::from_str(text).ok()).flatten()
}

/// Where a query reads `table`: SQLite does not tell.
fn read_at(query: &str, table: &str) -> Option<usize> {
    let follows =
        |word: &str| word.eq_ignore_ascii_case("from") || word.eq_ignore_ascii_case("join");
    let mut places = query.match_indices(table).map(|(at, _)| at);
    places.find(|at| {
        let before = query[..*at].trim_end_matches(['"', '`', '[']);
        before.ends_with(char::is_whitespace)
            && before.split_whitespace().next_back().is_some_and(follows)
    })
}

fn word_end(text: &str, start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    let word =
        rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').unwrap_or(rest.len());
    start + word.max(rest.chars().next().map_or(0, char::len_utf8))
}
