//! `flow completions`

use clap::{Args, ValueEnum};
use clap_complete::Shell;

use super::style::Style;
use super::{Exit, Shared};
use crate::manifest::{Elsewhere, Manifest, Problems};

#[derive(Args)]
#[command(after_help = "Examples:
  flow completions bash > ~/.local/share/bash-completion/completions/flow
  flow completions zsh > ~/.zfunc/_flow      # in a folder that `fpath` names
  flow completions fish > ~/.config/fish/completions/flow.fish")]
pub(super) struct Arguments {
    /// The shell that the script is for
    #[arg(value_enum, required_unless_present = "stages")]
    shell: Option<For>,
    /// Print the names of the stages, for these scripts
    #[arg(long, hide = true)]
    stages: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum For {
    Bash,
    Zsh,
    Fish,
}

/// Commands that take the name of a stage.
const WITH_STAGES: &str = "run plan why show render try graph accept diff";

pub(super) fn main(arguments: &Arguments, shared: &Shared, style: &Style) -> Exit {
    match arguments.shell {
        Some(shell) if !arguments.stages => style.result(&script(shell)),
        _ => style.result(&stages(shared)),
    }
    Exit::Done
}

/// What clap makes, with the names of stages where one may stand: they are asked for when they are
/// wanted, in the folder where that is.
fn script(shell: For) -> String {
    let generated = |shell| {
        let mut written = Vec::new();
        clap_complete::generate(shell, &mut super::command(), "flow", &mut written);
        String::from_utf8_lossy(&written).into_owned()
    };
    match shell {
        For::Bash => {
            generated(Shell::Bash) + &BASH.replace("COMMANDS", &WITH_STAGES.replace(' ', "|"))
        }
        For::Fish => generated(Shell::Fish) + &FISH.replace("COMMANDS", WITH_STAGES),
        For::Zsh => zsh(&generated(Shell::Zsh)),
    }
}

const BASH: &str = r#"
_flow_or_stage() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
    _flow "$@"
    case "${COMP_WORDS[1]}" in
        COMMANDS) ;;
        *) return ;;
    esac
    # An option, or the value of one.
    case "$word" in -*) return ;; esac
    case "$before" in --refresh|--only|--force|--json|--retry-failed) ;; -*) return ;; esac
    [[ $COMP_CWORD -ge 2 ]] || return
    COMPREPLY=($(compgen -W "$(flow completions --stages 2>/dev/null)" -- "$word"))
}
complete -F _flow_or_stage -o bashdefault -o default flow
"#;

const FISH: &str = r#"
complete -c flow -n "__fish_flow_using_subcommand COMMANDS" -a "(flow completions --stages 2>/dev/null)"
"#;

const ZSH: &str = r#"
_flow_stages() {
    local -a stages
    stages=(${(f)"$(flow completions --stages 2>/dev/null)"})
    compadd -a stages
    _files
}
"#;

/// Positional arguments that are stages are completed by a function of our own.
fn zsh(script: &str) -> String {
    let mut text = String::new();
    for line in script.lines() {
        let is_stage = ["'*::targets -- ", "':stage -- ", "'::stage -- "];
        let is_stage = is_stage.iter().any(|start| line.trim_start().starts_with(start));
        match is_stage {
            true => text.push_str(&line.replace(":_default'", ":_flow_stages'")),
            false => text.push_str(line),
        }
        text.push('\n');
        if line == "autoload -U is-at-least" {
            text.push_str(ZSH);
        }
    }
    text
}

/// The names of the stages, a line each; none where there is no manifest, or it has mistakes there.
fn stages(shared: &Shared) -> String {
    let Ok((project, source)) = Manifest::read(&shared.file) else { return String::new() };
    let profile = shared.profile.as_deref();
    let mut unheard = Problems::default();
    let manifest = Manifest::parse(
        &source,
        &source.text,
        project,
        profile,
        &Elsewhere::default(),
        &mut unheard,
    );
    let stages = manifest.into_iter().flat_map(|manifest| manifest.stages);
    stages.map(|stage| format!("{}\n", stage.name)).collect()
}
