//! `agentd demo`: the whole way once, on a fresh folder, with every step shown.
//!
//! It talks to the service over HTTP, as anyone would; nothing is staged. The
//! page that the agent reads is served by the demo itself while it runs.

mod page;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use sse_stream::SseStream;

use super::{exit, fail};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  agentd demo\n  agentd demo --stop")]
pub(super) struct Arguments {
    /// Address and port; a free port is taken when another program has it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Folder for the demo's data; what an earlier demo left there is removed
    #[arg(long, value_name = "DIR", default_value = "data/demo")]
    data_dir: PathBuf,
    /// End the service of an earlier demo and do nothing else
    #[arg(long)]
    stop: bool,
}

/// Only a folder with this file in it is ever removed.
const MARK: &str = "made-by-agentd-demo";
const START_TIMEOUT: Duration = Duration::from_secs(20);

type Failure = Box<dyn std::error::Error>;

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match demo(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(exit::FAILED, error),
    }
}

fn demo(arguments: &Arguments) -> Result<(), Failure> {
    let folder = &arguments.data_dir;
    let stopped = stop_earlier(folder)?;
    if arguments.stop {
        say!("{}", if stopped { "the demo's service has been stopped" } else { "no demo is running" });
        return Ok(());
    }
    fresh_folder(folder)?;
    let listen = free_address(arguments.listen)?;
    say!("agentd {} · a service on a fresh folder, and real work in it\n", env!("CARGO_PKG_VERSION"));
    let page = page::serve()?;
    let mut child = start(listen, folder, page)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shown = runtime.block_on(show(&mut child, listen, folder, page));
    if shown.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    shown
}

/// Ends the service that an earlier demo left running on this folder; whether
/// there was one.
fn stop_earlier(folder: &Path) -> Result<bool, Failure> {
    let lock = folder.join("agentd.lock");
    let held = || -> bool {
        let file = std::fs::File::open(&lock);
        file.is_ok_and(|file| matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
    };
    if !folder.join(MARK).exists() || !held() {
        return Ok(false);
    }
    let pid: i32 = std::fs::read_to_string(&lock)?.trim().parse()?;
    let pid = rustix::process::Pid::from_raw(pid).ok_or("the lock of the earlier demo names no process")?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let start = Instant::now();
    while held() {
        if start.elapsed() > Duration::from_secs(30) {
            return Err("the service of the earlier demo does not stop".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}

fn fresh_folder(folder: &Path) -> Result<(), Failure> {
    if folder.exists() {
        let empty = std::fs::read_dir(folder)?.next().is_none();
        if !empty && !folder.join(MARK).exists() {
            let text = format!("{} holds something else; choose another folder with --data-dir", folder.display());
            return Err(text.into());
        }
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(MARK), "agentd demo may remove this folder\n")?;
    Ok(())
}

/// The wanted address, or one with a free port.
fn free_address(wanted: SocketAddr) -> Result<SocketAddr, Failure> {
    if TcpListener::bind(wanted).is_ok() {
        return Ok(wanted);
    }
    let free = TcpListener::bind((wanted.ip(), 0))?.local_addr()?;
    say!("port {} is taken, so the demo uses {}", wanted.port(), free.port());
    Ok(free)
}

/// The service as a process of its own, which outlives the demo. Of this
/// machine it may read the demo's page and nothing else.
fn start(listen: SocketAddr, folder: &Path, page: SocketAddr) -> Result<Child, Failure> {
    use std::os::unix::process::CommandExt as _;
    let log = std::fs::File::create(folder.join("agentd.log"))?;
    let child = Command::new(std::env::current_exe()?)
        .args(["serve", "--listen", &listen.to_string(), "--data-dir"])
        .arg(folder)
        .env_clear()
        .env("AGENTD_OUTBOUND_ALLOW", page.to_string())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C in this terminal is for the demo, not for the service.
        .process_group(0)
        .spawn()?;
    Ok(child)
}

async fn show(child: &mut Child, listen: SocketAddr, folder: &Path, page: SocketAddr) -> Result<(), Failure> {
    let api = Api { client: Client::builder().no_proxy().build()?, base: format!("http://{listen}") };
    let took = api.until_ready(child, folder).await?;
    step("start", &format!("ready on {} after {} ms, pid {}", api.base, took.as_millis(), child.id()));

    let admin = std::fs::read_to_string(folder.join("secrets/admin.key"))?;
    let admin = admin.trim();
    let tenant = json(api.post("/admin/tenants", &json!({ "name": "MyCompany" })).header("X-Admin-Key", admin)).await?;
    let id = text(&tenant, "tenant_id")?;
    step("tenant", &format!("{} {id}", text(&tenant, "name")?));
    let made = api.post(&format!("/admin/tenants/{id}/keys"), &json!({ "name": "Demo Key" }));
    let made = json(made.header("X-Admin-Key", admin)).await?;
    let key = text(&made, "api_key")?;
    step("key", &format!("{key} (shown this once)"));

    say!("");
    let echo = json!({ "tool": "echo", "input": { "hello": "world" } });
    let first = api.follow(&key, "echo, at once", &echo).await?;
    let sum = json!({ "tool": "math.eval", "input": { "expression": "PI * r^2", "variables": { "r": 3 } } });
    api.follow(&key, "math.eval, with variables", &sum).await?;
    let later = json!({ "tool": "time.now", "input": { "zone": "Europe/Berlin" }, "delay": 1.5 });
    api.follow(&key, "time.now, in 1.5 seconds", &later).await?;
    let wrong = json!({ "tool": "math.eval", "input": { "expression": "1 / 0" } });
    api.follow(&key, "math.eval, which cannot succeed", &wrong).await?;

    let goal = format!("Summarise http://{page}/page");
    let agent = api.follow(&key, &goal, &json!({ "mode": "agent", "goal": goal })).await?;
    let agent = json(api.get(&format!("/agent/status/{agent}")).header("X-API-Key", &key)).await?;
    print_answer(&agent["result"])?;

    let status = json(api.get(&format!("/agent/status/{first}")).header("X-API-Key", &key)).await?;
    say!("The record of the first job:\n{}\n", serde_json::to_string_pretty(&status)?);
    say!("The service goes on running. Try:\n");
    say!("  export KEY={key}");
    say!("  curl '{}/agent/run?wait=5' -H \"X-API-Key: $KEY\" -d '{echo}'", api.base);
    say!("  curl -N {}/v1/jobs/{first}/events -H \"X-API-Key: $KEY\" -H 'Accept: text/event-stream'", api.base);
    say!("  curl {}/v1/jobs -H \"X-API-Key: $KEY\"        # every job; /v1/tools for the tools", api.base);
    let agent = json!({ "mode": "agent", "goal": "what time is it in Europe/Oslo?" });
    say!("  curl '{}/agent/run?wait=30' -H \"X-API-Key: $KEY\" -d '{agent}'", api.base);
    say!("  curl {}/metrics                            # for Prometheus", api.base);
    let program = std::env::current_exe()?;
    say!("  {} job list --data-dir {}   # on this machine, without a key", program.display(), folder.display());
    say!("\nIn a browser {}/docs shows every route.", api.base);
    say!("\nOr end it the hard way and start it again: every job is still there.\n");
    say!("  kill -9 {}; {} serve --listen {listen} --data-dir {}", child.id(), program.display(), folder.display());
    say!("\nIts log is {}; agentd demo --stop ends it.", folder.join("agentd.log").display());
    Ok(())
}

fn step(what: &str, shown: &str) {
    say!("{what:<8} {shown}");
}

struct Api {
    client: Client,
    base: String,
}

impl Api {
    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base)).timeout(Duration::from_secs(30))
    }

    fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base)).timeout(Duration::from_secs(30)).json(body)
    }

    async fn until_ready(&self, child: &mut Child, folder: &Path) -> Result<Duration, Failure> {
        let start = Instant::now();
        loop {
            if self.get("/ready").send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(start.elapsed());
            }
            if child.try_wait()?.is_some() || start.elapsed() > START_TIMEOUT {
                let log = std::fs::read_to_string(folder.join("agentd.log")).unwrap_or_default();
                return Err(format!("the service did not start; it said:\n{log}").into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Submits a job and prints its events as they come; its id.
    async fn follow(&self, key: &str, title: &str, body: &Value) -> Result<String, Failure> {
        say!("job: {title}");
        let job = json(self.post("/agent/run", body).header("X-API-Key", key)).await?;
        let id = text(&job, "job_id")?;
        let events = self.client.get(format!("{}/v1/jobs/{id}/events", self.base));
        let answer = events.header("X-API-Key", key).header("Accept", "text/event-stream").send().await?;
        let mut frames = SseStream::from_bytes_stream(answer.error_for_status()?.bytes_stream());
        let mut first = None;
        while let Some(frame) = frames.next().await {
            if let Some(event) = frame?.data {
                print_event(&serde_json::from_str(&event)?, &mut first)?;
            }
        }
        say!("");
        Ok(id)
    }
}

/// An agent's answer with what it cites.
fn print_answer(result: &Value) -> Result<(), Failure> {
    say!("The answer, quoted from the page:\n");
    for line in text(result, "answer")?.split_inclusive("] ") {
        say!("  {}", line.trim_end());
    }
    say!("");
    for citation in result["citations"].as_array().into_iter().flatten() {
        say!(
            "  [{}] {}, characters {} to {}",
            citation["n"],
            text(citation, "url")?,
            citation["start"],
            citation["end"]
        );
    }
    say!("");
    Ok(())
}

/// Characters of an event's data that are shown.
const SHOWN: usize = 160;

fn print_event(event: &Value, first: &mut Option<crate::clock::Timestamp>) -> Result<(), Failure> {
    let at = crate::clock::Timestamp::parse(&text(event, "at")?).ok_or("an event without a time")?;
    let since = at.since(*first.get_or_insert(at));
    let data = &event["data"];
    let data = if data.as_object().is_some_and(serde_json::Map::is_empty) { String::new() } else { data.to_string() };
    let more = if data.chars().count() > SHOWN { "…" } else { "" };
    let data: String = data.chars().take(SHOWN).collect();
    say!("  {:>9.3} ms  {:<14} {data}{more}", since.as_secs_f64() * 1e3, text(event, "type")?);
    Ok(())
}

/// The answer's body, or what the service says against the request.
async fn json(request: RequestBuilder) -> Result<Value, Failure> {
    let answer = request.send().await?;
    let refused = !answer.status().is_success();
    let body: Value = answer.json().await?;
    if refused {
        return Err(format!("the service refused: {body}").into());
    }
    Ok(body)
}

fn text(value: &Value, field: &str) -> Result<String, Failure> {
    let text = value[field].as_str().ok_or_else(|| format!("the answer has no {field}"))?;
    Ok(text.to_owned())
}
