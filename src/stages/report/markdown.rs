//! Markdown: texts made safe for it, and it made into the body of a page.

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

use crate::manifest::clean;

/// What stands in the text for a part of the page that is no Markdown.
pub(super) const BLOCK: &str = "flow-block";

/// A page's body, and what stands above it.
pub(super) struct Body {
    /// Of the first heading.
    pub title: String,
    /// The sections: their places in the page, and what they are called.
    pub sections: Vec<(String, String)>,
    pub html: String,
}

/// A text as Markdown that says the same, on one line: nothing in it is a mark.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '\n' | '\r' | '\t' => safe.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '&' | '|' | '#' | '~' | '$' => {
                safe.push('\\');
                safe.push(c);
            }
            c => safe.push(c),
        }
    }
    safe
}

/// A text as a block of code, whatever it holds.
pub(super) fn code(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let lines: Vec<String> = text.lines().map(clean).collect();
    format!("\n\n{fence}text\n{}\n{fence}\n\n", lines.join("\n"))
}

/// Text without more than one empty line after another, and without spaces at the ends of lines.
pub(super) fn tidy(text: &str) -> String {
    let mut tidy = String::with_capacity(text.len());
    let mut empty = 1;
    let mut fence: Option<&str> = None;
    for line in text.lines() {
        let mark = line.trim_start();
        let ticks = &mark[..mark.len() - mark.trim_start_matches('`').len()];
        fence = match fence {
            None if ticks.len() >= 3 => Some(ticks),
            Some(open) if ticks == open && mark == ticks => None,
            other => other,
        };
        let line = if fence.is_some() { line } else { line.trim_end() };
        empty = if line.is_empty() && fence.is_none() { empty + 1 } else { 0 };
        if empty <= 1 {
            tidy.push_str(line);
            tidy.push('\n');
        }
    }
    tidy.truncate(tidy.trim_end().len());
    tidy.push('\n');
    tidy
}

/// The body of the page. HTML that stands in the text is shown, not obeyed; `blocks` are put where
/// their marks stand.
pub(super) fn to_html(text: &str, blocks: &[String]) -> Body {
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_FOOTNOTES;
    let mut body = Body { title: String::new(), sections: Vec::new(), html: String::new() };
    let mut events = Vec::new();
    let mut skipping = false;
    let mut heading: Option<(usize, HeadingLevel, String)> = None;
    for event in Parser::new_ext(text, options) {
        if let (Some((_, _, words)), Event::Text(text) | Event::Code(text)) = (&mut heading, &event)
        {
            words.push_str(text);
        }
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) if block(&info).is_some() => {
                let html = block(&info).and_then(|at| blocks.get(at)).cloned();
                events.push(Event::Html(html.unwrap_or_default().into()));
                skipping = true;
            }
            Event::End(TagEnd::CodeBlock) if skipping => skipping = false,
            _ if skipping => {}
            Event::Html(html) | Event::InlineHtml(html) => events.push(Event::Text(html)),
            Event::Start(Tag::HtmlBlock) => {
                events.push(Event::Start(Tag::Paragraph));
            }
            Event::End(TagEnd::HtmlBlock) => events.push(Event::End(TagEnd::Paragraph)),
            // Nothing is fetched: what it shows is told.
            Event::Start(Tag::Image { .. }) | Event::End(TagEnd::Image) => {}
            Event::Start(Tag::Link { dest_url, .. }) if !may_lead(&dest_url) => {}
            Event::Start(Tag::Heading { level, .. }) => {
                heading = Some((events.len(), level, String::new()));
                events.push(Event::Text("".into()));
            }
            Event::End(TagEnd::Heading(level)) => {
                let Some((start, _, words)) = heading.take() else { continue };
                let id = format!("section-{}", body.sections.len() + 1);
                let (open, shown) = match level {
                    HeadingLevel::H1 if body.title.is_empty() => {
                        body.title = words.clone();
                        ("<h1>".to_owned(), None)
                    }
                    HeadingLevel::H2 => (format!("<h2 id=\"{id}\">"), Some((id, words))),
                    level => (format!("<{level}>"), None),
                };
                body.sections.extend(shown);
                events[start] = Event::Html(open.into());
                events.push(Event::Html(format!("</{level}>\n").into()));
            }
            other => events.push(other),
        }
    }
    html::push_html(&mut body.html, events.into_iter());
    body
}

fn block(info: &str) -> Option<usize> {
    info.strip_prefix(BLOCK)?.trim().parse().ok()
}

/// Whether a link may lead there.
fn may_lead(address: &str) -> bool {
    ["https://", "http://", "mailto:", "#"].iter().any(|start| address.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_write_stays_text() {
        for hostile in [
            "<script>alert(1)</script>",
            "![x](https://elsewhere/x.png) [y](javascript:alert(1))",
            "```\nflow-block 0\n```",
            "a\n\n# Not a heading\n| not | a table |",
            "\u{1b}[31mred\u{202e}",
        ] {
            let body = to_html(&format!("# Title\n\n{}\n", escaped(hostile)), &["BLOCK".into()]);
            assert!(!body.html.contains("<script") && !body.html.contains("<a "), "{}", body.html);
            assert!(!body.html.contains("BLOCK") && !body.html.contains('\u{1b}'), "{}", body.html);
            assert_eq!(body.html.matches("<p>").count(), 1, "{}", body.html);
            assert_eq!(body.title, "Title");
        }
    }

    #[test]
    fn html_of_the_template_is_shown_and_odd_links_lead_nowhere() {
        let text =
            "# T\n\n<b>bold</b> [x](javascript:alert) ![alt](http://x/y.png)\n\n<div>\nx\n</div>\n";
        let html = to_html(text, &[]).html;
        assert!(html.contains("&lt;b&gt;bold") && html.contains("&lt;div&gt;"), "{html}");
        assert!(!html.contains("javascript") && !html.contains("<img"), "{html}");
        assert!(html.contains("alt"), "{html}");
    }

    #[test]
    fn sections_are_listed_and_blocks_stand_in_their_places() {
        let text = "# Report\n\n## One `a`\n\n```flow-block 1\n```\n\n## Two\n";
        let body = to_html(text, &["zero".into(), "<svg/>".into()]);
        assert_eq!(
            body.sections,
            [
                ("section-1".to_owned(), "One a".to_owned()),
                ("section-2".to_owned(), "Two".to_owned()),
            ]
        );
        assert!(body.html.contains("<svg/>") && !body.html.contains("zero"), "{}", body.html);
    }

    #[test]
    fn code_stays_code() {
        let text = "a ```` b\n```flow-block 0\n```\n<i>";
        let html = to_html(&code(text), &["BLOCK".into()]).html;
        assert!(!html.contains("BLOCK") && html.contains("&lt;i&gt;"), "{html}");
    }

    #[test]
    fn a_text_is_tidied_but_for_its_code() {
        let text = "\n\na  \n\n\n\nb\n```\nx  \n\n\n\ny\n```\n\n\n";
        assert_eq!(tidy(text), "a\n\nb\n```\nx  \n\n\n\ny\n```\n");
    }
}
