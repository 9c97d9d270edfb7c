//! `flow add` and `flow fmt`: what they write into a manifest, and that nothing else changes.

mod support;

use std::os::unix::fs::PermissionsExt;

use flow::manifest::{SourceText, tidy};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use support::TestSpace;

/// A manifest with the tables in the middle, and a stage that reads `repos`.
fn manifest(tables: &str) -> String {
    format!(
        "#:schema ./schemas/pipeline.schema.json\n\
         [pipeline]\n\
         name =   'odd   spaces'   # stay\n\n\
         {tables}\n\
         # About the stage.\n\
         [stages.items]\n\
         kind = \"github\"\n\
         inputs = [\"repos\"]\n\
         list = \"/repos/{{{{ repo }}}}/issues\"\n\
         pick = \"{{id}}\"\n\
         key = [\"id\"]\n"
    )
}

fn space(text: &str) -> TestSpace {
    let space = TestSpace::new();
    space.write("pipeline.toml", text);
    space
}

/// Adds `c/d` to the tables, and tells what became of them.
#[track_caller]
fn added(before: &str, after: &str) {
    let space = space(&manifest(before));
    space.flow(&["add", "repo", "c/d"]).expect(0);
    assert_eq!(space.read("pipeline.toml"), manifest(after));
    space.flow(&["check"]).expect(0);
}

#[test]
fn a_row_is_added_and_all_else_stays() {
    added(
        "# Where to look.\n[[tables.repos]]\nrepo = \"a/b\"   # the first\n",
        "# Where to look.\n[[tables.repos]]\nrepo = \"a/b\"   # the first\n\n[[tables.repos]]\nrepo = \"c/d\"\n",
    );
    // Other tables, and comments between them, stay where they are.
    added(
        "[[tables.repos]]\nrepo='a/b'\nengine = 'b'\n\n# Bots.\n[[tables.bots]]\nlogin = \"x\"\n",
        "[[tables.repos]]\nrepo='a/b'\nengine = 'b'\n\n[[tables.repos]]\nrepo = \"c/d\"\nengine = \"d\"\n\n\
         # Bots.\n[[tables.bots]]\nlogin = \"x\"\n",
    );
}

#[test]
fn a_row_is_added_to_a_table_that_is_written_as_a_list() {
    added(
        "[tables]\nrepos = [{ repo = \"a/b\" }]   # one\n",
        "[tables]\nrepos = [{ repo = \"a/b\" }, { repo = \"c/d\" }]   # one\n",
    );
    added(
        "[tables]\nrepos = [\n  { repo = \"a/b\" },   # one\n]\n",
        "[tables]\nrepos = [\n  { repo = \"a/b\" },   # one\n  { repo = \"c/d\" },\n]\n",
    );
    added(
        "[tables]\nrepos = [\n  # one\n  { repo = \"a/b\" } # last\n  ]\n",
        "[tables]\nrepos = [\n  # one\n  { repo = \"a/b\" }, # last\n  { repo = \"c/d\" }\n  ]\n",
    );
    added(
        "[tables]\nrepos = [{ repo = \"a/b\" } # last\n]\n",
        "[tables]\nrepos = [{ repo = \"a/b\" }, # last\n{ repo = \"c/d\" }\n]\n",
    );
}

#[test]
fn a_row_is_added_to_a_profiles_own_table() {
    let profile = "[[tables.repos]]\nrepo = \"a/b\"\nengine = \"x\"\n\n\
                   [[profiles.small.tables.repos]]\nrepo = \"a/b\"\nengine = \"x\"\n\n[profiles.bare]\n";
    let space = space(&manifest(profile));
    space.flow(&["add", "repo", "c/d", "--engine", "E \"1\"", "--profile", "small"]).expect(0);
    let more = "\n[[profiles.small.tables.repos]]\nrepo = \"c/d\"\nengine = 'E \"1\"'\n";
    let expected =
        profile.replacen("\n\n[profiles.bare]", &format!("\n{more}\n[profiles.bare]"), 1);
    assert_eq!(space.read("pipeline.toml"), manifest(&expected));
    let before = space.read("pipeline.toml");
    let ran = space.flow(&["add", "repo", "e/f", "--profile", "bare"]).expect(2);
    assert!(ran.stderr.contains("there is no `[[profiles.bare.tables.repos]]`"), "{}", ran.stderr);
    assert!(ran.stderr.contains("leave `--profile` out"), "{}", ran.stderr);
    assert_eq!(space.read("pipeline.toml"), before);
}

#[test]
fn ends_of_lines_and_of_the_file_stay_as_they_are() {
    let table = "[[tables.repos]]\nrepo = \"a/b\"\n";
    let more = "[[tables.repos]]\nrepo = \"a/b\"\n\n[[tables.repos]]\nrepo = \"c/d\"\n";
    let marked = |text: String| format!("\u{feff}{}", text.replace('\n', "\r\n"));
    let space = space(&marked(manifest(table)));
    space.flow(&["add", "repo", "c/d"]).expect(0);
    assert_eq!(space.read("pipeline.toml"), marked(manifest(more)));
}

#[test]
fn what_cannot_be_added_is_refused() {
    let text = manifest("[[tables.repos]]\nrepo = \"a/b\"\n\n[[tables.other]]\nx = 1\n");
    let space = space(&text);
    for (arguments, said) in [
        (&["A/B"][..], "`repos` has A/B already"),
        (&["nothing"], "write OWNER/NAME"),
        (&["-x/y"], "unexpected argument"),
        (&["a/b/c d"], "write OWNER/NAME"),
        (&["a/.."], "write OWNER/NAME"),
        (&["/b"], "write OWNER/NAME"),
        (&["https://github.com/c/d"], "did you mean `c/d`?"),
        (&["c/d.git"], "did you mean `c/d`?"),
        (&["c/d", "--engine", "x"], "has no column `engine`"),
        (&["c/d", "--table", "other"], "has no column `repo`"),
        (&["c/d", "--table", "items"], "there is no inline table `items`"),
    ] {
        let mut all = vec!["add", "repo"];
        all.extend(arguments);
        let ran = space.flow(&all).expect(2);
        assert!(ran.stderr.contains(said), "{arguments:?}: {}", ran.stderr);
        assert_eq!(space.read("pipeline.toml"), text, "{arguments:?}");
    }
}

#[test]
fn a_manifest_with_mistakes_is_not_edited() {
    let text = manifest("[[tables.repos]]\nrepo = \"a/b\"\n").replace("\"github\"", "\"gitbub\"");
    let space = space(&text);
    let ran = space.flow(&["add", "repo", "c/d"]).expect(2);
    assert!(ran.stderr.contains("1 problem found"), "{}", ran.stderr);
    assert_eq!(space.read("pipeline.toml"), text);
}

#[test]
fn a_table_is_named_where_there_are_several_or_none() {
    let several = manifest("[[tables.repos]]\nrepo = \"a/b\"\n\n[[tables.more]]\nrepo = \"a/b\"\n")
        + "\n[stages.again]\nkind = \"github\"\ninputs = [\"more\"]\nget = \"/repos/{{ repo }}\"\n";
    let several = space(&several);
    let ran = several.flow(&["add", "repo", "c/d"]).expect(2);
    assert!(ran.stderr.contains("--table repos|more"), "{}", ran.stderr);
    several.flow(&["add", "repo", "c/d", "--table", "more"]).expect(0);
    assert!(several.read("pipeline.toml").contains("[[tables.more]]\nrepo = \"c/d\"\n"));
    let file = space(&manifest("[tables.repos]\nfile = \"repos.csv\"\n"));
    file.write("repos.csv", "repo\na/b\n");
    let ran = file.flow(&["add", "repo", "c/d"]).expect(2);
    assert!(ran.stderr.contains("stand in a file, add a line there"), "{}", ran.stderr);
}

#[test]
fn other_columns_are_named() {
    let space = space(&manifest("[[tables.repos]]\nrepo = \"a/b\"\nlang = \"C\"\n"));
    let ran = space.flow(&["add", "repo", "c/d"]).expect(0);
    assert!(ran.stderr.contains("its `lang` stands empty"), "{}", ran.stderr);
}

#[test]
fn links_and_rights_stay() {
    let space = space("");
    space.write("real/pipeline.toml", manifest("[[tables.repos]]\nrepo = \"a/b\"\n"));
    let (real, link) =
        (space.path().join("real/pipeline.toml"), space.path().join("pipeline.toml"));
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
    space.flow(&["add", "repo", "c/d"]).expect(0);
    space.flow(&["fmt"]).expect(0);
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(real.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o440)).unwrap();
    let ran = space.flow(&["add", "repo", "e/f"]).expect(2);
    assert!(ran.stderr.contains("it is read-only"), "{}", ran.stderr);
}

#[track_caller]
fn tidied(text: &str) -> String {
    tidy(&SourceText::new("pipeline.toml", text))
        .unwrap_or_else(|problem| panic!("{problem:?}\n{text}"))
}

#[test]
fn fmt_writes_spaces_and_empty_lines_only() {
    let text = "\n\n#:schema x\n  [ pipeline ]   # the study  \nname='a  b'\n\tdescription   =\"#  no comment\"# a comment\n\n\n\n\
                # About a.\n[[ tables . a ]]\nx  . y=1\nwhen = 2026-01-01 10:00:00\n# At the end of a.\n\n[params]\n\
                list=[1,2 , [3,] ,{a=1,b = {}}, [ ]]\nlong = [\n1, 2,# two\n\n\n  # three\n3\n   ,{ a = [\n 1 ] }\n\n]\n\
                text = '''\n  as   it   \n  stands'''\nlast={ }\n[stages.\"odd name\" . x]\n# the end\n\n\n";
    let expected = "#:schema x\n[pipeline]   # the study\nname = 'a  b'\ndescription = \"#  no comment\" # a comment\n\n\
                    # About a.\n[[tables.a]]\nx.y = 1\nwhen = 2026-01-01 10:00:00\n# At the end of a.\n\n[params]\n\
                    list = [1, 2, [3,], { a = 1, b = {} }, []]\nlong = [\n    1, 2, # two\n\n    # three\n    3\n    , \
                    { a = [\n            1] }\n]\n\
                    text = '''\n  as   it   \n  stands'''\nlast = {}\n\n[stages.\"odd name\".x]\n# the end\n";
    assert_eq!(tidied(text), expected);
    let returns = |text: &str| text.replace('\n', "\r\n");
    assert_eq!(tidied(&returns("#\n[a]\nx=1")), returns("#\n[a]\nx = 1\n"));
    assert_eq!(tidied("\u{feff}\n x=1"), "\u{feff}x = 1\n");
    // Numbers that equal nothing are the same all the same.
    assert_eq!(tidied("x=nan"), "x = nan\n");
}

#[test]
fn fmt_formats_a_file_and_tells_where_it_would() {
    let space = space("[pipeline]\nname = \"n\"\nx=1\n");
    let ran = space.flow(&["fmt", "--check"]).expect(1);
    assert!(
        ran.stderr.contains("pipeline.toml is not formatted, from line 3 on"),
        "{}",
        ran.stderr
    );
    assert_eq!(space.read("pipeline.toml"), "[pipeline]\nname = \"n\"\nx=1\n");
    space.flow(&["fmt"]).expect(0);
    assert_eq!(space.read("pipeline.toml"), "[pipeline]\nname = \"n\"\nx = 1\n");
    space.flow(&["fmt", "--check"]).expect(0);
    space.write("pipeline.toml", "[pipeline]\nname = \n");
    let ran = space.flow(&["fmt"]).expect(2);
    assert!(ran.stderr.contains("the manifest is no TOML"), "{}", ran.stderr);
    assert!(ran.stderr.contains("pipeline.toml:2"), "{}", ran.stderr);
    assert_eq!(space.read("pipeline.toml"), "[pipeline]\nname = \n");
}

/// Blanks, as somebody might leave them.
fn blanks() -> impl Strategy<Value = String> {
    "[ \t]{0,3}"
}

/// Where a list may be broken: blanks, ends of lines, comments.
fn breaks() -> impl Strategy<Value = String> {
    prop_oneof![3 => blanks(), 1 => "([ ]{0,2}(# ?[a-z=\\[\"']{0,4} ?)?\n){0,3}[ ]{0,3}"]
}

fn value() -> impl Strategy<Value = String> {
    let plain = prop_oneof![
        Just("1.5e3".to_owned()),
        Just("-7".to_owned()),
        Just("nan".to_owned()),
        Just("true".to_owned()),
        Just("2026-01-01 10:00:00".to_owned()),
        "'[a-z#= \\[\\]]{0,6}'",
        "\"[a-z#={} ]{0,6}\"",
        "'''\n?[a-z#= \n\\[\t]{0,8}'''",
        "\"\"\"[a-z#= \n,}]{0,8}\"\"\"",
    ];
    plain.prop_recursive(3, 12, 4, |inner| {
        let list = prop::collection::vec((breaks(), inner.clone(), breaks()), 0..4);
        let map = prop::collection::vec((blanks(), inner, blanks()), 0..4);
        prop_oneof![
            (list, breaks(), any::<bool>()).prop_map(|(items, end, comma)| {
                let comma = if comma && !items.is_empty() { "," } else { "" };
                let items: Vec<String> = items
                    .into_iter()
                    .map(|(before, item, after)| before + &item + &after)
                    .collect();
                format!("[{}{comma}{end}]", items.join(","))
            }),
            map.prop_map(|items| {
                let pair = |(at, (before, item, after)): (usize, (String, String, String))| {
                    format!("{before}k{at}{after}={before}{item}{after}")
                };
                let items: Vec<String> = items.into_iter().enumerate().map(pair).collect();
                format!("{{{}}}", items.join(","))
            }),
        ]
    })
}

/// A line of a manifest; `@` stands for a number of its own.
fn line() -> impl Strategy<Value = String> {
    let comment = prop_oneof![Just(String::new()), "# ?[a-z =\\['\"]{0,5}"];
    let header = (blanks(), blanks(), any::<bool>(), comment.clone()).prop_map(
        |(a, b, many, end)| match many {
            true => format!("{a}[[{b}t@{a}.{b}x{a}]]{b}{end}"),
            false => format!("{a}[{b}s@{b}.{a}'y z'{a}]{b}{end}"),
        },
    );
    let pair = (blanks(), value(), blanks(), comment).prop_map(|(blanks, value, after, end)| {
        format!("{after}k@{blanks}={after}{value}{blanks}{end}")
    });
    prop_oneof![2 => header, 5 => pair, 2 => "[ ]{0,2}# ?[a-z ]{0,5}", 3 => blanks()]
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::with_cases(1000)
    })]

    #[test]
    fn fmt_keeps_the_meaning_and_has_nothing_left_to_do(
        lines in prop::collection::vec(line(), 0..12),
        returns in any::<bool>(),
    ) {
        let numbered = lines.iter().enumerate().map(|(at, line)| line.replace('@', &at.to_string()));
        let mut text = numbered.collect::<Vec<_>>().join("\n");
        if returns {
            text = text.replace('\n', "\r\n");
        }
        // Meaning and comments are held by `tidy` itself: it fails where they differ.
        prop_assert!(text.parse::<toml::Table>().is_ok(), "{}", text);
        let once = tidied(&text);
        prop_assert_eq!(&tidied(&once), &once);
    }
}
