//! `agentd version`

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  agentd version\n  agentd version --json | jq -r .version")]
pub(super) struct Arguments {
    /// Print it as /version does
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) {
    let version = env!("CARGO_PKG_VERSION");
    if arguments.json {
        say!("{}", serde_json::json!({ "name": "agentd", "version": version }));
    } else {
        say!("agentd {version}");
    }
}
