//! Replication packages: what goes in, that the same study gives the same bytes, that they make the
//! same outputs elsewhere, and that neither a secret goes out nor a stranger's package gets anywhere.

mod support;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flow::table::Digest;
use serde_json::{Value, json};
use support::study::{self, OUTPUTS};
use support::{Ran, Simulator, TestSpace};
use tar::{Builder, EntryType, Header};

/// A key as OpenAI's are, that is none.
const KEY: &str = "sk-thisisnokeyofanybody0123456789";

/// A space from which no call can leave, with a folder of its own for temporary files.
fn alone(mut space: TestSpace) -> TestSpace {
    space.env("NO_COLOR", "1");
    space.env("http_proxy", "http://127.0.0.1:9").env("https_proxy", "http://127.0.0.1:9");
    std::fs::create_dir(space.path().join("tmp")).unwrap();
    let tmp = space.path().join("tmp").to_str().unwrap().to_owned();
    space.env("TMPDIR", &tmp);
    space
}

/// The sample, after a run.
fn sample() -> TestSpace {
    let space = alone(TestSpace::study());
    space.run(&["--profile", "sample"]).expect(0);
    space
}

fn export(space: &TestSpace, more: &[&str]) -> Ran {
    space.flow(&[&["export", "study.tar.zst", "--profile", "sample"], more].concat())
}

fn bytes(space: &TestSpace, path: &str) -> Vec<u8> {
    std::fs::read(space.path().join(path)).unwrap()
}

/// The files of a package by their whole paths, in their order.
fn unpacked(package: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(package).unwrap());
    let mut files = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.push((path, bytes));
    }
    files
}

/// An archive of files; a path that begins with `-> ` is a link to what follows.
fn packed(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    for (path, bytes) in files {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        // As nobody would write it who means well.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        archive.append(&header, &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

/// The study's package with its files changed and, where `listed`, the list made to fit.
fn changed(space: &TestSpace, listed: bool, change: impl Fn(&str, &mut Vec<u8>)) {
    let mut files = unpacked(&bytes(space, "study.tar.zst"));
    files.iter_mut().for_each(|(path, bytes)| change(path, bytes));
    if listed {
        let digests: BTreeMap<String, (usize, String)> = files
            .iter()
            .map(|(path, bytes)| (path.clone(), (bytes.len(), Digest::of(bytes).hex())))
            .collect();
        let (_, list) = files.iter_mut().find(|(path, _)| path == "study/package.json").unwrap();
        let mut value: Value = serde_json::from_slice(list).unwrap();
        for file in value["files"].as_array_mut().unwrap() {
            let (size, digest) = &digests[&format!("study/{}", file["path"].as_str().unwrap())];
            (file["size"], file["blake3"]) = (json!(size), json!(digest));
        }
        *list = serde_json::to_vec(&value).unwrap();
    }
    space.write("study.tar.zst", packed(&files));
}

/// Nothing is left among temporary files.
#[track_caller]
fn assert_tidy(space: &TestSpace) {
    let left = std::fs::read_dir(space.path().join("tmp")).unwrap().count();
    assert_eq!(left, 0, "temporary files are left");
}

#[test]
fn the_same_study_gives_the_same_bytes_wherever_and_whenever() {
    let (here, there) = (sample(), sample());
    let ran = export(&here, &[]).expect(0);
    assert!(ran.stderr.contains("68 files, 249 calls in the cassette"), "{}", ran.stderr);
    let first = bytes(&here, "study.tar.zst");
    export(&here, &[]).expect(0);
    assert!(bytes(&here, "study.tar.zst") == first, "it is another the second time");
    there
        .flow(&["-f", &manifest(&there), "export", "study.tar.zst", "--profile", "sample"])
        .expect(0);
    assert!(bytes(&there, "study.tar.zst") == first, "it is another elsewhere");

    let files = unpacked(&first);
    let paths: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
    assert!(paths.is_sorted() && paths.iter().all(|path| path.starts_with("study/")), "{paths:?}");
    let list: Value = serde_json::from_slice(
        &files.iter().find(|(path, _)| path == "study/package.json").unwrap().1,
    )
    .unwrap();
    assert_eq!((&list["format"], &list["profile"]), (&json!(1), &json!("sample")));
    let listed = list["files"].as_array().unwrap();
    assert_eq!(listed.len(), files.len() - 1);
    for file in listed {
        let path = format!("study/{}", file["path"].as_str().unwrap());
        let (_, bytes) = files.iter().find(|(name, _)| *name == path).unwrap();
        assert_eq!(file["size"], bytes.len(), "{path}");
        assert_eq!(file["blake3"], Digest::of(bytes).hex(), "{path}");
    }
}

/// The manifest by its whole path.
fn manifest(space: &TestSpace) -> String {
    space.path().join("pipeline.toml").to_str().unwrap().to_owned()
}

#[test]
fn it_makes_the_same_bytes_in_another_folder() {
    let space = sample();
    export(&space, &[]).expect(0);
    let elsewhere = alone(TestSpace::new());
    std::fs::copy(space.path().join("study.tar.zst"), elsewhere.path().join("study.tar.zst"))
        .unwrap();
    let ran = elsewhere.flow(&["verify", "study.tar.zst"]).expect(0);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 33, "{}", ran.stdout);
    assert!(lines[..32].iter().all(|line| line.starts_with("same      data/sample/")));
    assert_eq!(lines[32], "it makes the same bytes here: 32 outputs");
    assert_tidy(&elsewhere);

    // Without its outputs, and with no cassette but that of the package.
    for (path, bytes) in unpacked(&bytes(&space, "study.tar.zst")) {
        if !path.contains("/data/") && !path.ends_with("cassette.jsonl") {
            elsewhere.write(&path, bytes);
        }
    }
    let cassette = ["--offline", "--cassette", "../study.tar.zst"];
    let ran = elsewhere.run(&[&["-C", "study", "--profile", "sample"], &cassette[..]].concat());
    assert_eq!(ran.expect(0).json()["calls"], 0);
    let outputs = std::fs::read_dir(space.path().join("data/sample")).unwrap();
    let names = outputs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    for output in names.filter(|name| name != "logs") {
        let path = format!("data/sample/{output}");
        assert!(
            bytes(&space, &path) == bytes(&elsewhere, &format!("study/{path}")),
            "{path} is another"
        );
    }
    assert_tidy(&elsewhere);
    // The profile's own cassette is not there, and nothing else says where calls are.
    elsewhere.run(&["-C", "study", "--profile", "sample", "--offline"]).expect(2);
    let ran = elsewhere.run(&["-C", "study", "--cassette", "pipeline.toml"]).expect(2);
    assert!(ran.stderr.contains("pipeline.toml is no cassette"), "{}", ran.stderr);
    let ran = elsewhere.run(&["-C", "study", "--cassette", "no.tar.zst"]).expect(2);
    assert!(ran.stderr.contains("no.tar.zst cannot be read"), "{}", ran.stderr);
}

#[test]
fn only_the_calls_that_the_tables_stand_on_go_in_and_addresses_need_no_variable() {
    let simulator = study::simulator(40, 0);
    let mut space = study::study(&simulator);
    space.env("SERVER", &format!("{}/v1", simulator.address));
    space.edit(
        "pipeline.toml",
        &format!("base_url = \"{}/v1\"", simulator.address),
        "base_url = { env = \"SERVER\" }",
    );
    space.run(&[]).expect(0);
    space.edit("classify.md", "Classify", "Judge");
    space.run(&[]).expect(0);
    let calls = simulator.total();
    let ran = space.flow(&["export", "p.tar.zst"]).expect(0);
    let (pages, items) = (study::pages(40), 40);
    assert!(calls >= pages + 2 * items);
    let held = format!("{} calls", calls - items);
    assert!(ran.stderr.contains(&held), "{held}: {}", ran.stderr);
    drop(simulator);

    let elsewhere = alone(TestSpace::new());
    elsewhere.write("p.tar.zst", bytes(&space, "p.tar.zst"));
    let ran = elsewhere.flow(&["verify", "p.tar.zst"]).expect(0);
    assert!(ran.stdout.ends_with("it makes the same bytes here: 5 outputs\n"), "{}", ran.stdout);
    for (path, bytes) in unpacked(&bytes(&space, "p.tar.zst")) {
        elsewhere.write(&path, bytes);
    }
    let cassette = ["--offline", "--cassette", "../p.tar.zst"];
    elsewhere.run(&[&["-C", "p"], &cassette[..]].concat()).expect(0);
    for output in OUTPUTS {
        assert!(bytes(&space, output) == bytes(&elsewhere, &format!("p/{output}")), "{output}");
    }
}

#[test]
fn what_is_not_as_the_manifest_makes_it_is_not_packed() {
    let space = alone(TestSpace::study());
    let refused = |why: &str| {
        let ran = export(&space, &[]).expect(1);
        assert!(ran.stderr.contains(why), "{why}: {}", ran.stderr);
        assert!(ran.stderr.contains("bring it up to date with `flow run`"), "{}", ran.stderr);
        assert!(!space.exists("study.tar.zst") && !space.exists(".study.tar.zst.tmp"));
    };
    refused("stage `items` is stale: never run");
    space.run(&["--profile", "sample"]).expect(0);
    let output = "data/sample/issue_links.json";
    let text = space.read(output);
    space.write(output, text.replacen("true", "false", 1));
    refused("output `data/sample/issue_links.json` was edited");
    std::fs::remove_file(space.path().join(output)).unwrap();
    refused("output `data/sample/issue_links.json` is missing");
    // Only touched, it is what it was.
    space.write(output, &text);
    export(&space, &[]).expect(0);
    std::fs::remove_file(space.path().join("study.tar.zst")).unwrap();

    space.edit("queries/links.sql", "SELECT", "SELECT /* edited */");
    refused("stage `links` is stale: changed");
    refused("stage `final` is stale: `links`, which it reads, would run");
    space.flow(&["accept", "links", "--profile", "sample"]).expect(0);
    space.run(&["--profile", "sample"]).expect(0);
    refused("stage `links` was accepted");
    let force = ["links", "--only", "--force", "--profile", "sample"];
    space.run(&force).expect(0);
    export(&space, &[]).expect(0);
}

#[test]
fn neither_rows_without_a_result_nor_broken_expectations_are_packed() {
    let space = alone(TestSpace::study());
    let more = "\n[[profiles.sample.tables.engines]]\nengine = \"x\"\nrepo = \"nobody/nothing\"\n";
    let manifest = space.read("pipeline.toml");
    space.write("pipeline.toml", format!("{manifest}{more}"));
    space.run(&["--profile", "sample"]).expect(1);
    let ran = export(&space, &[]).expect(1);
    assert!(ran.stderr.contains("stage `items` is stale: 1 row without a result"), "{ran:?}");

    space.write("pipeline.toml", &manifest);
    space.run(&["--profile", "sample"]).expect(0);
    let expect = "[stages.links.expect]\nrows = { max = 3 }\n";
    space.write("pipeline.toml", format!("{manifest}\n{expect}"));
    let ran = export(&space, &[]).expect(1);
    assert!(ran.stderr.contains("`links` is not known to be as it is expected"), "{ran:?}");
    space.run(&["--profile", "sample"]).expect(1);
    let ran = export(&space, &[]).expect(1);
    assert!(ran.stderr.contains("stage `links` "), "{ran:?}");
}

#[test]
fn names_of_packages_are_held() {
    let space = sample();
    for name in ["study.zip", ".tar.zst", "study.tar", "...tar.zst"] {
        let ran = space.flow(&["export", name, "--profile", "sample"]).expect(2);
        assert!(ran.stderr.contains("name the package FILE.tar.zst"), "{}", ran.stderr);
    }
    space.write("package.json", "[{\"a\": 1}]");
    let stage = "[stages.own]\nkind = \"sql\"\ninputs = [\"package.json\"]\n\
                 query = 'SELECT * FROM package'\nkey = [\"a\"]\n";
    space.write("pipeline.toml", format!("{}\n{stage}", space.read("pipeline.toml")));
    space.run(&["--profile", "sample"]).expect(0);
    let ran = export(&space, &[]).expect(1);
    assert!(ran.stderr.contains("the package has a file of its own by that name"), "{ran:?}");
}

#[test]
fn a_package_that_was_changed_is_told() {
    let space = sample();
    export(&space, &[]).expect(0);
    let verify = || space.flow(&["verify", "study.tar.zst"]);
    // In an issue that was read.
    let title = space.rows("data/sample/llm_bugs.json")[0]["title"].as_str().unwrap().to_owned();
    let edit = |path: &str, bytes: &mut Vec<u8>| {
        if path == "study/cassette.jsonl" {
            let text = String::from_utf8(bytes.clone()).unwrap();
            assert!(text.contains(&title));
            *bytes = text.replace(&title, "Another title").into_bytes();
        }
    };
    changed(&space, false, edit);
    let ran = verify().expect(2);
    assert!(ran.stderr.contains("`cassette.jsonl` is not the file that package.json lists"));
    let ran = space.run(&["--profile", "sample", "--cassette", "study.tar.zst"]).expect(2);
    assert!(ran.stderr.contains("`cassette.jsonl` is not the file that package.json lists"));

    export(&space, &[]).expect(0);
    changed(&space, true, edit);
    let ran = verify().expect(1);
    assert!(ran.stdout.contains("differs   data/sample/llm_bugs.json\n"), "{}", ran.stdout);
    assert!(ran.stderr.contains("not recorded"), "{}", ran.stderr);
    let last = ran.stdout.lines().last().unwrap();
    assert!(last.starts_with("it does not make the same bytes here: "), "{last}");

    export(&space, &[]).expect(0);
    changed(&space, true, |path, bytes| {
        if path == "study/data/sample/issue_links.json" {
            bytes.push(b'\n');
        }
    });
    let ran = verify().expect(1);
    assert!(ran.stdout.contains("differs   data/sample/issue_links.json\n"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("it does not make the same bytes here: 1 of 32 outputs\n"));

    // What no stage writes.
    export(&space, &[]).expect(0);
    changed(&space, true, |path, bytes| {
        if path == "study/pipeline.toml" {
            let text = String::from_utf8(bytes.clone()).unwrap();
            *bytes = text.replace("data/issue_links.json", "data/other.json").into_bytes();
        }
    });
    let ran = verify().expect(2);
    assert!(ran.stderr.contains("writes `data/sample/other.json`, which"), "{}", ran.stderr);
    assert_tidy(&space);
}

/// The IDs that an export lists.
fn ids(ran: &Ran) -> Vec<String> {
    let ids = ran.stderr.lines().filter_map(|line| Some(line.rsplit_once(", ID ")?.1.to_owned()));
    ids.collect()
}

#[test]
fn a_secret_in_a_prompt_or_a_table_stops_it_until_it_is_allowed() {
    let mut space = alone(TestSpace::new());
    space.write(
        "pipeline.toml",
        r#"
[pipeline]
name = "test"
[models.small]
base_url = "http://simulator.invalid/v1"
model = "tiny"
api_key = { env = "MODEL_KEY" }
[stages.made]
kind = "sql"
inputs = ["notes.jsonl"]
query = "made.sql"
key = ["id"]
outputs = ["data/made.json"]
"#,
    );
    space.write("made.sql", format!("SELECT *\n-- {KEY}\nFROM notes"));
    // In JSON it stands with its quotes escaped.
    let own = "a \"quoted\" key";
    space.write("notes.jsonl", format!("{}\n", json!({"id": 1, "text": format!("it is {own}")})));
    space.env("MODEL_KEY", own);
    space.run(&[]).expect(0);
    let hidden = |ran: &Ran| {
        for text in [&ran.stdout, &ran.stderr] {
            assert!(!text.contains(&KEY[5..]) && !text.contains("quoted"), "{text}");
        }
    };
    let ran = space.flow(&["export", "p.tar.zst"]).expect(1);
    hidden(&ran);
    assert!(ran.stderr.contains("made.sql, line 2: OpenAI key, sk-t... (33 characters), ID "));
    let value = "value of MODEL_KEY, a \"q... (14 characters), ID ";
    assert!(ran.stderr.contains(&format!("notes.jsonl, line 1: {value}")), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("data/made.json, line 2: {value}")), "{}", ran.stderr);
    assert!(ran.stderr.contains("3 texts look like a secret"), "{}", ran.stderr);
    assert!(!space.exists("p.tar.zst"));
    let ids = ids(&ran);
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[0], ids[2], "the same text has the same ID: {ids:?}");

    let ran = space.flow(&["export", "p.tar.zst", "--allow", &ids[0]]).expect(1);
    hidden(&ran);
    assert!(ran.stderr.contains("1 text looks like a secret"), "{}", ran.stderr);
    assert!(!space.exists("p.tar.zst"));
    let allow = ["--allow", &ids[0], "--allow", &ids[1]];
    let ran = space.flow(&[&["export", "p.tar.zst"], &allow[..]].concat()).expect(0);
    hidden(&ran);
    assert!(ran.stderr.contains("packed as allowed: 3 texts"), "{}", ran.stderr);
    space.flow(&["verify", "p.tar.zst"]).expect(0);
    // Of a table that is left out only its digest goes in.
    let ran = space.flow(&["export", "q.tar.zst", "--without-bodies"]).expect(1);
    assert!(!ran.stderr.contains("made.json"), "{}", ran.stderr);
}

#[test]
fn a_secret_in_an_answer_stops_it() {
    let simulator = study::simulator(3, 0);
    let space = study::study(&simulator);
    let repo = simulator.get("/_repos")[0].as_str().unwrap().to_owned();
    simulator.item(json!({
        "repo": repo, "number": 900, "title": "Leaked", "body": format!("log:\n{KEY}\n"),
    }));
    space.run(&[]).expect(0);
    let ran = space.flow(&["export", "p.tar.zst"]).expect(1);
    assert!(ran.stderr.contains("cassette.jsonl, line "), "{}", ran.stderr);
    assert!(ran.stderr.contains("data/items.jsonl, line "), "{}", ran.stderr);
    assert!(!ran.stderr.contains(&KEY[5..]) && !space.exists("p.tar.zst"));
    let ids = ids(&ran);
    assert!(ids.len() > 3 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    space.flow(&["export", "p.tar.zst", "--allow", &ids[0]]).expect(0);
    // Neither the request nor the answer goes in, nor the tables.
    space.flow(&["export", "q.tar.zst", "--without-bodies"]).expect(0);
}

#[test]
fn without_bodies_there_is_none_and_it_is_compared() {
    let space = sample();
    let rows = space.rows("data/sample/llm_bugs.json");
    let title = rows[0]["title"].as_str().unwrap();
    export(&space, &[]).expect(0);
    let holds = |space: &TestSpace, text: &str| {
        let files = unpacked(&bytes(space, "study.tar.zst"));
        files.iter().any(|(_, bytes)| memchr::memmem::find(bytes, text.as_bytes()).is_some())
    };
    assert!(holds(&space, title));
    let ran = export(&space, &["--without-bodies"]).expect(0);
    assert!(ran.stderr.contains("249 calls in the cassette without their bodies"));
    for row in &rows {
        assert!(!holds(&space, row["title"].as_str().unwrap()), "{}", row["title"]);
    }
    let files = unpacked(&bytes(&space, "study.tar.zst"));
    // What is told for people to read holds none.
    let kept = files.iter().map(|(path, _)| path.as_str()).filter(|path| path.contains("/data/"));
    assert!(kept.eq(["study/data/sample/report.html", "study/data/sample/report.md"]));
    let (_, list) = files.iter().find(|(path, _)| path == "study/package.json").unwrap();
    let list: Value = serde_json::from_slice(list).unwrap();
    let left_out = list["files"].as_array().unwrap().iter();
    let left_out: Vec<&Value> = left_out.filter(|file| file["left_out"] == true).collect();
    assert_eq!(left_out.len(), 30);
    let issues = bytes(&space, "data/sample/llm_bugs.json");
    let listed = left_out.iter().find(|it| it["path"] == "data/sample/llm_bugs.json").unwrap();
    assert_eq!(listed["blake3"], Digest::of(&issues).hex());

    let verify = || space.flow(&["verify", "study.tar.zst"]);
    let ran = verify().expect(0);
    assert!(ran.stdout.starts_with("the package holds no bodies and was not run"));
    assert!(ran.stdout.contains("\nsame      249 calls of 249\n"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("the same is here: 67 files, 249 calls\n"), "{}", ran.stdout);
    // A study that asks by another prompt is another study.
    let prompt = space.read("prompts/classify.md");
    space.write("prompts/classify.md", format!("{prompt} Be brief."));
    let ran = verify().expect(1);
    assert!(ran.stdout.contains("differs   prompts/classify.md\n"), "{}", ran.stdout);
    space.write("prompts/classify.md", prompt);
    let run = ["--profile", "sample", "--offline", "--cassette", "study.tar.zst"];
    let ran = space.run(&run).expect(2);
    assert!(ran.stderr.contains("study.tar.zst holds no bodies of answers"), "{}", ran.stderr);

    // One answer is another, one is not there, an output was edited.
    let cassette = space.read("samples/cassette.jsonl");
    let here: Value =
        serde_json::from_slice(&files[0].1[..files[0].1.iter().position(|b| *b == b'\n').unwrap()])
            .unwrap();
    let mut lines: Vec<Value> =
        cassette.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let at = lines.iter().position(|line| line["key"] == here["key"]).unwrap();
    lines.remove(at);
    let second = String::from_utf8(files[0].1.clone()).unwrap();
    let second: Value = serde_json::from_str(second.lines().nth(1).unwrap()).unwrap();
    let other = lines.iter_mut().find(|line| line["key"] == second["key"]).unwrap();
    other["body"] = json!(format!("{} ", other["body"].as_str().unwrap()));
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    space.write("samples/cassette.jsonl", lines);
    space.write("data/sample/llm_bugs.json", "[]");
    let ran = verify().expect(1);
    let key = |line: &Value| format!("(key {})", &line["key"].as_str().unwrap()[..12]);
    let line = |state: &str, key: &str| {
        let mut lines = ran.stdout.lines();
        lines.any(|line| line.starts_with(state) && line.ends_with(key))
    };
    assert!(line("not here", &key(&here)) && line("differs ", &key(&second)), "{}", ran.stdout);
    assert!(ran.stdout.contains("differs   data/sample/llm_bugs.json\n"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("1 of 67 files and 2 of 249 calls differ or are missing\n"));

    let elsewhere = alone(TestSpace::new());
    elsewhere.write("study.tar.zst", bytes(&space, "study.tar.zst"));
    let ran = elsewhere.flow(&["verify", "study.tar.zst"]).expect(2);
    assert!(ran.stderr.contains("can only be compared with a project"), "{}", ran.stderr);
    // Taken out of the package, its cassette answers nothing either.
    elsewhere.write("cassette.jsonl", &files[0].1);
    let from = space.path().to_str().unwrap();
    let ran =
        elsewhere.run(&["-f", &format!("{from}/pipeline.toml"), "--cassette", "cassette.jsonl"]);
    assert!(ran.expect(2).stderr.contains("line 1: the bodies of its calls were left out"));
}

#[test]
fn nothing_of_a_package_gets_out_of_its_folder() {
    let space = sample();
    export(&space, &[]).expect(0);
    let good = unpacked(&bytes(&space, "study.tar.zst"));
    let run = ["--profile", "sample", "--cassette", "study.tar.zst"];
    let refused = |why: &str| {
        let ran = space.flow(&["verify", "study.tar.zst"]).expect(2);
        assert!(ran.stderr.contains(why), "{why}: {}", ran.stderr);
        assert!(!ran.stderr.contains('\u{1b}'), "{}", ran.stderr);
        assert_eq!(ran.stdout, "");
        let ran = space.run(&run).expect(2);
        assert!(ran.stderr.contains(why), "{why}: {}", ran.stderr);
        for place in ["evil", "tmp/evil", "study", "cache/tmp/evil"] {
            assert!(!space.exists(place), "{place} was written");
        }
        assert!(!Path::new("/tmp/evil-of-flow").exists());
        assert_tidy(&space);
    };
    let evil = |path: &str| {
        let mut files = good.clone();
        files.insert(0, (path.to_owned(), b"evil".to_vec()));
        space.write("study.tar.zst", packed(&files));
    };
    evil("study/../../evil");
    refused("its path holds `..`");
    evil("../evil");
    refused("its path holds `..`");
    evil("/tmp/evil-of-flow");
    refused("its path is absolute");
    evil("evil");
    refused("`evil`: its path is empty");
    evil("evil/evil");
    refused("stands beside its top folder");
    evil("study/cache/flow.db");
    refused("`cache/` belongs to the store");
    evil("study/\u{1b}[31m");
    refused("its path holds a control character");

    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Fifo] {
        let mut archive = Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        archive.append_link(&mut header, "study/data", space.path().join("tmp")).unwrap();
        let mut header = Header::new_gnu();
        header.set_size(4);
        archive.append_data(&mut header, "study/data/evil", &b"evil"[..]).unwrap();
        space.write("study.tar.zst", archive.into_inner().unwrap().finish().unwrap());
        refused("neither a file nor a folder");
    }
}

#[test]
fn tables_of_a_package_are_made_and_not_taken() {
    let space = sample();
    export(&space, &[]).expect(0);
    let good = unpacked(&bytes(&space, "study.tar.zst"));
    // A manifest further down would have another `cache/`.
    let mut files = good.clone();
    for (path, bytes) in &mut files {
        match path.as_str() {
            "study/pipeline.toml" => *path = "study/sub/pipeline.toml".into(),
            "study/package.json" => {
                let text = String::from_utf8(bytes.clone()).unwrap();
                *bytes = text.replace("\"pipeline.toml\"", "\"sub/pipeline.toml\"").into_bytes();
            }
            _ => {}
        }
    }
    space.write("study.tar.zst", packed(&files));
    let ran = space.flow(&["verify", "study.tar.zst"]).expect(2);
    assert!(ran.stderr.contains("it holds no manifest in its top folder"), "{}", ran.stderr);
    let mut files = good.clone();
    files.push(("study/prompts/more.md".into(), b"not listed".to_vec()));
    space.write("study.tar.zst", packed(&files));
    let ran = space.flow(&["verify", "study.tar.zst"]).expect(2);
    assert!(ran.stderr.contains("it holds `prompts/more.md`, which"), "{}", ran.stderr);
    let mut files = good.clone();
    files.retain(|(path, _)| path != "study/prompts/classify.md");
    space.write("study.tar.zst", packed(&files));
    let ran = space.flow(&["verify", "study.tar.zst"]).expect(2);
    assert!(ran.stderr.contains("`prompts/classify.md` is listed and not there"), "{}", ran.stderr);
    let mut files = good;
    files.push(files[0].clone());
    space.write("study.tar.zst", packed(&files));
    let ran = space.flow(&["verify", "study.tar.zst"]).expect(2);
    assert!(ran.stderr.contains("it holds `cassette.jsonl` twice"), "{}", ran.stderr);
    assert_tidy(&space);
}

#[test]
fn what_is_damaged_or_no_package_or_of_a_later_format_is_told() {
    let space = sample();
    export(&space, &[]).expect(0);
    let whole = bytes(&space, "study.tar.zst");
    let told = |package: &[u8], why: &str| {
        space.write("study.tar.zst", package);
        let run = ["--profile", "sample", "--cassette", "study.tar.zst"];
        for ran in [space.flow(&["verify", "study.tar.zst"]), space.run(&run)] {
            let ran = ran.expect(2);
            assert!(ran.stderr.contains(why), "{why}: {}", ran.stderr);
            assert!(ran.stderr.starts_with("error: study.tar.zst is "), "{}", ran.stderr);
        }
        assert_tidy(&space);
    };
    for length in [5, 100, whole.len() / 2, whole.len() - 10, whole.len() - 1] {
        told(&whole[..length], "study.tar.zst is damaged: ");
    }
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    told(&flipped, "study.tar.zst is damaged: ");
    told(b"", "no package of flow: it is no zstd archive");
    told(b"PK\x03\x04 and so on", "no package of flow: it is no zstd archive");
    let text = zstd::encode_all(&[b'x'; 2000][..], 1).unwrap();
    told(&text, "no package of flow: it holds no tar archive");
    told(&packed(&[]), "no package of flow: it holds no package.json");
    told(&packed(&[("a/b".into(), b"c".to_vec())]), "it holds no package.json");
    let list = |text: &str| packed(&[("a/package.json".into(), text.as_bytes().to_vec())]);
    told(&list("{"), "its package.json: ");
    told(&list("{\"format\": \"one\"}"), "names no format that there is");
    told(&list("{\"format\": 1}"), "its package.json: missing field");
    told(
        &list("{\"format\": 2, \"flow\": \"9.9\", \"new\": []}"),
        "of format 2, this flow reads format 1; use flow 9.9 or a newer one",
    );
}

#[test]
fn programs_of_a_package_run_only_where_they_may() {
    let space = alone(TestSpace::new());
    space.write(
        "pipeline.toml",
        r#"
[pipeline]
name = "test"
[[tables.notes]]
id = 1
[stages.measured]
kind = "command"
mode = "rows"
inputs = ["notes"]
run = ["./measure.sh"]
files = ["measure.sh", "model.bin"]
keep = ["id"]
key = ["id"]
outputs = ["data/measured.jsonl"]
"#,
    );
    space.write("measure.sh", "#!/bin/sh\nwc -c < model.bin | sed 's/.*/{\"size\": &}/'\n");
    space.write("model.bin", b"\xff\xfe\xfd");
    use std::os::unix::fs::PermissionsExt;
    let program = space.path().join("measure.sh");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    space.run(&[]).expect(0);
    assert_eq!(space.rows("data/measured.jsonl"), [json!({"id": 1, "size": 3})]);
    space.flow(&["export", "p.tar.zst"]).expect(0);
    let ran = space.flow(&["verify", "p.tar.zst"]).expect(2);
    assert!(ran.stderr.contains("in stage `measured`"), "{}", ran.stderr);
    assert!(ran.stderr.contains("`--run-commands`"), "{}", ran.stderr);
    let ran = space.flow(&["verify", "p.tar.zst", "--run-commands"]).expect(0);
    assert_eq!(
        ran.stdout,
        "same      data/measured.jsonl\nit makes the same bytes here: 1 output\n"
    );
    assert_tidy(&space);
}

#[test]
fn a_run_that_works_is_not_disturbed() {
    let space = sample();
    let lock = std::fs::File::open(space.path().join("cache/lock")).unwrap();
    lock.lock().unwrap();
    let ran = export(&space, &[]).expect(1);
    assert!(ran.stderr.contains("another run works here"), "{}", ran.stderr);
    drop(lock);
    export(&space, &[]).expect(0);
    let ran = space.flow(&["verify", "study.tar.zst", "--profile", "other"]).expect(2);
    assert!(ran.stderr.contains("exported under the profile `sample`"), "{}", ran.stderr);
}

#[test]
fn no_call_goes_to_an_address_of_a_package() {
    let simulator = study::simulator(2, 0);
    let mut space = study::study(&simulator);
    space.edit(
        "pipeline.toml",
        &format!("base_url = \"{}/v1\"", simulator.address),
        "base_url = { env = \"SERVER\" }",
    );
    let own = format!("{}/v1", simulator.address);
    space.env("SERVER", &own);
    space.run(&[]).expect(0);
    space.flow(&["export", "p.tar.zst"]).expect(0);
    let mut files = unpacked(&bytes(&space, "p.tar.zst"));
    let (_, list) = files.iter_mut().find(|(path, _)| path == "p/package.json").unwrap();
    let text = String::from_utf8(list.clone()).unwrap();
    assert!(text.contains(&own), "{text}");
    *list = text.replace(&own, "http://127.0.0.1:9/v1").into_bytes();
    space.write("p.tar.zst", packed(&files));
    // Another prompt: what is not recorded is asked, and asked where the user says.
    space.edit("classify.md", "Classify", "Judge");
    let ran = space.run(&["--cassette", "p.tar.zst"]).expect(0);
    assert_eq!(ran.stage("classify")["calls"], 2);
}

/// Exports a study of a simulator that is gone then, and holds what it makes elsewhere against it.
#[track_caller]
fn assert_replays(space: &TestSpace, simulator: Simulator) {
    drop(simulator);
    space.flow(&["export", "p.tar.zst"]).expect(0);
    let elsewhere = alone(TestSpace::new());
    elsewhere.write("p.tar.zst", bytes(space, "p.tar.zst"));
    let ran = elsewhere.flow(&["verify", "p.tar.zst"]).expect(0);
    assert!(ran.stdout.contains("it makes the same bytes here"), "{}", ran.stdout);
}

#[test]
fn odd_answers_of_github_are_packed_with_all_that_was_asked_for_them() {
    let simulator = Simulator::start(&["--repos", "2", "--items", "30", "--seed", "3"]);
    simulator.item(json!({
        "repo": "acme/engine-1", "number": 31, "kind": "pull", "title": "a fix",
        "merged_at": "2025-01-01T00:00:00Z", "diff": "diff --git a/a.c b/a.c\n--- a/a.c\n\
            +++ b/a.c\n@@ -1,1 +1,2 @@\n line\n+more\n",
    }));
    let at = |path: &str| format!("/github/repos/acme/engine-1/{path}");
    simulator.fault(json!({ "path": at("issues/2"), "status": 403,
        "body": r#"{"message": "Repository access blocked", "block": {"reason": "tos"}}"# }));
    simulator.fault(json!({ "path": at("pulls/31"), "status": 422, "times": 1,
        "body": r#"{"message": "Sorry, this diff is taking too long to generate.",
            "errors": [{"resource": "PullRequest", "field": "diff", "code": "not_available"}]}"# }));
    let place = json!({ "repo": "acme/engine-2", "number": 5 });
    simulator.item(json!({ "repo": "acme/engine-1", "number": 5, "moved_to": place }));
    let mut space = TestSpace::new();
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "test"
[github]
base_url = "{}/github"
token = {{ env = "TEST_TOKEN" }}
attempts = 2
concurrency = 1
[[tables.repos]]
repo = "acme/engine-1"
[stages.items]
kind = "github"
inputs = ["repos"]
list = "/repos/{{{{ repo }}}}/issues?state=all&sort=created&direction=asc&per_page=20"
pick = "{{number, title}}"
key = ["number"]
outputs = ["data/items.jsonl"]
[stages.found]
kind = "github"
inputs = ["numbers.jsonl"]
key = ["number"]
get = "/repos/acme/engine-1/issues/{{{{ number }}}}"
pick = "{{title, url}}"
outputs = ["data/found.jsonl"]
[stages.diffs]
kind = "github"
inputs = ["pulls.jsonl"]
key = ["number"]
diff = "/repos/acme/engine-1/pulls/{{{{ number }}}}"
outputs = ["data/diffs.jsonl"]
"#,
            simulator.address
        ),
    );
    // The second issue is blocked, the fifth has moved, the last there is not.
    let numbers = [1, 2, 5, 999].map(|number| format!("{{\"number\": {number}}}\n"));
    space.write("numbers.jsonl", numbers.concat());
    space.write("pulls.jsonl", "{\"number\": 31}\n");
    space.env("NO_COLOR", "1").env("TEST_TOKEN", "a token of the test");
    space.run(&[]).expect(0);
    let outcomes: Vec<Value> = space.rows("data/found.jsonl");
    let outcomes: Vec<&Value> = outcomes.iter().map(|row| &row["_outcome"]["status"]).collect();
    assert_eq!(outcomes, [&Value::Null, &json!(403), &json!(301), &json!(404)]);
    assert_eq!(space.rows("data/diffs.jsonl")[0]["from"], "files");

    // What has changed since takes the place of what there was.
    simulator.item(json!({ "repo": "acme/engine-1", "number": 1, "title": "Another title" }));
    space.run(&["--refresh", "found,items"]).expect(0);
    assert!(space.read("data/found.jsonl").contains("Another title"));
    // The stages that were not asked again look whether they stand on it.
    space.run(&[]).expect(0);
    assert_replays(&space, simulator);
}

#[test]
fn repairs_samples_and_batches_of_models_are_packed() {
    let simulator = Simulator::start(&["--vary"]);
    // Without it a batch is looked at every few seconds.
    simulator.fault(json!({"path": "/v1/batches", "headers": {"retry-after": "0.05"}}));
    simulator.fault(
        json!({"path": "/v1/chat/completions", "match": "row 2.", "says": "wrong_json", "times": 1}),
    );
    let mut space = TestSpace::new();
    space.write(
        "pipeline.toml",
        format!(
            r#"
[pipeline]
name = "test"
[models.small]
base_url = "{}/v1"
api_key = {{ env = "MODEL_KEY" }}
model = "tiny"
[stages.sampled]
kind = "llm"
inputs = ["rows.jsonl"]
key = ["id"]
model = "small"
samples = 3
prompt = "p.md"
schema = "s.json"
outputs = ["data/sampled.jsonl"]
[stages.batched]
kind = "llm"
inputs = ["rows.jsonl"]
key = ["id"]
model = "small"
batch = true
prompt = "q.md"
schema = "s.json"
outputs = ["data/batched.jsonl"]
"#,
            simulator.address
        ),
    );
    space.write("rows.jsonl", (1..=4).map(|id| format!("{{\"id\": {id}}}\n")).collect::<String>());
    space.write("p.md", "Label row {{ id }}.");
    space.write("q.md", "Label once more row {{ id }}.");
    space.write(
        "s.json",
        r#"{"type": "object", "properties": {"label": {"type": "string", "enum": ["bug", "other"]}},
            "required": ["label"], "additionalProperties": false}"#,
    );
    space.env("NO_COLOR", "1").env("MODEL_KEY", "the key of the test");
    space.run(&[]).expect(0);
    let rows = space.rows("data/sampled.jsonl");
    assert_eq!(rows.len(), 12);
    let repairs = rows.iter().filter(|row| row["_call"]["repairs"] == 1).count();
    assert_eq!(repairs, 1, "an answer was asked again");
    assert_replays(&space, simulator);
}

#[test]
fn an_answer_that_is_gone_is_told_with_what_to_do() {
    let simulator = study::simulator(3, 0);
    let space = study::study(&simulator);
    space.run(&[]).expect(0);
    let change = |sql: &str| {
        let database = rusqlite::Connection::open(space.path().join("cache/flow.db")).unwrap();
        assert_eq!(database.execute(sql, []).unwrap(), 1);
    };
    let one = "key = (SELECT key FROM calls WHERE method = 'POST' LIMIT 1)";
    change(&format!("DELETE FROM calls WHERE {one}"));
    let ran = space.flow(&["export", "p.tar.zst"]).expect(1);
    let help =
        "an answer that `classify` stands on is not stored; `flow run classify --only --force`";
    assert!(ran.stderr.contains(help), "{}", ran.stderr);
    space.run(&["classify", "--only", "--force"]).expect(0);
    space.run(&[]).expect(0);
    space.flow(&["export", "p.tar.zst"]).expect(0);

    change(&format!("UPDATE calls SET body = x'00' WHERE {one}"));
    let ran = space.flow(&["export", "q.tar.zst"]).expect(1);
    assert!(ran.stderr.contains(" is damaged: `flow cache verify` drops it"), "{}", ran.stderr);
    space.flow(&["cache", "verify"]).expect(1);
    space.run(&["classify", "--only", "--force"]).expect(0);
    space.run(&[]).expect(0);
    space.flow(&["export", "q.tar.zst"]).expect(0);
    space.flow(&["verify", "q.tar.zst"]).expect(0);
}
