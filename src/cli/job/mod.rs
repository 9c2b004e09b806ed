//! `agentd job`: jobs of a tenant.

mod follow;
mod submit;

use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use super::control::{Control, Service, is_no_route, read};
use super::failure::Failure;
use super::names;
use super::output::{Column, field, print_list, print_one, print_rows};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// The tenant: its id, or its name when no other has the same. Only needed to submit, where there is more than one
    #[arg(long, value_name = "TENANT", global = true)]
    tenant: Option<String>,
    #[command(flatten)]
    control: Control,
}

#[derive(Subcommand)]
enum Verb {
    /// Submit a job; prints its id
    Submit(submit::Arguments),
    /// List jobs, newest first
    #[command(after_help = "Examples:\n  agentd job list --tenant Acme --status failed\n  \
                            agentd job list --tool web.fetch --limit 500 --json")]
    List {
        /// Only those that are so: queued, running, waiting, succeeded, failed, cancelled, dead
        #[arg(long)]
        status: Option<String>,
        /// Only those of this tool
        #[arg(long)]
        tool: Option<String>,
        /// Rows at most
        #[arg(long, default_value_t = 50, value_parser = super::line::rows, allow_negative_numbers = true)]
        limit: usize,
    },
    /// Show one job: its input, result, error
    #[command(after_help = "Examples:\n  agentd job show 01a1fb1c-e4e7-7000-9b1a-ace7e35e343e\n  \
                            agentd job show 01a1fb1c-e4e7-7000-9b1a-ace7e35e343e --json | jq .result")]
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// Show a job's events as they happen, until it ends
    #[command(after_help = "Example:\n  agentd job follow 01a1fb1c-e4e7-7000-9b1a-ace7e35e343e\n\n\
                            Exit code 0: the job succeeded; 1: it ended otherwise. Ctrl-C leaves the job running.")]
    Follow {
        #[command(flatten)]
        which: Which,
    },
    /// Cancel a job
    #[command(after_help = "Example:\n  agentd job cancel 01a1fb1c-e4e7-7000-9b1a-ace7e35e343e")]
    Cancel {
        #[command(flatten)]
        which: Which,
    },
    /// Do a finished job again, as a new one; prints its id
    #[command(after_help = "Examples:\n  agentd job retry 01a1fb1c-e4e7-7000-9b1a-ace7e35e343e\n  \
                            agentd job retry 01a1fb1c-e4e7-7000-9b1a-ace7e35e343e --follow")]
    Retry {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        watch: submit::Watch,
    },
}

#[derive(clap::Args)]
struct Which {
    /// The job's id
    #[arg(value_name = "JOB_ID", value_parser = super::line::job_id)]
    job: Uuid,
}

const FIRST: [&str; 9] = ["job_id", "tenant", "status", "tool", "mode", "goal", "input", "result", "error"];
const COLUMNS: [Column; 6] = [
    ("JOB", |row| field(row, "job_id")),
    ("STATUS", |row| field(row, "status")),
    ("TOOL", |row| field(row, if row["tool"].is_null() { "mode" } else { "tool" })),
    ("ATTEMPT", |row| format!("{}/{}", field(row, "attempt"), field(row, "max_attempts"))),
    ("CREATED", |row| field(row, "created_at")),
    ("FINISHED", |row| field(row, "finished_at")),
];

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let json = arguments.control.json;
    arguments.control.run(async |service| {
        let tenant = arguments.tenant.as_deref();
        match &arguments.verb {
            Verb::Submit(submission) => {
                let body = submission.body()?;
                let service = service.acting_for(service.tenant_id(tenant).await?);
                let request = service.request(Method::POST, "/v1/jobs").body(body);
                submit::accepted(&service, request, &submission.watch, json).await
            }
            Verb::List { status, tool, limit } => {
                let filter = [("status", status), ("tool", tool)];
                let filter: Vec<_> =
                    filter.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
                list(&service, tenant, &filter, *limit, json).await
            }
            Verb::Show { which } => {
                let owner = which.owner(&service, tenant).await?;
                show(&service, &owner, &which.path(), json).await
            }
            Verb::Follow { which } => {
                let service = which.owner(&service, tenant).await?;
                follow::judge(&follow::to_its_end(&service, which.job, follow::Show::events(json)).await?)
            }
            Verb::Cancel { which } => {
                let service = which.owner(&service, tenant).await?;
                let text = service.send(service.request(Method::POST, &format!("{}/cancel", which.path()))).await?;
                told_cancelled(&text, json)
            }
            Verb::Retry { which, watch } => {
                let service = which.owner(&service, tenant).await?;
                let request = service.request(Method::POST, &format!("{}/retry", which.path()));
                submit::accepted(&service, request, watch, json).await
            }
        }
    })
}

impl Which {
    fn path(&self) -> String {
        format!("/v1/jobs/{}", self.job)
    }

    /// The service, acting for the tenant whose job it is.
    async fn owner(&self, service: &Service, tenant: Option<&str>) -> Result<Service, Failure> {
        if tenant.is_none() {
            match service.get(&format!("/admin/jobs/{}", self.job)).await {
                Ok(text) => return Ok(service.acting_for(field(&read(&text)?, "tenant_id"))),
                Err(failure) if is_no_route(&failure) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(service.acting_for(service.tenant_id(tenant).await?))
    }
}

/// A tenant's jobs; those of all tenants when none is named.
async fn list(
    service: &Service,
    tenant: Option<&str>,
    filter: &[(&str, &str)],
    limit: usize,
    json: bool,
) -> Result<(), Failure> {
    if tenant.is_none() {
        match service.list("/admin/jobs", filter, limit).await {
            Ok(listed) => {
                if json {
                    return print_list(&listed, json, &COLUMNS);
                }
                let mut rows = listed.values()?;
                names::add(service, &mut rows).await?;
                let of: Column = ("TENANT", names::tenant);
                let columns: Vec<_> = [of].into_iter().chain(COLUMNS).collect();
                print_rows(&rows, &listed, &columns);
                return Ok(());
            }
            Err(failure) if is_no_route(&failure) => {}
            Err(failure) => return Err(failure),
        }
    }
    let service = service.acting_for(service.tenant_id(tenant).await?);
    print_list(&service.list("/v1/jobs", filter, limit).await?, json, &COLUMNS)
}

/// One job, for people with the name of its tenant.
async fn show(service: &Service, owner: &Service, path: &str, json: bool) -> Result<(), Failure> {
    let text = owner.get(path).await?;
    if json {
        return print_one(&text, json, &FIRST);
    }
    let mut job: [Value; 1] = [read(&text)?];
    job[0]["tenant_id"] = owner.tenant().into();
    names::add(service, &mut job).await?;
    let [mut job] = job;
    job.as_object_mut().and_then(|fields| fields.remove("tenant_id"));
    print_one(&job.to_string(), json, &FIRST)
}

fn told_cancelled(text: &str, json: bool) -> Result<(), Failure> {
    if json {
        return print_one(text, json, &FIRST);
    }
    let job: Value = read(text)?;
    match job["status"].as_str() {
        Some("cancelled") => say!("the job is cancelled"),
        _ => say!("the job has been told to stop; agentd job follow shows when it has"),
    }
    Ok(())
}
