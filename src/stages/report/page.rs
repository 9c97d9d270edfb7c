//! The page around a report: alone in its file, light and dark, on a screen and on paper.

use super::markdown::Body;
use crate::charts;
use crate::text::escape as html;

/// A page that fetches nothing and runs nothing.
pub(super) fn page(body: &Body) -> String {
    let title = html(&body.title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n<main>\n",
        charts::STYLE
    );
    let (head, rest) = match body.html.find("</h1>") {
        Some(end) => body.html.split_at(end + "</h1>".len()),
        None => ("", body.html.as_str()),
    };
    page.push_str(head);
    if body.sections.len() > 2 {
        page.push_str("\n<nav aria-label=\"Sections\">\n<ol>\n");
        for (id, name) in &body.sections {
            page.push_str(&format!("<li><a href=\"#{id}\">{}</a></li>\n", html(name)));
        }
        page.push_str("</ol>\n</nav>");
    }
    page.push_str(rest);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// A picture as an address that holds it whole.
pub(super) fn data_address(svg: &str) -> String {
    let mut address = "data:image/svg+xml,".to_owned();
    for byte in svg.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => address.push(byte.into()),
            b' ' | b'-' | b'.' | b'_' | b'/' | b':' | b'=' | b';' | b',' | b'(' | b')' | b'{'
            | b'}' => {
                address.push(byte.into());
            }
            byte => address.push_str(&format!("%{byte:02X}")),
        }
    }
    address
}

const STYLE: &str = "\
:root { color-scheme: light dark; --ground: #ffffff; --text: #1f2328; --soft: #59636e; --rule: #d1d9e0; \
--shade: #f6f8fa; --link: #0757ba; }
@media (prefers-color-scheme: dark) { :root { --ground: #0d1117; --text: #f0f6fc; --soft: #9198a1; \
--rule: #3d444d; --shade: #151b23; --link: #71b1ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text); \
font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', sans-serif; }
main { max-width: 58rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 2.6rem 0 .8rem; padding-bottom: .3rem; \
border-bottom: 1px solid var(--rule); }
h3 { font-size: 1.08rem; margin: 1.8rem 0 .5rem; }
a { color: var(--link); }
p, li { overflow-wrap: break-word; }
nav { background: var(--shade); border-radius: 8px; padding: .6rem 1rem; margin: 1rem 0 1.5rem; }
nav ol { margin: 0; padding-left: 1.4rem; columns: 2; column-gap: 2.5rem; }
nav a { text-decoration: none; }
code, pre { font-family: ui-monospace, 'SF Mono', Menlo, Consolas, monospace; font-size: .86em; }
code { background: var(--shade); border-radius: 4px; padding: .1em .3em; }
pre { background: var(--shade); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; \
white-space: pre-wrap; overflow-wrap: anywhere; }
pre code { background: none; padding: 0; }
figure { margin: 1.6rem 0; }
figcaption { color: var(--text); font-size: .93rem; margin-bottom: .55rem; }
figcaption .from { color: var(--soft); font-size: .85em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem .75rem .32rem 0; text-align: left; vertical-align: top; }
th { border-bottom: 1.5px solid var(--rule); font-weight: 600; }
td { border-bottom: 1px solid var(--rule); overflow-wrap: break-word; }
td a { display: inline-block; min-width: 11rem; overflow-wrap: anywhere; }
.n { text-align: right; }
td.n { white-space: nowrap; }
details { margin-top: .4rem; font-size: .88rem; }
summary { color: var(--soft); cursor: pointer; }
figure img { max-width: max(100%, 46rem); height: auto; }
@media (max-width: 40rem) { nav ol { columns: 1; } body { font-size: 15px; } }
@media print {
main { max-width: none; padding: 0; } body { font-size: 10.5pt; } nav { display: none; }
.scroll, .chart-box { overflow: visible; } table { font-size: 7.5pt; } th, td { padding-right: .4rem; \
overflow-wrap: anywhere; } td a { min-width: 0; } td.n { white-space: normal; } figure img { max-width: 100%; }
.chart, tr { break-inside: avoid; } h2, h3, figcaption { break-after: avoid; }
details:not([open]) { display: none; }
}
";
