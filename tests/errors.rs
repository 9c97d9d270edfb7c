//! The catalogue of errors: what is wrong, put before the real program, and every message kept as it
//! stands in `tests/snapshots/`. A message says what happened, where, and what to do.
//!
//! A change of a message shows here as a change of a snapshot: read it as somebody who does not know
//! the code. `INSTA_UPDATE=always cargo test --test errors` writes them anew.

mod support;

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use support::{Simulator, TestSpace};

/// Variables that the manifests name; their values are to be seen nowhere.
const SECRETS: [(&str, &str); 2] =
    [("OPENAI_API_KEY", "sk-secret-value-41"), ("GITHUB_TOKEN", "ghp-secret-value-42")];

/// `SERVER` is the simulator's address, where a case has one.
const HEAD: &str = r#"[pipeline]
name = "test"
[params]
since = 2020
[github]
base_url = "SERVER/github"
token = { env = "GITHUB_TOKEN" }
attempts = 1
[models.small]
base_url = "SERVER/v1"
api_key = { env = "OPENAI_API_KEY" }
model = "tiny"
attempts = 1
[[tables.repos]]
repo = "a/b"
stars = 3
[[tables.repos]]
repo = "a/c"
stars = 4
"#;
const GET: &str = "kind = \"github\"\ninputs = [\"repos\"]\nget = \"/repos/{{ repo }}\"\n";
const GITHUB: &str = "kind = \"github\"\ninputs = [\"repos\"]\n";
const LLM: &str = "kind = \"llm\"\ninputs = [\"repos\"]\nmodel = \"small\"\nprompt = \"p.md\"\n";
const LABEL: &str = "kind = \"llm\"\ninputs = [\"repos\"]\nmodel = \"small\"\nprompt = \"p.md\"\n\
                     schema = \"s.json\"\n";
const SQL: &str = "kind = \"sql\"\ninputs = [\"repos\"]\nkey = [\"repo\"]\n";
const QUERY: &str = "query = \"SELECT repo, stars FROM repos\"\n";
const TABLE: &str = "kind = \"command\"\nkey = [\"a\"]\n";
const ROWS: &str = "kind = \"command\"\nmode = \"rows\"\ninputs = [\"repos\"]\nkey = [\"repo\"]\n";
const SAMPLE: &str = "kind = \"sample\"\ninputs = [\"repos\"]\n";
const SPLIT: &str = "kind = \"split\"\ninputs = [\"repos\"]\n";
const REPORT: &str = "kind = \"report\"\ninputs = [\"repos\"]\n";
const AGREEMENT: &str = "kind = \"agreement\"\ninputs = [\"repos\"]\n";
const SCHEMA: &str = r#"{
  "type": "object",
  "properties": { "label": { "enum": ["a", "b"] } },
  "required": ["label"]
}
"#;

/// What stands for the place of a message.
enum Place {
    /// A file with line and column, as the Rust compiler shows it: `--> FILE:LINE:COLUMN`.
    Pointed,
    /// A text that names it: a stage, a file, an argument.
    Named(&'static str),
}

/// One thing that is wrong.
struct Case {
    name: &'static str,
    files: Vec<(&'static str, Vec<u8>)>,
    env: Vec<(&'static str, &'static str)>,
    /// Commands that come before, whatever they say.
    before: Vec<&'static [&'static str]>,
    /// What it gives back is kept while the command runs.
    prepare: fn(&TestSpace) -> Option<File>,
    faults: Vec<Value>,
    arguments: Vec<&'static str>,
    code: i32,
    place: Place,
}

impl Case {
    fn new(name: &'static str, arguments: &[&'static str], code: i32, place: Place) -> Case {
        let (files, env, before, faults) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let arguments = arguments.to_vec();
        Case { name, files, env, before, prepare: |_| None, faults, arguments, code, place }
    }

    fn file(mut self, path: &'static str, text: impl AsRef<[u8]>) -> Case {
        self.files.push((path, text.as_ref().to_vec()));
        self
    }

    fn env(mut self, name: &'static str, value: &'static str) -> Case {
        self.env.push((name, value));
        self
    }

    fn manifest(self, text: impl AsRef<[u8]>) -> Case {
        self.file("pipeline.toml", text)
    }

    fn before(mut self, arguments: &'static [&'static str]) -> Case {
        self.before.push(arguments);
        self
    }

    fn prepare(mut self, prepare: fn(&TestSpace) -> Option<File>) -> Case {
        self.prepare = prepare;
        self
    }

    /// Starts a simulator that does this.
    fn fault(mut self, fault: Value) -> Case {
        self.faults.push(fault);
        self
    }
}

/// A manifest that `flow check` refuses, with its place.
fn check(name: &'static str, manifest: impl AsRef<[u8]>) -> Case {
    Case::new(name, &["check"], 2, Place::Pointed).manifest(manifest)
}

/// A wrong stage in a manifest that is fine.
fn wrong(name: &'static str, stage_text: impl AsRef<str>) -> Case {
    check(name, stage(stage_text))
}

/// A file that a manifest names and that is wrong.
fn wrong_file(name: &'static str, body: &str, path: &'static str, text: impl AsRef<[u8]>) -> Case {
    wrong(name, body).file(path, text)
}

/// A run that goes wrong.
fn run(name: &'static str, body: &str, place: &'static str) -> Case {
    Case::new(name, &["run"], 1, Place::Named(place)).manifest(stage(body))
}

/// A command line that is wrong.
fn line(name: &'static str, arguments: &[&'static str], place: &'static str) -> Case {
    Case::new(name, arguments, 2, Place::Named(place))
}

fn stage(body: impl AsRef<str>) -> String {
    format!("{HEAD}[stages.s]\n{}", body.as_ref())
}

/// The head with a line more in front of the line that begins with `before`.
fn head(before: &str, more: &str) -> String {
    stage(GET).replacen(before, &format!("{more}\n{before}"), 1)
}

/// A fine manifest with more at its end.
fn and(more: &str) -> String {
    format!("{}{more}\n", stage(GET))
}

/// Runs all cases and holds what they say to the snapshot of their group.
fn catalogue(group: &str, cases: Vec<Case>) {
    let mut told = String::new();
    let mut faults = String::new();
    for case in &cases {
        let (text, code) = said(case);
        let _ = write!(
            told,
            "==== {}\n$ flow {}   (exit code {code})\n{}\n\n",
            case.name,
            case.arguments.join(" "),
            text.trim_end()
        );
        for fault in faults_of(case, &text, code) {
            let _ = writeln!(faults, "---- {}: {fault}\n{text}", case.name);
        }
    }
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(format!("errors_{group}"), told.trim_end());
    });
    assert!(faults.is_empty(), "\n{faults}");
}

/// What the case says, stable, and its exit code.
fn said(case: &Case) -> (String, i32) {
    let simulator = (!case.faults.is_empty()).then(|| Simulator::start(&["--repos", "2"]));
    for fault in &case.faults {
        simulator.as_ref().expect("one").fault(fault.clone());
    }
    // Nothing listens at port 1.
    let server = simulator.as_ref().map_or("http://127.0.0.1:1", |it| it.address.as_str());
    let mut space = TestSpace::new();
    for (path, text) in [
        ("pipeline.toml", stage(GET).as_bytes()),
        ("p.md", b"Label {{ repo }}\n"),
        ("s.json", SCHEMA.as_bytes()),
    ] {
        let own = case.files.iter().find(|(own, _)| *own == path);
        space.write(path, with_server(own.map_or(text, |(_, text)| text), server));
    }
    for (path, text) in &case.files {
        space.write(path, with_server(text, server));
    }
    for (name, value) in SECRETS.iter().chain(&case.env) {
        space.env(name, value);
    }
    for arguments in &case.before {
        space.flow(arguments);
    }
    let kept = (case.prepare)(&space);
    let ran = space.flow(&case.arguments);
    drop(kept);
    let text = format!("{}{}", ran.stderr, ran.stdout);
    (stable(&text, &space, server), ran.code)
}

/// Bytes that are no text stay as they are.
fn with_server(bytes: &[u8], server: &str) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.replace("SERVER", server).into_bytes(),
        Err(_) => bytes.to_vec(),
    }
}

/// What differs from run to run, replaced.
fn stable(text: &str, space: &TestSpace, server: &str) -> String {
    let folder = space.path().to_str().expect("UTF-8");
    let text = text.replace(folder, "FOLDER").replace(server, "http://SERVER");
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let words = line.split_inclusive([' ', ')', '\n', '.', ',']);
        let words: Vec<&str> = words.collect();
        let is_seconds = line.contains(" s: ") && line.contains(" made, ");
        let mut last = "";
        for (place, word) in words.iter().enumerate() {
            let bare = word.trim_end_matches([' ', ')', '\n', '.', ',']);
            let rest = &word[bare.len()..];
            let digits = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit());
            let is_key = matches!(last, "(key" | "(call");
            // Seconds have a point, which ends a word.
            let seconds = is_seconds && (last == "in" || words.get(place + 1) == Some(&"s: "));
            let bare = match (is_key, digits) {
                (true, _) => "KEY",
                (_, true) if last == "(process" || last == "error" => "N",
                (_, true) if seconds => "N",
                _ => bare,
            };
            out.push_str(bare);
            out.push_str(rest);
            last = bare;
        }
    }
    out
}

/// What Rust calls things, and how it shows them.
const RUST: [&str; 16] = [
    "Some(",
    "None)",
    "Ok(",
    "Err(",
    "Error(",
    "Error {",
    "std::",
    "serde",
    "reqwest",
    "tokio",
    "rusqlite",
    "minijinja::",
    "panicked",
    "RUST_BACKTRACE",
    "unwrap",
    "kind:",
];

/// Signs that a message says what to do.
const ADVICE: [&str; 7] = [
    "help: ",
    "tip: ",
    "expected ",
    // Where there is no line of its own for it, what to do follows what is wrong.
    "; ",
    "For more information, try '--help'",
    "[possible values: ",
    "look at: ",
];

fn faults_of(case: &Case, text: &str, code: i32) -> Vec<String> {
    let mut faults = Vec::new();
    let mut hold = |is_so: bool, what: &dyn Fn() -> String| {
        if !is_so {
            faults.push(what());
        }
    };
    hold(code == case.code, &|| format!("exit code {code}, not {}", case.code));
    for word in RUST {
        hold(!text.contains(word), &|| format!("it says `{word}`"));
    }
    for (_, secret) in SECRETS {
        hold(!text.contains(secret), &|| format!("it tells the secret {secret}"));
    }
    let control = |c: char| c.is_control() && c != '\n';
    hold(!text.contains(control), &|| "it holds a control character".into());
    match case.place {
        Place::Named(place) => {
            hold(text.contains(place), &|| format!("it does not name {place:?}"));
            hold(ADVICE.iter().any(|sign| text.contains(sign)), &|| "no advice".into());
        }
        // Each mistake has a place and an advice of its own.
        Place::Pointed => {
            let text = text.rsplit_once("\n\n").map_or(text, |(mistakes, _)| mistakes);
            for mistake in text.split("\n\n") {
                hold(is_pointed(mistake), &|| format!("no place: {mistake}"));
                let advice = ADVICE[..3].iter().any(|sign| mistake.contains(sign));
                hold(advice, &|| format!("no advice: {mistake}"));
            }
        }
    }
    faults
}

/// `--> FILE:LINE:COLUMN`
fn is_pointed(mistake: &str) -> bool {
    let place = mistake.lines().find_map(|line| line.trim().strip_prefix("--> "));
    let numbers = place.map(|place| place.rsplit(':').take(2).map(str::parse::<u32>));
    numbers.is_some_and(|mut numbers| numbers.all(|number| number.is_ok()))
}

/// A chat completion that says this.
fn says(text: &str) -> Value {
    let message = json!({"role": "assistant", "content": text});
    let body = json!({
        "model": "tiny-1", "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    });
    json!({"path": "/v1", "status": 200, "body": body.to_string()})
}

/// An error as GitHub and OpenAI tell it.
fn refuses(path: &str, status: u16, code: &str, message: &str) -> Value {
    let error = json!({"message": message, "type": code, "code": code});
    let body = json!({"message": message, "error": error});
    json!({"path": path, "status": status, "body": body.to_string()})
}

#[test]
fn toml() {
    let cases = vec![
        check("a key without its value", and("a = ")),
        check("a section that does not end", and("[profiles.p\ndata = \"x\"")),
        check("a text that does not end", and("[params.x]\na = \"b")),
        check("a key twice", stage(format!("{GET}inputs = []"))),
        check("a section twice", and(&format!("[stages.s]\n{GET}"))),
        check("a text without quotes", stage(GET).replace("\"a/b\"", "a/b")),
        check("a list that does not end", stage(GET.replace("[\"repos\"]", "[\"repos\""))),
        check("no UTF-8", [stage(GET).as_bytes(), b"# caf\xe9\n"].concat()),
        Case::new("a binary file", &["check"], 2, Place::Named("pipeline.toml"))
            .manifest(b"\0\x01"),
        Case::new("an empty file", &["check"], 2, Place::Named("pipeline.toml")).manifest("\n"),
    ];
    catalogue("toml", cases);
}

#[test]
fn sections() {
    let cases = vec![
        check("an unknown section", and("[stagess.t]\nkind = \"sql\"")),
        check("a section that is like no other", and("[zzz]\na = 1")),
        check("no pipeline", stage(GET).replace("[pipeline]\nname = \"test\"\n", "")),
        check("no name", stage(GET).replace("name = \"test\"\n", "")),
        check("no stage", HEAD),
        check(
            "a section of the wrong type",
            format!("models = 1\n{}", stage(GET).replace("[models.small]", "[params.x]")),
        ),
        check(
            "a stage of the wrong type",
            stage(GET)
                .replace("[pipeline]", "stages.t = 1\n[pipeline]")
                .replace("[stages.s]", "[params.y]"),
        ),
        check("a param that is too large", head("since", "until = 99999999999999999999")),
        check("a param that is no number", head("since", "until = nan")),
        wrong("a mistyped key", LLM.replace("prompt", "promt")),
        wrong("an unknown key", format!("{GET}xyz = 1")),
        wrong("no kind", "inputs = [\"repos\"]"),
        wrong("an unknown kind", GET.replace("github", "gihtub")),
        wrong("a kind that is like no other", GET.replace("\"github\"", "\"zzz\"")),
        wrong("no prompt", "kind = \"llm\"\ninputs = [\"repos\"]\nmodel = \"small\""),
        wrong("a text in place of a list", GET.replace("[\"repos\"]", "\"repos\"")),
        wrong("a list in place of a text", GET.replace("\"/repos/{{ repo }}\"", "[]")),
        wrong("a negative number", format!("{LLM}repairs = -1")),
        wrong("a word that is none of a few", format!("{LLM}answers = \"jsonschema\"")),
        check("a name that no stage can have", and(&format!("[stages.\"1 x\"]\n{GET}"))),
        check(
            "a table and a stage by one name",
            stage(GET).replace("[stages.s]", "[stages.repos]"),
        ),
        check(
            "many mistakes",
            format!(
                "{}[stages.t]\nkind = \"slq\"\n[stages.u]\nkind = \"llm\"\n",
                head("model = ", "temprature = 0")
            ),
        ),
    ];
    catalogue("sections", cases);
}

#[test]
fn profiles() {
    let cases = vec![
        check("a profile of the wrong type", and("[profiles]\np = 1")),
        check("an unknown key", and("[profiles.p]\ncasette = \"c.jsonl\"")),
        check("params of the wrong type", and("[profiles.p]\nparams = 1")),
        check("a cassette that is not there", and("[profiles.p]\ncassette = \"c.jsonl\"")),
        check("data outside the folder", and("[profiles.p]\ndata = \"../x\"")),
        check("a model that lacks its name", and("[profiles.p]\nmodels.other.temperature = 0")),
        check("a mistyped setting of a model", and("[profiles.p]\nmodels.small.temprature = 0")),
        check("a table of the wrong type", and("[profiles.p]\ntables.repos = 1")),
        check("offline that is a text", and("[profiles.p]\noffline = \"yes\"")),
        line("an unknown profile", &["check", "--profile", "p"], "`p`"),
        line("a mistyped profile", &["check", "--profile", "sampel"], "`sampel`")
            .manifest(and("[profiles.sample]\noffline = true")),
    ];
    catalogue("profiles", cases);
}

#[test]
fn models() {
    let model = |line: &str| head("model = ", line).replace(GET, LLM);
    let openai = |line: &str, name: &str| {
        let text = model(line).replace("base_url = \"SERVER/v1\"\n", "");
        text.replace("\"tiny\"", &format!("\"{name}\""))
    };
    let cases = vec![
        wrong("an unknown model", LLM.replace("small", "smal")),
        wrong("a model where there is none like it", LLM.replace("\"small\"", "\"zzz\"")),
        wrong("no model", LLM.replace("model = \"small\"\n", "")),
        wrong("model and models", format!("{LLM}models = [\"small\"]")),
        wrong("no models", LLM.replace("model = \"small\"", "models = []")),
        wrong("a model twice", LLM.replace("model = \"small\"", "models = [\"small\", \"small\"]")),
        check("no name at the server", stage(LLM).replace("model = \"tiny\"\n", "")),
        check("a price that is not whole", model("price = { input = 1 }")),
        check("a price that is a text", model("price = { input = 1, output = \"2\" }")),
        check("a price below nothing", model("price = { input = -1, output = 2 }")),
        check("a share that is no share", model("price = { input = 1, output = 2, batch = 7 }")),
        check("a limit of nothing", model("limits = { concurrency = 0 }")),
        check(
            "a mistyped price below a header",
            stage(LLM).replacen(
                "[[tables",
                "[models.small.price]\ninput = 1\noutptu = 2\n[[tables",
                1,
            ),
        ),
        check("an unknown limit", model("limits = { requests_per_second = 3 }")),
        check("a temperature that is a text", model("temperature = \"hot\"")),
        check("a temperature that is too high", model("temperature = 3")),
        check("a temperature below nothing", model("temperature = -1")),
        check("too many log probabilities", model("logprobs = 30")),
        check("two longest answers", model("max_tokens = 9\nmax_completion_tokens = 9")),
        check("a setting of the other API", model("api = \"responses\"\nmax_tokens = 9")),
        check("an API that there is not", model("api = \"response\"")),
        check("what o1 does not take", openai("temperature = 0", "o1")),
        check("what gpt-4o does not take", openai("reasoning_effort = \"low\"", "gpt-4o")),
        check("a schema that the model is not held to", openai("", "gpt-4").replace(LLM, LABEL)),
        check("a body that says what is asked", model("body = { messages = [] }")),
        check("a fallback that is not there", model("fallback = \"othr\"")),
        check("a fallback on itself", model("fallback = \"small\"")),
        check("an address of another protocol", stage(LLM).replace("SERVER/v1", "ftp://x")),
        check(
            "an address without a protocol",
            stage(LLM).replace("SERVER/v1", "localhost:8080/v1"),
        ),
        check("an address with a query", stage(LLM).replace("SERVER/v1", "http://x/v1?key=1")),
        check(
            "an address with a password",
            stage(LLM).replace("SERVER/v1", "http://me:sk-secret-value-41@x/v1"),
        ),
        check(
            "an address from a variable that is not set",
            stage(LLM).replace("\"SERVER/v1\"", "{ env = \"NOT_SET\" }"),
        ),
        check(
            "a key in the manifest",
            stage(LLM).replace("{ env = \"OPENAI_API_KEY\" }", "\"sk-live\""),
        ),
        check(
            "a key by another word",
            stage(LLM).replace("{ env = \"OPENAI_API_KEY\" }", "{ var = \"X\" }"),
        ),
    ];
    catalogue("models", cases);
}

#[test]
fn tables() {
    let cases = vec![
        check(
            "a table of the wrong type",
            format!("tables.t = 1\n{}", stage(GET).replace("[[tables.", "[[params.")),
        ),
        check(
            "a row that is no table",
            format!("tables.repos = [1]\n{}", stage(GET).replace("[[tables.", "[[params.")),
        ),
        check("the same row twice", stage(GET).replace("a/c\"\nstars = 4", "a/b\"\nstars = 3")),
        check("a file and more", and("[tables.human]\nfile = \"h.csv\"\nkey = [\"a\"]")),
        check(
            "a file that is not there",
            and(&format!(
                "[tables.human]\nfile = \"h.csv\"\n[stages.t]\n{}",
                GET.replace("repos\"]", "human\"]")
            )),
        ),
        check(
            "a file that is no table",
            and(&format!(
                "[tables.human]\nfile = \"p.md\"\n[stages.t]\n{}",
                GET.replace("repos\"]", "human\"]")
            )),
        ),
    ];
    catalogue("tables", cases);
}

#[test]
fn paths() {
    let out = |path: &str| stage(format!("{GET}outputs = [\"{path}\"]"));
    let pass = |name: &str, input: &str| {
        format!(
            "[stages.{name}]\nkind = \"sql\"\ninputs = [\"{input}\"]\nkey = [\"repo\"]\nquery = \"SELECT * FROM {input}\"\n"
        )
    };
    let cases = vec![
        wrong("an unknown input", GET.replace("\"repos\"", "\"repo\"")),
        wrong("an input like no other", GET.replace("[\"repos\"]", "[\"zzz\"]")),
        wrong("an input twice", SQL.replace("[\"repos\"]", "[\"repos\", \"repos\"]") + QUERY),
        wrong("an input file that is not there", GET.replace("[\"repos\"]", "[\"in.csv\"]")),
        wrong("an input file by a near name", GET.replace("[\"repos\"]", "[\"data/repo.csv\"]"))
            .file("data/repos.csv", "repo\na/b\n"),
        wrong("an input of another format", GET.replace("[\"repos\"]", "[\"in.xlsx\"]"))
            .file("in.xlsx", "x"),
        wrong("an input that is a folder", GET.replace("[\"repos\"]", "[\"f.csv\"]"))
            .file("f.csv/x", "x"),
        wrong("an input outside the folder", GET.replace("[\"repos\"]", "[\"../in.csv\"]")),
        wrong("an absolute input", GET.replace("[\"repos\"]", "[\"/etc/in.csv\"]")),
        wrong("no input", GET.replace("[\"repos\"]", "[]")),
        wrong(
            "two inputs where one is wanted",
            GET.replace("[\"repos\"]", "[\"repos\", \"in.csv\"]"),
        )
        .file("in.csv", "repo\na/b\n"),
        check("a stage that reads itself", format!("{HEAD}{}", pass("a", "a"))),
        check("a cycle", format!("{HEAD}{}{}", pass("a", "b"), pass("b", "a"))),
        check("an output of no format", out("data/x")),
        check("an output of another format", out("data/x.parquet")),
        check("an output outside the folder", out("../x.json")),
        check("an absolute output", out("/tmp/x.json")),
        check("an output in the store", out("cache/x.json")),
        check("an output that is a folder", out("f.json")).file("f.json/x", "x"),
        check("an output without a name", out("")),
        check(
            "an output twice in a stage",
            stage(format!("{GET}outputs = [\"data/x.json\", \"data/x.json\"]")),
        ),
        check(
            "an output of two stages",
            format!("{}[stages.t]\n{GET}outputs = [\"data/x.json\"]\n", out("data/x.json") + "\n"),
        ),
        check(
            "an output below another",
            format!(
                "{}[stages.t]\n{GET}outputs = [\"data/x.json/y.json\"]\n",
                out("data/x.json") + "\n"
            ),
        ),
        check("an output that is read", out("s.json").replace(GET, LABEL)),
        check("a document of rows", out("data/x.html")),
        wrong("a prompt that is not there", LLM.replace("p.md", "prompts/p.md")),
        wrong("a prompt by a near name", LLM.replace("p.md", "pp.md")),
        wrong("a prompt that is a folder", LLM.replace("p.md", "f")).file("f/x", "x"),
        wrong("a prompt outside the folder", LLM.replace("p.md", "../p.md")),
    ];
    catalogue("paths", cases);
}

#[test]
fn github() {
    let list = format!("{GITHUB}list = \"/repos/{{{{ repo }}}}/issues\"\n");
    let graphql = format!("{GITHUB}graphql = \"q.graphql\"\n");
    let query = "query($repo: String!) { search(query: $repo) { issueCount } }";
    let cases = vec![
        wrong("nothing to ask", GITHUB),
        wrong("two things to ask", format!("{GET}diff = \"/x\"")),
        wrong("no key of a list", &list),
        wrong(
            "a key that its rows do not have",
            format!("{list}pick = \"{{id: .id, title: .title}}\"\nkey = [\"number\"]"),
        ),
        wrong("a kept field that is not there", format!("{list}key = [\"id\"]\nkeep = [\"rep\"]")),
        wrong("a batch without GraphQL", format!("{GET}batch = 10")),
        wrong("a batch that is too large", format!("{graphql}batch = 1000"))
            .file("q.graphql", query),
        wrong("check_total without a list", format!("{GET}check_total = false")),
        wrong("an age in words", format!("{GET}max_age = \"a week\"")),
        wrong("an age that is a number", format!("{GET}max_age = 7")),
        wrong("an address without a slash", GET.replace("/repos/", "repos/")),
        wrong("a whole address", GET.replace("/repos/", "https://api.github.com/repos/")),
        wrong_file(
            "GraphQL that does not parse",
            &graphql,
            "q.graphql",
            "query {\n  viewer { login\n",
        ),
        wrong_file("a mutation", &graphql, "q.graphql", "mutation { x }"),
        wrong_file(
            "a variable that the row lacks",
            &graphql,
            "q.graphql",
            query.replace("$repo", "$rep"),
        ),
        wrong_file("an empty query", &graphql, "q.graphql", ""),
        check(
            "GraphQL without a token",
            stage(&graphql)
                .replace("base_url = \"SERVER/github\"\n", "")
                .replace("token = { env = \"GITHUB_TOKEN\" }\n", ""),
        )
        .file("q.graphql", query),
    ];
    catalogue("github", cases);
}

#[test]
fn llm() {
    let cases = vec![
        wrong("a vote without samples", format!("{LABEL}vote = \"label\"")),
        wrong("a vote on what is no field", format!("{LABEL}samples = 3\nvote = \"labl\"")),
        wrong("a vote on nothing", format!("{LABEL}samples = 3\nvote = []")),
        wrong("no samples", format!("{LABEL}samples = 0")),
        wrong("a batch that is a number", format!("{LABEL}batch = 10")),
        wrong("a key that the input lacks", format!("{LABEL}key = [\"rep\"]")),
        wrong("a key of nothing", format!("{LABEL}key = []")),
        wrong("a schema that is not there", LABEL.replace("s.json", "t.json")),
        wrong("a check that does not parse", format!("{LABEL}check = 'select(.answer'")),
        wrong_file(
            "an answer by the name of a column",
            &format!("{LABEL}samples = 3"),
            "s.json",
            SCHEMA.replace("label", "sample"),
        ),
    ];
    catalogue("llm", cases);
}

#[test]
fn other_kinds() {
    let cases = vec![
        wrong("sql without a query", SQL),
        wrong("sql without an input", SQL.replace("[\"repos\"]", "[]") + QUERY),
        wrong("sql without a key", SQL.replace("key = [\"repo\"]\n", "") + QUERY),
        wrong("sql with keep", format!("{SQL}{QUERY}keep = [\"repo\"]")),
        wrong(
            "a key that the query does not select",
            SQL.replace("\"repo\"]", "\"name\"]") + QUERY,
        ),
        wrong("a syntax error in SQL", format!("{SQL}query = \"SELECT repo FORM repos\"")),
        wrong(
            "a column that is not there",
            format!("{SQL}query = \"SELECT repo, stras FROM repos\""),
        ),
        wrong("a table that is not there", format!("{SQL}query = \"SELECT repo FROM repo\"")),
        wrong(
            "a function that is not there",
            format!("{SQL}query = \"SELECT repo, totl(stars) FROM repos\""),
        ),
        wrong("two queries", format!("{SQL}query = \"SELECT repo FROM repos; SELECT 1\"")),
        wrong("a statement that writes", format!("{SQL}query = \"DELETE FROM repos\"")),
        wrong(
            "a function of chance",
            format!("{SQL}query = \"SELECT repo, random() AS r FROM repos\""),
        ),
        wrong(
            "a parameter in SQL",
            format!("{SQL}query = \"SELECT repo FROM repos WHERE stars > :stars\""),
        ),
        wrong(
            "one name for two columns",
            format!("{SQL}query = \"SELECT repo, stars AS repo FROM repos\""),
        ),
        wrong_file(
            "a mistake in a file of SQL",
            &format!("{SQL}query = \"q.sql\""),
            "q.sql",
            "-- all\nSELECT\n  repo FORM repos\n",
        ),
        wrong_file("an empty file of SQL", &format!("{SQL}query = \"q.sql\""), "q.sql", ""),
        wrong("command without a program", format!("{TABLE}run = []")),
        wrong("a command in a text", format!("{TABLE}run = \"python x.py\"")),
        wrong("an unknown mode", format!("{TABLE}run = [\"true\"]\nmode = \"row\"")),
        wrong(
            "a file of a command that is not there",
            format!("{TABLE}run = [\"true\"]\nfiles = [\"x.py\"]"),
        ),
        wrong(
            "two inputs by one variable",
            format!("{TABLE}run = [\"true\"]\ninputs = [\"a-b.csv\", \"a.b.csv\"]"),
        )
        .file("a-b.csv", "a\n1\n")
        .file("a.b.csv", "a\n1\n"),
        wrong("split of what is no field", format!("{SPLIT}text = \"body\"\ntokens = 100")),
        wrong("split into too small parts", format!("{SPLIT}text = \"repo\"\ntokens = 3")),
        wrong(
            "split by a param that is not there",
            format!("{SPLIT}text = \"repo\"\ntokens = \"params.tokens\""),
        ),
        wrong(
            "split at what there is not",
            format!("{SPLIT}text = \"repo\"\ntokens = 100\nat = \"line\""),
        ),
        wrong("a sample by what is no field", format!("{SAMPLE}size = 3\nby = [\"star\"]")),
        wrong("a sample by size and margin", format!("{SAMPLE}size = 3\nmargin = 0.1")),
        wrong("a margin that is too large", format!("{SAMPLE}margin = 5")),
        wrong("a blank field that is there", format!("{SAMPLE}size = 3\nblank = [\"stars\"]")),
        wrong("agreement without raters", AGREEMENT),
        wrong("agreement of one rater", format!("{AGREEMENT}raters = [\"stars\"]")),
        wrong(
            "agreement with a column that is not there",
            format!("{AGREEMENT}raters = [\"stars\", \"human\"]"),
        ),
        wrong(
            "a truth that is no rater",
            format!("{AGREEMENT}raters = [\"stars\", \"repo\"]\ntruth = \"human\""),
        ),
        wrong("calls of a table", "kind = \"calls\"\ninputs = [\"repos\"]"),
        wrong("calls of nothing", "kind = \"calls\""),
        wrong("a report without a template", REPORT),
        wrong(
            "a report in a format that there is not",
            format!("{REPORT}template = \"r.md\"\noutputs = [\"r.pdf\"]"),
        )
        .file("r.md", "# R\n"),
        wrong_file(
            "a report of what is no input",
            &format!("{REPORT}template = \"r.md\""),
            "r.md",
            "# R\n\n{{ table(repo, of=\"all\") }}\n",
        ),
        wrong_file(
            "a report with a mistyped function",
            &format!("{REPORT}template = \"r.md\""),
            "r.md",
            "# R\n\n{{ barss(repos, of=\"all\") }}\n",
        ),
        wrong(
            "an expectation of another name",
            format!("{GET}[stages.s.expect]\nuniqe = [\"repo\"]"),
        ),
        wrong(
            "an expectation of what is no field",
            format!("{SQL}{QUERY}[stages.s.expect]\nnot_null = [\"star\"]"),
        ),
        wrong(
            "an expectation with a query that does not parse",
            format!("{SQL}{QUERY}[stages.s.expect]\nsql = \"SELECT FROM s\""),
        ),
        wrong(
            "an expectation that nothing can meet",
            format!("{SQL}{QUERY}[stages.s.expect]\nrows = {{ min = 9, max = 1 }}"),
        ),
    ];
    catalogue("other_kinds", cases);
}

#[test]
fn templates() {
    let prompt = |name: &'static str, text: &'static str| wrong_file(name, LLM, "p.md", text);
    let cases = vec![
        prompt("a syntax error", "Label\n{{ repo ? }}\n"),
        prompt("an expression that does not end", "Label {{ repo\n"),
        prompt("a block that does not end", "{% if repo %}\nLabel\n"),
        prompt("an unknown field", "Label {{ rep }}\n"),
        prompt("a field like no other", "Label {{ zzzz }}\n"),
        prompt("an unknown param", "Label {{ params.sinc }}\n"),
        prompt("an unknown filter", "Label {{ repo|lenght }}\n"),
        prompt("an unknown function", "Label {{ rang(3) }}\n"),
        prompt("an unknown test", "{% if repo is strng %}x{% endif %}\n"),
        prompt("untrusted that is not last", "{{ repo|untrusted|truncate_tokens(20) }}\n"),
        prompt("a file that is not there", "{% include \"part.md\" %}\n"),
        prompt("a file whose name is computed", "{% include repo %}\n"),
        prompt("a file that includes itself", "{% include \"p.md\" %}\n"),
        prompt("files that include each other", "{% include \"part.md\" %}\n")
            .file("part.md", "\n{% include \"p.md\" %}\n"),
        prompt("a mistake in what is included", "{% include \"part.md\" %}\n")
            .file("part.md", "\n{{ rep }}\n"),
        prompt("no UTF-8", "").file("p.md", b"Label\ncaf\xe9\n"),
        wrong("an unknown field in an address", GET.replace("{{ repo }}", "{{ rep }}")),
        wrong("an unknown field in where", format!("{GET}where = \"star > 3\"")),
        wrong("where with braces", format!("{GET}where = \"{{{{ stars > 3 }}}}\"")),
        wrong("where with one equals sign", format!("{GET}where = \"stars = 3\"")),
        wrong("where that is empty", format!("{GET}where = \"\"")),
    ];
    catalogue("templates", cases);
}

#[test]
fn jq() {
    let cases = vec![
        wrong("a mistyped filter", format!("{GET}pick = '{{n: (.name | lenght)}}'")),
        wrong("a filter that is withheld", format!("{GET}pick = 'env.HOME'")),
        wrong("a program that does not parse", format!("{GET}pick = '{{a: .b, c: )}}'")),
        wrong("a bracket that is not closed", format!("{GET}pick = '{{a: (.b | length}}'")),
        wrong("a variable that is not there", format!("{GET}pick = '{{a: $b}}'")),
        wrong("an empty program", format!("{GET}pick = ''")),
        wrong_file(
            "a mistake in a file",
            &format!("{GET}pick = \"x.jq\""),
            "x.jq",
            "# rows\n{ a: .b,\n  c: nothere }\n",
        ),
        wrong("a file that is not there", format!("{GET}pick = \"x.jq\"")),
    ];
    catalogue("jq", cases);
}

#[test]
fn schemas() {
    let schema = |name: &'static str, text: &str| wrong_file(name, LABEL, "s.json", text);
    let property = |text: &str| SCHEMA.replace("{ \"enum\": [\"a\", \"b\"] }", text);
    let cases = vec![
        schema("no JSON", &SCHEMA.replace("\"type\":", "type:")),
        schema("a comma too many", &SCHEMA.replace("[\"label\"]", "[\"label\"],")),
        schema("an empty file", ""),
        schema(
            "a root that is no object",
            "{ \"type\": \"array\", \"items\": { \"type\": \"string\" } }",
        ),
        schema("a mistyped keyword", &property("{ \"enmu\": [\"a\"] }")),
        schema("a mistyped type", &property("{ \"type\": \"strin\" }")),
        schema("a keyword that is refused", &property("{ \"not\": { \"type\": \"string\" } }")),
        schema("an empty enum", &property("{ \"enum\": [] }")),
        schema("an enum that is no list", &property("{ \"enum\": \"a\" }")),
        schema("a list without items", &property("{ \"type\": \"array\" }")),
        schema(
            "an object of unknown fields",
            &property("{ \"type\": \"object\", \"additionalProperties\": true }"),
        ),
        schema(
            "a required field that is not there",
            &SCHEMA.replace("[\"label\"]", "[\"labels\"]"),
        ),
        schema("a reference to nothing", &property("{ \"$ref\": \"#/$defs/label\" }")),
        schema(
            "a pattern that does not parse",
            &property("{ \"type\": \"string\", \"pattern\": \"(\" }"),
        ),
    ];
    catalogue("schemas", cases);
}

#[test]
fn data() {
    let read = |name: &'static str, path: &'static str, text: &[u8]| {
        let body = GET.replace("[\"repos\"]", &format!("[\"{path}\"]"));
        wrong_file(name, &body, path, text)
    };
    let cases = vec![
        read("two columns by one name", "in.csv", b"repo,stars,repo\na/b,1,2\n"),
        read("a record that is too short", "in.csv", b"repo,stars\na/b,1\na/c\n"),
        read("a record that is too long", "in.csv", b"repo,stars\na/b,1\na/c,2,3\n"),
        read("CSV that is no UTF-8", "in.csv", b"repo,stars\na/b,1\na/\xe9,2\n"),
        read("a column that is not there", "in.csv", b"name,stars\na/b,1\n"),
        read("JSON that is no array", "in.json", b"{\"repo\": \"a/b\"}\n"),
        read("JSON that holds texts", "in.json", b"[\n\"a/b\"\n]\n"),
        read("JSON that ends early", "in.json", b"[\n{\"repo\": \"a/b\"},\n"),
        read("an empty JSON file", "in.json", b""),
        read("JSON that is no UTF-8", "in.json", b"[{\"repo\": \"a/\xe9\"}]\n"),
        read("a line that is no JSON", "in.jsonl", b"{\"repo\": \"a/b\"}\n{repo: 1}\n"),
        read("a line that is no object", "in.jsonl", b"{\"repo\": \"a/b\"}\n[1]\n"),
        read(
            "a line that is no UTF-8",
            "in.jsonl",
            b"{\"repo\": \"a/b\"}\n{\"repo\": \"a/\xe9\"}\n",
        ),
    ];
    catalogue("data", cases);
}

#[test]
fn stages_at_run_time() {
    let rows = |program: &str| format!("{ROWS}run = [\"sh\", \"-c\", '{program}']\n");
    let table = |program: &str| format!("{TABLE}run = [\"sh\", \"-c\", '{program}']\n");
    let expect = |line: &str| format!("{SQL}{QUERY}[stages.s.expect]\n{line}");
    let cases = vec![
        run("a command that fails", &table("echo no disk >&2; exit 3"), "s  "),
        run("a command that says nothing", &table("exit 3"), "s  "),
        run("a command that is killed", &table("kill -9 $$"), "s  "),
        run("a command that takes too long", &format!("{}timeout = 1", table("sleep 60")), "s  "),
        run("a program that is not there", &format!("{TABLE}run = [\"no-such-program\"]"), "s  "),
        run("a script that may not be run", &format!("{TABLE}run = [\"./x.sh\"]"), "s  ")
            .file("x.sh", "#!/bin/sh\n"),
        run("output that is no JSON", &table("echo one"), "s  "),
        run("output that is no object", &table("echo 1"), "s  "),
        run("rows without the key", &table("echo {}"), "s  "),
        run(
            "a key that is not unique",
            &table("echo \"{\\\"a\\\":1,\\\"b\\\":1}\"; echo \"{\\\"a\\\":1,\\\"b\\\":2}\""),
            "s  ",
        ),
        run("a command that fails its rows", &rows("echo no >&2; exit 1"), "`s`"),
        run("fewer lines than rows", &rows("cat >/dev/null; echo {}"), "`s`"),
        run(
            "SQL that fails on a row",
            &format!("{SQL}query = \"SELECT repo, json_extract(repo, '$.a') AS a FROM repos\""),
            "s  ",
        ),
        run(
            "SQL whose value is no JSON",
            &format!("{SQL}query = \"SELECT repo, repo AS \\\"a: json\\\" FROM repos\""),
            "s  ",
        ),
        run(
            "SQL whose value is no bool",
            &format!("{SQL}query = \"SELECT repo, stars AS \\\"a: bool\\\" FROM repos\""),
            "s  ",
        ),
        run(
            "SQL whose key is not unique",
            &format!("{SQL}query = \"SELECT 1 AS repo, stars FROM repos\""),
            "s  ",
        ),
        run("too few rows", &expect("rows = { min = 5 }"), "s  "),
        run(
            "a value twice",
            "kind = \"sql\"\ninputs = [\"repos\"]\nkey = [\"repo\"]\nquery = \"SELECT repo, 1 AS n FROM repos\"\n[stages.s.expect]\nunique = [\"n\"]",
            "s  ",
        ),
        run(
            "a null",
            "kind = \"sql\"\ninputs = [\"repos\"]\nkey = [\"repo\"]\nquery = \"SELECT repo, NULL AS n FROM repos\"\n[stages.s.expect]\nnot_null = [\"n\"]",
            "s  ",
        ),
        run("a value that is not accepted", &expect("accepted = { stars = [3] }"), "s  "),
        run("a row that breaks a schema", &expect("matches_schema = \"s.json\""), "s  "),
        run(
            "a query that finds something",
            &expect("sql = \"SELECT repo FROM s WHERE stars > 3\""),
            "s  ",
        ),
        run(
            "a stage after one that fails",
            &format!(
                "{}[stages.after]\nkind = \"sql\"\ninputs = [\"s\"]\nkey = [\"a\"]\nquery = \"SELECT a FROM s\"",
                table("exit 1")
            ),
            "after",
        ),
        run(
            "a chart without its caption",
            &format!("{REPORT}template = \"r.md\"\noutputs = [\"r.html\"]"),
            "s  ",
        )
        .file("r.md", "{{ bars(repos, x=\"name\", y=\"stars\", of=\"all\") }}"),
    ];
    catalogue("stages_at_run_time", cases);
}

#[test]
fn calls_at_run_time() {
    let get = |name: &'static str, fault: Value| run(name, GET, "`s`").fault(fault);
    let ask = |name: &'static str, fault: Value| run(name, LABEL, "`s`").fault(fault);
    let mark = |says: &str| json!({"path": "/v1", "says": says});
    // What stops a stage stops it at one of its rows; here there is only one.
    let one = |body: &str| format!("{body}where = \"stars == 3\"");
    let offline = |text: &str| and("[profiles.p]\noffline = true").replace(GET, text);
    let cases = vec![
        run("a server that is not reachable", GET, "`s`"),
        run("a model that is not reachable", LLM, "`s`"),
        get("GitHub fails", json!({"path": "/github/repos", "status": 500})),
        get(
            "GitHub answers no JSON",
            json!({"path": "/github/repos", "status": 200, "body": "<html>"}),
        ),
        run("a token that is refused", &one(GET), "s  ").fault(refuses(
            "/github/repos",
            401,
            "x",
            "Bad credentials",
        )),
        run("a token without the right", &one(GET), "s  ").fault(refuses(
            "/github/repos",
            403,
            "x",
            "Resource not accessible by personal access token",
        )),
        get(
            "a request that GitHub refuses",
            refuses("/github/repos", 422, "x", "Validation Failed"),
        ),
        run(
            "a list that is not there",
            &format!("{GITHUB}list = \"/nothing/{{{{ repo }}}}\"\nkey = [\"id\"]"),
            "`s`",
        )
        .fault(json!({"path": "/none"})),
        run("a pick that fails", &format!("{GET}pick = '{{a: (.name + 1)}}'"), "`s`")
            .fault(json!({"path": "/github/repos", "status": 200, "body": "{\"name\": \"b\"}"})),
        run("a pick that makes no object", &format!("{GET}pick = '.name'"), "`s`")
            .fault(json!({"path": "/github/repos", "status": 200, "body": "{\"name\": \"b\"}"})),
        ask("a refusal", mark("refusal")),
        ask("an answer that is cut", mark("length")),
        ask("an answer that is withheld", mark("content_filter")),
        ask("an answer that says nothing", mark("empty")),
        ask("an answer that is no JSON", says("no idea")),
        ask("an answer that breaks the schema", says("{\"label\": \"c\"}")),
        run("an answer that fails the check", &format!("{LABEL}check = '\"never good\"'"), "`s`")
            .fault(says("{\"label\": \"a\"}")),
        run("a check that fails", &format!("{LABEL}check = '.row.stars + .answer.label'"), "`s`")
            .fault(says("{\"label\": \"a\"}")),
        run("a key that is refused", &one(LABEL), "s  ").fault(refuses(
            "/v1",
            401,
            "invalid_api_key",
            "Incorrect API key provided",
        )),
        run("a model that the server does not know", &one(LABEL), "s  ").fault(refuses(
            "/v1",
            404,
            "model_not_found",
            "The model `tiny` does not exist",
        )),
        run("a spent quota", &one(LABEL), "s  ").fault(refuses(
            "/v1",
            429,
            "insufficient_quota",
            "You exceeded your current quota",
        )),
        ask(
            "a request that the model refuses",
            refuses(
                "/v1",
                400,
                "invalid_request_error",
                "This model's maximum context length is 8192 tokens",
            ),
        ),
        ask("a model that fails", json!({"path": "/v1", "status": 500})),
        Case::new("offline and nothing recorded", &["run", "--offline"], 1, Place::Named("`s`")),
        Case::new(
            "a cassette that lacks the call",
            &["run", "--profile", "p"],
            1,
            Place::Named("`s`"),
        )
        .manifest(offline(GET).replace("offline = true", "offline = true\ncassette = \"c.jsonl\""))
        .file("c.jsonl", ""),
        Case::new("a field that a row lacks", &["run"], 1, Place::Named("`s`")).manifest(
            stage(GET.replace("[\"repos\"]", "[\"t\"]").replace("repo }}", "x.y }}"))
                + "[stages.t]\n"
                + &format!("{TABLE}run = [\"sh\", \"-c\", 'echo \"{{\\\"a\\\":1}}\"']"),
        ),
        Case::new("rows whose where fails", &["run"], 1, Place::Named("`s`"))
            .manifest(stage(format!("{GET}where = \"repo|int > 3\""))),
        Case::new(
            "a budget for models without prices",
            &["run", "--max-cost", "1"],
            2,
            Place::Named("`s`"),
        )
        .manifest(stage(LABEL)),
    ];
    catalogue("calls_at_run_time", cases);
}

#[test]
fn environment() {
    let free = |name: &'static str, arguments: &[&'static str], code, place: &'static str| {
        Case::new(name, arguments, code, Place::Named(place))
    };
    let plain = || stage(format!("{SQL}{QUERY}outputs = [\"data/x.json\"]"));
    let call = "{\"key\": \"00\", \"method\": \"GET\"}\n";
    let with = |line: &str| and(&format!("[profiles.p]\n{line}"));
    let cases = vec![
        free("no key is set", &["run"], 2, "NOT_SET")
            .manifest(stage(LLM).replace("OPENAI_API_KEY", "NOT_SET")),
        free("a key that is empty", &["run"], 2, "EMPTY")
            .manifest(stage(LLM).replace("OPENAI_API_KEY", "EMPTY"))
            .env("EMPTY", ""),
        free("no key is set, and there is a sample", &["run"], 2, "NOT_SET").manifest(
            stage(LLM).replace("OPENAI_API_KEY", "NOT_SET") + "[profiles.sample]\noffline = true",
        ),
        free("no manifest", &["check"], 2, "pipeline.toml").prepare(|space| {
            std::fs::remove_file(space.path().join("pipeline.toml")).expect("it was there");
            None
        }),
        free("no manifest by that name", &["check", "-f", "study.toml"], 2, "study.toml"),
        free("a folder as manifest", &["check", "-f", "study"], 2, "study").file("study/x", ""),
        free("no folder", &["-C", "nowhere", "check"], 2, "nowhere"),
        free(
            "a line of a cassette that is damaged",
            &["check", "--profile", "p"],
            2,
            "c.jsonl, line 2",
        )
        .manifest(with("cassette = \"c.jsonl\""))
        .file("c.jsonl", "\nnothing\n"),
        free(
            "a line of a cassette that lacks a part",
            &["check", "--profile", "p"],
            2,
            "c.jsonl, line 1",
        )
        .manifest(with("cassette = \"c.jsonl\""))
        .file("c.jsonl", call),
        free("a store that is no store", &["run"], 1, "cache/flow.db").manifest(plain()).file(
            "cache/flow.db",
            "this is no database, but a text that somebody put here\n".repeat(40),
        ),
        free("a file in place of the store", &["run"], 1, "cache")
            .manifest(plain())
            .file("cache", "x"),
        free("a file in place of a folder of outputs", &["run"], 1, "data")
            .manifest(plain())
            .file("data", "x"),
        free(
            "offline by profile, and asked to ask",
            &["check", "--online", "--profile", "p"],
            2,
            "`p`",
        )
        .manifest(with("offline = true")),
        free("an output changed by hand", &["run"], 0, "x.json.edited")
            .manifest(plain())
            .before(&["run"])
            .prepare(|space| {
                space.write("data/x.json", "[]\n");
                space.edit("pipeline.toml", "SELECT repo, stars", "SELECT stars, repo");
                None
            }),
        free("another run in the folder", &["run"], 1, "another run").manifest(plain()).prepare(
            |space| {
                space.write("cache/lock", "4711\n");
                let file = File::open(space.path().join("cache/lock")).expect("it was written");
                file.lock().expect("nobody else has it");
                Some(file)
            },
        ),
    ];
    catalogue("environment", cases);
}

/// Kept in no snapshot: whoever may write everywhere, as root may, meets no such thing.
#[test]
fn a_folder_that_may_not_be_written_is_told() {
    let sealed = |space: &TestSpace| {
        let mode = std::fs::Permissions::from_mode(0o500);
        std::fs::set_permissions(space.path(), mode).expect("permissions");
        None
    };
    let space = TestSpace::new();
    sealed(&space);
    if File::create(space.path().join("x")).is_ok() {
        return;
    }
    let case = Case::new("a sealed folder", &["run"], 1, Place::Named("cache"))
        .manifest(stage(format!("{SQL}{QUERY}outputs = [\"data/x.json\"]")))
        .prepare(sealed);
    let (text, code) = said(&case);
    assert!(faults_of(&case, &text, code).is_empty(), "{code}\n{text}");
    assert!(text.contains("must be writable"), "{text}");
}

#[test]
fn command_line() {
    let sql = || stage(format!("{SQL}{QUERY}outputs = [\"data/x.json\"]"));
    let ran = |name: &'static str, arguments: &[&'static str], code, place: &'static str| {
        Case::new(name, arguments, code, Place::Named(place)).manifest(sql()).before(&["run"])
    };
    let cases = vec![
        line("an unknown command", &["rnu"], "rnu"),
        line("a mistyped command", &["chekc"], "chekc"),
        line("an unknown option", &["run", "--forse"], "--forse"),
        line("nothing", &[], "Usage"),
        line("an unknown stage", &["run", "labl"], "`labl`")
            .manifest(and(&format!("[stages.label]\n{LLM}"))),
        line("a stage like no other", &["run", "zzz"], "`zzz`"),
        line("an unknown output", &["run", "data/y.json"], "`data/y.json`").manifest(sql()),
        line("a limit that is no number", &["run", "--limit", "many"], "--limit"),
        line("a limit of nothing", &["run", "--limit", "0"], "--limit"),
        line("a cost that is none", &["run", "--max-cost", "much"], "--max-cost"),
        line("calls below nothing", &["run", "--max-calls", "-1"], "-1"),
        line("offline and refresh", &["run", "--offline", "--refresh", "all"], "--refresh"),
        line("refresh of a stage that asks nobody", &["run", "--refresh", "s"], "`s`")
            .manifest(sql()),
        line("refresh of an unknown stage", &["run", "--refresh", "t"], "`t`"),
        line("refresh of what is no target", &["run", "s", "--refresh", "t"], "`t`")
            .manifest(and(&format!("[stages.t]\n{GET}"))),
        line("only without a target", &["run", "--only"], "TARGET"),
        line("why of nothing", &["why"], "STAGE"),
        line("why of an unknown stage", &["why", "t"], "`t`"),
        ran("why of an unknown row", &["why", "s", "--row", "repo=zzz"], 2, "zzz"),
        ran("why of a row that is no row", &["why", "s", "--row", "zzz"], 2, "zzz"),
        line("accept of an unknown stage", &["accept", "t"], "`t`"),
        Case::new("accept of what never ran", &["accept", "s"], 1, Place::Named("`s`")),
        ran("accept of what is up to date", &["accept", "s"], 1, "`s`"),
        line("diff of words", &["diff", "one", "two"], "one"),
        line("diff where nothing ran", &["diff", "1", "2"], "run"),
        ran("diff of a run that was not", &["diff", "1", "7"], 2, "7"),
        ran("diff of an unknown stage", &["diff", "1", "1", "t"], 2, "`t`"),
        line("clear of an unknown stage", &["cache", "clear", "t"], "`t`"),
        ran("a cassette in no folder", &["cassette", "no/such/c.jsonl"], 1, "no/such/c.jsonl"),
        line("a graph in an unknown form", &["graph", "--format", "png"], "png"),
        line("log of nothing", &["log", "-n", "0"], "0"),
    ];
    catalogue("command_line", cases);
}
