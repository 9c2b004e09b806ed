//! `agentd backup`: the backups of the running service.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::control::{Control, Rows, Service, read};
use super::failure::Failure;
use super::output::{Column, field, plain, print_list};
use crate::backups::{BackupError, Keys, Name, SECRETS, restore};
use crate::db::folder_of;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    control: Control,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a backup now, and wait for it
    #[command(after_help = "Examples:\n  agentd backup create\n  agentd backup create --no-wait")]
    Create {
        /// Print the job's id and do not wait for its end
        #[arg(long)]
        no_wait: bool,
    },
    /// List backups, the newest first
    #[command(after_help = "Examples:\n  agentd backup list\n  agentd backup list --json | jq -r '.data[0].name'")]
    List,
    /// Restore a backup as a test, beside the data, and look through what comes out
    #[command(
        after_help = "Examples:\n  agentd backup verify\n  agentd backup verify agentd-1f0c9a3e-t1-s6-20300131T093000.000Z.tar.zst\n  \
                            agentd backup verify ./a-file.tar.zst.age --identity key.txt\n\n\
                            A name is one of the list's, without one it is the newest; the service does it. A path of a \
                            file (with a slash) is looked at here, and needs no service."
    )]
    Verify {
        /// A name of the list, or the path of a file
        #[arg(value_parser = name_or_path)]
        backup: Option<String>,
        /// File of the age key that opens it, for a file
        #[arg(long, value_name = "FILE")]
        identity: Option<PathBuf>,
    },
}

const COLUMNS: [Column; 6] = [
    ("NAME", |row| field(row, "name")),
    ("MADE", |row| field(row, "created_at")),
    ("BYTES", |row| field(row, "bytes")),
    ("ENCRYPTED", |row| field(row, "encrypted")),
    ("HERE", |row| field(row, "here")),
    ("SENT", |row| field(row, "sent")),
];

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let json = arguments.control.json;
    if let Verb::Verify { backup: Some(path), identity } = &arguments.verb
        && path.contains('/')
    {
        return verify_file(Path::new(path), identity.as_deref(), &arguments.control, json);
    }
    arguments.control.run(async |service| match &arguments.verb {
        Verb::List => {
            print_list(&Rows { rows: service.rows("/admin/backups").await?, next_cursor: None }, json, &COLUMNS)
        }
        Verb::Create { no_wait } => {
            let job = job(&service, "/admin/backups").await?;
            if *no_wait {
                say!("{job}");
                return Ok(());
            }
            let made = result(&service, &job, "no backup").await?;
            if json {
                say!("{made}");
                return Ok(());
            }
            let (name, bytes, seconds) =
                (field(&made, "name"), field(&made, "bytes"), made["seconds"].as_f64().unwrap_or(0.0));
            say!("{} is made: {bytes} bytes, in {seconds:.1} s", plain(&name));
            Ok(())
        }
        Verb::Verify { backup, identity } => {
            if identity.is_some() {
                return Err(Failure::Usage(
                    "--identity is for a file; the service opens its own backups itself".into(),
                ));
            }
            let name = match backup {
                Some(name) => name.clone(),
                None => newest(&service).await?,
            };
            let job = job(&service, &format!("/admin/backups/{name}/verify")).await?;
            let tried = result(&service, &job, "it cannot be restored").await?;
            if json {
                say!("{tried}");
            } else {
                say!("{} can be restored", plain(&name));
            }
            Ok(())
        }
    })
}

fn name_or_path(text: &str) -> Result<String, String> {
    if text.contains('/') || text.parse::<Name>().is_ok() {
        return Ok(text.to_owned());
    }
    Err("must be a name of agentd backup list, or the path of a file with a slash in it, such as ./FILE".into())
}

async fn newest(service: &Service) -> Result<String, Failure> {
    let rows = service.rows("/admin/backups").await?;
    let first = rows.first().ok_or_else(|| Failure::other("there is no backup yet; agentd backup create makes one"))?;
    Ok(field(&read::<Value>(first.get())?, "name"))
}

async fn job(service: &Service, path: &str) -> Result<String, Failure> {
    let text = service.send(service.request(Method::POST, path)).await?;
    Ok(field(&read::<Value>(&text)?, "job_id"))
}

async fn result(service: &Service, job: &str, otherwise: &str) -> Result<Value, Failure> {
    let mut job = service.ended_job(job).await?;
    if job["status"] == "succeeded" {
        return Ok(job["result"].take());
    }
    Err(Failure::other(format_args!("{otherwise}: {}", plain(&field(&job["error"], "message")))))
}

fn verify_file(path: &Path, identity: Option<&Path>, control: &Control, json: bool) -> Result<(), Failure> {
    // Who may not read the service's own key may have another.
    let own = control.location().places()?.data.join(SECRETS);
    let keys = Keys::for_reading(&own, identity).or_else(|_| Keys::for_reading(Path::new("/nonexistent"), identity));
    let verified = keys.and_then(|keys| restore::verify(path, &keys, folder_of(path)));
    let manifest = verified.map_err(|error: BackupError| Failure::other(error))?;
    if json {
        say!("{}", json!(manifest));
    } else {
        say!("{} can be restored: made {} by agentd {}", path.display(), manifest.created_at, plain(&manifest.agentd));
    }
    Ok(())
}
