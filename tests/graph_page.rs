//! The page of `flow graph --format html`, as a real browser shows it: everything is there, mouse and
//! keyboard lead through it, and what strangers wrote stays text.

mod support;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use flow::graph::{Graph, Node, NodeKind, PageFacts, draw_page};
use serde_json::{Value, json};
use support::chromium::Chromium;
use support::{TestSpace, missing};

fn chromium() -> Option<Chromium> {
    let found = Chromium::find();
    if found.is_none() {
        missing("Chromium; tests/real/install-chromium.sh installs it");
    }
    found
}

/// A table, and two stages after each other.
fn small() -> TestSpace {
    let mut space = TestSpace::new();
    space.env("NO_COLOR", "1");
    space.write(
        "pipeline.toml",
        r#"
[pipeline]
name = "small & simple"

[[tables.words]]
word = "one"
more = { list = [1, 2] }

[[tables.words]]
word = "two"

[stages.counted]
description = "How long each word is"
kind = "sql"
inputs = ["words"]
query = "queries/counted.sql"
key = ["word"]
outputs = ["data/counted.json"]

[stages.long]
kind = "sql"
inputs = ["counted"]
query = "SELECT word FROM counted WHERE size > 2"
key = ["word"]
"#,
    );
    space.write("queries/counted.sql", "SELECT word, length(word) AS size FROM words");
    space
}

/// Makes the page; where it is.
#[track_caller]
fn page(space: &TestSpace, more: &[&str]) -> PathBuf {
    let mut arguments = vec!["graph", "--format", "html", "-o", "graph.html"];
    arguments.extend(more);
    let ran = space.flow(&arguments).expect(0);
    assert_eq!(ran.stdout, "");
    space.path().join("graph.html")
}

/// The value of a script in the page, which writes nothing to the console.
#[track_caller]
fn tell(chromium: &Chromium, page: &std::path::Path, script: &str) -> Value {
    let script = format!("(async () => {{ {HELP} {script} }})()");
    let shown = chromium.open(page, &script);
    assert_eq!(shown.console, Vec::<String>::new());
    serde_json::from_str(&shown.value).expect("JSON")
}

const HELP: &str = "
const panel = document.getElementById('panel');
const card = (name) => document.querySelector(`.node[data-name=\"${name}\"]`);
const click = (at) => at.dispatchEvent(new MouseEvent('click', { bubbles: true }));
const press = (key) => document.activeElement.dispatchEvent(
  new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
const text = (found) => [...panel.querySelectorAll(found)].map((one) => one.textContent);
const place = () => document.querySelector('#view > svg').style.transform;
";

#[test]
fn a_stage_tells_what_is_known_of_it() {
    let Some(chromium) = chromium() else { return };
    let space = small();
    let page_of = |space: &TestSpace| page(space, &[]);
    let told = tell(
        &chromium,
        &page_of(&space),
        "const hidden = panel.hidden; click(card('counted'));
         return { hidden, state: text('#state'), rows: text('td'),
                  words: card('counted').getAttribute('aria-label'),
                  legend: document.getElementById('legend').textContent.trim() };",
    );
    assert_eq!(
        told,
        json!({ "hidden": true, "state": [" never ran"], "rows": [],
                "words": "counted, sql, never ran", "legend": "2 never ran" })
    );

    space.run(&[]).expect(0);
    let told = tell(
        &chromium,
        &page_of(&space),
        "click(card('counted'));
         return { title: document.title, state: text('#state'), rows: text('td'), heads: text('th'),
                  description: text('p')[0], files: text('code'), lists: text('.ways button'),
                  texts: text('details'), shown: document.querySelectorAll('.node').length,
                  run: text('dd').some((one) => one.startsWith('1, 20')),
                  on: document.querySelectorAll('.line.on').length,
                  words: card('counted').getAttribute('aria-label'),
                  hash: location.hash };",
    );
    assert_eq!(
        told,
        json!({
            "title": "small & simple", "state": [" up to date"], "heads": ["word", "size"],
            "rows": ["one", "3", "two", "3"], "description": "How long each word is",
            "files": ["data/counted.json"], "lists": ["words", "long"],
            "texts": ["query: queries/counted.sqlSELECT word, length(word) AS size FROM words"],
            "shown": 3, "run": true, "on": 2, "words": "counted, sql, up to date, 2 rows",
            "hash": "#counted",
        })
    );
    // An inline table has rows, too; what is nested is JSON, what is not there is `null`.
    let told = tell(&chromium, &page_of(&space), "click(card('words')); return text('td');");
    assert_eq!(told, json!(["one", "{\"list\":[1,2]}", "two", "null"]));

    space.edit("queries/counted.sql", "AS size", "+ 0 AS size");
    let told = tell(
        &chromium,
        &page_of(&space),
        "click(card('counted')); const first = text('#state').concat(text('.why'));
         click(card('long')); return first.concat(text('#state'), text('.why'), text('summary'));",
    );
    assert_eq!(
        told,
        json!([
            " stale",
            " \u{2013} changed",
            " stale",
            " \u{2013} `counted`, which it reads, would run",
            "query"
        ])
    );
}

#[test]
fn a_stage_that_failed_says_why() {
    let Some(chromium) = chromium() else { return };
    let space = small();
    let command = "\n[stages.bad]\nkind = \"command\"\ninputs = [\"long\"]\nkey = [\"word\"]\n\
                   run = [\"sh\", \"-c\", \"exit 3\"]\nenv = [\"PASSWORD_OF_MINE\"]\n";
    space.write("pipeline.toml", format!("{}{command}", space.read("pipeline.toml")));
    let mut space = space;
    space.env("PASSWORD_OF_MINE", "not-to-be-told-4711");
    space.run(&[]).expect(1);
    let page = page(&space, &[]);
    let told =
        tell(&chromium, &page, "click(card('bad')); return text('#state').concat(text('.why'));");
    assert_eq!(told[0], " failed");
    assert!(told[1].as_str().expect("text").contains("exit status: 3"), "{told}");
    let page = space.read("graph.html");
    assert!(!page.contains("4711") && !page.contains("env PASSWORD"), "a secret is told");
}

#[test]
fn the_keyboard_leads_through_it() {
    let Some(chromium) = chromium() else { return };
    let space = small();
    space.run(&[]).expect(0);
    let told = tell(
        &chromium,
        &page(&space, &[]),
        "const at = () => document.activeElement.dataset?.name ?? document.activeElement.textContent;
         const steps = [];
         card('words').focus(); press('ArrowDown'); steps.push(at());
         press('Enter'); steps.push(at(), panel.hidden, panel.contains(document.activeElement));
         panel.querySelector('.ways button[data-to=\"2\"]').click(); steps.push(at());
         press('Escape'); steps.push(at(), panel.hidden);
         press('ArrowUp'); press(' '); steps.push(at(), panel.hidden);
         press('/'); steps.push(document.activeElement.id);
         const all = [...document.querySelectorAll('.node')];
         steps.push(all.every((one) => one.tabIndex === 0 && one.getAttribute('role') === 'button'));
         return steps;",
    );
    assert_eq!(
        told,
        json!([
            "counted", "counted", false, true, "long", "long", true, "counted", false, "search",
            true
        ])
    );
}

#[test]
fn it_is_moved_zoomed_and_searched() {
    let Some(chromium) = chromium() else { return };
    let space = small();
    let told = tell(
        &chromium,
        &page(&space, &[]),
        "const view = document.getElementById('view');
         const scale = () => Number(place().match(/scale\\((.*)\\)/)[1]);
         const [first, start] = [scale(), place()];
         view.dispatchEvent(new WheelEvent('wheel', { deltaY: -200, clientX: 200, clientY: 200, cancelable: true }));
         const wheel = scale();
         document.getElementById('out').click();
         const out = scale();
         const point = (name, clientX, clientY) => view.dispatchEvent(
           new PointerEvent(name, { pointerId: 1, clientX, clientY, button: 0, bubbles: true }));
         view.setPointerCapture = undefined;
         const before = place();
         point('pointerdown', 300, 300); point('pointermove', 340, 320); point('pointerup', 340, 320);
         const dragged = place() !== before;
         click(card('long'));
         const no_click = panel.hidden;
         document.getElementById('fit').click();
         const fit = place() === start;
         const search = document.getElementById('search');
         search.value = 'LO'; search.dispatchEvent(new Event('input')); search.focus();
         const found = document.getElementById('found').textContent;
         const aside = document.querySelectorAll('.node.aside').length;
         press('Enter');
         return [wheel > first, out < wheel, dragged, no_click, fit, found, aside, text('h2')[0]];",
    );
    assert_eq!(told, json!([true, true, true, true, true, "1 of 3", 2, "long"]));
}

/// The study as it is delivered, on its recorded answers.
#[test]
fn the_study_is_all_there() {
    let Some(chromium) = chromium() else { return };
    let space = TestSpace::study();
    space.run(&["--profile", "sample"]).expect(0);
    let told = tell(
        &chromium,
        &page(&space, &["--profile", "sample"]),
        "const all = [...document.querySelectorAll('.node')];
         const bare = [];
         for (const one of all) {
           click(one);
           if (text('h2')[0] !== one.dataset.name || text('td').length === 0) bare.push(one.dataset.name);
         }
         click(card('classify'));
         return { names: all.map((one) => one.dataset.name), bare, texts: text('summary') };",
    );
    let status = space.flow(&["status", "--json", "--profile", "sample"]).expect(0).json();
    for stage in status["stages"].as_array().expect("stages") {
        let names = told["names"].as_array().expect("names");
        assert!(names.contains(&stage["name"]), "{stage}");
    }
    assert_eq!(told["bare"], json!([]), "each has its panel with rows");
    let texts = told["texts"].to_string();
    for text in [
        "system: prompts/classify.system.md",
        "prompt: prompts/classify.md",
        "classify.schema.json",
    ] {
        assert!(texts.contains(text), "{texts}");
    }
}

#[test]
fn what_strangers_wrote_stays_text() {
    let Some(chromium) = chromium() else { return };
    let hostile = [
        "</script><script>window.owned = 1</script>",
        "<img src=x onerror=\"window.owned = 1\">",
        "<!-- <script> ' \" ` ${window.owned = 1} &lt;b&gt; &amp;",
        "]]>\u{2028}\u{2029}\\u003cscript\\u003e",
    ];
    let space = small();
    let rows: Vec<Value> = hostile
        .iter()
        .map(|text| json!({ "id": text, text.to_string(): { "in": text } }))
        .chain([json!({ "id": "a\u{202e}b\u{0}c\u{1b}[31md\u{200f}e\u{9b}f" })])
        .collect();
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    space.write("rows.jsonl", lines);
    let query = format!("-- {}\nSELECT id FROM t", hostile[..3].join(" "));
    space.write("queries/t.sql", query);
    space.write(
        "pipeline.toml",
        format!(
            "[pipeline]\nname = {name}\n[tables.t]\nfile = \"rows.jsonl\"\n[stages.s]\nkind = \"sql\"\n\
             description = {name}\ninputs = [\"t\"]\nquery = \"queries/t.sql\"\nkey = [\"id\"]\n",
            name = json!(hostile[0]),
        ),
    );
    space.run(&[]).expect(0);
    let page = page(&space, &[]);
    let html = space.read("graph.html");
    assert_eq!(html.matches("<script").count(), 2, "the data and the page's own script");
    assert_eq!(html.matches("</script").count(), 2);
    assert!(!html.contains("<img") && !html.contains(['\u{2028}', '\u{202e}', '\u{1b}', '\u{9b}']));
    let told = tell(
        &chromium,
        &page,
        "click(card('rows.jsonl')); const heads = text('th'); const first = text('td:first-child');
         const nested = text('td').filter((one) => one.startsWith('{'));
         click(card('s'));
         await new Promise((done) => setTimeout(done, 200));
         return { owned: typeof window.owned, title: document.title, heads, first, nested,
                  rows: text('td'), scripts: document.querySelectorAll('img, iframe').length,
                  description: text('p')[0], query: text('pre')[0] };",
    );
    assert_eq!(told["owned"], "undefined");
    assert_eq!(told["title"], hostile[0]);
    assert_eq!(told["description"], hostile[0]);
    assert_eq!(told["scripts"], 0);
    let mut plain: Vec<String> = hostile.iter().map(|text| (*text).to_owned()).collect();
    plain.push("abc[31mdef".to_owned());
    assert_eq!(told["first"], json!(plain));
    assert_eq!(told["heads"].as_array().expect("heads").len(), 1 + hostile.len());
    assert_eq!(told["nested"][0], json!({ "in": hostile[0] }).to_string());
    assert_eq!(told["rows"], json!(plain));
    assert!(told["query"].as_str().expect("text").contains(hostile[1]));
}

#[test]
fn three_hundred_stages_are_no_burden() {
    let Some(chromium) = chromium() else { return };
    let space = small();
    let mut manifest = "[pipeline]\nname = \"large\"\n[[tables.t]]\nid = 1\n".to_owned();
    for at in 0..300_usize {
        let mut inputs = vec![match at {
            0 => "t".to_owned(),
            _ => format!("s{}", at - 1 - (at * 7 % at.min(23))),
        }];
        if at % 3 == 2 {
            inputs.push(format!("s{}", at / 2));
        }
        inputs.dedup();
        let from = &inputs[0];
        manifest.push_str(&format!(
            "[stages.s{at}]\nkind = \"sql\"\ninputs = {}\nquery = \"SELECT id FROM {from}\"\n\
             key = [\"id\"]\noutputs = [\"data/s{at}.json\"]\n",
            json!(inputs)
        ));
    }
    space.write("pipeline.toml", manifest);
    let start = Instant::now();
    let page = page(&space, &[]);
    assert!(start.elapsed() < Duration::from_secs(20), "made in {:?}", start.elapsed());
    let start = Instant::now();
    let told = tell(
        &chromium,
        &page,
        "document.getElementById('fit').click();
         const boxes = [...document.querySelectorAll('.node .box')].map((one) => one.getBoundingClientRect());
         let overlaps = 0;
         boxes.forEach((a, nth) => boxes.slice(0, nth).forEach((b) => {
           if (a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom) overlaps += 1;
         }));
         const view = document.getElementById('view').getBoundingClientRect();
         const inside = boxes.every((one) => one.left >= view.left && one.right <= view.right
           && one.top >= view.top && one.bottom <= view.bottom);
         const shown = [];
         for (let at = 0; at < 300; at += 3) {
           click(card(`s${at}`));
           const box = card(`s${at}`).getBoundingClientRect();
           const now = document.getElementById('view').getBoundingClientRect();
           shown.push(text('h2')[0] === `s${at}` && box.left >= now.left && box.right <= now.right
             && box.top >= now.top && box.bottom <= now.bottom);
         }
         return { cards: boxes.length, overlaps, inside, shown: shown.every((one) => one) };",
    );
    assert_eq!(told, json!({ "cards": 301, "overlaps": 0, "inside": true, "shown": true }));
    // A hundred panels are opened within it; a start of the browser is most of it.
    assert!(start.elapsed() < Duration::from_secs(30), "shown in {:?}", start.elapsed());
}

#[test]
fn the_same_is_told_twice_also_to_a_file() {
    let space = small();
    let bare = space.flow(&["graph", "--format", "html"]).expect(0).stdout;
    assert!(!space.exists("cache"), "looking makes nothing");
    assert_eq!(space.flow(&["graph", "--format", "html"]).expect(0).stdout, bare);
    space.run(&[]).expect(0);
    let page = space.flow(&["graph", "--format", "html"]).expect(0).stdout;
    assert_ne!(page, bare);
    std::thread::sleep(Duration::from_millis(1100));
    space.flow(&["graph", "--format", "html", "--output", "graph.html"]).expect(0);
    assert_eq!(space.read("graph.html"), page);
    let nonce = |page: &str| page.split("nonce=\"").nth(1).map(|rest| rest[..32].to_owned());
    assert_ne!(nonce(&page), nonce(&bare));
    assert!(page.contains(&format!("script-src 'nonce-{}'", nonce(&page).expect("one"))));
    assert!(page.contains("default-src 'none'") && !page.contains("http://www.w3.org/1999/xlink"));

    // A part of it, other formats, and a place that is not there.
    let part = space.flow(&["graph", "long", "--format", "html"]).expect(0).stdout;
    assert!(part.contains("data-name=\"long\""));
    space.flow(&["graph", "--format", "svg", "-o", "graph.svg"]).expect(0);
    assert_eq!(space.read("graph.svg"), space.flow(&["graph", "--format", "svg"]).expect(0).stdout);
    let told = space.flow(&["graph", "-o", "nowhere/graph.txt"]).expect(1).stderr;
    assert!(told.contains("nowhere/graph.txt cannot be written"), "{told}");
}

#[test]
fn it_is_told_while_a_run_works() {
    let space = small();
    let command = "\n[stages.slow]\nkind = \"command\"\ninputs = [\"long\"]\nkey = [\"id\"]\n\
                   run = [\"sh\", \"-c\", \"touch begun; sleep 3; echo '{\\\"id\\\": 1}'\"]\n";
    space.write("pipeline.toml", format!("{}{command}", space.read("pipeline.toml")));
    let mut run = space.command(&["run", "-q"]).stdin(Stdio::null()).spawn().expect("flow starts");
    let start = Instant::now();
    while !space.exists("begun") && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let page = space.flow(&["graph", "--format", "html"]).expect(0).stdout;
    assert!(run.wait().expect("it ends").success());
    assert!(page.contains("a run works now (process "), "it does not say so");
    let after = space.flow(&["graph", "--format", "html"]).expect(0).stdout;
    assert!(!after.contains("a run works now") && after.contains("3 up to date"));
}

#[test]
fn a_graph_of_which_nothing_is_known_is_drawn() {
    let mut graph = Graph::default();
    let node = |name: &str, kind| Node {
        name: name.to_owned(),
        kind,
        detail: "sql".to_owned(),
        outputs: Vec::new(),
    };
    let source = graph.add(node("a.sql", NodeKind::Source));
    let (from, to) =
        (graph.add(node("from", NodeKind::File)), graph.add(node("\"><b>", NodeKind::Stage)));
    graph.connect(source, to);
    graph.connect(from, to);
    let page = draw_page(&graph, &PageFacts::default());
    assert!(page.contains("data-name=\"from\"") && !page.contains("<b>"));
    assert!(draw_page(&Graph::default(), &PageFacts::default()).ends_with("</html>\n"));
}

#[test]
fn of_a_long_table_the_last_rows_are_shown() {
    let Some(chromium) = chromium() else { return };
    let space = TestSpace::new();
    space.write(
        "pipeline.toml",
        "[pipeline]\nname = \"long\"\n[stages.long]\nkind = \"sql\"\ninputs = [\"rows.jsonl\"]\n\
         query = \"SELECT * FROM rows\"\nkey = [\"id\"]\n",
    );
    let rows: String = (0..3000).map(|id| format!("{{\"id\": {id}}}\n")).collect();
    space.write("rows.jsonl", rows);
    space.run(&[]).expect(0);
    let page = space.path().join("graph.html");
    space.flow(&["graph", "--format", "html", "-o", "graph.html"]).expect(0);
    let script = "[...(document.querySelector('[data-name=\"long\"]').dispatchEvent(new MouseEvent('click', \
                  {bubbles: true})), document.querySelectorAll('td'))].map(cell => cell.textContent)";
    let told = chromium.open(&page, script);
    let cells: Vec<String> = serde_json::from_str(&told.value).expect(&told.value);
    let last: Vec<String> = (2990..3000).map(|id| id.to_string()).collect();
    assert_eq!(cells, last);
}
