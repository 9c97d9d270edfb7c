//! What a template of a report can show: tables, charts, the graph. Each is numbered, says of what its
//! numbers are shares or counts, and which table they come from.
//!
//! | function | shows |
//! |---|---|
//! | `table(t, ...)` | the rows |
//! | `bars(t, x=, y=, series=, ...)` | stacked bars, a bar for each `x` |
//! | `lines(t, x=, y=, series=, ...)` | a line for each series |
//! | `heat(t, x=, y=, series=, ...)` | a field for each pair, with its number |
//! | `graph(...)` | the stages of the manifest |

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, State, Value};
use serde_json::Value as Json;

use super::document::{Form, Report, Table, wrong};
use super::markdown::{self, escaped};
use super::page::data_address;
use super::pivot::{self, Fields, digits, no_column, percent, shown, spoken, to_shares};
use crate::charts::{self, Chart, Number};
use crate::table::Row;
use crate::text::escape as html;

/// What inputs cannot be called.
pub(super) const NAMES: [&str; 5] = ["table", "bars", "lines", "heat", "graph"];

/// Makes them known to templates, with the filters `percent` and `code`, and values that are safe in
/// Markdown whoever wrote them.
pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_function("table", table);
    environment.add_function("bars", |state: &mut State<'_, '_>, of: Value, more: Kwargs| {
        show(state, &of, &more, Sort::Bars)
    });
    environment.add_function("lines", |state: &mut State<'_, '_>, of: Value, more: Kwargs| {
        show(state, &of, &more, Sort::Lines)
    });
    environment.add_function("heat", |state: &mut State<'_, '_>, of: Value, more: Kwargs| {
        show(state, &of, &more, Sort::Heat)
    });
    environment.add_function("graph", graph);
    environment.add_filter("percent", |share: f64| percent(share));
    environment.add_filter("code", |text: String| Value::from_safe_string(markdown::code(&text)));
    environment.set_formatter(|out, _, value| {
        if value.is_none() {
            return Ok(());
        }
        if value.is_safe() {
            return Ok(out.write_str(value.as_str().unwrap_or_default())?);
        }
        let text = match serde_json::to_value(value) {
            Ok(json @ (Json::Number(_) | Json::Bool(_))) => shown(&json),
            _ => value.to_string(),
        };
        Ok(out.write_str(&escaped(&text))?)
    });
}

/// What a chart looks like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Bars,
    Lines,
    Heat,
}

/// Numbers under headings.
struct Grid {
    /// With whether what stands below are numbers.
    headers: Vec<(String, bool)>,
    rows: Vec<Vec<String>>,
}

/// What is said of a table or a figure.
struct Caption {
    /// `Table 1`
    name: String,
    text: String,
    /// What its numbers are counts or shares of.
    of: String,
    from: String,
    digest: String,
}

fn input(value: &Value) -> Result<&Table, Error> {
    value
        .downcast_object_ref::<Table>()
        .ok_or_else(|| wrong("its first argument is one of the inputs"))
}

impl Caption {
    fn read(name: String, table: &Table, more: &Kwargs) -> Result<Caption, Error> {
        let text: String = more.get("caption")?;
        let text = format!("{}.", text.trim_end_matches('.'));
        let of = more.get::<Value>("of")?.to_string();
        if of.trim().is_empty() {
            return Err(wrong("`of` says what the numbers are counts or shares of"));
        }
        let digest = table.digest.hex()[..16].to_owned();
        Ok(Caption { name, text, of, from: table.name.clone(), digest })
    }

    fn html(&self) -> String {
        let Caption { name, text, of, from, digest } = self;
        format!(
            "<figcaption><strong>{name}.</strong> {} <span class=\"from\">Of {}. From \
             <code>{}</code>, digest <code>{digest}</code>.</span></figcaption>\n",
            html(text),
            html(of),
            html(from)
        )
    }

    fn markdown(&self) -> String {
        let Caption { name, text, of, from, digest } = self;
        format!(
            "**{name}.** {} *Of {}. From `{from}`, digest `{digest}`.*",
            escaped(text),
            escaped(of)
        )
    }
}

/// The rows of a table; with `where` those alone whose fields hold these values.
fn rows<'t>(table: &'t Table, more: &Kwargs) -> Result<Vec<&'t Row>, Error> {
    let wanted: Option<Value> = more.get("where")?;
    let wanted: Row = match wanted {
        None => Row::new(),
        Some(value) => serde_json::to_value(&value)
            .ok()
            .and_then(|value| value.as_object().cloned())
            .ok_or_else(|| wrong("`where` is a map from columns to values"))?,
    };
    let rows = table.shown()?;
    if let Some(name) = wanted.keys().find(|name| !rows.is_empty() && !table.columns.contains(name))
    {
        return Err(no_column(table, name));
    }
    let holds = |row: &&Row| wanted.iter().all(|(name, value)| row.get(name) == Some(value));
    Ok(rows.iter().filter(holds).collect())
}

fn table(state: &mut State<'_, '_>, of: Value, more: Kwargs) -> Result<Value, Error> {
    let report = Report::of(state)?;
    let table = input(&of)?;
    let columns: Option<Vec<String>> = more.get("columns")?;
    let columns = columns.unwrap_or_else(|| table.columns.clone());
    let headers: Option<Vec<String>> = more.get("headers")?;
    let headers = headers.unwrap_or_else(|| columns.iter().map(|name| spoken(name)).collect());
    let shares: Vec<String> = more.get::<Option<_>>("percent")?.unwrap_or_default();
    if headers.len() != columns.len() {
        let (headers, columns) = (headers.len(), columns.len());
        return Err(wrong(&format!("there are {headers} `headers` for {columns} columns")));
    }
    let rows = rows(table, &more)?;
    for name in columns.iter().chain(&shares) {
        if !rows.is_empty() && !table.columns.contains(name) {
            return Err(no_column(table, name));
        }
    }
    let caption = Caption::read(format!("Table {}", report.table()), table, &more)?;
    more.assert_all_used()?;
    let is_number = |name: &String| {
        let mut values = rows.iter().filter_map(|row| row.get(name)).filter(|it| !it.is_null());
        let first = values.next().is_some_and(Json::is_number);
        first && values.all(Json::is_number)
    };
    // Of numbers in one column, all have digits behind the point, or none.
    let is_real = |name: &String| {
        rows.iter().filter_map(|row| row.get(name)?.as_f64()).any(|number| number.fract() != 0.0)
    };
    let real: Vec<&String> = columns.iter().filter(|name| is_real(name)).collect();
    let cell = |row: &Row, name: &String| match row.get(name) {
        None | Some(Json::Null) => String::new(),
        Some(value) => match value.as_f64() {
            Some(share) if shares.contains(name) => percent(share),
            Some(number) if real.contains(&name) => digits(number),
            _ => shown(value),
        },
    };
    let grid = Grid {
        headers: headers.into_iter().zip(columns.iter().map(is_number)).collect(),
        rows: rows.iter().map(|row| columns.iter().map(|name| cell(row, name)).collect()).collect(),
    };
    let text = match report.form {
        Form::Markdown => format!("\n\n{}\n\n{}\n\n", caption.markdown(), grid.markdown()),
        Form::Html => report.block(format!(
            "<figure class=\"table\" data-from=\"{}\">\n{}<div class=\"scroll\">\n{}</div>\n</figure>\n",
            html(&caption.from),
            caption.html(),
            grid.html()
        )),
    };
    Ok(Value::from_safe_string(text))
}

/// Draws a chart; its numbers stand below it, and in its place where there are no pictures.
fn show(state: &mut State<'_, '_>, of: &Value, more: &Kwargs, sort: Sort) -> Result<Value, Error> {
    let report = Report::of(state)?;
    let table = input(of)?;
    let fields = Fields { x: more.get("x")?, y: more.get("y")?, series: more.get("series")? };
    let number = match more.get::<Option<String>>("number")?.as_deref() {
        None | Some("count") => Number::Count,
        Some("share") => Number::Share,
        Some("plain") => Number::Plain,
        Some(other) => {
            return Err(wrong(&format!("`number` is `{other}`; it is count, share or plain")));
        }
    };
    let share = more.get::<Option<bool>>("share")?.unwrap_or(false);
    let at = report.figure();
    let caption = Caption::read(format!("Figure {at}"), table, more)?;
    let rows = rows(table, more)?;
    more.assert_all_used()?;
    let mut chart = pivot::chart(table, &rows, &fields, number, sort == Sort::Heat)?;
    let grid = match sort {
        Sort::Heat => Grid::of_heat(&chart),
        Sort::Bars | Sort::Lines => Grid::of(&chart),
    };
    if share {
        to_shares(&mut chart)?;
    }
    let draw = match sort {
        Sort::Bars => charts::bars,
        Sort::Lines => charts::lines,
        Sort::Heat => charts::heat,
    };
    let text = match report.form {
        Form::Markdown => format!("\n\n{}\n\n{}\n\n", caption.markdown(), grid.markdown()),
        Form::Html => report.block(format!(
            "<figure class=\"chart\" id=\"figure-{at}\" data-from=\"{}\">\n{}<div class=\"chart-box\">\n{}</div>\n<details>\n\
             <summary>The numbers</summary>\n<div class=\"scroll\">\n{}</div>\n</details>\n</figure>\n",
            html(&caption.from),
            caption.html(),
            draw(&chart, &format!("chart-{at}")),
            grid.html()
        )),
    };
    Ok(Value::from_safe_string(text))
}

fn graph(state: &mut State<'_, '_>, more: Kwargs) -> Result<Value, Error> {
    let report = Report::of(state)?;
    let text: String = more.get("caption")?;
    more.assert_all_used()?;
    let name = format!("Figure {}", report.figure());
    let [picture, mermaid] = &*report.graph;
    let text = match report.form {
        Form::Markdown => {
            format!("\n\n**{name}.** {}\n\n```mermaid\n{mermaid}```\n\n", escaped(&text))
        }
        Form::Html => report.block(format!(
            "<figure class=\"graph\">\n<figcaption><strong>{name}.</strong> {0}</figcaption>\n\
             <div class=\"scroll\">\n<img alt=\"{0}\" src=\"{1}\">\n</div>\n</figure>\n",
            html(&text),
            data_address(picture)
        )),
    };
    Ok(Value::from_safe_string(text))
}

fn told(chart: &Chart, value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(share) if chart.number == Number::Share => percent(share),
        Some(value) => shown(&Json::from(value)),
    }
}

impl Grid {
    /// A heat map's numbers as it has them: a row for each series, a column for each place.
    fn of_heat(chart: &Chart) -> Grid {
        let corner = match chart.y.title == chart.x.title {
            true => chart.y.title.clone(),
            false => format!("{} \\ {}", chart.y.title, chart.x.title),
        };
        let columns = chart.x.labels.iter().map(|label| (label.clone(), true));
        let row = |series: &charts::Series| {
            let values = series.values.iter().map(|value| told(chart, *value));
            [series.name.clone()].into_iter().chain(values).collect()
        };
        Grid {
            headers: [(corner, false)].into_iter().chain(columns).collect(),
            rows: chart.series.iter().map(row).collect(),
        }
    }

    /// A chart's numbers: a row for each place, a column for each series.
    fn of(chart: &Chart) -> Grid {
        let names = chart.series.iter().map(|series| (series.name.clone(), true));
        let row = |(place, label): (usize, &String)| {
            let values = chart.series.iter().map(|series| told(chart, series.values[place]));
            [label.clone()].into_iter().chain(values).collect()
        };
        Grid {
            headers: [(chart.x.title.clone(), false)].into_iter().chain(names).collect(),
            rows: chart.x.labels.iter().enumerate().map(row).collect(),
        }
    }

    fn html(&self) -> String {
        let class = |number: bool| if number { " class=\"n\"" } else { "" };
        let mut text = "<table>\n<thead><tr>".to_owned();
        for (name, number) in &self.headers {
            text.push_str(&format!("<th{}>{}</th>", class(*number), html(name)));
        }
        text.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            text.push_str("<tr>");
            for (cell, (_, number)) in row.iter().zip(&self.headers) {
                let cell = crate::manifest::clean(cell);
                let shown = match cell.starts_with("https://") || cell.starts_with("http://") {
                    true => format!("<a href=\"{0}\" rel=\"noreferrer\">{0}</a>", html(&cell)),
                    false => html(&cell),
                };
                text.push_str(&format!("<td{}>{shown}</td>", class(*number)));
            }
            text.push_str("</tr>\n");
        }
        text.push_str("</tbody>\n</table>\n");
        text
    }

    fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = line(self.headers.iter().map(|(name, _)| escaped(name)).collect());
        let rule = |(_, number): &(String, bool)| if *number { "---:" } else { "---" }.to_owned();
        text.push_str(&line(self.headers.iter().map(rule).collect()));
        for row in &self.rows {
            text.push_str(&line(row.iter().map(|cell| escaped(cell)).collect()));
        }
        text
    }
}
