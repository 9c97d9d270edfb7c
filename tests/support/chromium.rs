//! A page as a real browser shows it: Chromium without a window, driven by its command line alone.
#![allow(dead_code, reason = "each test file is a program of its own and uses a part of this")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const LONGEST: Duration = Duration::from_secs(60);

/// A Chromium that is installed; `tests/real/install-chromium.sh` installs one.
pub struct Chromium {
    program: PathBuf,
}

/// What a page showed.
#[derive(Debug)]
pub struct Page {
    /// The script's value as JSON.
    pub value: String,
    /// What the page wrote to the console as a warning or an error, and what the browser itself
    /// wrote there: scripts that failed, what did not load, what the page's policy forbade.
    pub console: Vec<String>,
}

impl Chromium {
    pub fn find() -> Option<Chromium> {
        let folders = std::env::var_os("PATH")?;
        let folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let programs = names.iter().flat_map(|name| folders.iter().map(move |at| at.join(name)));
        programs.into_iter().find(|at| at.is_file()).map(|program| Chromium { program })
    }

    /// Loads the page and, when it is loaded, evaluates `script` in it: an expression whose value
    /// JSON can hold, or a promise of one.
    #[track_caller]
    pub fn open(&self, page: &Path, script: &str) -> Page {
        let html = fs::read_to_string(page).expect("the page");
        let work = Work::new();
        let copy = work.0.join("page.html");
        fs::write(&copy, with_script(&html, script)).expect("the page's copy");

        let mut command = self.command(&work);
        command.args(["--virtual-time-budget=2000", "--dump-dom"]);
        command.args(["--enable-logging=stderr", "--v=0"]).arg(address(&copy));
        let (dom, log) = run(command);

        let start =
            dom.rfind("<pre id=\"flow-test\">").map(|at| at + "<pre id=\"flow-test\">".len());
        let found = start.and_then(|start| dom[start..].split("</pre>").next());
        let Some(found) = found else {
            panic!("the script did not run\n--- page\n{dom}\n--- log\n{log}");
        };
        let value = unescape(found);
        if let Some(error) = value.strip_prefix("failed: ") {
            panic!("the script failed: {error}\n--- log\n{log}");
        }
        Page { value, console: console(&log) }
    }

    /// A picture of the page's beginning, light or dark, in a window of that size.
    #[track_caller]
    pub fn screenshot(&self, page: &Path, width: u32, height: u32, dark: bool, to: &Path) {
        let work = Work::new();
        let page = fs::canonicalize(page).expect("the page");
        let mut command = self.command(&work);
        // 0 is dark, 1 light: how Blink counts them.
        let scheme = if dark { "0" } else { "1" };
        command.arg(format!("--blink-settings=preferredColorScheme={scheme}"));
        command.arg("--hide-scrollbars");
        command.arg(format!("--window-size={width},{height}"));
        let shot = work.0.join("shot.png");
        command.arg(format!("--screenshot={}", shot.display())).arg(address(&page));
        let (_, log) = run(command);
        if let Err(error) = fs::copy(&shot, to) {
            panic!("no picture ({error})\n--- log\n{log}");
        }
    }

    fn command(&self, work: &Work) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
        // Nothing of it asks anyone over the network.
        command.args(["--disable-background-networking", "--disable-component-update"]);
        command.args(["--disable-sync", "--disable-extensions", "--disable-dev-shm-usage"]);
        command.arg("--host-resolver-rules=MAP * ~NOTFOUND");
        command.arg(format!("--user-data-dir={}", work.0.join("profile").display()));
        command.stdin(Stdio::null());
        command
    }
}

/// The word that lets the helper's own scripts run, whatever else the page's policy forbids.
const NONCE: &str = "flow-test";

/// The log names no level: so each message does. What does not load is told too.
const PRELUDE: &str = "for (const [name, level] of Object.entries({ log: 'log', info: 'log', \
                       debug: 'log', warn: 'warning', error: 'error' })) {\n\
                       const write = console[name].bind(console);\n\
                       console[name] = (first, ...rest) => typeof first === 'string' \
                       ? write(level + ': ' + first, ...rest) : write(level + ': ', first, ...rest);\n\
                       }\n\
                       addEventListener('error', (event) => { if (event.target !== window) \
                       console.error('did not load: ' + event.target.outerHTML); }, true);";

/// The page with the script at its end, run even where the page's policy forbids scripts.
fn with_script(html: &str, script: &str) -> String {
    // In a page's source, this would end the script.
    let script = script.replace("</", "<\\/");
    let html = loosened(html);
    let (before, after) = html.split_at(head(&html));
    // The mark at the beginning says that it is UTF-8, which the page may say too late now.
    format!(
        "\u{feff}{before}<script nonce=\"{NONCE}\">{PRELUDE}</script>{after}\n\
         <script nonce=\"{NONCE}\">\n(async () => {{\n\
         let told;\n\
         try {{\n\
         if (document.readyState !== 'complete') \
         await new Promise((done) => addEventListener('load', done));\n\
         told = JSON.stringify(await (\n{script}\n)) ?? 'null';\n\
         }} catch (error) {{ told = 'failed: ' + error; }}\n\
         const place = document.createElement('pre');\n\
         place.id = 'flow-test';\n\
         place.textContent = told;\n\
         document.documentElement.append(place);\n\
         }})();\n</script>\n"
    )
}

/// Where the page's head begins: a script before the doctype would change how the page is shown.
fn head(html: &str) -> usize {
    let lower = html.to_ascii_lowercase();
    let end = |tag: &str| {
        let at = lower.find(tag).filter(|at| lower[at + tag.len()..].starts_with(['>', ' ', '\n']));
        at.and_then(|at| tag_end(&lower, at))
    };
    end("<head").or_else(|| end("<html")).or_else(|| end("<!doctype")).unwrap_or(0)
}

/// The page with a policy that lets the helper's scripts run and forbids all else that it forbade.
fn loosened(html: &str) -> String {
    // Lower case in ASCII only keeps every place.
    let lower = html.to_ascii_lowercase();
    let metas = lower.match_indices("<meta").map(|(at, _)| at);
    let tags = metas.filter_map(|at| tag_end(&lower, at).map(|end| (at, end)));
    let mut policies =
        tags.filter(|(at, end)| lower[*at..*end].contains("content-security-policy"));
    let Some((start, end)) = policies.next() else {
        return html.to_owned();
    };
    let content = lower[start..end].find("content=").map(|at| start + at + "content=".len());
    let content = content.expect("the policy's content");
    let quote = html[content..].chars().next().filter(|c| matches!(c, '"' | '\''));
    let quote = quote.expect("quotes around the policy");
    let policy = html[content + 1..end].split(quote).next().unwrap_or_default();
    let policy = loosened_policy(&unescape(&policy.replace("&#39;", "'").replace("&quot;", "\"")));
    let tag = format!("<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">");
    format!("{}{tag}{}", &html[..start], &html[end..])
}

fn loosened_policy(policy: &str) -> String {
    let parts = policy.split(';').map(|part| part.split_whitespace().collect::<Vec<_>>());
    let mut parts: Vec<Vec<&str>> = parts.filter(|part| !part.is_empty()).collect();
    let named = |part: &Vec<&str>, name: &str| part[0].eq_ignore_ascii_case(name);
    if !parts.iter().any(|part| named(part, "script-src")) {
        // What is said of everything else holds for scripts too.
        if let Some(all) = parts.iter().find(|part| named(part, "default-src")) {
            let scripts = ["script-src"].into_iter().chain(all[1..].iter().copied()).collect();
            parts.push(scripts);
        }
    }
    let nonce = format!("'nonce-{NONCE}'");
    for part in &mut parts {
        let scripts = named(part, "script-src") || named(part, "script-src-elem");
        // Beside a nonce, `unsafe-inline` would have no meaning any more.
        let strict =
            part.iter().any(|source| ["'nonce-", "'sha"].iter().any(|s| source.starts_with(s)));
        if scripts && (strict || !part.contains(&"'unsafe-inline'")) {
            part.retain(|source| *source != "'none'");
            part.push(&nonce);
        }
    }
    parts.iter().map(|part| part.join(" ")).collect::<Vec<_>>().join("; ")
}

/// Behind the `>` that ends the tag: not one in an attribute's quotes.
fn tag_end(html: &str, start: usize) -> Option<usize> {
    let mut quote = None;
    for (at, c) in html[start..].char_indices() {
        match (quote, c) {
            (None, '>') => return Some(start + at + 1),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

/// The messages of a log whose lines are `[pid:tid:date:INFO:CONSOLE:line] "message", source: page`;
/// a message may have several lines. What the page itself told as no warning is left out.
fn console(log: &str) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    let mut inside = false;
    for line in log.lines() {
        match log_head(line) {
            Some((head, message)) => {
                inside = head.contains(":CONSOLE");
                if inside {
                    messages.push(message.to_owned());
                }
            }
            None if inside => {
                let message = messages.last_mut().expect("a message");
                message.push('\n');
                message.push_str(line);
            }
            None => {}
        }
    }
    let text = |message: &String| {
        let message = message.strip_prefix('"').unwrap_or(message);
        // The source is the copy, whose place tells nothing.
        message.rsplit_once("\", source: ").map_or(message, |(text, _)| text).to_owned()
    };
    messages.iter().map(text).filter(|message| !message.starts_with("log: ")).collect()
}

/// A line's `pid:tid:date:...` and what comes after it.
fn log_head(line: &str) -> Option<(&str, &str)> {
    let (head, message) = line.strip_prefix('[')?.split_once("] ")?;
    let mut parts = head.split(':');
    let number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u32>().is_ok());
    (number(parts.next()) && number(parts.next()) && parts.count() >= 2).then_some((head, message))
}

/// What the page's text is, of how `--dump-dom` writes it.
fn unescape(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u{a0}");
    text.replace("&amp;", "&")
}

fn address(page: &Path) -> String {
    let path = page.to_str().expect("a path that is text");
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    format!("file://{}", path.bytes().map(escape).collect::<String>())
}

/// Runs it to its end and gives what it wrote, or kills it.
#[track_caller]
fn run(mut command: Command) -> (String, String) {
    let started = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = started.expect("Chromium starts");
    let stdout = reader(child.stdout.take().expect("stdout"));
    let stderr = reader(child.stderr.take().expect("stderr"));
    let ended = wait(&mut child);
    let (stdout, stderr) = (stdout.join().expect("stdout"), stderr.join().expect("stderr"));
    assert!(ended.is_some_and(|status| status.success()), "Chromium: {ended:?}\n{stderr}");
    (stdout, stderr)
}

fn wait(child: &mut Child) -> Option<ExitStatus> {
    let started = Instant::now();
    while started.elapsed() < LONGEST {
        if let Some(status) = child.try_wait().expect("Chromium's state") {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// Reads while it runs: a full pipe would stop it.
fn reader(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A folder for one start of Chromium, gone with it.
struct Work(PathBuf);

impl Work {
    fn new() -> Work {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("flow-chromium-{}-{nth}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder to work in");
        Work(folder)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
