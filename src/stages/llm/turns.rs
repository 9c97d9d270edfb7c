//! A row's turns: each of a stage's models is asked for each sample, all side by side, and what they
//! answer becomes rows. Where a model's provider fails, its fallback answers.

use futures::future::join_all;
use serde_json::Value;

use super::Stage;
use super::answer::NoAnswer;
use super::models::{Chain, Model};
use super::votes::{self, Sample};
use crate::clients::Asking;
use crate::stages::{Answered, Ask, Instead, RowError, World};
use crate::store::Made;
use crate::table::Row;

/// One asking of a row: of one model, for one sample.
#[derive(Clone, Copy)]
struct Turn<'a> {
    chain: &'a Chain,
    /// From 0 on.
    sample: u32,
}

/// What came of a turn.
struct Taken<'a> {
    sample: Sample,
    by: &'a Model,
}

impl Stage {
    /// In the order in which their rows come out.
    fn turns(&self) -> impl Iterator<Item = Turn<'_>> {
        let samples = self.samples();
        let of = move |chain| (0..samples).map(move |sample| Turn { chain, sample });
        self.models.iter().flat_map(of)
    }

    /// How often each model is asked.
    pub(super) fn samples(&self) -> u32 {
        self.samples.map_or(1, |samples| samples.get())
    }

    /// What `row`, which asks `ask`, makes. Where a turn has no answer, the row has no result.
    pub(super) async fn take_turns(
        &self,
        row: &Row,
        ask: &Ask,
        asking: &Asking,
        world: &World,
    ) -> Result<Answered, RowError> {
        let turns: Vec<Turn<'_>> = self.turns().collect();
        let taken = join_all(turns.iter().map(|turn| self.take(*turn, row, asking, world))).await;
        let mut good = Vec::with_capacity(taken.len());
        let mut worst: Option<RowError> = None;
        for (turn, taken) in turns.iter().zip(taken) {
            match taken {
                Ok(taken) => good.push(taken),
                // Of those that weigh the same, the first is told.
                Err(error) if worst.as_ref().is_none_or(|it| weight(it) < weight(&error)) => {
                    worst = Some(error.of_part(&self.shown(*turn)));
                }
                Err(_) => {}
            }
        }
        if let Some(error) = worst {
            return Err(error);
        }
        let instead = self.instead(row, ask, &turns, &good)?;
        let mut rows = Vec::new();
        let mut good = good.into_iter().map(|taken| taken.sample);
        for chain in &self.models {
            let samples: Vec<Sample> = good.by_ref().take(self.samples() as usize).collect();
            rows.extend(self.rows(chain, samples));
        }
        Ok(Answered { made: Made::Rows(rows), instead })
    }

    /// The rows that the answers of one model make.
    fn rows(&self, chain: &Chain, samples: Vec<Sample>) -> Vec<Row> {
        let mut start = Row::new();
        if self.compares {
            start.insert("model".into(), chain.first().name.clone().into());
        }
        if let Some(fields) = &self.vote {
            start.extend(votes::count(samples, fields));
            return vec![start];
        }
        let rows = samples.into_iter().zip(1..).map(|(Sample { fields, call }, number)| {
            let mut row = start.clone();
            if self.samples.is_some() {
                row.insert("sample".into(), Value::from(number));
            }
            row.extend(fields);
            row.insert("_call".into(), call);
            row
        });
        rows.collect()
    }

    /// What was asked in the place of what `row` asks, where fallbacks answered.
    fn instead(
        &self,
        row: &Row,
        ask: &Ask,
        turns: &[Turn<'_>],
        taken: &[Taken<'_>],
    ) -> Result<Option<Instead>, RowError> {
        let mut requests = ask.requests.clone();
        let mut by: Vec<String> = Vec::new();
        for ((turn, taken), request) in turns.iter().zip(taken).zip(&mut requests) {
            if taken.by.name == turn.chain.first().name {
                continue;
            }
            *request = taken.by.chat.request(&self.body(taken.by, row)?.json, turn.sample);
            let name = format!("`{}`", taken.by.name);
            if !by.contains(&name) {
                by.push(name);
            }
        }
        let ask = Ask { requests, text: ask.text.clone(), tokens_cut: ask.tokens_cut };
        Ok((!by.is_empty()).then(|| Instead { by: by.join(" and "), ask }))
    }

    /// Asks a turn's model, and its fallbacks one after the other while providers fail.
    async fn take<'a>(
        &'a self,
        turn: Turn<'a>,
        row: &Row,
        asking: &Asking,
        world: &World,
    ) -> Result<Taken<'a>, RowError> {
        let (last, before) = turn.chain.split_last();
        let mut failed = Vec::new();
        for (model, next) in before.iter().zip(turn.chain.fallbacks()) {
            match self.unless_troubled(model, next, turn.sample, row, asking, world).await {
                Ok(sample) => return Ok(turn.taken(sample, model)),
                Err(NoAnswer::Row(error)) => return Err(after(&failed, model, error)),
                Err(NoAnswer::Provider(why)) => failed.push(format!("`{}`: {why}", model.name)),
            }
        }
        match self.answer(last, turn.sample, row, asking).await {
            Ok(sample) => Ok(turn.taken(sample, last)),
            Err(NoAnswer::Row(error)) => Err(after(&failed, last, error)),
            Err(NoAnswer::Provider(why)) => Err(after(&failed, last, RowError::Passing(why))),
        }
    }

    /// Asks a model that has a fallback. One that has failed too often is asked for nothing that is
    /// not recorded.
    async fn unless_troubled(
        &self,
        model: &Model,
        next: &Model,
        sample: u32,
        row: &Row,
        asking: &Asking,
        world: &World,
    ) -> Result<Sample, NoAnswer> {
        let transport = &world.transport;
        if transport.troubles().leaves_alone(&model.name) {
            let request = model.chat.request(&self.body(model, row)?.json, sample);
            if !transport.is_recorded(request.key())? {
                let why = "it failed too often and is left alone for the rest of the run";
                return Err(NoAnswer::Provider(why.into()));
            }
        }
        let result = self.answer(model, sample, row, asking).await;
        if matches!(result, Err(NoAnswer::Provider(_)))
            && !transport.is_offline()
            && transport.troubles().failed(&model.name)
        {
            (world.note)(format!(
                "`{}` failed too often and is left alone for the rest of the run: what it has not \
                 answered yet goes to `{}`",
                model.name, next.name
            ));
        }
        result
    }

    /// Which of several turns it is, as the beginning of what is told of it.
    fn shown(&self, turn: Turn<'_>) -> String {
        let (model, sample) = (&turn.chain.first().name, turn.sample + 1);
        match (self.compares, self.samples.is_some()) {
            (false, false) => String::new(),
            (true, false) => format!("model `{model}`: "),
            (false, true) => format!("sample {sample}: "),
            (true, true) => format!("model `{model}`, sample {sample}: "),
        }
    }
}

impl<'a> Turn<'a> {
    /// Its answer, which `by` gave.
    fn taken(&self, mut sample: Sample, by: &'a Model) -> Taken<'a> {
        let first = &self.chain.first().name;
        if by.name != *first {
            sample.call["fallback_for"] = first.clone().into();
        }
        Taken { sample, by }
    }
}

/// Why a turn has no answer after the providers of other models have `failed`: then the next run asks
/// those again, whatever was wrong with the answer of `model`.
fn after(failed: &[String], model: &Model, error: RowError) -> RowError {
    match error {
        error @ RowError::Stage(_) => error,
        error if failed.is_empty() => error,
        error => RowError::Passing(format!("{}; `{}`: {error}", failed.join("; "), model.name)),
    }
}

/// Which of a row's failures counts: one that stops the stage, then one that the next run may mend.
fn weight(error: &RowError) -> u8 {
    match error {
        RowError::Stage(_) => 2,
        RowError::Passing(_) => 1,
        RowError::Answer(..) | RowError::Row(_) => 0,
    }
}
