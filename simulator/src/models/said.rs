//! What a model says: the written answer, one made up from the question, or an ill one as ordered.

use super::answers::Answers;
use super::asked::{Asked, Format, tokens};
use super::conform::Maker;
use super::hints::Hints;
use crate::dice::Dice;
use crate::faults::Says;
use serde_json::{Map, Value, json};

pub struct Said {
    pub content: String,
    pub refused: bool,
    pub end: End,
    /// Whether it was `authored` or `simulated`.
    pub source: &'static str,
    /// Tokens of what it thought before.
    pub reasoning: u64,
}

/// Why it ended.
#[derive(Clone, Copy, PartialEq)]
pub enum End {
    Stop,
    Length,
    ContentFilter,
}

const PHRASES: [&str; 4] = [
    "The report describes a crash in the engine.",
    "The change fixes the bounds check.",
    "Not enough is said to decide.",
    "The cause is a missing synchronisation.",
];
const REFUSAL: &str = "I'm sorry, I can't assist with that.";

pub fn say(answers: &Answers, asked: &Asked, ordered: Option<Says>) -> Said {
    let (content, source) = content(answers, asked, Dice::new(asked.seed));
    let reasoning = reasoning(asked.effort.as_deref(), asked.seed);
    let mut said = Said { content, refused: false, end: End::Stop, source, reasoning };
    let half = said.content.chars().count() / 2;
    match ordered {
        None => {}
        Some(Says::WrongJson) => said.content.insert_str(0, "Here is the answer: "),
        Some(Says::Refusal) => (said.content, said.refused) = (REFUSAL.to_owned(), true),
        Some(Says::Length) => said.cut(half, End::Length),
        Some(Says::ContentFilter) => said.cut(half, End::ContentFilter),
        Some(Says::Empty) => said.content.clear(),
    }
    if let Some(most) = asked.most.filter(|most| said.tokens() > *most) {
        said.reasoning = said.reasoning.min(most);
        said.cut((most - said.reasoning) as usize * 4, End::Length);
    }
    said
}

impl Said {
    pub fn tokens(&self) -> u64 {
        self.reasoning + tokens(self.content.chars().count())
    }

    fn cut(&mut self, chars: usize, end: End) {
        self.content = self.content.chars().take(chars).collect();
        self.end = end;
    }
}

fn content(answers: &Answers, asked: &Asked, mut dice: Dice) -> (String, &'static str) {
    let texts = || asked.texts.iter().map(|(_, text)| text.as_str());
    match &asked.format {
        Format::Schema { name, schema, .. } => {
            let user = asked.texts.iter().rev().find(|(role, _)| role == "user");
            let user = user.map_or("", |(_, text)| text.as_str());
            if let Some(written) = answers.find(name, user, &texts().collect::<Vec<_>>()) {
                return (written.to_string(), "authored");
            }
            let made = Maker::new(schema, dice, Hints::of(texts())).make(schema);
            (made.to_string(), "simulated")
        }
        Format::Object => {
            let mut object = Map::new();
            object.insert("answer".to_owned(), json!(dice.pick(&PHRASES)));
            object.insert("score".to_owned(), json!(dice.below(100)));
            (Value::Object(object).to_string(), "simulated")
        }
        Format::Text => (dice.pick(&PHRASES).to_string(), "simulated"),
    }
}

/// How many tokens the model thinks.
fn reasoning(effort: Option<&str>, seed: u64) -> u64 {
    let most = match effort {
        None | Some("none") => return 0,
        Some("minimal") => 16,
        Some("low") => 64,
        Some("medium") => 256,
        Some(_) => 1024,
    };
    most / 2 + Dice::of(&[seed, most]).below(most / 2)
}
