//! What is to be run, or planned: the arguments that `run` and `plan` share.

use std::collections::BTreeSet;

use clap::Args;

use crate::engine::{Choices, NoTarget, Refresh, find, select};
use crate::pipeline::Pipeline;
use crate::stages::Work;

#[derive(Args)]
pub(super) struct What {
    /// Stages or outputs, with all that they need; `x+` also all that follows x
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Only the targets (`+x` with what x needs, `x+` with what follows), on what the others last
    /// made
    #[arg(long, requires = "targets")]
    only: bool,
    /// Run the rows of the targets again, on recorded answers
    #[arg(long)]
    force: bool,
    /// Ask again what these stages have asked, or all of them; what is unchanged changes nothing
    #[arg(long, value_name = "STAGE,...|all", value_delimiter = ',')]
    refresh: Vec<String>,
    /// Ask again about rows whose answers were no good
    #[arg(long)]
    retry_failed: bool,
    /// A trial: the first N rows of each stage and list, outputs under `data/trial/`
    #[arg(long, value_name = "N", value_parser = super::from_one)]
    limit: Option<u64>,
}

impl What {
    /// The stages that it is about, and what is to be done; or what is wrong with the arguments.
    pub fn read(&self, pipeline: &Pipeline) -> Result<(BTreeSet<usize>, Choices), String> {
        let wrong = |error: NoTarget| error.to_string();
        let chosen = select(pipeline, &self.targets, self.only).map_err(wrong)?;
        let choices = self.choices(pipeline).map_err(wrong)?;
        if let Refresh::Stages(stages) = &choices.refresh {
            for at in stages {
                let stage = &pipeline.stages[*at];
                let asks = matches!(&stage.compiled.work, Work::Rows(work) if work.stage.calls());
                match (asks, chosen.contains(at)) {
                    (false, _) => {
                        return Err(format!(
                            "`{}` asks nobody: there is nothing to refresh; leave it out of `--refresh`",
                            stage.name
                        ));
                    }
                    (true, false) => {
                        return Err(format!(
                            "`{0}` is to be refreshed and is no target; name it as one: \
                             `flow run {0} --refresh {0}`",
                            stage.name
                        ));
                    }
                    (true, true) => {}
                }
            }
        }
        Ok((chosen, choices))
    }

    fn choices(&self, pipeline: &Pipeline) -> Result<Choices, NoTarget> {
        let refresh = match &self.refresh[..] {
            [] => Refresh::None,
            [all] if all == "all" => Refresh::All,
            names => {
                let found: Result<_, _> = names.iter().map(|name| find(pipeline, name)).collect();
                Refresh::Stages(found?)
            }
        };
        let force = match self.force {
            false => Vec::new(),
            true => select(pipeline, &self.targets, true)?.into_iter().collect(),
        };
        let (retry_failed, limit) = (self.retry_failed, self.limit);
        Ok(Choices { refresh, force, retry_failed, limit, ..Choices::default() })
    }
}
