//! Charts as a real browser shows them: no text leaves its chart or covers another, and nothing in
//! them needs more than a strict policy allows. Where there is no Chromium these tests say so; in CI
//! they fail.

mod support;

use std::path::{Path, PathBuf};

use flow::charts::{Axis, Chart, Number, STYLE, Series, bars, heat, lines};
use serde_json::{Value, json};
use support::chromium::{Chromium, Page};
use support::missing;
use tempfile::TempDir;

/// The texts that reach out of their chart, and those that cover each other. A slanted text is
/// larger than it looks to the browser, so those are not held against others.
const MISPLACED: &str = r#"
[...document.querySelectorAll('svg.chart')].flatMap((svg) => {
    const chart = svg.getBoundingClientRect();
    const own = (text) => [...text.childNodes].at(-1).data;
    const place = (text) => ({ text: own(text), box: text.getBoundingClientRect() });
    const all = [...svg.querySelectorAll('text')];
    const inside = ({ box }) => box.left >= chart.left - 1 && box.right <= chart.right + 1
        && box.top >= chart.top - 1 && box.bottom <= chart.bottom + 1;
    const outside = all.map(place).filter((text) => !inside(text))
        .map(({ text }) => `${svg.id}: ${text} reaches out`);
    const level = all.filter((text) => !text.hasAttribute('transform')).map(place);
    const covered = level.flatMap((one, nth) => level.slice(nth + 1).filter((other) =>
        Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left) > 1
        && Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top) > 3)
        .map((other) => `${svg.id}: ${one.text} covers ${other.text}`));
    return [...outside, ...covered];
})
"#;

fn browser() -> Option<Chromium> {
    let found = Chromium::find();
    if found.is_none() {
        missing("Chromium; tests/real/install-chromium.sh installs it");
    }
    found
}

fn page(folder: &Path, body: &str) -> PathBuf {
    let page = folder.join("page.html");
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <title>Charts</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    );
    std::fs::write(&page, html).expect("a page");
    page
}

fn chart(title: &str, number: Number, labels: &[&str], names: &[&str]) -> Chart {
    let label = |label: &&str| label.to_string();
    let value = |nth: usize, at: usize| match number {
        _ if nth == 2 && at == 1 => None,
        Number::Count => Some(((nth * 317 + at * 91) % 1500) as f64),
        Number::Share => Some(((nth * 7 + at * 3) % 11) as f64 / 11.0),
        Number::Plain => Some(((nth * 5 + at * 13) % 17) as f64 / 8.0 - 0.7),
    };
    let series = |(nth, name): (usize, &&str)| Series {
        name: name.to_string(),
        values: (0..labels.len()).map(|at| value(nth, at)).collect(),
    };
    Chart {
        title: title.to_owned(),
        x: Axis { title: "engine".to_owned(), labels: labels.iter().map(label).collect() },
        y: Axis { title: "share of the engine's issues".to_owned(), labels: Vec::new() },
        series: names.iter().enumerate().map(series).collect(),
        number,
    }
}

#[test]
fn no_text_is_misplaced() {
    let Some(browser) = browser() else { return };
    let engines = ["vLLM", "SGLang", "TensorRT-LLM", "llama.cpp", "Text Generation Inference"];
    let symptoms = [
        "Crash",
        "Wrong output",
        "Slow inference",
        "Out of memory while the weights of the model are loaded",
        "Build failure",
        "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW",
        "Unsupported model",
        "<script>document.title = 'hostile'</script>",
    ];
    let months: Vec<String> =
        (0..39).map(|nth| format!("{}-{:02}", 2022 + nth / 12, nth % 12 + 1)).collect();
    let months: Vec<&str> = months.iter().map(String::as_str).collect();
    let many: Vec<String> = (0..500).map(|nth| format!("label {nth}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "A title so long that it does not fit into its line ".repeat(9);

    let mut body = String::new();
    let mut count = 0;
    for number in [Number::Count, Number::Share, Number::Plain] {
        for (labels, names) in [
            (&engines[..], &symptoms[..]),
            (&symptoms, &engines),
            (&months, &engines[..4]),
            (&engines[..2], &symptoms[..2]),
            (&engines[..1], &symptoms[..1]),
            (&many, &symptoms[..1]),
            (&engines[..2], &many[..30]),
            (&[], &[]),
        ] {
            let title = if labels.len() == 1 { long.as_str() } else { "Issues" };
            let chart = chart(title, number, labels, names);
            for draw in [bars, lines, heat] {
                count += 1;
                body.push_str(&draw(&chart, &format!("chart-{count}")));
            }
        }
    }
    let folder = TempDir::new().unwrap();
    let script = format!(
        "({{ misplaced: {MISPLACED}, title: document.title, \
         charts: document.querySelectorAll('svg.chart').length }})"
    );
    let Page { value, console } = browser.open(&page(folder.path(), &body), &script);
    let value: Value = serde_json::from_str(&value).expect("JSON");
    assert_eq!(value, json!({ "misplaced": [], "title": "Charts", "charts": count }));
    assert!(console.is_empty(), "{console:?}");
}

#[test]
fn what_a_page_forbids_stays_forbidden() {
    let Some(browser) = browser() else { return };
    let folder = TempDir::new().unwrap();
    let body = "<p>a &amp; b</p><script>document.title = 'hostile'</script>";
    let page = page(folder.path(), body);
    let script = "[document.title, document.querySelector('p').textContent, '</script> \u{a0}é']";
    let Page { value, console } = browser.open(&page, script);
    assert_eq!(value, "[\"Charts\",\"a & b\",\"</script> \u{a0}é\"]");
    assert!(console.len() == 1 && console[0].contains("Content Security Policy"), "{console:?}");
}

#[test]
fn the_console_is_told() {
    let Some(browser) = browser() else { return };
    let folder = TempDir::new().unwrap();
    let page = folder.path().join("a page.html");
    let html = "<p>no head</p><script>console.log('fine'); console.info('fine\\nError');\n\
                console.warn('careful\\n[second] line'); console.error({ a: 1 });\n\
                nothing.here();</script><img src='none.png'>";
    std::fs::write(&page, html).unwrap();
    let Page { value, console } =
        browser.open(&page, "new Promise((done) => setTimeout(() => done({ a: [1] }), 300))");
    assert_eq!(value, "{\"a\":[1]}");
    assert_eq!(
        console,
        [
            "warning: careful\n[second] line",
            "error:  [object Object]",
            "Uncaught ReferenceError: nothing is not defined",
            "error: did not load: <img src=\"none.png\">",
        ]
    );
}

#[test]
fn a_page_is_light_or_dark() {
    let Some(browser) = browser() else { return };
    let folder = TempDir::new().unwrap();
    let chart = chart("Issues", Number::Count, &["a", "b"], &["c", "d"]);
    let page = page(folder.path(), &bars(&chart, "c"));
    let shot = |dark: bool| {
        let to = folder.path().join(format!("{dark}.png"));
        browser.screenshot(&page, 500, 300, dark, &to);
        std::fs::read(to).expect("a picture")
    };
    let (light, dark) = (shot(false), shot(true));
    for picture in [&light, &dark] {
        assert_eq!(picture[..8], *b"\x89PNG\r\n\x1a\n");
        let size = |at: usize| u32::from_be_bytes(picture[at..at + 4].try_into().unwrap());
        assert_eq!((size(16), size(20)), (500, 300));
    }
    assert_ne!(light, dark);
}
