//! Every mistake in a manifest, or in a file that it names, is told at once, with its place and
//! what was probably meant; nothing is run, and nothing panics.
//!
//! In the texts below `<<` and `>>` stand around what must be pointed at.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use flow::{LoadOptions, Pipeline};
use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::Value;
use support::{Ran, TestSpace, repository};

const HEAD: &str = r#"[pipeline]
name = "test"
[params]
since = 2020
[github]
base_url = "http://github.invalid"
[models.small]
base_url = "http://model.invalid/v1"
model = "tiny"
[[tables.repos]]
repo = "a/b"
stars = 3
[[tables.repos]]
repo = "a/c"
stars = 4
"#;
const GITHUB: &str = "kind = \"github\"\ninputs = [\"repos\"]\n";
const GET: &str = "kind = \"github\"\ninputs = [\"repos\"]\nget = \"/repos/{{ repo }}\"\n";
const LIST: &str = "kind = \"github\"\ninputs = [\"repos\"]\nlist = \"/repos/{{ repo }}/issues\"\n";
const LLM: &str = "kind = \"llm\"\ninputs = [\"repos\"]\nmodel = \"small\"\nprompt = \"p.md\"\n";
const SQL: &str = "kind = \"sql\"\ninputs = [\"repos\"]\nkey = [\"repo\"]\n";
const QUERY: &str = "query = \"SELECT repo FROM repos\"\n";
const COMMAND: &str = "kind = \"command\"\nkey = [\"a\"]\n";
const HUGE: &str = "99999999999999999999999999";
const SCHEMA: &str = r#"{
  "type": "object",
  "properties": { "label": { "type": "string" } },
  "required": ["label"],
  "additionalProperties": false
}
"#;

/// A project whose files are sound.
fn space() -> TestSpace {
    let space = TestSpace::new();
    space.write("p.md", "Label {{ repo }}\n");
    space.write("s.json", SCHEMA);
    space.write("pipeline.toml", stage(GET));
    space
}

/// A manifest with one stage.
fn stage(body: &str) -> String {
    format!("{HEAD}[stages.s]\n{body}\n")
}

/// A manifest with one stage that is fine, and something after it.
fn and(more: &str) -> String {
    format!("{}{more}\n", stage(GET))
}

/// Where a mistake is: line and column, and how much of the line is marked.
struct Mark {
    line: usize,
    column: usize,
    length: usize,
}

/// The text without its marks.
fn unmark(text: &str) -> (String, Option<Mark>) {
    let Some((before, rest)) = text.split_once("<<") else {
        return (text.to_owned(), None);
    };
    let (marked, after) = rest.split_once(">>").expect("a closing mark");
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let length = marked.lines().next().unwrap_or("").chars().count();
    (format!("{before}{marked}{after}"), Some(Mark { line, column, length }))
}

/// Exit code 2, nothing on stdout, nothing written, no control character.
#[track_caller]
fn refused(space: &TestSpace, arguments: &[&str]) -> Ran {
    let ran = space.flow(arguments).expect(2);
    assert_eq!(ran.stdout, "");
    assert!(!space.exists("cache") && !space.exists("data"), "nothing is run");
    assert_tame(&ran.stderr);
    ran
}

#[track_caller]
fn assert_tame(text: &str) {
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    assert!(!text.contains("panicked"), "{text}");
}

/// Holds that `flow check` tells one mistake, the one that is marked in `file`.
#[track_caller]
fn wrong_in(space: &TestSpace, file: &str, text: &str, says: &[&str]) {
    let (plain, mark) = unmark(text);
    space.write(file, plain);
    let ran = space.flow(&["check"]);
    let stderr = &ran.stderr;
    let shown = || format!("\n--- {file}\n{text}\n--- stderr\n{stderr}");
    assert_eq!(ran.code, 2, "exit code{}", shown());
    assert!(stderr.ends_with("\n1 problem found\n"), "not just one problem{}", shown());
    for part in says {
        assert!(stderr.contains(part), "it does not say {part:?}{}", shown());
    }
    assert_tame(stderr);
    let Some(mark) = mark else { return };
    let place = format!("--> {file}:{}:{}\n", mark.line, mark.column);
    assert!(stderr.contains(&place), "not at {place}{}", shown());
    let carets = stderr.lines().filter_map(|line| line.split_once('|')).find_map(|(_, line)| {
        let carets = line.trim_start().chars().take_while(|c| *c == '^').count();
        (carets > 0).then_some(carets)
    });
    assert_eq!(carets, Some(mark.length.max(1)), "another length{}", shown());
}

#[track_caller]
fn wrong(text: &str, says: &[&str]) {
    wrong_in(&space(), "pipeline.toml", text, says);
}

/// A mistake in the one stage of a manifest.
#[track_caller]
fn wrong_stage(body: &str, says: &[&str]) {
    wrong(&stage(body), says);
}

/// A mistake of the one stage as a whole: its name is marked.
#[track_caller]
fn wrong_whole_stage(body: &str, says: &[&str]) {
    wrong(&stage(body).replace("[stages.s]", "[stages.<<s>>]"), says);
}

#[track_caller]
fn fine(space: &TestSpace, text: &str) {
    space.write("pipeline.toml", text);
    let ran = space.flow(&["check"]).expect(0);
    assert_tame(&ran.stderr);
}

#[test]
fn the_manifest_of_these_tests_is_fine() {
    let llm = format!("[stages.t]\n{LLM}schema = \"s.json\"\n");
    fine(&space(), &and(&format!("{llm}[stages.u]\n{SQL}{QUERY}")));
}

#[test]
fn unknown_names_are_told_with_what_was_meant() {
    let text = and(&format!("[<<stagess>>.t]\n{GET}"));
    wrong(&text, &["the manifest has no section `stagess`", "did you mean `stages`?"]);
    let text = GET.replace("\"repos\"", "<<\"repo\">>");
    wrong_stage(&text, &["there is no stage or table `repo`", "did you mean `repos`?"]);
    let text = LLM.replace("\"repos\"", "<<\"zzz\">>");
    wrong_stage(&text, &["there is no stage or table `zzz`", "there is: repos"]);
    let text = GET.replace("\"github\"", "<<\"gihtub\">>");
    wrong_stage(&text, &["there is no kind `gihtub`", "did you mean `github`?"]);
    let text = LLM.replace("\"small\"", "<<\"smal\">>");
    wrong_stage(&text, &["there is no model `smal`", "did you mean `small`?"]);
    let text = LLM.replace("\"small\"", "<<\"zzz\">>");
    wrong_stage(&text, &["there is no model `zzz`", "there is: small"]);
}

#[test]
fn an_unknown_key_is_told_with_what_was_meant_and_its_value_still_counts() {
    wrong_stage(&LLM.replace("prompt", "<<promt>>"), &["`promt`", "did you mean `prompt`?"]);
    wrong_stage(&GET.replace("get", "<<gett>>"), &["`gett`", "did you mean `get`?"]);
    wrong_stage(&GET.replace("inputs", "<<input>>"), &["`input`", "did you mean `inputs`?"]);
    let sql = format!("{SQL}{QUERY}");
    wrong_stage(&sql.replace("key", "<<keyy>>"), &["`keyy`", "did you mean `key`?"]);
    wrong_stage(&format!("{GET}<<xyz>> = 1"), &["stage `s` has no key `xyz`", "there is: "]);
    for (before, line, says) in [
        ("name = ", "<<nam>> = \"x\"", "`[pipeline]` has no key `nam`"),
        ("base_url = \"http://g", "<<tokn>> = { env = \"X\" }", "did you mean `token`?"),
        ("base_url = \"http://g", "token = { <<enve>> = \"X\" }", "`token` of `[github]` has no"),
        ("model = ", "<<temprature>> = 1", "did you mean `temperature`?"),
        ("model = ", "limits = { <<concurency>> = 1 }", "`limits` of model `small` has no key"),
        ("model = ", "price = { input = 1, <<outputs>> = 2 }", "did you mean `output`?"),
    ] {
        let text = stage(GET).replacen(before, &format!("{line}\n{before}"), 1);
        wrong(&text, &[says]);
    }
}

#[test]
fn wrong_types_are_told_in_plain_words() {
    for (from, to, says) in [
        ("[\"repos\"]", "<<\"repos\">>", "expected a list, found the text \"repos\""),
        ("\"repos\"", "<<5>>", "`inputs` of stage `s`"),
        ("\"github\"", "<<5>>", "`kind` of stage `s`"),
        ("\"/repos/{{ repo }}\"", "<<[]>>", "expected a text, found a list"),
    ] {
        wrong_stage(&GET.replace(from, to), &["is of the wrong type", says]);
    }
    for (line, says) in [
        ("outputs = <<true>>", "expected a list, found `true`"),
        ("outputs = [<<1>>]", "`outputs` of stage `s`"),
        ("where = <<1>>", "`where` of stage `s`"),
        ("keep = <<\"repo\">>", "`keep` of stage `s`"),
        ("key = <<\"repo\">>", "`key` of stage `s`"),
        ("pick = <<[]>>", "`pick` of stage `s`"),
        ("description = <<1.5>>", "expected a text, found the number `1.5`"),
    ] {
        wrong_stage(&format!("{GET}{line}"), &["is of the wrong type", says]);
    }
    let text = format!("{SQL}{QUERY}").replace("[\"repo\"]", "<<\"repo\">>");
    wrong_stage(&text, &["`key` of stage `s`", "expected a list, found the text \"repo\""]);
    for (line, says) in [
        ("answers = <<\"jsonschema\">>", "did you mean `json_schema`?"),
        ("repairs = <<-1>>", "a whole number that is not negative, found the number `-1`"),
        ("repairs = <<99999999999>>", "`repairs` of stage `s`"),
        (&format!("repairs = <<{HUGE}>>"), "`repairs` of stage `s`"),
    ] {
        wrong_stage(&format!("{LLM}{line}"), &[says]);
    }
    for (before, line, says) in [
        ("base_url = \"http://g", "concurrency = <<0>>", "`concurrency` of `[github]`"),
        ("base_url = \"http://g", "concurrency = <<0>>", "from 1 on, found the number `0`"),
        ("base_url = \"http://g", "timeout = <<-5>>", "`timeout` of `[github]`"),
        ("base_url = \"http://g", &format!("attempts = <<{HUGE}>>"), "`attempts` of `[github]`"),
        ("base_url = \"http://g", "token = <<\"abc\">>", "expected `{ env = \"NAME\" }`"),
        ("base_url = \"http://g", "token = <<{}>>", "`token` of `[github]` has no `env`"),
        ("model = ", "temperature = <<\"hot\">>", "expected a number, found the text \"hot\""),
        ("model = ", "price = <<{ input = 1 }>>", "`price` of model `small` has no `output`"),
        ("model = ", "price = { input = 1, output = <<\"2\">> }", "`price.output` of model"),
        ("model = ", "limits = { concurrency = <<0>> }", "`limits.concurrency` of model `small`"),
        ("model = ", &format!("seed = <<{HUGE}>>"), "`seed` of model `small`"),
        ("model = ", "max_tokens = <<-1>>", "`max_tokens` of model `small`"),
        ("since", &format!("until = <<{HUGE}>>"), "the number does not fit in 64 bits"),
        ("since", "until = <<nan>>", "JSON has no infinity and no NaN"),
        ("stars = 3", &format!("forks = <<{HUGE}>>"), "the number does not fit in 64 bits"),
    ] {
        let text = stage(GET).replacen(before, &format!("{line}\n{before}"), 1);
        wrong(&text, &[says]);
    }
    let address = "\"http://github.invalid\"";
    let text = stage(GET).replace(address, "<<5>>");
    wrong(&text, &["`base_url` of `[github]`", "expected a text or { env = \"NAME\" }"]);
    let text = stage(GET).replace(address, "{ env = <<5>> }");
    wrong(&text, &["`base_url", "of `[github]`", "expected a text"]);
}

#[test]
fn sections_of_the_wrong_type_are_told() {
    let text = format!("X = <<1>>\n[pipeline]\nname = \"x\"\n[stages.s]\n{COMMAND}run = [\"a\"]");
    for section in ["params", "models", "github", "profiles", "tables"] {
        let says =
            [&format!("`{section}` is of the wrong type"), "expected a table", "write it as"];
        wrong(&text.replacen('X', section, 1), &says);
    }
    let says = ["table `t` is of the wrong type", "write each row under `[[tables.t]]`"];
    wrong(&text.replacen('X', "tables.t", 1), &says);
    let text = text.replace("<<1>>", "[<<1>>]");
    wrong(&text.replacen('X', "tables.t", 1), &["a row of table `t` is no table"]);
    wrong(&and("[profiles]\nq = <<1>>"), &["`q` in `profiles`", "expected a profile"]);
    wrong(&stage(GET).replace("a/c\"\nstars = 4", "a/b\"\nstars = 3"), &["the same row twice"]);
}

#[test]
fn what_is_missing_is_told_where_it_belongs() {
    let text = stage(GET).replace("[pipeline]\nname = \"test\"", "<<[pipeline]>>");
    wrong(&text, &["`[pipeline]` has no `name`", "add `name = ...`"]);
    let text = stage(GET).replace("model = \"tiny\"\n", "");
    let text = text.replace("[models.small]", "<<[models.small]>>");
    wrong(&text, &["model `small` has no `model`"]);
    wrong(&and("<<[stages.t]>>\ninputs = [\"s\"]"), &["stage `t` has no `kind`"]);
    let text = "<<[stages.t]>>\nkind = \"sql\"\ninputs = [\"s\"]\nkey = [\"a\"]";
    wrong(&and(text), &["stage `t` has no `query`", "add `query = ...`"]);
    let text = "<<>>[stages.s]\nkind = \"command\"\nrun = [\"true\"]\nkey = [\"a\"]\n";
    wrong(text, &["the manifest has no `[pipeline]` section", "add `[pipeline]`"]);
    wrong("<<>>[pipeline]\nname = \"x\"\n", &["the manifest has no stage", "`[stages.NAME]`"]);
    wrong("<<>>[pipeline]\nname = \"x\"\n[stages]\n", &["the manifest has no stage"]);
    let text = "<<[stages.t]>>\nkind = \"llm\"\ninputs = [\"s\"]";
    wrong(&and(text), &["stage `t` has no `prompt`", "add `prompt = ...`"]);
    let text = "[stages.<<t>>]\nkind = \"llm\"\ninputs = [\"s\"]\nprompt = \"p.md\"";
    wrong(&and(text), &["stage `t` has no `model`", "add `model = ...`, or `models = [...]`"]);
}

#[test]
fn models_are_named_once_and_lead_to_an_end() {
    let models = |names: &str| stage(&LLM.replace("model = \"small\"", names));
    wrong(&models("models = <<[]>>"), &["`models` names no model"]);
    wrong(&models("models = [\"small\", <<\"smal\">>]"), &["did you mean `small`?"]);
    wrong(&models("models = [\"small\", <<\"small\">>]"), &["`small` is named twice"]);
    let both = "model = \"small\"\nmodels = <<[\"small\"]>>";
    wrong(&models(both), &["stage `s` has both `model` and `models`"]);
    let fallback = |first: &str, second: &str| {
        let second = format!("[models.other]\nmodel = \"o\"\n{second}");
        and(&second).replace("model = \"tiny\"", &format!("model = \"tiny\"\n{first}"))
    };
    let text = fallback("fallback = <<\"othr\">>", "");
    wrong(&text, &["there is no model `othr`", "did you mean `other`?"]);
    wrong(&fallback("fallback = <<\"small\">>", ""), &["fall back on each other: small -> small"]);
    let text = fallback("fallback = <<\"other\">>", "fallback = \"small\"");
    wrong(&text, &["models fall back on each other: small -> other -> small", "take one"]);
    let asked = stage(LLM).replace("[pipeline]", "[models.other]\nmodel = \"o\"\n[pipeline]");
    let asked = asked.replace("model = \"o\"", "model = \"o\"\nbase_url = <<\"ftp://x\">>");
    let text = asked.replace("model = \"tiny\"", "model = \"tiny\"\nfallback = \"other\"");
    wrong(&text, &["`base_url` of model `other` is no web address"]);
    let text = asked.replace("model = \"small\"", "models = [\"small\", \"other\"]");
    wrong(&text, &["`base_url` of model `other` is no web address"]);
}

#[test]
fn files_that_are_not_there_are_told_with_the_one_that_is() {
    let space = space();
    space.write("prompts/classify.md", "x");
    space.write("queries/all.sql", "SELECT repo FROM repos");
    let wrong = |text: &str, says: &[&str]| wrong_in(&space, "pipeline.toml", text, says);
    for (path, says) in [
        ("p.mdd", "did you mean `p.md`?"),
        ("prompts/clasify.md", "did you mean `prompts/classify.md`?"),
        ("promts/clasify.md", "did you mean `prompts/classify.md`?"),
        ("zzzzzz", "there is no file `zzzzzz`"),
        ("prompts", "`prompts` is a folder, a file is wanted"),
        ("../p.md", "the path leaves the project folder"),
        ("/etc/hosts", "the path is absolute"),
    ] {
        wrong(&stage(&LLM.replace("\"p.md\"", &format!("<<\"{path}\">>"))), &[path, says]);
    }
    for (body, line, says) in [
        (LLM, "schema = <<\"ss.json\">>", "did you mean `s.json`?"),
        (LLM, "system = <<\"p.me\">>", "did you mean `p.md`?"),
        (LLM, "check = <<\"x.jq\">>", "there is no file `x.jq`"),
        (GET, "pick = <<\"x.jq\">>", "there is no file `x.jq`"),
        (GITHUB, "graphql = <<\"x.graphql\">>", "there is no file `x.graphql`"),
        (SQL, "query = <<\"queries/al.sql\">>", "did you mean `queries/all.sql`?"),
        (COMMAND, "run = [\"sh\", \"x.sh\"]\nfiles = [<<\"x.sh\">>]", "there is no file `x.sh`"),
    ] {
        wrong(&stage(&format!("{body}{line}")), &[says]);
    }
    space.write("bad.md", b"one\ntw\xff\n");
    space.write("pipeline.toml", stage(&LLM.replace("p.md", "bad.md")));
    let ran = refused(&space, &["check"]);
    assert!(ran.stderr.contains("`bad.md` is not UTF-8 text"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--> bad.md:2:3"), "{}", ran.stderr);
}

#[test]
fn cycles_are_shown_as_a_path() {
    let pass = |name: &str, input: &str| {
        format!("[stages.{name}]\n{SQL}query = 'SELECT * FROM {input}'\n").replace("repos", input)
    };
    let two = format!("{HEAD}{}{}", pass("<<a>>", "b"), pass("b", "a"));
    wrong(&two, &["stages depend on each other: a -> b -> a", "take one of the inputs away"]);
    let three = format!("{HEAD}{}{}{}", pass("<<a>>", "c"), pass("b", "a"), pass("c", "b"));
    wrong(&three, &["stages depend on each other: a -> b -> c -> a"]);
    wrong(&format!("{HEAD}{}", pass("<<a>>", "a")), &["stages depend on each other: a -> a"]);
    // Two cycles, and a mistake in one of their stages.
    let space = space();
    let text = format!("{HEAD}{}{}{}", pass("a", "b"), pass("b", "a"), pass("c", "c"));
    space.write("pipeline.toml", text.replace("FROM c", "FORM c"));
    let ran = refused(&space, &["graph"]);
    for part in ["a -> b -> a", "c -> c", "syntax error", "3 problems found"] {
        assert!(ran.stderr.contains(part), "{part}\n{}", ran.stderr);
    }
}

#[test]
fn outputs_that_cannot_be_written_are_told() {
    let out = |outputs: &str| stage(&format!("{GET}outputs = [{outputs}]"));
    for second in ["data/x.json", "data/./x.json", "data/y/../x.json", "./data//x.json"] {
        let text = out("\"data/x.json\"");
        let text = format!("{text}[stages.t]\n{GET}outputs = [<<\"{second}\">>]");
        let says = format!("both `s` and `t` write `{second}`");
        wrong(&text, &[&says, "give each output a name of its own"]);
    }
    let twice = out("\"data/x.json\", <<\"data/x.json\">>");
    wrong(&twice, &["stage `s` writes `data/x.json` twice"]);
    for (path, why) in [
        ("../x.json", "the path leaves the project folder"),
        ("data/../../x.json", "the path leaves the project folder"),
        ("/tmp/x.json", "the path is absolute"),
        ("", "the path is empty"),
        ("data/\\u001b[31m.json", "the path holds a control character"),
        ("data/x.xml", "its extension is none of .json, .jsonl or .csv"),
        ("data/x", "its extension is none of"),
        ("cache/x.json", "`cache/` belongs to the store"),
        ("./cache/x.json", "`cache/` belongs to the store"),
        ("data/../cache/x.json", "`cache/` belongs to the store"),
    ] {
        wrong(&out(&format!("<<\"{path}\">>")), &["cannot be written", why]);
    }
    let space = space();
    let other = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(other.path(), space.path().join("link")).unwrap();
    let text = out("<<\"link/x.json\">>");
    let says = "the path leads out of the project folder through a link";
    wrong_in(&space, "pipeline.toml", &text, &[says]);
    std::fs::create_dir(space.path().join("folder.json")).unwrap();
    wrong_in(&space, "pipeline.toml", &out("<<\"folder.json\">>"), &["it is a folder"]);
}

#[test]
fn nothing_that_is_read_is_overwritten() {
    let space = space();
    let wrong = |text: &str, says: &[&str]| wrong_in(&space, "pipeline.toml", text, says);
    space.write("in.csv", "repo\na/b\n");
    std::os::unix::fs::symlink("in.csv", space.path().join("same.csv")).unwrap();
    for output in ["in.csv", "./in.csv", "same.csv"] {
        let get = GET.replace("\"repos\"", "\"in.csv\"");
        let text = stage(&format!("{get}outputs = [<<\"{output}\">>]"));
        wrong(&text, &["overwrite what is read: `in.csv` is an input", "another name"]);
    }
    let text = stage(&format!("{LLM}schema = \"s.json\"\noutputs = [<<\"s.json\">>]"));
    wrong(&text, &["would overwrite what is read: stages read `s.json`"]);
    space.write("prompt.json", "{{ repo }}");
    let text = stage(&format!("{LLM}outputs = [<<\"prompt.json\">>]"));
    wrong(&text.replace("p.md", "prompt.json"), &["stages read `prompt.json`"]);

    space.write("calls.jsonl", "");
    let text = stage(&format!("{GET}outputs = [\"calls.jsonl\"]"));
    space.write("pipeline.toml", format!("{text}[profiles.p]\ncassette = \"calls.jsonl\"\n"));
    let ran = refused(&space, &["check", "--profile", "p"]);
    assert!(ran.stderr.contains("`calls.jsonl` is the profile's cassette"), "{}", ran.stderr);

    // Seen from elsewhere the same files are the same.
    let text = stage(&format!("{LLM}outputs = [\"prompt.json\"]")).replace("p.md", "prompt.json");
    space.write("sub/pipeline.toml", text);
    space.write("sub/prompt.json", "{{ repo }}");
    for arguments in [&["-C", "sub", "check"][..], &["-f", "sub/pipeline.toml", "check"]] {
        let ran = refused(&space, arguments);
        assert!(ran.stderr.contains("stages read `prompt.json`"), "{}", ran.stderr);
        assert!(ran.stderr.contains("pipeline.toml:21:12"), "{}", ran.stderr);
    }
}

#[test]
fn a_template_in_a_file_names_only_what_there_is() {
    let space = space();
    space.write("pipeline.toml", stage(LLM));
    for (text, says) in [
        ("Is {{ <<rep>> }} a bug?", "`rep` is no field of `repos`, the input of stage `s`"),
        ("Is\nrep {{ repo }}\n{{ <<rep>> }} a bug?", "did you mean `repo`?"),
        ("{% if <<rep>> %}{{ repo }}{% endif %}", "did you mean `repo`?"),
        ("a\n\n  {{ <<params.sinc>> }}", "there is no param `sinc`"),
        ("{{ <<params.sinc>> }}", "did you mean `since`?"),
        ("{% if repo <<%}>>", "unexpected end of input"),
        ("a\nb {{ repo <<?>> }}", "a template cannot be used: syntax error"),
        ("{% <<include \"part.md\">> %}", "there is no file `part.md`"),
        ("{%- <<include 'pp.md'>> -%}", "did you mean `p.md`?"),
        ("{% <<include \"../part.md\">> %}", "the path leaves the project folder"),
        ("{% <<include \"/etc/hosts\">> %}", "the path is absolute"),
        ("{% <<include repo>> %}", "an included file must be named as a text"),
    ] {
        wrong_in(&space, "p.md", text, &[says]);
    }
    space.write("p.md", "{% include \"sub/part.md\" %}");
    wrong_in(&space, "sub/part.md", "x\n\n{{ <<tile>> }}", &["`tile` is no field of `repos`"]);
    wrong_in(&space, "sub/part.md", "x\n\n{{ repo <<?>> }}", &["a template cannot be used"]);
}

#[test]
fn a_template_in_the_manifest_names_only_what_there_is() {
    let list = LIST.replace("repo }}", "<<rep>> }}");
    wrong_stage(&format!("{list}key = [\"id\"]"), &["did you mean `repo`?"]);
    let list = LIST.replace("repo }}", "repo }}{{ <<params.sinc>> }}");
    wrong_stage(&format!("{list}key = [\"id\"]"), &["there is no param `sinc`"]);
    let list = LIST.replace("repo }}", "repo <<?>> }}");
    wrong_stage(&format!("{list}key = [\"id\"]"), &["a template cannot be used"]);
    let lists = format!("{GITHUB}lists = {{ a = \"/x/{{{{ <<nope>> }}}}\" }}");
    wrong_stage(&lists, &["`nope` is no field of `repos`"]);
    for (filter, says) in [
        ("stars > 3 and <<stas>> < 9", "`stas` is no field of `repos`"),
        ("stars > 3 and <<stas>> < 9", "did you mean `stars`?"),
        ("stars > <<params.sinc>>", "there is no param `sinc`"),
        ("stars > 3 <<repo>>", "`where` does not parse"),
    ] {
        wrong_stage(&format!("{GET}where = \"{filter}\""), &[says]);
        wrong_stage(&format!("{GET}where = '''\n{filter}'''"), &[says]);
    }
}

#[test]
fn what_a_template_sets_may_be_used_in_what_it_includes() {
    let space = space();
    space.write(
        "p.md",
        "{% set who = repo %}{% include 'part.md' %}\
         {% for star in [1] %}{% include 'star.md' %}{% endfor %}\
         {% with a = 1, b = 2 %}{% include 'with.md' %}{% endwith %}",
    );
    space.write("part.md", "{{ who }}");
    space.write("star.md", "{{ star }}");
    space.write("with.md", "{{ a }}{{ b }}");
    fine(&space, &stage(LLM));
}

#[test]
fn jq_programs_are_told_inside_their_text() {
    for program in [
        "'.a | <<lenght>>'",
        "\"{a: .b | <<lenght>>}\"",
        "'''\n{\n  a: .b,\n  c: (.d | <<lenght>>)\n}\n'''",
        "\"\"\"\n.a |\n<<lenght>>\"\"\"",
    ] {
        wrong_stage(&format!("{GET}pick = {program}"), &["there is no filter `lenght`"]);
    }
    wrong_stage(&format!("{GET}pick = '<<env>>.HOME'"), &["there is no filter `env`"]);
    let parse = "the jq program of `pick` does not parse";
    for program in ["'{a: .b<<>>'", "'.a <<)>>'", "'''\n{\n  a: .b,\n  c <<=>> 1\n}\n'''"] {
        wrong_stage(&format!("{GET}pick = {program}"), &[parse]);
    }
    let space = space();
    space.write("pipeline.toml", stage(&format!("{GET}pick = \"x.jq\"")));
    let text = "# rows\n{ a: .b,\n  c: <<nothere>>(.d) }\n";
    wrong_in(&space, "x.jq", text, &["there is no filter `nothere`"]);
    wrong_in(&space, "x.jq", "# rows\n{ a: .b,\n  c: <<)>> }\n", &[parse]);
    space.write("pipeline.toml", stage(&format!("{LLM}check = \"x.jq\"")));
    wrong_in(&space, "x.jq", "<<nothere>>", &["the jq program of `check`"]);
}

#[test]
fn queries_are_told_inside_their_text() {
    for (query, says) in [
        ("\"SELECT repo FORM <<repos>>\"", "syntax error"),
        ("'''\nSELECT repo\nFORM <<repos>>\n'''", "syntax error"),
        ("'SELECT repo FROM <<repo>>'", "no such table: repo"),
        ("'SELECT repo FROM <<repo>>'", "did you mean `repos`?"),
        ("'''\nSELECT repo, <<stras>> FROM repos\n'''", "no such column: stras"),
        ("'SELECT repo, <<stras>> FROM repos'", "did you mean `stars`?"),
        ("'<<SELECT repo FROM repos; SELECT 1>>'", "more than one statement"),
        ("\"<<ATTACH DATABASE 'x.db' AS x>>\"", "the query cannot be used"),
        ("'<<DROP TABLE repos>>'", "the query cannot be used"),
        ("<<>>''", "it is empty"),
    ] {
        wrong_stage(&format!("{SQL}query = {query}"), &[says]);
    }
    let space = space();
    space.write("pipeline.toml", stage(&format!("{SQL}query = \"q.sql\"")));
    wrong_in(&space, "q.sql", "-- all\nSELECT\n  repo FORM <<repos>>\n", &["syntax error"]);
    wrong_in(&space, "q.sql", "SELECT <<stras>>\nFROM repos\n", &["did you mean `stars`?"]);
}

#[test]
fn schemas_are_told_inside_their_file() {
    let space = space();
    space.write("pipeline.toml", stage(&format!("{LLM}schema = \"s.json\"")));
    for (from, to, says) in [
        ("\"required\"", "<<}>>", "the schema `s.json` cannot be used: it is no JSON: "),
        ("\"string\"", "<<5>>", "it is no JSON Schema: "),
        ("[\"label\"]", "<<true>>", "it is no JSON Schema: "),
        ("\"object\"", "\"object\", \"$ref\": <<\"#/$defs/x\">>", "a `$ref` leads nowhere in it"),
        ("\"object\"", "\"object\", \"$ref\": <<\"other.json\">>", "a `$ref` leads nowhere in it"),
        ("\"object\"", "<<\"array\">>", "its root must be `\"type\": \"object\"`"),
    ] {
        wrong_in(&space, "s.json", &SCHEMA.replace(from, to), &[says]);
    }
    wrong_in(&space, "s.json", "<<>>", &["it is no JSON"]);
}

#[test]
fn what_providers_refuse_in_a_schema_is_told_inside_its_file() {
    let space = space();
    space.write("pipeline.toml", stage(&format!("{LLM}schema = \"s.json\"")));
    let texts = vec![format!("\"{}\"", "a long text ".repeat(6)); 251].join(", ");
    let long = format!("\"enum\": <<[\n{texts}]>>");
    let values: Vec<String> = (0..1001).map(|n| format!("\"{n}\"")).collect();
    let values = format!("\"enum\": <<[\n{}]>>", values.join(", "));
    let string = "{ \"type\": \"string\" }";
    let cases = [
        ("\"not\": <<{ \"enum\": [\"x\"] }>>", "do not take `not`", "look for the rest in `check`"),
        ("\"if\": <<{}>>", "do not take `if`", "write the cases as `anyOf`"),
        ("\"dependentRequired\": <<{}>>", "do not take `dependentRequired`", "as `anyOf`"),
        ("\"dependentSchemas\": <<{}>>", "do not take `dependentSchemas`", "as `anyOf`"),
        ("\"patternProperties\": <<{}>>", "do not take `patternProperties`", "a list of objects"),
        ("\"propertyNames\": <<{}>>", "do not take `propertyNames`", "a list of objects"),
        ("\"unevaluatedProperties\": <<false>>", "`unevaluatedProperties`", "leave it out"),
        ("\"prefixItems\": <<[{}]>>", "do not take `prefixItems`", "a field for each place"),
        ("\"allOf\": <<[{}, {}]>>", "do not take `allOf`", "write its parts as one schema"),
        ("\"minLenght\": <<3>>", "`minLenght` is no keyword", "did you mean `minLength`?"),
        ("\"anyOf\": <<[{ \"type\": \"null\" }]>>", "`type` stands beside", "each of the cases"),
        (&long, "an `enum` of more than 250 texts", "write shorter ones"),
        (&values, "more than 1000 values in all", "look for the values in `check`"),
        ("\"enum\": <<[]>>", "an `enum` has no value", "write values of the `type`"),
        ("\"enum\": <<[\"a\", 1]>>", "an `enum` has `1`, which is not", "values of the `type`"),
    ];
    for (keyword, says, help) in cases {
        // What stands beside the cases is told where it stands.
        let property = match keyword.contains("anyOf") {
            true => format!("\"type\": <<\"string\">>, {keyword}")
                .replace("<<[", "[")
                .replace("]>>", "]"),
            false => format!("\"type\": \"string\", {keyword}"),
        };
        let text = SCHEMA.replace("\"type\": \"string\"", &property);
        wrong_in(&space, "s.json", &text, &["the schema `s.json` cannot be used: ", says, help]);
    }
    for (property, says, help) in [
        ("<<true>>", "do not take `true` as a schema", "beginning with its `type`"),
        ("<<{}>>", "a schema has no `type`", "add it"),
        ("<<{ \"type\": \"array\" }>>", "a list has no `items`", "what its elements are"),
        ("<<{ \"type\": \"object\" }>>", "an object has no `properties`", "add the fields"),
        ("{ \"properties\": <<{}>> }", "an object has no field", "add the fields"),
        (
            "{ \"properties\": { \"a\": { \"enum\": [1] } }, \"additionalProperties\": <<true>> }",
            "an object is open",
            "what says nothing is closed",
        ),
        (
            "{ \"type\": \"object\", \"properties\": { \"a\": { \"enum\": [1] } }, \
             \"additionalProperties\": <<{ \"type\": \"string\" }>> }",
            "fields whose names are not told",
            "a list of objects",
        ),
        (
            "{ \"$ref\": <<\"#/properties/label\">> }",
            "where providers do not look",
            "under `$defs`",
        ),
        (
            "{ \"anyOf\": [{ \"type\": \"null\" }], \"$ref\": <<\"#\">> }",
            "`$ref` stands beside `anyOf`",
            "each of the cases",
        ),
        (
            "{ \"type\": \"array\", \"items\": { \"type\": \"string\" }, \"$defs\": <<{}>> }",
            "`$defs` stands inside another schema",
            "write it at the root",
        ),
    ] {
        let text = SCHEMA.replace(string, property);
        wrong_in(&space, "s.json", &text, &["the schema `s.json` cannot be used: ", says, help]);
    }
    let text = SCHEMA.replace("[\"label\"]", "[<<\"labels\">>]");
    wrong_in(&space, "s.json", &text, &["`required` names `labels`", "did you mean `label`?"]);
    let text = "<<{ \"anyOf\": [\n{ \"properties\": { \"a\": { \"enum\": [1] } } }] }>>\n";
    wrong_in(&space, "s.json", text, &["its root must be", "into a field of an object"]);
    // All at once.
    let text = SCHEMA.replace(string, "{ \"not\": {}, \"minLenght\": 1 }");
    space.write("s.json", text);
    assert!(space.flow(&["check"]).expect(2).stderr.ends_with("\n2 problems found\n"));
}

#[test]
fn a_schema_that_is_only_checked_here_may_say_anything() {
    let space = space();
    let open = r#"{ "anyOf": [{ "type": "object", "patternProperties": { "^x": {} } }], "not": { "required": ["y"] } }"#;
    space.write("s.json", open);
    for answers in ["json_object", "text"] {
        fine(&space, &stage(&format!("{LLM}schema = \"s.json\"\nanswers = \"{answers}\"")));
    }
    // And what is only left unsaid is no mistake.
    space.write("s.json", r#"{ "properties": { "label": { "enum": ["a", "b"] } } }"#);
    fine(&space, &stage(&format!("{LLM}schema = \"s.json\"")));
}

#[test]
fn graphql_queries_are_told_inside_their_file() {
    let space = space();
    space.write("pipeline.toml", stage(&format!("{GITHUB}graphql = \"q.graphql\"")));
    let text = "query($repo: String!) {\n  node(id: $repo {\n    id\n  }\n}\n";
    wrong_in(&space, "q.graphql", text, &["the GraphQL query `q.graphql`", "--> q.graphql:2:"]);
    let text = "query(\n  $stars: Int!\n  <<$rep>>: String!\n) {\n  node(id: $rep) { id }\n}\n";
    wrong_in(&space, "q.graphql", text, &["the query's variable `$rep` is no field of `repos`"]);
    wrong_in(&space, "q.graphql", "mutation { x }", &["only a `query` can be asked"]);
    wrong_in(&space, "q.graphql", "", &["the GraphQL query `q.graphql` cannot be used"]);
}

/// A manifest with a model that has `settings` beside its name.
fn with_model(settings: &str) -> String {
    and(&format!("[models.m]\n{settings}\n"))
}

#[test]
fn settings_that_a_model_does_not_take_are_told() {
    for (settings, says) in [
        (
            "model = \"gpt-5-nano\"\n<<temperature = 0>>",
            ["`gpt-5-nano` takes no `temperature`", "leave it out"],
        ),
        ("model = \"o3\"\n<<logprobs = 2>>", ["`o3` takes no `logprobs`", "`vote`"]),
        (
            "model = \"gpt-5.2\"\n<<temperature = 0>>",
            ["`gpt-5.2` takes no `temperature`", "`reasoning_effort = \"none\"`"],
        ),
        (
            "model = \"gpt-5\"\n<<max_tokens = 5>>",
            ["`gpt-5` takes no `max_tokens`", "`max_completion_tokens`"],
        ),
        (
            "model = \"gpt-4.1-mini\"\n<<reasoning_effort = \"low\">>",
            ["`gpt-4.1-mini` takes no `reasoning_effort`", "does not think"],
        ),
        (
            "model = \"any\"\napi = \"responses\"\n<<seed = 5>>",
            ["the API `responses` has no `seed`", "leave it out"],
        ),
        (
            "model = \"any\"\napi = \"responses\"\n<<max_tokens = 5>>",
            ["the API `responses` has no `max_tokens`", "`max_output_tokens`"],
        ),
        (
            "model = \"any\"\n<<max_output_tokens = 5>>",
            ["the API `chat` has no `max_output_tokens`", "`max_tokens`"],
        ),
        ("model = \"any\"\n<<logprobs = 21>>", ["`logprobs` is 21", "20 at the most"]),
    ] {
        wrong(&with_model(settings), &says);
    }
    for settings in [
        // Nothing is known of what other servers take.
        "base_url = \"http://localhost:1/v1\"\nmodel = \"gpt-5\"\ntemperature = 0",
        // Told not to think, it takes what others take.
        "model = \"gpt-5.2\"\nreasoning_effort = \"none\"\ntemperature = 0",
        "model = \"gpt-5\"\nbody = { temperature = 1 }",
        "model = \"gpt-4.1\"\ntemperature = 0\nlogprobs = 20\nseed = 1\nmax_tokens = 5",
    ] {
        fine(&space(), &with_model(settings));
    }
}

#[test]
fn toml_mistakes_are_told_each_at_its_place() {
    let twice = "the manifest is no TOML: duplicate key";
    wrong(&and(&format!("[stages.<<s>>]\n{GET}")), &[twice]);
    wrong(&stage(&format!("{GET}<<inputs>> = []")), &[twice]);
    wrong(&and("[profiles.p\ndata = \"x\""), &["is no TOML"]);
    wrong(&and("a = \n"), &["the manifest is no TOML"]);
    let space = space();
    space.write("pipeline.toml", "[pipeline]\nname = \nx = \"\\q\"\n[a]\nb = 1\nb = 2\n");
    for arguments in [["check"], ["run"], ["graph"]] {
        let ran = refused(&space, &arguments);
        for part in ["pipeline.toml:2:", "pipeline.toml:3:", "pipeline.toml:6:1", "3 problems"] {
            assert!(ran.stderr.contains(part), "{part}\n{}", ran.stderr);
        }
    }
}

#[test]
fn what_is_no_manifest_at_all_is_told() {
    let space = space();
    for (bytes, says) in [
        (&b""[..], "the manifest `pipeline.toml` is empty"),
        (b" \n\t\r\n", "the manifest `pipeline.toml` is empty"),
        (b"[pipeline]\nname = \"\0\"", "`pipeline.toml` is a binary file"),
        (b"\xff\xfe[\0p\0", "`pipeline.toml` is a binary file"),
        (b"[pipeline]\nname = \"\xff\"", "--> pipeline.toml:2:9"),
    ] {
        space.write("pipeline.toml", bytes);
        for arguments in [["check"], ["run"], ["graph"]] {
            let ran = refused(&space, &arguments);
            assert!(ran.stderr.contains(says), "{says}\n{}", ran.stderr);
            assert!(ran.stderr.contains("1 problem found"), "{}", ran.stderr);
        }
    }
    std::fs::remove_file(space.path().join("pipeline.toml")).unwrap();
    for (arguments, says) in [
        (&["check"][..], "there is no manifest `pipeline.toml`"),
        (&["-f", "no.toml", "run"], "there is no manifest `no.toml`"),
        (&["-f", ".", "check"], "is a folder, a manifest is wanted"),
        (&["-f", "p.md/x", "graph"], "`p.md/x`"),
        (&["-C", "no", "check"], "no"),
    ] {
        let ran = refused(&space, arguments);
        assert!(ran.stderr.contains(says), "{says}\n{}", ran.stderr);
    }
    // A byte order mark and Windows' ends of lines are no mistake.
    fine(&space, &format!("\u{feff}{}", stage(GET).replace('\n', "\r\n")));
    let text = stage(&GET.replace("\"github\"", "<<\"gihtub\">>")).replace('\n', "\r\n");
    wrong(&text, &["there is no kind `gihtub`"]);
}

#[test]
fn names_are_told_apart() {
    let text = and("[[tables.<<s>>]]\na = 1");
    wrong(&text, &["both a table and a stage are called `s`"]);
    for name in ["\"\"", "\"a b\"", "1a", "-a", "\"../a\"", "\"\u{e9}\"", "\"a.b\""] {
        let text = stage(GET).replace("stages.s", &format!("stages.<<{name}>>"));
        wrong(&text, &["cannot be a stage's name", "letters, digits, `_` and `-`"]);
    }
}

#[test]
fn profiles_are_checked_whether_they_are_chosen_or_not() {
    let space = space();
    space.write("calls.jsonl", "");
    space.write("pipeline.toml", and("[profiles.sample]\ncassette = \"calls.jsonl\""));
    let ran = refused(&space, &["check", "--profile", "smaple"]);
    assert!(ran.stderr.contains("the manifest has no profile `smaple`"), "{}", ran.stderr);
    assert!(ran.stderr.contains("did you mean `sample`?"), "{}", ran.stderr);
    let ran = refused(&space, &["run", "--profile", "x\u{1b}[31m"]);
    assert!(ran.stderr.contains("has no profile"), "{}", ran.stderr);
    for (profile, says) in [
        ("<<casette>> = \"calls.jsonl\"", "profile `p` has no key `casette`"),
        ("offline = <<1>>", "expected true or false"),
        ("data = <<\"../x\">>", "`data` of profile `p`: the path leaves the project folder"),
        ("data = <<\"/tmp\">>", "`data` of profile `p`: the path is absolute"),
        ("cassette = <<\"none\">>", "the cassette `none` cannot be read: there is no such file"),
        ("cassette = <<\"cals.jsonl\">>", "did you mean `calls.jsonl`?"),
        ("params = <<1>>", "`params` of profile `p` is of the wrong type"),
        ("github = { <<tokn>> = { env = \"X\" } }", "`[github]` has no key `tokn`"),
        ("github = { timeout = <<0>> }", "`timeout` of `[github]`"),
        ("models.small = { <<tempreature>> = 1 }", "did you mean `temperature`?"),
        ("models.other = <<{ temperature = 1 }>>", "model `other` has no `model`"),
        ("tables.repos = <<1>>", "table `repos` is of the wrong type"),
    ] {
        let text = and(&format!("[profiles.p]\n{profile}"));
        wrong_in(&space, "pipeline.toml", &text, &[says]);
        let ran = refused(&space, &["check", "--profile", "p"]);
        assert!(ran.stderr.contains(says), "{says}\n{}", ran.stderr);
        assert!(ran.stderr.contains("1 problem found"), "{}", ran.stderr);
    }
}

#[test]
fn an_address_is_told_where_it_stands() {
    let (github, model) = ("\"http://github.invalid\"", "\"http://model.invalid/v1\"");
    let text = and(&format!("[stages.t]\n{LLM}[stages.u]\n{GET}"));
    let unset = "<<{ env = \"FLOW_NOT_SET\" }>>";
    let says = "the environment variable FLOW_NOT_SET is not set";
    let help = "set it: export FLOW_NOT_SET=https://";
    wrong(&text.replace(github, unset), &["`base_url` of `[github]`", says, help]);
    wrong(&text.replace(model, unset), &["`base_url` of model `small`", says, help]);
    let text = |from: &str, to: &str| text.replace(from, to);
    wrong(&text(github, "<<\"github.com\">>"), &["is no web address", "begins with https://"]);
    wrong(&text(model, "<<\"ftp://x\">>"), &["`base_url` of model `small` is no web address"]);
    // Nobody asks there.
    fine(&space(), &stage(GET).replace(model, "{ env = \"FLOW_NOT_SET\" }"));
}

#[test]
fn a_row_stage_has_one_input() {
    let text = GET.replace("[\"repos\"]", "[]");
    wrong_whole_stage(&text, &["driven by exactly one table, it has 0 inputs", "add `inputs"]);
    let text = LLM.replace("[\"repos\"]", "[<<\"repos\">>, \"t\"]");
    let text = format!("{}[stages.t]\n{GET}", stage(&text));
    wrong(&text, &["driven by exactly one table, it has 2 inputs", "join them first"]);
    let text = GET.replace("[\"repos\"]", "[\"repos\", <<\"repos\">>]");
    wrong_stage(&text, &["the input `repos` is named twice"]);
    let text = format!("{SQL}{QUERY}").replace("[\"repos\"]", "[]");
    wrong_whole_stage(&text, &["has no input to query", "add `inputs"]);
}

#[test]
fn keys_and_kept_fields_are_fields() {
    wrong_whole_stage(LIST, &["stage `s` has no `key`", "the fields that tell its rows apart"]);
    let sql = format!("{SQL}{QUERY}");
    wrong_whole_stage(&sql.replace("key = [\"repo\"]\n", ""), &["stage `s` has no `key`"]);
    for (body, line, says) in [
        (LIST, "key = [<<\"idd\">>]\npick = \"{id: .node_id}\"", "did you mean `id`?"),
        (LIST, "key = <<[]>>", "`key` names no field"),
        (GET, "key = <<[]>>", "`key` names no field"),
        (GET, "key = [<<\"rep\">>]", "`key` names `rep`, no field of `repos`"),
        (GET, "key = [<<\"rep\">>]", "did you mean `repo`?"),
        (GET, "keep = [\"repo\", <<\"sters\">>]", "`keep` names `sters`, no field of `repos`"),
        (&sql, "keep = [<<\"repo\">>]", "a stage of kind `sql` has no `keep`"),
        (&sql, "where = <<\"repo\">>", "a stage of kind `sql` has no `where`"),
    ] {
        wrong_stage(&format!("{body}{line}"), &[says]);
    }
    let text = sql.replace("[\"repo\"]", "[<<\"rep\">>]");
    wrong_stage(&text, &["`key` names `rep`, which rows of stage `s` will not have", "`repo`?"]);
}

#[test]
fn a_github_stage_asks_one_thing() {
    let says = ["does not say what to ask", "add one of `list`, `lists`, `get`, `graphql`, `diff`"];
    wrong_whole_stage(GITHUB, &says);
    let text = format!("{GET}diff = <<\"/repos/{{{{ repo }}}}/pulls/1\">>");
    wrong_stage(&text, &["has both `get` and `diff`", "make two stages"]);
    wrong_stage(&format!("{GET}batch = <<10>>"), &["`batch` belongs to `graphql`"]);
    wrong_stage(&format!("{GET}batch = <<0>>"), &["`batch` of stage `s`"]);
    wrong_stage(&format!("{COMMAND}run = <<[]>>"), &["`run` names no program"]);
    wrong_stage(&format!("{COMMAND}run = [\"a\"]\nmode = <<\"row\">>"), &["did you mean `rows`?"]);
}

#[test]
fn input_files_are_told_line_by_line() {
    let space = space();
    let reads = |path: &str| stage(&GET.replace("\"repos\"", path));
    space.write("in.csv", "repo,stars\na/b,1\n");
    space.write("in.json", "[{\"repo\": \"a/b\"}]");
    space.write("in.jsonl", "{\"repo\": \"a/b\"}\n\n{\"repo\": \"a/c\"}\n");
    for path in ["\"in.csv\"", "\"in.json\"", "\"in.jsonl\""] {
        fine(&space, &reads(path));
        let text = reads(path).replace("repo }}", "<<rep>> }}");
        wrong_in(&space, "pipeline.toml", &text, &["did you mean `repo`?"]);
    }
    space.write("head.csv", "repo,stars\n");
    fine(&space, &reads("\"head.csv\""));
    for (path, says) in [
        ("<<\"im.csv\">>", "did you mean `in.csv`?"),
        ("<<\"zzzzzz.json\">>", "a stage, an inline table or a file that exists"),
        ("<<\"../in.csv\">>", "the path leaves the project folder"),
        ("<<\"data/t.json\">>", "stage `t` writes it; name the stage: `t`"),
    ] {
        let text = format!("{}[stages.t]\n{GET}outputs = [\"data/t.json\"]", reads(path));
        wrong_in(&space, "pipeline.toml", &text, &[says]);
    }
    for (path, text, says) in [
        ("x.json", "[\n<<{\"repo\": }>>\n]\n", "expected value"),
        ("x.json", "<<{}>>\n", "expected an array of objects"),
        ("x.json", "[\n{\"repo\": 1},\n2]\n", "expected an object"),
        ("x.jsonl", "{\"repo\": 1}\n<<{\"repo\": 1>>\n", "it is no JSON: it ends too early"),
        ("x.jsonl", "{\"repo\": 1}\n<<[1]>>\n", "expected an object, found an array"),
        ("x.csv", "repo,stars\na/b,1\n<<a/c>>\n", "the record has 1 cell, the header 2"),
        ("x.csv", "<<repo,repo>>\na/b,1\n", "the column `repo` is named twice"),
    ] {
        space.write("pipeline.toml", reads(&format!("\"{path}\"")));
        wrong_in(&space, path, text, &[&format!("the input `{path}` cannot be used"), says]);
    }
    space.write("x.csv", b"repo\na/\xff\n");
    space.write("pipeline.toml", reads("\"x.csv\""));
    let ran = refused(&space, &["check"]);
    assert!(ran.stderr.contains("x.csv:2:3"), "{}", ran.stderr);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = r#"
[pipelin]
[pipeline]
name = 5
[github]
tokn = { env = "X" }
[models.small]
model = "tiny"
limits = { concurrency = 0 }
[[tables.repos]]
repo = "a/b"
[stages.items]
kind = "github"
inputs = ["reposs"]
get = "/repos/{{ rep }}"
outputs = ["../x.json"]
[stages.label]
kind = "llm"
inputs = ["items"]
model = "smal"
prompt = "pp.md"
where = "1 +"
[stages.end]
kind = "sqll"
inputs = ["label"]
key = ["a"]
"#;
    let space = space();
    space.write("pipeline.toml", text);
    let told = [
        "pipeline.toml:2:2\n",
        "did you mean `pipeline`?",
        "pipeline.toml:4:8\n",
        "pipeline.toml:6:1\n",
        "did you mean `token`?",
        "pipeline.toml:9:26\n",
        "pipeline.toml:14:11\n",
        "did you mean `repos`?",
        "pipeline.toml:15:18\n",
        "did you mean `repo`?",
        "pipeline.toml:16:12\n",
        "pipeline.toml:20:9\n",
        "did you mean `small`?",
        "pipeline.toml:21:10\n",
        "did you mean `p.md`?",
        "pipeline.toml:22:",
        "pipeline.toml:24:8\n",
        "did you mean `sql`?",
        "\n11 problems found\n",
    ];
    for arguments in [["check"], ["run"], ["graph"]] {
        let ran = refused(&space, &arguments);
        let mut rest = &ran.stderr[..];
        for part in told {
            let at = rest.find(part);
            let at = at.unwrap_or_else(|| panic!("{part} is not there\n{}", ran.stderr));
            rest = &rest[at..];
        }
    }
}

#[test]
fn a_mistake_is_told_once_however_much_hangs_on_it() {
    let after = format!("[stages.t]\n{}keep = [\"id\"]\n", LLM.replace("repos", "s"));
    for (from, to, says) in [
        ("\"github\"", "<<5>>", "`kind` of stage `s`"),
        ("\"/repos/{{ repo }}\"", "<<5>>", "`get` of stage `s`"),
        ("\"repos\"", "<<5>>", "`inputs` of stage `s`"),
        ("\"repos\"", "<<\"zzzzzz\">>", "no stage or table `zzzzzz`"),
    ] {
        wrong(&format!("{}{after}", stage(&GET.replace(from, to))), &[says]);
    }
    let text = stage(LLM).replace("model = \"tiny\"", "model = <<5>>");
    wrong(&text, &["`model` of model `small`"]);
    let sql = format!("{SQL}{QUERY}").replace("[\"repos\"]", "[<<\"repoos\">>]");
    wrong_stage(&sql, &["did you mean `repos`?"]);
    let table = "[[tables.repos]]\nrepo = \"a/b\"\nstars = 3\n";
    let text = stage(&format!("{SQL}{QUERY}")).replace(table, "[tables]\nrepos = <<1>>\n[x]\n");
    let text = text.replace("[x]\n[[tables.repos]]\nrepo = \"a/c\"\nstars = 4\n", "");
    wrong(&text, &["table `repos` is of the wrong type"]);
}

#[test]
fn nothing_from_outside_is_obeyed_by_a_terminal() {
    // Escapes, C1 controls, and marks that turn text around.
    let evil = "\u{9b}31m\u{202e}x";
    let told = |space: &TestSpace, says: &str| {
        let ran = refused(space, &["check"]);
        assert!(ran.stderr.contains(says), "{says}\n{}", ran.stderr);
        assert!(!ran.stderr.contains('\u{202e}'), "{}", ran.stderr);
    };
    let space = space();
    space.write("pipeline.toml", stage(&format!("{GET}x = 1 # {evil} \u{1b}[2J\u{7}")));
    told(&space, "the manifest is no TOML");
    space.write("pipeline.toml", stage(&format!("{GET}x = 1 # {evil}")));
    told(&space, "has no key `x`");
    for name in [r#""\u001b[31m\u0007""#, &format!("\"{evil}\"")] {
        for text in [
            format!("[{name}]"),
            format!("[stages.{name}]\nkind = \"sql\""),
            format!("[models.{name}]"),
            format!("[profiles.{name}]\nx = 1"),
            format!("[profiles.p.tables]\n{name} = 1"),
            format!("[stages.t]\nkind = {name}"),
            format!("[stages.t]\n{name} = 1\n{GET}"),
            format!(
                "[stages.t]\nkind = \"llm\"\ninputs = [{name}]\nmodel = {name}\nprompt = {name}"
            ),
            format!("[stages.t]\n{SQL}query = {name}"),
            format!("[stages.t]\n{GET}pick = {name}\nkeep = [{name}]\noutputs = [{name}]"),
        ] {
            space.write("pipeline.toml", and(&text));
            told(&space, " found\n");
        }
    }
    space.write("pipeline.toml", stage(LLM));
    space.write("p.md", format!("\u{1b}]0;x\u{7}{evil} {{{{ nope }}}} \u{1b}[2J\r{evil}"));
    told(&space, "`nope` is no field");
    space.write("p.md", format!("{{{{ \u{1b}[31m {evil}"));
    told(&space, "a template cannot be used");
    let name = r#"name = <<"t\u001b[31m\u009b">>"#;
    wrong(&stage(GET).replace("name = \"test\"", name), &["holds a control character"]);
    space.write("pipeline.toml", stage(GET));
    let ran = refused(&space, &["graph", "\u{1b}[31m"]);
    assert!(ran.stderr.contains("there is no stage"), "{}", ran.stderr);
}

#[derive(Clone, Debug)]
enum Change {
    Delete(usize, usize),
    Insert(usize, String),
    Replace(usize, char),
    Double(usize),
    Drop(usize),
    Swap(usize, usize),
}

impl Change {
    fn apply(&self, text: &str) -> String {
        let at = |at: usize| text.floor_char_boundary(at % (text.len() + 1));
        let mut lines: Vec<&str> = text.lines().collect();
        let count = lines.len();
        let mut changed = text.to_owned();
        match self {
            Change::Delete(start, length) => {
                let end = at(*start) + length;
                let end = text.ceil_char_boundary(end.min(text.len()));
                changed.replace_range(at(*start)..end, "");
                return changed;
            }
            Change::Insert(start, piece) => {
                changed.insert_str(at(*start), piece);
                return changed;
            }
            Change::Replace(start, c) => {
                let end = text.ceil_char_boundary((at(*start) + 1).min(text.len()));
                changed.replace_range(at(*start)..end, &c.to_string());
                return changed;
            }
            _ if count == 0 => return changed,
            Change::Double(line) => lines.insert(line % count, lines[line % count]),
            Change::Drop(line) => drop(lines.remove(line % count)),
            Change::Swap(a, b) => lines.swap(a % count, b % count),
        }
        lines.join("\n")
    }
}

fn change() -> impl Strategy<Value = Change> {
    const PIECES: [&str; 32] = [
        "\"",
        "'''",
        "\"\"\"",
        "[",
        "]]",
        "{",
        "}",
        "=",
        "#",
        "\n",
        ".",
        "{{",
        "}}",
        "{%",
        "%}",
        "\\",
        "\u{0}",
        "\u{1b}",
        "\u{9b}",
        "\u{feff}",
        "\u{1F600}",
        "\u{301}",
        "-1",
        "nan",
        "1e999",
        "true",
        ",",
        "|",
        "(",
        "\r\n",
        "[stages.x]\n",
        "kind = \"sql\"\n",
    ];
    let piece = prop_oneof![
        prop::sample::select(&PIECES[..]).prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ];
    prop_oneof![
        (any::<usize>(), 1..40usize).prop_map(|(at, length)| Change::Delete(at, length)),
        (any::<usize>(), piece).prop_map(|(at, piece)| Change::Insert(at, piece)),
        (any::<usize>(), any::<char>()).prop_map(|(at, c)| Change::Replace(at, c)),
        any::<usize>().prop_map(Change::Double),
        any::<usize>().prop_map(Change::Drop),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Change::Swap(a, b)),
    ]
}

fn changed(text: &str, changes: &[Change]) -> String {
    changes.iter().fold(text.to_owned(), |text, change| change.apply(&text))
}

/// Loads the study of `space`, with and without its profile, and renders what is wrong.
fn load(space: &TestSpace) -> Result<(), TestCaseError> {
    for profile in [None, Some("sample".to_owned())] {
        let file = space.path().join("pipeline.toml");
        let options = LoadOptions { file, profile, ..LoadOptions::default() };
        let told = catch_unwind(AssertUnwindSafe(|| {
            let problems = Pipeline::load(&options).err()?;
            Some((problems.render(false), problems.render(true)))
        }));
        let told = told.map_err(|_| TestCaseError::fail("it panics"))?;
        if let Some((plain, styled)) = told {
            prop_assert!(plain.ends_with(" found") && styled.ends_with(" found"), "{plain}");
            prop_assert!(!plain.contains(|c: char| c.is_control() && c != '\n'), "{plain:?}");
        }
    }
    Ok(())
}

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

#[test]
fn no_manifest_makes_it_panic() {
    let space = TestSpace::study();
    let text = space.read("pipeline.toml");
    proptest!(config(300), |(changes in prop::collection::vec(change(), 1..5))| {
        space.write("pipeline.toml", changed(&text, &changes));
        load(&space)?;
    });
}

#[test]
fn no_file_that_a_manifest_names_makes_it_panic() {
    let space = TestSpace::study();
    let files = [
        "prompts/classify.md",
        "queries/final.sql",
        "queries/content.jq",
        "queries/pull_requests.graphql",
        "schemas/classify.schema.json",
    ];
    let texts = files.map(|file| space.read(file));
    let changes = prop::collection::vec(change(), 1..4);
    proptest!(config(100), |(file in 0..files.len(), changes in changes)| {
        space.write(files[file], changed(&texts[file], &changes));
        let loaded = load(&space);
        space.write(files[file], &texts[file]);
        loaded?;
    });
}

#[test]
fn what_is_nested_without_end_is_refused() {
    let space = space();
    let deep =
        |open: &str, close: &str| format!("{}1{}", open.repeat(30_000), close.repeat(30_000));
    let pick = format!("{GET}pick = \"deep\"").replace("deep", "deep.jq");
    let mut jq =
        vec![deep("[", "]"), deep("(", ")"), deep("-", ""), deep("1+", ""), deep("1|", "")];
    jq.extend([
        deep("if ", ""),
        deep("def f: ", "; 1"),
        deep("{a: ", "}"),
        deep(".a as $x | ", ""),
    ]);
    let cases = [
        ("deep.md", format!("{{{{ {} }}}}", deep("(", ")")), LLM.replace("p.md", "deep.md")),
        ("deep.md", deep("{% if 1 %}", "{% endif %}"), LLM.replace("p.md", "deep.md")),
        ("deep.json", deep("[", "]"), format!("{LLM}schema = \"deep.json\"")),
        ("deep.sql", format!("SELECT {}", deep("(", ")")), format!("{SQL}query = \"deep.sql\"")),
        ("deep.graphql", deep("{a", "}"), format!("{GITHUB}graphql = \"deep.graphql\"")),
        ("none", String::new(), format!("{GET}where = \"{}\"", deep("(", ")"))),
        ("none", String::new(), format!("{GET}x = {}", deep("[", "]"))),
        ("none", String::new(), format!("{GET}x = {}", deep("{a = ", "}"))),
    ];
    let programs = jq.into_iter().map(|text| ("deep.jq", text, pick.clone()));
    for (file, text, body) in cases.into_iter().chain(programs) {
        let start: String = text.chars().take(20).collect();
        space.write(file, text);
        space.write("pipeline.toml", stage(&body));
        let ran = space.flow(&["check"]);
        assert_eq!(ran.code, 2, "{file}: {start}\n{}", ran.stderr);
        assert_tame(&ran.stderr);
    }
}

#[test]
fn the_schema_for_editors_is_the_one_that_is_printed() {
    let printed = space().flow(&["schema"]).expect(0).stdout;
    let kept = std::fs::read_to_string(repository().join("schemas/pipeline.schema.json")).unwrap();
    let help = "run `flow schema > schemas/pipeline.schema.json`";
    assert!(printed == kept, "schemas/pipeline.schema.json is out of date: {help}");
}

#[test]
fn the_schema_for_editors_takes_what_is_right_and_nothing_else() {
    let text = space().flow(&["schema"]).expect(0).stdout;
    let schema: Value = serde_json::from_str(&text).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let faults = |manifest: &str| -> Vec<String> {
        let table: toml::Table = toml::from_str(manifest).unwrap();
        let value = serde_json::to_value(table).unwrap();
        validator.iter_errors(&value).map(|fault| fault.to_string()).collect()
    };
    let read = |path: &str| std::fs::read_to_string(repository().join(path)).unwrap();
    let studies = [read("pipeline.toml"), read("tests/real/pipeline.toml")];
    let small = [stage(GET), stage(LLM), stage(&format!("{SQL}{QUERY}"))];
    for right in studies.into_iter().chain(small) {
        assert_eq!(faults(&right), [""; 0], "{right}");
    }
    let get = stage(GET);
    for wrong in [
        get.replace("[github]", "[gihtub]"),
        get.replace("name = \"test\"", ""),
        get.replace("\"github\"", "\"gihtub\""),
        get.replace("get = ", "gett = "),
        get.replace("[\"repos\"]", "\"repos\""),
        get.replace("[github]", "[github]\nconcurrency = 0"),
        stage(LLM).replace("prompt = \"p.md\"", ""),
        stage(LLM).replace("model = \"tiny\"", ""),
        stage(LLM).replace("model = \"tiny\"", "model = \"tiny\"\ntemperature = \"hot\""),
        stage(SQL),
        and("[profiles.p]\ncassete = \"x\""),
        and("[profiles.p.models.small]\ntemprature = 1"),
    ] {
        assert!(!faults(&wrong).is_empty(), "{wrong}");
    }
}

#[test]
fn the_file_of_failed_rows_belongs_to_its_stage() {
    let space = space();
    let wrong = |text: &str, says: &[&str]| wrong_in(&space, "pipeline.toml", text, says);
    space.write("data/a.json.failed.jsonl", "{\"repo\": \"a/b\"}\n");
    let get = GET.replace("\"repos\"", "\"data/a.json.failed.jsonl\"");
    let text = stage(&format!("{get}outputs = [<<\"data/a.json\">>]"));
    wrong(&text, &["stage `s` keeps its failed rows there", "by another name"]);
    let kept = space.read("data/a.json.failed.jsonl");
    assert_eq!(kept, "{\"repo\": \"a/b\"}\n", "nothing was touched");
    // Whichever of the two stages comes first.
    let owner = format!("[stages.owner]\n{GET}outputs = [\"data/b.json\"]\n");
    let other = format!("[stages.other]\n{GET}outputs = [<<\"data/b.json.failed.jsonl\">>]\n");
    let says = "both `owner` and `other` write `data/b.json.failed.jsonl`";
    wrong(&format!("{HEAD}{owner}{other}"), &[says]);
    wrong(&format!("{HEAD}{other}{owner}"), &[says]);
}

#[test]
fn an_output_is_no_folder_of_another() {
    let first = format!("[stages.first]\n{GET}outputs = [\"data/a.json\"]\n");
    let below = format!("[stages.below]\n{GET}outputs = [<<\"data/a.json/b.json\">>]\n");
    let says = "`data/a.json/b.json` cannot stand below `data/a.json`, a file of `first`";
    wrong(&format!("{HEAD}{first}{below}"), &[says]);
    wrong(&format!("{HEAD}{below}{first}"), &[says]);
}
