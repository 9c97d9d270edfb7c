//! The functions that queries have beside SQLite's own: what a study counts and SQL cannot say in a
//! line.
//!
//! | function | gives |
//! |---|---|
//! | `quantile(x, p)`, `median(x)` | the value below which a share `p` of them lies |
//! | `top_share(x, share)` | what the largest `share` of them holds of the whole |
//! | `slope(x, y)` | of the straight line through the points |
//! | `spearman(x, y)` | the rank correlation |
//! | `spearman_p(x, y, permutations, seed)` | how likely one as far from 0 is by chance |
//! | `adjusted_p(p, all)` | `p` among `all` (a JSON array), adjusted for how many they are |
//!
//! Rows in which a value is NULL do not count; what is not defined is NULL.

use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, Result};

use crate::stats;

/// More would keep a processor busy for hours.
const MOST_PERMUTATIONS: f64 = 10_000_000.0;

/// The functions that a misspelled name is held against: our own, and those of SQLite that count.
pub(super) const KNOWN: [&str; 37] = [
    "quantile",
    "median",
    "top_share",
    "slope",
    "spearman",
    "spearman_p",
    "adjusted_p",
    "abs",
    "avg",
    "coalesce",
    "count",
    "date",
    "datetime",
    "group_concat",
    "iif",
    "ifnull",
    "instr",
    "json",
    "json_array_length",
    "json_each",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "julianday",
    "length",
    "lower",
    "max",
    "min",
    "nullif",
    "replace",
    "round",
    "strftime",
    "substr",
    "sum",
    "total",
    "trim",
    "upper",
];

pub(super) fn add(connection: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    for measure in MEASURES {
        connection.create_aggregate_function(measure.name, measure.arguments, flags, measure)?;
    }
    connection.create_scalar_function("adjusted_p", 2, flags, adjusted_p)
}

/// An aggregate function: what it is made from are points, or the first coordinates of them.
#[derive(Clone, Copy)]
struct Measure {
    name: &'static str,
    arguments: i32,
    /// How many of the arguments are of the row; the others are the same in each.
    of_row: usize,
    of: fn(Points, [f64; 2]) -> Option<f64>,
}

type Points = Vec<(f64, f64)>;

const MEASURES: [Measure; 6] = [
    Measure {
        name: "quantile",
        arguments: 2,
        of_row: 1,
        of: |points, [p, _]| stats::quantile(&sorted(points), p),
    },
    Measure {
        name: "median",
        arguments: 1,
        of_row: 1,
        of: |points, _| stats::quantile(&sorted(points), 0.5),
    },
    Measure {
        name: "top_share",
        arguments: 2,
        of_row: 1,
        of: |points, [share, _]| stats::top_share(&mut sorted(points), share),
    },
    Measure { name: "slope", arguments: 2, of_row: 2, of: |points, _| stats::slope(&points) },
    Measure { name: "spearman", arguments: 2, of_row: 2, of: |points, _| stats::spearman(&points) },
    Measure {
        name: "spearman_p",
        arguments: 4,
        of_row: 2,
        of: |points, [permutations, seed]| {
            let times = permutations.clamp(0.0, MOST_PERMUTATIONS) as u32;
            stats::permutation_p(&points, times, seed as u64)
        },
    },
];

fn sorted(points: Points) -> Vec<f64> {
    let mut values: Vec<f64> = points.into_iter().map(|(x, _)| x).collect();
    values.sort_by(f64::total_cmp);
    values
}

#[derive(Default)]
struct Gathered {
    points: Points,
    /// The arguments that are not of the row, as the first row has them.
    settings: Option<[f64; 2]>,
}

impl Aggregate<Gathered, Option<f64>> for Measure {
    fn init(&self, _: &mut Context<'_>) -> Result<Gathered> {
        Ok(Gathered::default())
    }

    fn step(&self, context: &mut Context<'_>, gathered: &mut Gathered) -> Result<()> {
        let mut given = [None; 4];
        for (at, given) in given.iter_mut().enumerate().take(self.arguments as usize) {
            *given = number(self.name, context.get_raw(at))?;
        }
        let (of_row, settings) = given.split_at(self.of_row);
        if gathered.settings.is_none() {
            let [first, second, ..] = settings else { return Ok(()) };
            gathered.settings = Some([first.unwrap_or(f64::NAN), second.unwrap_or(f64::NAN)]);
        }
        match of_row {
            [Some(x)] => gathered.points.push((*x, 0.0)),
            [Some(x), Some(y)] => gathered.points.push((*x, *y)),
            _ => {}
        }
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, gathered: Option<Gathered>) -> Result<Option<f64>> {
        let Gathered { points, settings } = gathered.unwrap_or_default();
        Ok((self.of)(points, settings.unwrap_or([f64::NAN; 2])))
    }
}

fn adjusted_p(context: &mut Context<'_>) -> Result<Option<f64>> {
    let name = "adjusted_p";
    let Some(own) = number(name, context.get_raw(0))? else { return Ok(None) };
    let all: String = context.get(1)?;
    let all: Vec<Option<f64>> = serde_json::from_str(&all)
        .map_err(|error| wrong(name, &format!("its second argument is no JSON array: {error}")))?;
    let all: Vec<f64> = all.into_iter().flatten().collect();
    let adjusted = stats::adjust(&all);
    Ok(all.iter().position(|p| *p == own).map(|at| adjusted[at]))
}

fn number(function: &str, value: ValueRef<'_>) -> Result<Option<f64>> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(integer) => Ok(Some(integer as f64)),
        ValueRef::Real(real) => Ok(Some(real)),
        ValueRef::Text(text) => {
            let text: String = String::from_utf8_lossy(text).chars().take(40).collect();
            Err(wrong(function, &format!("the text '{text}' is no number; CAST it")))
        }
        ValueRef::Blob(_) => Err(wrong(function, "a blob is no number")),
    }
}

fn wrong(function: &str, why: &str) -> Error {
    Error::UserFunctionError(format!("{function}: {why}").into())
}
