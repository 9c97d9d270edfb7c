use std::collections::BTreeSet;

use super::numbers::{Format, Scale, exact};
use super::text::{as_id, clean, cut, escape, width, wrap};
use super::{Axis, Chart, Number, STYLE, Series, bars, heat, lines};

type Draw = fn(&Chart, &str) -> String;
const KINDS: [(&str, Draw); 3] = [("bars", bars), ("lines", lines), ("heat", heat)];

fn axis(title: &str, labels: &[&str]) -> Axis {
    Axis { title: title.to_owned(), labels: labels.iter().map(|label| label.to_string()).collect() }
}

fn series(name: &str, values: &[f64]) -> Series {
    Series { name: name.to_owned(), values: values.iter().copied().map(Some).collect() }
}

fn chart(number: Number, labels: &[&str], all: Vec<Series>) -> Chart {
    let (x, y) = (axis("engine", labels), axis("issues", &[]));
    Chart { title: "Issues".to_owned(), x, y, series: all, number }
}

/// So many series with a value for each of so many labels.
fn large(all: usize, places: usize) -> Chart {
    let labels: Vec<String> = (0..places).map(|at| format!("label {at}")).collect();
    let values = |nth: usize| (0..places).map(|at| ((nth * 7 + at * 3) % 11) as f64).collect();
    let one = |nth: usize| {
        let values: Vec<f64> = values(nth);
        series(&format!("series {nth}"), &values)
    };
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    chart(Number::Count, &labels, (0..all).map(one).collect())
}

/// A tag: its name and its attributes as they are written.
struct Tag<'a> {
    name: &'a str,
    attributes: Vec<(&'a str, &'a str)>,
}

impl<'a> Tag<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.attributes.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// The class that gives the colour: `s0`.
    fn colour(&self) -> &'a str {
        let classes = self.get("class").unwrap_or_default().split(' ');
        let is_colour = |class: &&str| {
            class.strip_prefix('s').is_some_and(|place| place.parse::<usize>().is_ok())
        };
        classes.into_iter().find(is_colour).expect("a class for the colour")
    }
}

/// The tags, of a drawing that is well-formed XML with every tag closed and every id its own.
#[track_caller]
fn tags(svg: &str) -> Vec<Tag<'_>> {
    let (mut tags, mut open, mut rest) = (Vec::new(), Vec::new(), svg);
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "a stray > in {}", &rest[..start]);
        let end = start + rest[start..].find('>').expect("a tag's end");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "what is closed");
            continue;
        }
        let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, mut left) = tag.split_once(' ').unwrap_or((tag, ""));
        let mut attributes = Vec::new();
        while let Some((key, after)) = left.trim_start().split_once("=\"") {
            let (value, after) = after.split_once('"').expect("an attribute's end");
            attributes.push((key, value));
            left = after;
        }
        assert_eq!(left.trim(), "", "what is no attribute in <{tag}>");
        if !closed {
            open.push(name);
        }
        tags.push(Tag { name, attributes });
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    let ids: Vec<&str> = tags.iter().filter_map(|tag| tag.get("id")).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "ids: {ids:?}");
    tags
}

fn marks<'a, 'b>(tags: &'a [Tag<'b>]) -> Vec<&'a Tag<'b>> {
    tags.iter().filter(|tag| tag.get("data-value").is_some()).collect()
}

/// Holds what all drawings have in common.
#[track_caller]
fn check(svg: &str) {
    let tags = tags(svg);
    let top = &tags[0];
    assert_eq!((top.name, top.get("role")), ("svg", Some("img")));
    let [title, desc] = [&tags[1], &tags[2]];
    assert_eq!((title.name, desc.name), ("title", "desc"));
    let named = format!("{} {}", title.get("id").unwrap(), desc.get("id").unwrap());
    assert_eq!(top.get("aria-labelledby"), Some(named.as_str()));
    let view = top.get("viewBox").unwrap();
    let sides = format!("-2 0 {} {}", top.get("width").unwrap(), top.get("height").unwrap());
    assert_eq!(view, sides);
    assert!(!svg.contains("NaN") && !svg.contains("inf\""), "a number that is none");
    for tag in &tags {
        assert!(tag.name != "script" && tag.name != "style");
        for (key, value) in &tag.attributes {
            assert!(!key.starts_with("on") && *key != "href" && *key != "style", "{key}");
            let place =
                ["x", "y", "width", "height", "d", "cx", "cy", "r", "transform"].contains(key);
            let decimals = value.split([' ', 'M', 'L', 'H', 'V', 'h', 'v']).filter_map(|number| {
                number.split_once('.').map(|(_, decimals)| decimals.trim_end_matches(')'))
            });
            for decimals in decimals {
                assert!(!place || decimals.len() <= 2, "{key} has {value}");
            }
        }
    }
}

#[test]
fn hostile_text_stays_text() {
    let hostile =
        "<script>alert(1)</script> \"q\" 'a' & \u{0}\u{1b}[31m \u{202e}rtl\u{2066} \u{ffff}";
    let mut chart = chart(Number::Count, &[hostile, "b"], vec![series(hostile, &[1.0, 2.0])]);
    chart.series.push(series(hostile, &[3.0, 4.0]));
    chart.title = hostile.to_owned();
    chart.x.title = hostile.to_owned();
    chart.y.title = hostile.to_owned();
    chart.y.labels = vec![hostile.to_owned()];
    for (_, draw) in KINDS {
        let svg = draw(&chart, "\"><script>");
        check(&svg);
        assert!(!svg.contains("<script"));
        let forbidden =
            |c: char| (c.is_control() && c != '\n') || c == '\u{202e}' || c == '\u{2066}';
        assert!(!svg.contains(forbidden) && !svg.contains('\u{ffff}'));
        let told = escape(hostile);
        assert!(marks(&tags(&svg)).iter().all(|mark| mark.get("data-series") == Some(&told)));
    }
}

#[test]
fn text_is_cut_to_its_room_and_told_whole() {
    assert_eq!(clean("a\nb\u{202e}c\u{7}"), "a bc");
    assert_eq!(cut("short", 10.0, 100.0), "short");
    let long = cut("a label that is far too long for its place", 10.0, 100.0);
    assert!(long.ends_with('…') && width(&long, 10.0) <= 100.0, "{long}");
    assert_eq!(cut("anything", 10.0, 0.0), "…");
    assert_eq!(wrap("one two three", 10.0, 60.0, 3), ["one two", "three"]);
    let cut_off = wrap("one two three four five", 10.0, 60.0, 2);
    assert_eq!(cut_off.len(), 2);
    assert!(cut_off[1].ends_with('…'), "{cut_off:?}");
    assert!(wrap(" ", 10.0, 60.0, 2).is_empty());

    let label = "A label that has no room ".repeat(9);
    let chart = chart(Number::Count, &[&label], vec![series("a", &[1.0])]);
    for (kind, draw) in KINDS {
        let svg = draw(&chart, "c");
        check(&svg);
        assert!(svg.contains('…') && svg.contains(&format!("<title>{label}</title>")), "{kind}");
    }
}

#[test]
fn ids_are_their_own() {
    assert_eq!(as_id("chart-1_a"), "chart-1_a");
    assert_ne!(as_id("a b"), as_id("a.b"));
    assert_ne!(as_id("a b"), as_id("a.20.b"));
    let page = KINDS.map(|(kind, draw)| draw(&large(14, 3), kind)).concat();
    tags(&page);
}

#[test]
fn the_pieces_of_a_share_add_up_to_the_same_width() {
    let all = vec![
        series("a", &[0.2, 1.0, 10.0, 0.0, 0.333]),
        series("b", &[0.5, 0.0, 30.0, 0.0, 0.333]),
        series("c", &[0.3, 0.0, 60.0, 0.25, 0.333]),
    ];
    let chart = chart(Number::Share, &["a", "b", "c", "d", "e"], all);
    let svg = bars(&chart, "c");
    check(&svg);
    let tags = tags(&svg);
    let width = |place: &str| -> f64 {
        let marks = marks(&tags).into_iter().filter(|mark| mark.get("data-label") == Some(place));
        marks.map(|mark| mark.get("width").unwrap().parse::<f64>().unwrap()).sum()
    };
    let widths = ["a", "b", "c", "d", "e"].map(width);
    assert!(widths[0] > 300.0);
    assert!(widths.iter().all(|width| (width - widths[0]).abs() < 0.05), "{widths:?}");
    // What is drawn is told, with what was given where that is another number.
    assert!(svg.contains("<title>c, a: 10.0 % (10)</title>"));
    assert!(svg.contains("<title>a, a: 20.0 %</title>"));
}

#[test]
fn one_series_of_shares_keeps_its_lengths() {
    let svg = bars(&chart(Number::Share, &["a", "b"], vec![series("s", &[0.1, 0.2])]), "c");
    let tags = tags(&svg);
    let width = |nth: usize| marks(&tags)[nth].get("width").unwrap().parse::<f64>().unwrap();
    assert!((width(1) / width(0) - 2.0).abs() < 0.01);
}

#[test]
fn a_legend_has_the_colour_of_its_marks() {
    for (kind, draw) in [("bars", bars as Draw), ("lines", lines)] {
        for count in [2, 12, 13, 40, 70] {
            let chart = large(count, 3);
            let svg = draw(&chart, "c");
            check(&svg);
            let tags = tags(&svg);
            for (nth, series) in chart.series.iter().enumerate() {
                let is_legend = |tag: &&Tag| {
                    tag.get("class") == Some("legend")
                        && tag.get("data-series") == Some(series.name.as_str())
                };
                assert_eq!(tags.iter().filter(is_legend).count(), 1);
                let entry = tags.iter().position(|tag| is_legend(&tag)).unwrap();
                let swatch =
                    tags[entry..].iter().find(|tag| tag.name != "g" && tag.name != "title");
                let swatch = swatch.unwrap();
                assert_eq!(swatch.colour(), format!("s{}", nth % 60), "{kind}");
                let all = marks(&tags);
                let own: Vec<_> = all
                    .into_iter()
                    .filter(|mark| mark.get("data-series") == Some(series.name.as_str()))
                    .collect();
                assert_eq!(own.len(), 3);
                for mark in own {
                    assert_eq!(mark.colour(), swatch.colour());
                    if kind == "bars" {
                        assert_eq!(mark.get("fill"), swatch.get("fill"));
                    }
                }
            }
        }
        let alone = draw(&large(1, 3), "c");
        assert!(!alone.contains("legend"), "{kind}");
    }
}

#[test]
fn colours_that_repeat_have_a_pattern() {
    let svg = bars(&large(14, 2), "c");
    let tags = tags(&svg);
    for mark in marks(&tags) {
        let fill = mark.get("fill").unwrap();
        match mark.colour() {
            "s12" | "s13" => {
                let pattern = fill.strip_prefix("url(#").unwrap().strip_suffix(')').unwrap();
                let pattern = tags.iter().find(|tag| tag.get("id") == Some(pattern)).unwrap();
                assert_eq!((pattern.name, pattern.colour()), ("pattern", mark.colour()));
            }
            _ => assert_eq!(fill, "currentColor"),
        }
    }
    let svg = lines(&large(14, 2), "c");
    assert_eq!(svg.matches("stroke-dasharray").count(), 4);
}

#[test]
fn the_style_knows_every_class() {
    for nth in 0..60 {
        let class = format!(".chart .s{nth}");
        let ends = |rest: &str| rest.starts_with([',', ' ']);
        let found = STYLE.match_indices(&class).filter(|(at, _)| ends(&STYLE[at + class.len()..]));
        assert_eq!(found.count(), 2, "{class}, light and dark");
    }
    for class in (0..=10).map(|n| format!("h{n}")).chain((1..=10).map(|n| format!("n{n}"))) {
        assert_eq!(STYLE.matches(&format!(".chart .{class} {{")).count(), 2, "{class}");
    }
    assert_eq!(STYLE.matches('{').count(), STYLE.matches('}').count());
    assert!(!STYLE.contains('<') && !STYLE.contains("url(") && !STYLE.contains("@import"));
}

#[test]
fn every_value_is_a_mark_with_its_exact_number() {
    let values = [0.1 + 0.2, 0.0, 1234567.0, 2.5e-9, 7.0];
    let chart = chart(Number::Plain, &["a", "b", "c", "d", "e"], vec![series("s", &values)]);
    for (kind, draw) in KINDS {
        let svg = draw(&chart, "c");
        check(&svg);
        let tags = tags(&svg);
        let told = marks(&tags).into_iter().map(|mark| mark.get("data-value").unwrap());
        let told: Vec<f64> = told.map(|value| value.parse().unwrap()).collect();
        assert_eq!(told, values, "{kind}");
    }
    assert_eq!(exact(0.1 + 0.2), "0.30000000000000004");
    assert_eq!(exact(-0.0), "0");
    assert_eq!(exact(1234567.0), "1234567");
}

#[test]
fn a_heat_map_has_the_number_in_every_cell() {
    let all = vec![series("bug", &[412.0, 1033.0]), series("no bug", &[21.0])];
    let mut chart = chart(Number::Count, &["bug", "no bug"], all);
    chart.y.labels = vec!["is a bug".to_owned()];
    let svg = heat(&chart, "c");
    check(&svg);
    for text in [">412</text>", ">1,033</text>", ">21</text>", ">–</text>", ">is a bug</text>"] {
        assert!(svg.contains(text), "{text} in {svg}");
    }
    // The second row has no label of its own.
    assert_eq!(svg.matches(">no bug</text>").count(), 2);
    assert_eq!(svg.matches("class=\"cell none\"").count(), 1);
}

#[test]
fn a_line_has_a_gap_where_there_is_no_value() {
    let mut one = series("a", &[1.0, 2.0, 3.0, 4.0, 5.0]);
    one.values[2] = None;
    one.values.push(Some(6.0));
    let svg = lines(&chart(Number::Count, &["a", "b", "c", "d", "e"], vec![one]), "c");
    let tags = tags(&svg);
    let path = tags.iter().find(|tag| tag.get("class") == Some("line s0")).unwrap();
    let path = path.get("d").unwrap();
    assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 2), "{path}");
    assert_eq!(marks(&tags).len(), 4, "what has no label is not shown");
}

#[test]
fn odd_charts_are_drawn_too() {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let extreme = [f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -1e149, 1e150, 1e-160];
    let mut none = large(3, 4);
    for series in &mut none.series {
        series.values.fill(None);
    }
    let empty = [
        chart(Number::Count, &[], vec![]),
        chart(Number::Count, &["a"], vec![]),
        chart(Number::Count, &[], vec![series("a", &[1.0])]),
        chart(Number::Share, &["a", "b", "c"], vec![series("a", &odd)]),
        none,
    ];
    for chart in &empty {
        for (kind, draw) in KINDS {
            let svg = draw(chart, "c");
            check(&svg);
            assert!(svg.contains(">no data</text>"), "{kind}");
        }
    }
    let labels = ["a", "b", "c", "d", "e", "f", "g"];
    for number in [Number::Count, Number::Share, Number::Plain] {
        let mut all: Vec<Chart> = vec![
            chart(number, &labels, vec![series("a", &extreme)]),
            chart(number, &labels, vec![series("a", &extreme), series("b", &extreme)]),
            chart(number, &labels, vec![series("a", &[5e-324, 0.0]), series("b", &[0.0, 5e-324])]),
            chart(number, &labels, vec![series("a", &[1e15, 1e15 + 1.0, 1e100])]),
            chart(number, &labels, vec![series("a", &[-1.0, 2.0, -3.5]), series("b", &[1.0])]),
            chart(number, &labels, vec![series("a", &[-1.0, -2.0])]),
            chart(number, &labels, vec![series("a", &[0.0, 0.0]), series("", &odd)]),
            chart(number, &labels, vec![series("a", &[0.7, 0.7, 0.7 + 1e-16])]),
            chart(number, &["one"], vec![series("a", &[3.0])]),
            chart(number, &["", "\u{7}"], vec![series("", &[3.0, 4.0])]),
            large(3, 40),
            large(2, 500),
            large(100, 2),
        ];
        for chart in &mut all {
            chart.number = number;
            for (_, draw) in KINDS {
                let svg = draw(chart, "c");
                check(&svg);
                assert_eq!(svg, draw(chart, "c"));
            }
        }
    }
}

#[test]
fn a_wide_map_goes_on_below() {
    let svg = heat(&large(2, 500), "c");
    let tags = tags(&svg);
    assert!(tags[0].get("width").unwrap().parse::<f64>().unwrap() <= 910.0);
    assert_eq!(marks(&tags).len(), 1000);
}

#[test]
fn numbers_are_written_for_people() {
    let write = |number, all: &[f64], value| {
        Format::of(&chart(number, &["a", "b", "c"], vec![series("s", all)])).write(value)
    };
    assert_eq!(write(Number::Count, &[1234.0], 1234.0), "1,234");
    assert_eq!(write(Number::Count, &[1234567.0], -1234567.0), "−1,234,567");
    assert_eq!(write(Number::Count, &[1.5, 2.0], 2.0), "2.00");
    assert_eq!(write(Number::Share, &[0.1], 0.123), "12.3 %");
    assert_eq!(write(Number::Share, &[0.1], 0.0), "0 %");
    assert_eq!(write(Number::Share, &[0.1], 1.0), "100 %");
    assert_eq!(write(Number::Share, &[0.1], 0.0001), "<0.1 %");
    assert_eq!(write(Number::Share, &[0.1], 0.9999), "100.0 %");
    assert_eq!(write(Number::Plain, &[0.1], 0.12345), "0.123");
    assert_eq!(write(Number::Plain, &[0.1], -0.00001), ">−0.001");
    assert_eq!(write(Number::Plain, &[0.1], 1.0), "1.000");
    assert_eq!(write(Number::Plain, &[3.0], 5.0), "5");
    assert_eq!(write(Number::Plain, &[1e20], 1e20), "1.00e20");
}

#[test]
fn ticks_are_round() {
    let ticks = |low, high, number, whole| {
        let scale = Scale::over(low, high, 5.0, whole);
        let write = |tick: &f64| scale.write(*tick, number);
        scale.ticks.iter().map(write).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ticks(0.0, 771.0, Number::Count, true), "0 200 400 600 800");
    assert_eq!(ticks(0.0, 2.0, Number::Count, true), "0 1 2");
    assert_eq!(ticks(0.0, 1.0, Number::Share, false), "0 % 20 % 40 % 60 % 80 % 100 %");
    assert_eq!(ticks(0.0, 0.012, Number::Share, false), "0.0 % 0.5 % 1.0 % 1.5 %");
    assert_eq!(ticks(-1.0, 1.0, Number::Plain, false), "−1.0 −0.5 0.0 0.5 1.0");
    assert_eq!(ticks(0.3, 0.3, Number::Plain, false), "0.26 0.28 0.30 0.32 0.34");
    assert_eq!(ticks(0.0, 0.0, Number::Plain, false), "0.0 0.2 0.4 0.6 0.8 1.0");
}

#[test]
fn of_months_those_are_named_that_part_a_year() {
    let label = |nth: usize| format!("{}-{:02}", 2023 + (nth + 3) / 12, (nth + 3) % 12 + 1);
    let labels: Vec<String> = (0..39).map(label).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let values: Vec<f64> = (0..39).map(f64::from).collect();
    let svg = lines(&chart(Number::Count, &labels, vec![series("a", &values)]), "c");
    let named: Vec<&str> =
        labels.into_iter().filter(|label| svg.contains(&format!(">{label}</text>"))).collect();
    assert_eq!(named, ["2023-07", "2024-01", "2024-07", "2025-01", "2025-07", "2026-01"]);
}
