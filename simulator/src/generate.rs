//! Made-up items of an inference engine's tracker: a pure function of seed, repository and number.
//! Nothing is kept; whoever asks again gets the same item made again.

use crate::dates;
use crate::dice::{Dice, hash};
use crate::item::{Comment, Item, Kind, LineComment, Review};
use crate::phrases::*;
use crate::world::Row;

pub struct Generator {
    repo: String,
    seed: u64,
    key: u64,
    pub items: u64,
}

/// The cheap part of an item: what rows, labels and links are made of.
struct Facts {
    pull: bool,
    created: i64,
    closed: Option<i64>,
    merged: bool,
    draft: bool,
    /// The issue that this pull request closes once it is merged.
    closes: Option<u64>,
}

/// A pull request closes one of the issues just before it, so that the issue, too, can find it.
const REACH: u64 = 4;

/// Independent streams of choices for the parts of an item.
#[derive(Clone, Copy)]
enum Part {
    Kind = 1,
    Link,
    Fate,
    Labels,
    Text,
    Talk,
    Diff,
}

/// When item `number` is opened at the earliest: twice a day while a project is young, every ten
/// minutes later, so that a few items span months and 100,000 still end before today.
pub fn created(number: u64) -> i64 {
    const YOUNG: i64 = 1000;
    let number = number.min(10_000_000) as i64;
    // 2023-01-01T00:00:00Z
    1_672_531_200 + number.min(YOUNG) * 43_200 + (number - YOUNG).max(0) * 600
}

impl Generator {
    pub fn new(repo: &str, seed: u64, items: u64) -> Generator {
        Generator { repo: repo.to_owned(), seed, key: hash(repo.as_bytes()), items }
    }

    pub fn item(&self, number: u64) -> Option<Item> {
        if number == 0 || number > self.items {
            return None;
        }
        let facts = self.facts(number);
        let mut dice = self.dice(Part::Text, number);
        let title = self.title(&mut dice, number, facts.pull);
        let mut item = Item {
            number,
            kind: if facts.pull { Kind::Pull } else { Kind::Issue },
            title,
            user: author(&mut dice).to_owned(),
            author_association: dice.pick(&ASSOCIATIONS).to_string(),
            labels: self.labels(number),
            created_at: dates::format(facts.created),
            closed_at: facts.closed.map(dates::format),
            merged_at: facts.closed.filter(|_| facts.merged).map(dates::format),
            updated_at: dates::format(facts.updated()),
            state: if facts.closed.is_some() { "closed" } else { "open" }.to_owned(),
            draft: facts.draft,
            closes: facts.closes.into_iter().collect(),
            ..Item::default()
        };
        if facts.closed.is_some() && !facts.pull {
            let unplanned = !self.is_fixed(number) && dice.chance(30);
            let reason = if unplanned { "not_planned" } else { "completed" };
            item.state_reason = Some(reason.to_owned());
        }
        item.body = (!dice.chance(4)).then(|| self.body(&mut dice, number, &facts));
        self.talk(&mut item, &facts);
        if facts.pull {
            item.diff = self.diff(number);
        }
        Some(item)
    }

    pub fn row(&self, number: u64) -> Row {
        let facts = self.facts(number);
        Row {
            number,
            created: facts.created,
            updated: facts.updated(),
            closed: facts.closed.is_some(),
            pull: facts.pull,
            merged: facts.merged,
        }
    }

    pub fn labels(&self, number: u64) -> Vec<String> {
        let mut dice = self.dice(Part::Labels, number);
        let mut labels = Vec::new();
        let table: &[&str] = if self.is_pull(number) { &PULL_LABELS } else { &ISSUE_LABELS };
        for _ in 0..dice.below(3) {
            let label = *dice.pick(table);
            if !labels.iter().any(|have| have == label) {
                labels.push(label.to_owned());
            }
        }
        labels
    }

    pub fn closers(&self, number: u64) -> impl Iterator<Item = u64> {
        let last = (number + REACH).min(self.items);
        (number + 1..=last).filter(move |pull| self.closes(*pull) == Some(number))
    }

    fn dice(&self, part: Part, number: u64) -> Dice {
        Dice::of(&[self.seed, self.key, number, part as u64])
    }

    fn is_pull(&self, number: u64) -> bool {
        self.dice(Part::Kind, number).below(3) == 0
    }

    fn closes(&self, number: u64) -> Option<u64> {
        let mut dice = self.dice(Part::Link, number);
        let issue = number.checked_sub(1 + dice.below(REACH)).filter(|issue| *issue > 0)?;
        (self.is_pull(number) && !self.is_pull(issue) && dice.chance(60)).then_some(issue)
    }

    fn is_merged(&self, number: u64) -> bool {
        self.is_pull(number) && self.dice(Part::Fate, number).chance(60)
    }

    /// Whether a merged pull request closed the issue. It asks past the last item too: the fate of
    /// an item must not depend on how many are served.
    fn is_fixed(&self, number: u64) -> bool {
        let mut later = number + 1..=number + REACH;
        later.any(|pull| self.closes(pull) == Some(number) && self.is_merged(pull))
    }

    fn facts(&self, number: u64) -> Facts {
        let pull = self.is_pull(number);
        let merged = self.is_merged(number);
        let mut dice = self.dice(Part::Fate, number);
        dice.next();
        let created = created(number) + dice.below(600) as i64;
        let open_for = 3600 + dice.below(40 * 86_400) as i64;
        let closed = merged || dice.chance(if pull { 30 } else { 40 });
        let mut closed = closed.then_some(created + open_for);
        let closer = (number + 1..=number + REACH)
            .find(|later| self.closes(*later) == Some(number) && self.is_merged(*later));
        if let (false, Some(closer)) = (pull, closer) {
            closed = self.facts(closer).closed;
        }
        let draft = pull && closed.is_none() && dice.chance(30);
        let closes = if pull { self.closes(number) } else { None };
        Facts { pull, created, closed, merged, draft, closes }
    }

    fn title(&self, dice: &mut Dice, number: u64, pull: bool) -> String {
        let (part, symptom) = (dice.pick(&PARTS), dice.pick(&SYMPTOMS));
        let condition = dice.pick(&CONDITIONS);
        match (pull, dice.below(3)) {
            (true, 0) => format!("fix: {symptom} in {part} {condition} (b{number})"),
            (true, _) => format!("{part}: {} {condition} (b{number})", dice.pick(&CHANGES)),
            (false, 0) => format!("[Bug]: {symptom} in {part} {condition} (b{number})"),
            (false, _) => format!("{part} {symptom} {condition} since b{number}"),
        }
    }

    fn body(&self, dice: &mut Dice, number: u64, facts: &Facts) -> String {
        let (part, model) = (dice.pick(&PARTS), dice.pick(&MODELS));
        let (device, condition) = (dice.pick(&DEVICES), dice.pick(&CONDITIONS));
        let symptom = dice.pick(&SYMPTOMS);
        if facts.pull {
            let link = facts.closes.map_or(String::new(), |issue| format!("\n\nFixes #{issue}"));
            return format!(
                "### What\n\n{} in `{part}` {condition}.\n\n### Why\n\nWith {model} on {device} we saw \
                 {symptom}; the check was done on the wrong stride (build b{number}).\n\n\
                 - [x] tests pass\n- [ ] benchmarked on {}{link}\n",
                dice.pick(&CHANGES),
                dice.pick(&DEVICES)
            );
        }
        let remark = dice.pick(&REMARKS);
        let tokens = 128 << dice.below(8);
        format!(
            "### Current behaviour\n\n{model} on {device}: {symptom} in `{part}` {condition}. {remark}\n\n\
             ### Steps to reproduce\n\n```bash\n./serve --model {model} --ctx {tokens} --port {}\n```\n\n\
             1. send a prompt of {tokens} tokens\n2. wait\n\n```text\n[b{number}] {}: {part}: assertion \
             `n_tokens <= {tokens}` failed\n  at {}+0x{:x}\n```\n\n### Environment\n\n\
             | | |\n|---|---|\n| repository | {} |\n| version | b{number} |\n| device | {device} |\n",
            8000 + dice.below(1000),
            dice.pick(&LEVELS),
            dice.pick(&FUNCTIONS),
            dice.next() & 0xFFFF,
            self.repo
        )
    }

    /// Comments and, on pull requests, reviews; all between opening and closing.
    fn talk(&self, item: &mut Item, facts: &Facts) {
        let mut dice = self.dice(Part::Talk, item.number);
        let end = facts.closed.unwrap_or(facts.created + 20 * 86_400);
        let span = (end - facts.created).max(8);
        let mut at = facts.created;
        for _ in 0..dice.below(5) {
            at += dice.below(span as u64 / 6) as i64;
            item.comments.push(Comment {
                user: author(&mut dice).to_owned(),
                body: format!("{} (`{}`)", dice.pick(&REPLIES), dice.pick(&FUNCTIONS)),
                created_at: dates::format(at),
            });
        }
        if !facts.pull || dice.chance(30) {
            return;
        }
        let submitted_at = dates::format(facts.created + span / 2);
        let path = dice.pick(&FILES).to_string();
        let comments = (0..dice.below(3)).map(|nth| LineComment {
            user: MAINTAINERS[0].to_owned(),
            path: path.clone(),
            line: 10 + nth,
            body: dice.pick(&REPLIES).to_string(),
            created_at: submitted_at.clone(),
        });
        let comments = comments.collect();
        let state = if facts.merged { "APPROVED" } else { "CHANGES_REQUESTED" };
        item.reviews.push(Review {
            user: MAINTAINERS[0].to_owned(),
            state: state.to_owned(),
            body: dice.pick(&REPLIES).to_string(),
            submitted_at,
            comments,
        });
    }

    fn diff(&self, number: u64) -> String {
        let mut dice = self.dice(Part::Diff, number);
        let first = dice.below(FILES.len() as u64) as usize;
        let mut diff = String::new();
        for nth in 0..1 + dice.below(3) as usize {
            let path = FILES[(first + nth) % FILES.len()];
            let (function, variable) = (dice.pick(&FUNCTIONS), dice.pick(&VARIABLES));
            let line = 20 + dice.below(400);
            let (old, new) = (dice.next() as u32, dice.next() as u32);
            diff += &format!(
                "diff --git a/{path} b/{path}\nindex {old:08x}..{new:08x} 100644\n--- a/{path}\n+++ b/{path}\n\
                 @@ -{line},5 +{line},6 @@ {function}\n // b{number}\n-    return {function}(ctx, {variable});\n\
                 +    if ({variable} == 0) {{ return -1; }}\n+    return {function}(ctx, {variable} - 1);\n \n }}\n \n"
            );
        }
        diff
    }
}

impl Facts {
    /// Silence after the end, and for what is open, a few days of talk.
    fn updated(&self) -> i64 {
        self.closed.unwrap_or(self.created + 20 * 86_400)
    }
}

fn author(dice: &mut Dice) -> &'static str {
    let names: &[&str] = if dice.chance(8) { &BOTS } else { &PEOPLE };
    dice.pick::<&str>(names)
}
