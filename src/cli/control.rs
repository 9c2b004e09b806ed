//! What the verbs have in common that work on a running service: where it is,
//! and requests over its control socket.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::failure::{Failure, Refusal};
use crate::config::{Places, Sources};

/// How often it is asked whether a job has ended.
const ASK_EVERY: Duration = Duration::from_millis(300);
/// How long an answer may take; the longest wait of the service's own is below.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// The service sends something into a stream every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes of a socket's path that the system takes.
const LONGEST_SOCKET: usize = 107;
/// Rows on a page, the most that the service gives.
const PAGE: usize = 200;

/// Where a service's files are.
#[derive(clap::Args, Clone)]
pub(super) struct Location {
    /// Data folder of the service
    #[arg(long, value_name = "DIR", global = true, help_heading = "Which service")]
    data_dir: Option<PathBuf>,
    /// Its configuration file; none: defaults and the environment
    #[arg(long, value_name = "FILE", env = "AGENTD_CONFIG", global = true, help_heading = "Which service")]
    config: Option<PathBuf>,
}

/// What the unit of the package reads, and the folders that it has.
const INSTALLED: &str = "/etc/agentd/agentd.toml";
const FOLDERS: [(&str, &str); 2] = [("STATE_DIRECTORY", "/var/lib/agentd"), ("RUNTIME_DIRECTORY", "/run/agentd")];

/// What an installed service reads, for verbs that do without it: what is named,
/// else what the package has, unless there is a `./data`. Also its name.
pub(super) fn as_installed(config: Option<&Path>, data_dir: Option<&Path>) -> (Sources, String) {
    let installed = Path::new(INSTALLED);
    let nobody_says = config.is_none() && data_dir.is_none();
    let found = nobody_says && installed.exists() && !Path::new("data").exists();
    let file = if found { Some(installed) } else { config };
    let name = file.map_or_else(|| "of the environment".into(), |file| file.display().to_string());
    let mut sources = Sources::of_process(file.map(Path::to_owned));
    if file == Some(installed) {
        for (variable, folder) in FOLDERS {
            sources.environment.entry(variable.into()).or_insert_with(|| folder.into());
        }
    }
    if let Some(dir) = data_dir {
        sources.flags.push(("data.dir", "--data-dir", dir.to_string_lossy().into_owned()));
    }
    (sources, name)
}

#[derive(clap::Args, Clone)]
pub(super) struct Control {
    /// Print the service's own JSON, for scripts
    #[arg(long, global = true)]
    pub json: bool,
    #[command(flatten)]
    pub location: Location,
    /// Its control socket; else what the configuration says, or control.sock in the data folder
    #[arg(long, value_name = "PATH", global = true, help_heading = "Which service")]
    socket: Option<PathBuf>,
}

impl Location {
    pub(super) fn places(&self) -> Result<Places, Failure> {
        Places::find(&self.sources()).map_err(Failure::Configuration)
    }

    /// What the service reads its configuration from.
    pub(super) fn sources(&self) -> Sources {
        let mut sources = Sources::of_process(self.config.clone());
        if let Some(dir) = &self.data_dir {
            sources.flags.push(("data.dir", "--data-dir", dir.to_string_lossy().into_owned()));
        }
        sources
    }
}

impl Control {
    /// The same for a service that has a configuration file: `usual`, where none
    /// is named.
    pub(super) fn with_file(&self, usual: &Path) -> (Self, PathBuf, Sources) {
        let mut control = self.clone();
        let file = control.location.config.clone().unwrap_or_else(|| usual.to_owned());
        // It may still have to be made.
        control.location.config = file.exists().then(|| file.clone());
        let sources = control.location.sources();
        (control, file, sources)
    }

    /// Where the service is.
    pub(super) fn location(&self) -> &Location {
        &self.location
    }

    /// Runs what a verb does with the service.
    pub(super) fn run(&self, work: impl AsyncFnOnce(Service) -> Result<(), Failure>) -> Result<(), Failure> {
        let socket = match &self.socket {
            Some(socket) => socket.clone(),
            None => self.location.places()?.control_socket.ok_or(Failure::NoSocket)?,
        };
        let length = socket.as_os_str().len();
        if length > LONGEST_SOCKET {
            let what = format!(
                "the path of the control socket has {length} bytes, the system takes {LONGEST_SOCKET}: say where it is with \
                 --socket, or set server.control_socket to a shorter path"
            );
            return Err(Failure::Usage(what));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::other)?;
        let service = Service::at(socket)?;
        runtime.block_on(work(service))
    }
}

/// The service behind its control socket.
#[derive(Clone)]
pub(super) struct Service {
    http: Client,
    socket: PathBuf,
    /// Whom requests act for.
    tenant: Option<String>,
}

/// A page of a list, each row as the service wrote it.
#[derive(Deserialize)]
struct Page {
    data: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
}

/// Rows of one or more pages.
pub(super) struct Rows {
    pub rows: Vec<Box<RawValue>>,
    /// Where the list goes on, if it does.
    pub next_cursor: Option<String>,
}

impl Rows {
    /// The rows as values.
    pub(super) fn values(&self) -> Result<Vec<Value>, Failure> {
        self.rows.iter().map(|row| read(row.get())).collect()
    }
}

impl Service {
    pub(super) fn at(socket: PathBuf) -> Result<Self, Failure> {
        let builder = Client::builder().unix_socket(socket.as_path()).no_proxy().read_timeout(SILENCE);
        let http = builder.build().map_err(Failure::other)?;
        Ok(Self { http, socket, tenant: None })
    }

    /// The id of the tenant that it acts for.
    pub(super) fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The same, acting for a tenant.
    pub(super) fn acting_for(&self, tenant: String) -> Self {
        Self { tenant: Some(tenant), ..self.clone() }
    }

    /// A request; `path` holds nothing that would have to be escaped.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        // The host is not looked up: the socket is where it goes.
        let request = self.http.request(method, format!("http://localhost{path}"));
        match &self.tenant {
            Some(tenant) => request.header("X-Agentd-Tenant", tenant),
            None => request,
        }
    }

    /// Sends a request; an answer other than a good one is a failure.
    pub(super) async fn open(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
        let unknown = |_| Refusal::unknown(status.as_u16(), &text);
        Err(Failure::Refused(Box::new(serde_json::from_str(&text).unwrap_or_else(unknown))))
    }

    /// Sends a request; the answer's body.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<String, Failure> {
        self.send_within(request.timeout(ANSWER_TIMEOUT)).await
    }

    /// The same, within the time that the request itself says.
    pub(super) async fn send_within(&self, request: RequestBuilder) -> Result<String, Failure> {
        let answer = self.open(request).await?;
        answer.text().await.map_err(|error| self.unreachable(&error))
    }

    pub(super) async fn get(&self, path: &str) -> Result<String, Failure> {
        self.send(self.request(Method::GET, path)).await
    }

    /// Waits for the end of a job of the service's own.
    pub(super) async fn ended_job(&self, id: &str) -> Result<Value, Failure> {
        loop {
            let job: Value = read(&self.get(&format!("/admin/jobs/{id}")).await?)?;
            if !job["finished_at"].is_null() {
                return Ok(job);
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// The rows of a list that has one page.
    pub(super) async fn rows(&self, path: &str) -> Result<Vec<Box<RawValue>>, Failure> {
        Ok(read::<Page>(&self.get(path).await?)?.data)
    }

    /// Up to `limit` rows of a list, from as many pages as it takes.
    pub(super) async fn list(&self, path: &str, filter: &[(&str, &str)], limit: usize) -> Result<Rows, Failure> {
        let mut listed = Rows { rows: Vec::new(), next_cursor: None };
        loop {
            let wanted = (limit - listed.rows.len()).min(PAGE);
            let mut request = self.request(Method::GET, path).query(filter).query(&[("limit", wanted)]);
            if let Some(cursor) = listed.next_cursor.take() {
                request = request.query(&[("cursor", cursor)]);
            }
            let page: Page = read(&self.send(request).await?)?;
            listed.rows.extend(page.data);
            listed.next_cursor = page.next_cursor;
            if listed.next_cursor.is_none() || listed.rows.len() >= limit {
                return Ok(listed);
            }
        }
    }

    /// The id of the tenant that is meant: by its id, or by a name that no other
    /// has; the only one there is when none is named.
    pub(super) async fn tenant_id(&self, wanted: Option<&str>) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Tenant {
            tenant_id: String,
            name: String,
        }
        let tenants = async |limit| {
            let listed = self.list("/admin/tenants", &[], limit).await?;
            listed.rows.iter().map(|row| read::<Tenant>(row.get())).collect::<Result<Vec<_>, _>>()
        };
        let Some(wanted) = wanted else {
            let mut first = tenants(2).await?;
            return match (first.pop(), first.pop()) {
                (Some(only), None) => Ok(only.tenant_id),
                (None, _) => Err(Failure::other("there is no tenant yet: agentd tenant create NAME makes one")),
                _ => Err(Failure::Usage(
                    "there is more than one tenant: say which with --tenant; agentd tenant list shows them".into(),
                )),
            };
        };
        if let Ok(id) = uuid::Uuid::parse_str(wanted) {
            return Ok(id.to_string());
        }
        let named = tenants(usize::MAX).await?.into_iter().filter(|tenant| tenant.name == wanted);
        let ids: BTreeSet<String> = named.map(|tenant| tenant.tenant_id).collect();
        let listed = || ids.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        match ids.first() {
            None => Err(Failure::other(format_args!("there is no tenant {wanted:?}: agentd tenant list shows all"))),
            Some(only) if ids.len() == 1 => Ok(only.clone()),
            Some(_) => Err(Failure::Usage(format!(
                "{} tenants have the name {wanted:?}; name one by its id: {}",
                ids.len(),
                listed()
            ))),
        }
    }

    /// That it is not there.
    pub(super) fn absent(&self, text: &str) -> Failure {
        Failure::Unreachable { socket: self.socket.clone(), why: io::ErrorKind::NotFound, text: text.into() }
    }

    /// Why there was no answer, or no whole one.
    pub(super) fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut cause = error.source();
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<io::Error>() {
                return Failure::Unreachable { socket: self.socket.clone(), why: io.kind(), text: io.to_string() };
            }
            cause = inner.source();
        }
        let text = if error.is_timeout() { "it does not answer in time".into() } else { error.to_string() };
        Failure::Unreachable { socket: self.socket.clone(), why: io::ErrorKind::Other, text }
    }
}

/// Whether the service has no such route, being older or newer than this program.
pub(super) fn is_no_route(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(refusal) if refusal.code == "no_route")
}

/// Whether an answer says that there is nothing more to come.
pub(super) fn is_empty(answer: &Response) -> bool {
    answer.status() == StatusCode::NO_CONTENT
}

pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::other(format_args!("the answer cannot be read: {error}")))
}
