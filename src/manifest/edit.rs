//! A row more in an inline table, with all else in the manifest's text left as it is.

use toml_edit::{ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value};

/// The text with `row` at the end of `[[tables.TABLE]]`, or of the profile's table of that name; or
/// why that cannot be.
pub fn add_row(
    text: &str,
    profile: Option<&str>,
    table: &str,
    row: &[(String, String)],
) -> Result<String, String> {
    let mut document: DocumentMut =
        text.parse().map_err(|error| format!("the manifest is no TOML: {error}"))?;
    let (path, shown) = match profile {
        None => (vec!["tables", table], format!("[[tables.{table}]]")),
        Some(name) => {
            (vec!["profiles", name, "tables", table], format!("[[profiles.{name}.tables.{table}]]"))
        }
    };
    let mut item = document.as_item_mut();
    for key in path {
        let inner = item.as_table_like_mut().and_then(|table| table.get_mut(key));
        item = inner.ok_or_else(|| format!("there is no `{shown}`"))?;
    }
    match item {
        Item::ArrayOfTables(rows) => add_table(rows, row),
        Item::Value(Value::Array(rows)) => add_inline(rows, row),
        _ => return Err(format!("`{shown}` has no rows")),
    }
    Ok(as_before(text, &document.to_string()))
}

fn add_table(rows: &mut ArrayOfTables, row: &[(String, String)]) {
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    for (name, value) in row {
        table.insert(name, toml_edit::value(value));
    }
    rows.push(table);
}

/// `rows = [{ ... }, { ... }]`
fn add_inline(rows: &mut toml_edit::Array, row: &[(String, String)]) {
    let raw = |text: Option<&toml_edit::RawString>| {
        text.and_then(toml_edit::RawString::as_str).unwrap_or_default().to_owned()
    };
    // A comment after the last row stays with that one: what stood behind it comes before the new row.
    let mut behind = String::new();
    let mut before = String::new();
    if let Some(last) = rows.len().checked_sub(1).and_then(|last| rows.get_mut(last)) {
        behind = raw(last.decor().suffix());
        before = raw(last.decor().prefix());
        last.decor_mut().set_suffix("");
    }
    let trailing = raw(Some(rows.trailing()));
    behind.push_str(&trailing);
    let indent = before.rsplit_once('\n').map(|(_, indent)| format!("\n{indent}"));
    let prefix = match &indent {
        Some(indent) => format!("{}{indent}", behind.trim_end()),
        None if rows.is_empty() => String::new(),
        // A comment ends with its line.
        None if behind.contains('#') => format!("{}\n", behind.trim_end()),
        None => " ".to_owned(),
    };
    rows.set_trailing(match trailing.rsplit_once('\n').or_else(|| behind.rsplit_once('\n')) {
        Some((_, indent)) => format!("\n{indent}"),
        None => trailing,
    });
    let mut table = InlineTable::new();
    for (name, value) in row {
        table.insert(name, value.as_str().into());
    }
    table.decor_mut().set_prefix(prefix);
    rows.push_formatted(table.into());
}

/// What writing a document forgets: a mark at the beginning, and another end of lines.
fn as_before(before: &str, written: &str) -> String {
    let mut text = match before.split_once('\n') {
        Some((first, _)) if first.ends_with('\r') => {
            written.replace("\r\n", "\n").replace('\n', "\r\n")
        }
        _ => written.to_owned(),
    };
    if before.starts_with('\u{feff}') && !text.starts_with('\u{feff}') {
        text.insert(0, '\u{feff}');
    }
    text
}
