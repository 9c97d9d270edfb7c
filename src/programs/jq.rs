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

use crate::manifest::nearest;

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

/// How deep a value may be that a program makes: what JSON readers take.
const MOST_DEPTH: usize = 100;
/// Programs nest by recursion, to be parsed as well as to run. A thread with this much stack (only
/// what is touched takes memory) can take the deepest that fits into `LONGEST_TEXT`.
const STACK: usize = 256 << 20;
const LONGEST_TEXT: usize = 16 << 10;

/// A compiled program. It runs on a thread of its own, as nothing else can stop waiting for a
/// program that never ends.
pub struct Jq {
    pub text: String,
    fields: Option<Vec<String>>,
    worker: Mutex<Worker>,
}

struct Worker {
    inputs: Sender<Val>,
    outputs: Receiver<Result<Vec<Value>, String>>,
    /// It was given up: its thread is still busy with a row before.
    lost: bool,
}

impl Jq {
    /// Compiles `text`; a fault comes with its place in it.
    pub fn compile(text: &str) -> Result<Jq, (String, Range<usize>)> {
        if text.len() > LONGEST_TEXT {
            let place = text.floor_char_boundary(LONGEST_TEXT)..text.len();
            return Err((format!("it is longer than {LONGEST_TEXT} bytes"), place));
        }
        let work = || Ok((compile(text)?, fields(text)));
        let (filter, fields) = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
            let done = thread
                .map_err(|error| error.to_string())
                .and_then(|thread| thread.join().map_err(|_| "it cannot be compiled".to_owned()));
            done.unwrap_or_else(|what| Err((what, 0..text.len())))
        })?;
        let worker = Worker::start(filter).map_err(|what| (what, 0..text.len()))?;
        Ok(Jq { text: text.to_owned(), fields, worker: Mutex::new(worker) })
    }

    /// What to do about a fault that `compile` tells of `text`.
    pub fn help(text: &str, fault: &str) -> String {
        let name = fault.split('`').nth(1).unwrap_or_default();
        let manual = "it is written as for jq: https://jqlang.org/manual/v1.7";
        match () {
            () if text.trim().is_empty() => "write a program, such as `{id, title}`".into(),
            () if fault.starts_with("there is no filter ") && WITHHELD.contains(&name) => {
                "it is withheld: a program may see nothing but what it is given".into()
            }
            () if fault.starts_with("there is no filter ") => {
                let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
                let defs: Vec<String> = defs.map(|def| def.name.to_owned()).collect();
                let funs =
                    jaq_core::funs::<JustLut<Val>>().chain(jaq_std::funs()).chain(jaq_json::funs());
                let funs: Vec<String> = funs.map(|(name, ..)| name.to_owned()).collect();
                let known = defs.iter().chain(&funs).map(String::as_str);
                match nearest(name, known.filter(|known| !WITHHELD.contains(known))) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "a field has a dot before it: `.name`".into(),
                }
            }
            () if fault.starts_with("there is no variable ") => {
                format!("bind it before: `.field as {name} | ...`")
            }
            () if fault.starts_with("expected closing") => {
                "close what was opened last, or take away what does not belong there".into()
            }
            () => manual.into(),
        }
    }

    /// What the program yields for `input`, or what it says went wrong.
    pub fn run(&self, input: &Value) -> Result<Vec<Value>, String> {
        let input = Val::deserialize(input).map_err(|error| error.to_string())?;
        let mut worker = self.worker.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        worker.run(input)
    }

    /// The fields of the objects that the program yields, where its last step spells them out.
    pub fn fields(&self) -> Option<&[String]> {
        self.fields.as_deref()
    }
}

fn compile(text: &str) -> Result<Filter<JustLut<Val>>, (String, Range<usize>)> {
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
    Compiler::default()
        .with_funs(funs)
        .compile(modules)
        .map_err(|errors| compile_fault(text, errors))
}

fn fields(text: &str) -> Option<Vec<String>> {
    let term = jaq_core::load::parse(text, |parser| parser.term())?;
    fields_of(&term)
}

impl Worker {
    fn start(filter: Filter<JustLut<Val>>) -> Result<Worker, String> {
        let (inputs, receiver) = mpsc::channel::<Val>();
        let (sender, outputs) = mpsc::channel();
        // Ends when the program is dropped, as its channel does.
        let work = move || {
            for input in receiver {
                if sender.send(run(&filter, input)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().stack_size(STACK).spawn(work);
        thread.map_err(|error| format!("it cannot be started: {error}"))?;
        Ok(Worker { inputs, outputs, lost: false })
    }

    fn run(&mut self, input: Val) -> Result<Vec<Value>, String> {
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

fn run(filter: &Filter<JustLut<Val>>, input: Val) -> Result<Vec<Value>, String> {
    let context = Ctx::<JustLut<Val>>::new(&filter.lut, Vars::new([]));
    let mut outputs = Vec::new();
    for output in filter.id.run((context, input)).map(unwrap_valr) {
        if outputs.len() >= MOST_OUTPUTS {
            return Err(format!("it yields more than {MOST_OUTPUTS} values"));
        }
        let output = output.map_err(|error| error.to_string())?;
        let output = to_json(&output, MOST_DEPTH);
        outputs.push(output.ok_or_else(|| format!("it nests more than {MOST_DEPTH} levels deep"))?);
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

/// A value as JSON; `None` where it is deeper than `depth`.
fn to_json(value: &Val, depth: usize) -> Option<Value> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(match value {
        Val::Null => Value::Null,
        Val::Bool(truth) => Value::Bool(*truth),
        // As jq writes it; what JSON has no number for (NaN) is null there.
        Val::Num(number) => serde_json::from_str(&number.to_string()).unwrap_or_default(),
        Val::BStr(bytes) | Val::TStr(bytes) => Value::String(text(bytes)),
        Val::Arr(values) => {
            let inner = depth.checked_sub(1)?;
            let values = values.iter().map(|value| to_json(value, inner));
            Value::Array(values.collect::<Option<_>>()?)
        }
        Val::Obj(fields) => {
            let inner = depth.checked_sub(1)?;
            let field = |(key, value): (&Val, &Val)| {
                let key = match key {
                    Val::TStr(bytes) | Val::BStr(bytes) => text(bytes),
                    other => other.to_string(),
                };
                Some((key, to_json(value, inner)?))
            };
            Value::Object(fields.iter().map(field).collect::<Option<_>>()?)
        }
    })
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
    fn what_is_nested_deeply_is_taken_or_refused_whole() {
        for (open, close) in [
            ("[", "]"),
            ("(", ")"),
            ("{a: ", "}"),
            ("\"\\(", ")\""),
            ("-", ""),
            ("1+", ""),
            ("1|", ""),
            ("1 as $x|", ""),
            ("try ", ""),
            ("def f: ", "; 1"),
            ("if 1 then 1 else ", " end"),
        ] {
            let deep = |times| format!("{}1{}", open.repeat(times), close.repeat(times));
            assert!(Jq::compile(&deep(30_000)).is_err(), "{open}");
            let most = (LONGEST_TEXT - 1) / (open.len() + close.len());
            if let Ok(jq) = Jq::compile(&deep(most)) {
                let _ = jq.run(&json!(1));
            }
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
