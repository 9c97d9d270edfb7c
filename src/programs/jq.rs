//! jq programs: what `pick` and `check` are written in.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use jaq_core::data::JustLut;
use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Filter, Vars, unwrap_valr};
use jaq_json::Val;
use serde::Deserialize;
use serde_json::Value;

/// What a program could see of, or do to, the machine that runs it.
const WITHHELD: [&str; 12] = [
    "env",
    "now",
    "localtime",
    "strflocaltime",
    "halt",
    "halt_error",
    "debug",
    "debug_empty",
    "stderr",
    "stderr_empty",
    "input",
    "inputs",
];
/// A program that yields more than this for one input runs away.
const MOST_OUTPUTS: usize = 1_000_000;
/// So does one that takes longer than this.
const LONGEST: Duration = Duration::from_secs(10);

/// A compiled program. It runs on a thread of its own, as nothing else can stop waiting for a
/// program that never ends.
pub struct Jq {
    pub text: String,
    worker: Mutex<Worker>,
}

struct Worker {
    inputs: Sender<Val>,
    outputs: Receiver<Result<Vec<Val>, String>>,
    /// It was given up: its thread is still busy with a row before.
    lost: bool,
}

impl Jq {
    /// Compiles `text`; a fault comes with its place in it.
    pub fn compile(text: &str) -> Result<Jq, (String, Range<usize>)> {
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs()
            .chain(jaq_std::funs())
            .chain(jaq_json::funs())
            .filter(|(name, ..)| !WITHHELD.contains(name));
        let arena = Arena::default();
        let defs = defs.filter(|def| !WITHHELD.contains(&def.name));
        let modules = Loader::new(defs)
            .load(&arena, File { code: text, path: () })
            .map_err(|errors| load_fault(text, errors))?;
        let filter = Compiler::default()
            .with_funs(funs)
            .compile(modules)
            .map_err(|errors| compile_fault(text, errors))?;
        Ok(Jq { text: text.to_owned(), worker: Mutex::new(Worker::start(filter)) })
    }

    /// What the program yields for `input`, or what it says went wrong.
    pub fn run(&self, input: &Value) -> Result<Vec<Value>, String> {
        let input = Val::deserialize(input).map_err(|error| error.to_string())?;
        let mut worker = self.worker.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let outputs = worker.run(input)?;
        Ok(outputs.iter().map(to_json).collect())
    }

    /// The fields of the objects that the program yields, where its last step spells them out.
    pub fn fields(&self) -> Option<Vec<String>> {
        let term = jaq_core::load::parse(&self.text, |parser| parser.term())?;
        fields_of(&term)
    }
}

impl Worker {
    fn start(filter: Filter<JustLut<Val>>) -> Worker {
        let (inputs, receiver) = mpsc::channel::<Val>();
        let (sender, outputs) = mpsc::channel();
        // Ends when the program is dropped, as its channel does.
        std::thread::spawn(move || {
            for input in receiver {
                if sender.send(run(&filter, input)).is_err() {
                    return;
                }
            }
        });
        Worker { inputs, outputs, lost: false }
    }

    fn run(&mut self, input: Val) -> Result<Vec<Val>, String> {
        if self.lost {
            return Err("it did not end for a row before".into());
        }
        if self.inputs.send(input).is_err() {
            return Err("its thread has ended".into());
        }
        match self.outputs.recv_timeout(LONGEST) {
            Ok(outputs) => outputs,
            Err(RecvTimeoutError::Timeout) => {
                self.lost = true;
                Err(format!("it did not end within {} s", LONGEST.as_secs()))
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.lost = true;
                Err("it takes more memory or stack than there is".into())
            }
        }
    }
}

fn run(filter: &Filter<JustLut<Val>>, input: Val) -> Result<Vec<Val>, String> {
    let context = Ctx::<JustLut<Val>>::new(&filter.lut, Vars::new([]));
    let mut outputs = Vec::new();
    for output in filter.id.run((context, input)).map(unwrap_valr) {
        if outputs.len() >= MOST_OUTPUTS {
            return Err(format!("it yields more than {MOST_OUTPUTS} values"));
        }
        outputs.push(output.map_err(|error| error.to_string())?);
    }
    Ok(outputs)
}

fn fields_of(term: &Term<&str>) -> Option<Vec<String>> {
    use jaq_core::load::lex::StrPart;
    match term {
        Term::BinOp(_, BinaryOp::Pipe(_), last) => fields_of(last),
        Term::Def(_, body) => fields_of(body),
        Term::Obj(entries) => entries
            .iter()
            .map(|(key, _)| match key {
                Term::Str(None, parts) => match &parts[..] {
                    [StrPart::Str(name)] => Some((*name).to_owned()),
                    _ => None,
                },
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

fn load_fault(text: &str, errors: jaq_core::load::Errors<&str, ()>) -> (String, Range<usize>) {
    use jaq_core::load::Error;
    for (_, error) in errors {
        match error {
            Error::Io(faults) => {
                if let Some((place, what)) = faults.into_iter().next() {
                    return (what, place_of(text, place));
                }
            }
            Error::Lex(faults) => {
                if let Some((expected, place)) = faults.into_iter().next() {
                    let start = place_of(text, place).start;
                    let end = text[start..].chars().next().map_or(start, |c| start + c.len_utf8());
                    return (format!("expected {}", expected.as_str()), start..end);
                }
            }
            Error::Parse(faults) => {
                if let Some((expected, place)) = faults.into_iter().next() {
                    let found = if place.is_empty() { "its end" } else { place };
                    let message = format!("expected {}, found {found}", expected.as_str());
                    return (message, place_of(text, place));
                }
            }
        }
    }
    ("it does not parse".into(), 0..text.len())
}

fn compile_fault(
    text: &str,
    errors: jaq_core::compile::Errors<&str, ()>,
) -> (String, Range<usize>) {
    let fault = errors.into_iter().flat_map(|(_, faults)| faults).next();
    match fault {
        Some((name, undefined)) => {
            (format!("there is no {} `{name}`", undefined.as_str()), place_of(text, name))
        }
        None => ("it does not compile".into(), 0..text.len()),
    }
}

/// Where a piece of `text` stands in it; its end where it is no piece of it.
fn place_of(text: &str, piece: &str) -> Range<usize> {
    let start = (piece.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    if start <= text.len() && start + piece.len() <= text.len() {
        start..start + piece.len()
    } else {
        text.len()..text.len()
    }
}

fn to_json(value: &Val) -> Value {
    match value {
        Val::Null => Value::Null,
        Val::Bool(truth) => Value::Bool(*truth),
        // As jq writes it; what JSON has no number for (NaN) is null there.
        Val::Num(number) => serde_json::from_str(&number.to_string()).unwrap_or_default(),
        Val::BStr(bytes) | Val::TStr(bytes) => {
            Value::String(String::from_utf8_lossy(bytes).into_owned())
        }
        Val::Arr(values) => Value::Array(values.iter().map(to_json).collect()),
        Val::Obj(fields) => {
            let field = |(key, value): (&Val, &Val)| {
                let key = match key {
                    Val::TStr(bytes) | Val::BStr(bytes) => {
                        String::from_utf8_lossy(bytes).into_owned()
                    }
                    other => other.to_string(),
                };
                (key, to_json(value))
            };
            Value::Object(fields.iter().map(field).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_keep_the_order_of_their_fields() {
        let jq = Jq::compile("{z: .b, a: .a, n: (.a * 1.5)}").unwrap();
        let out = jq.run(&json!({"a": 3, "b": "x"})).unwrap();
        assert_eq!(serde_json::to_string(&out).unwrap(), r#"[{"z":"x","a":3,"n":4.5}]"#);
        assert_eq!(jq.fields().unwrap(), ["z", "a", "n"]);
    }

    #[test]
    fn a_fault_is_told_with_its_place() {
        let (message, place) = Jq::compile("{a: .b | lenght}").err().unwrap();
        assert_eq!((message.as_str(), place), ("there is no filter `lenght`", 9..15));
        assert!(Jq::compile("{a: .b").is_err());
        assert!(Jq::compile(".a as $x |").is_err());
    }

    #[test]
    fn a_program_sees_nothing_of_the_machine() {
        for program in
            ["env", "$ENV", "now", "input", "halt", "debug", "input_filename", "$__prog_args"]
        {
            assert!(Jq::compile(program).is_err(), "{program}");
        }
    }

    #[test]
    fn what_people_write_works() {
        let input = json!({"labels": [{"name": "bug"}], "pull_request": {"merged_at": null},
            "title": "A b", "body": null, "created_at": "2024-01-02T03:04:05Z"});
        for (program, expected) in [
            ("[.labels[].name]", json!(["bug"])),
            ("has(\"pull_request\")", json!(true)),
            (".pull_request.merged_at != null", json!(false)),
            (".title | test(\"^A\")", json!(true)),
            (".title | ascii_downcase | split(\" \")", json!(["a", "b"])),
            (".created_at | fromdate | todate", json!("2024-01-02T03:04:05Z")),
            ("(.body // \"\") | length", json!(0)),
        ] {
            let jq = Jq::compile(program).unwrap_or_else(|(what, _)| panic!("{program}: {what}"));
            assert_eq!(jq.run(&input).unwrap(), [expected], "{program}");
        }
    }

    #[test]
    fn an_endless_program_is_given_up() {
        let jq = Jq::compile("def f: f; f").unwrap();
        assert!(jq.run(&json!(1)).unwrap_err().contains("did not end"));
        assert!(jq.run(&json!(1)).is_err(), "at once, the second time");
        let many = Jq::compile("repeat(1)").unwrap();
        assert!(many.run(&json!(1)).unwrap_err().contains("more than"));
    }
}
