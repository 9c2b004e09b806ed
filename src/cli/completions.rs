//! `agentd completions`: what a shell needs to complete these verbs.

use clap::{CommandFactory as _, ValueEnum};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    agentd completions bash > /usr/share/bash-completion/completions/agentd\n  \
    agentd completions zsh > /usr/share/zsh/vendor-completions/_agentd\n  \
    agentd completions fish > ~/.config/fish/completions/agentd.fish")]
pub(super) struct Arguments {
    /// The shell
    shell: Shell,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(arguments: &Arguments) {
    let shell = match arguments.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::Line::command(), "agentd", &mut script);
    say!("{}", String::from_utf8_lossy(&script).trim_end());
}
