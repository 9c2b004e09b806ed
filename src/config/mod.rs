//! Configuration: a TOML file, over it the environment, over that systemd's
//! credentials (secrets only) and the command line. Every value knows where it comes from, every fault names its place.
//!
//! Each key is declared once, where its section reads it; from that come the
//! file's key, the environment's name, the check and what `check --show` shows.

mod acme;
mod agent;
mod backup;
mod base_url;
mod budget;
mod callers;
mod credentials;
mod database;
mod document;
mod edit;
mod fault;
mod files;
mod legacy;
mod links;
mod models;
mod places;
mod prices;
mod reader;
mod s3;
mod sections;
mod setting;
mod target;
mod tls;
mod web;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use acme::{AcmeSection, CertName, ChallengeKind, https_address};
pub use agent::{AgentSection, Planner};
pub use backup::{BackupSection, Recipient};
pub use base_url::BaseUrl;
pub use budget::{BudgetSection, BudgetWindow};
pub use callers::{CorsSection, LimitsSection, Origins};
pub use edit::{EditError, FileEdit};
pub use fault::Fault;
pub use files::FilesSection;
pub use models::{ModelsSection, OnHangup};
pub use places::Places;
pub use prices::PricesSection;
pub use reader::{Origin, Shown};
pub use s3::S3Section;
pub use sections::{AuthSection, DataSection, JobsSection, LogSection, Secret, ServerSection};
pub use setting::{ControlSocket, LogFormat, parse_bytes, parse_span};
pub use target::{NoTarget, Target, TargetHost};
pub use tls::{TlsMode, TlsSection};
pub use web::{OutboundSection, SearchProvider, WebSection};

use reader::{Read, Reader};

/// Where values come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// The process's environment.
    pub environment: BTreeMap<String, String>,
    /// The folder of the credentials that systemd hands over.
    pub credentials: Option<PathBuf>,
    /// `(key, flag, value)` of the command line.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// All settings of the service.
#[derive(Clone, Debug)]
pub struct Config {
    /// Listening and HTTP.
    pub server: ServerSection,
    /// Certificates and connections.
    pub tls: TlsSection,
    /// Ordering certificates.
    pub acme: AcmeSection,
    /// Files.
    pub data: DataSection,
    /// Copies of the files.
    pub backup: BackupSection,
    /// The bucket that copies are sent to; none: nowhere.
    pub s3: Option<S3Section>,
    /// Credentials.
    pub auth: AuthSection,
    /// Running jobs.
    pub jobs: JobsSection,
    /// Going out.
    pub outbound: OutboundSection,
    /// The tools that read the web.
    pub web: WebSection,
    /// Language models.
    pub models: ModelsSection,
    /// What models cost.
    pub prices: PricesSection,
    /// Agents.
    pub agent: AgentSection,
    /// What may be spent.
    pub budget: BudgetSection,
    /// Files for language models, and batches of calls.
    pub files: FilesSection,
    /// How much callers may use.
    pub limits: LimitsSection,
    /// Web pages that may call.
    pub cors: CorsSection,
    /// Logging.
    pub log: LogSection,
}

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Every key with its value, secrets masked, and its origin.
    pub shown: Vec<Shown>,
    /// What is legal and probably not meant.
    pub warnings: Vec<String>,
    /// What is worth a line and nothing to worry about.
    pub notes: Vec<String>,
}

impl Config {
    /// Every secret with its key.
    #[must_use]
    pub fn secrets(&self) -> [(&'static str, &Secret); 12] {
        static UNSET: Secret = Secret::Unset;
        [
            ("data.master_key", &self.data.master_key),
            ("data.previous_master_key", &self.data.previous_master_key),
            ("auth.admin_key", &self.auth.admin_key),
            ("auth.key_hash_secret", &self.auth.key_hash_secret),
            ("auth.previous_key_hash_secret", &self.auth.previous_key_hash_secret),
            ("auth.api_key", &self.auth.api_key),
            ("auth.metrics_token", &self.auth.metrics_token),
            ("web.tavily_api_key", &self.web.tavily_api_key),
            ("web.brave_api_key", &self.web.brave_api_key),
            ("models.openai_api_key", &self.models.openai_api_key),
            ("acme.eab_key", &self.acme.eab_key),
            ("backup.s3_secret_key", self.s3.as_ref().map_or(&UNSET, |s3| &s3.secret_key)),
        ]
    }
}

impl Sources {
    /// This process's environment and a file, if there is one.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>) -> Self {
        // A value that is not UTF-8 is refused where it is read.
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        };
        let environment = std::env::vars_os().filter_map(text).collect();
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        Self { file, environment, credentials, flags: Vec::new() }
    }
}

/// Reads everything; all faults at once, not the first alone.
///
/// # Errors
/// The faults, each with its place.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<Fault>> {
    let mut reader = Reader::new(sources)?;
    let mode = legacy::Mode::read(&mut reader);
    let data = DataSection::read(&mut reader);
    let config = Config {
        server: ServerSection::read(&mut reader),
        tls: TlsSection::read(&mut reader),
        acme: AcmeSection::read(&mut reader),
        backup: BackupSection::read(&mut reader, &data.dir),
        s3: S3Section::read(&mut reader),
        data,
        auth: AuthSection::read(&mut reader),
        jobs: JobsSection::read(&mut reader),
        outbound: OutboundSection::read(&mut reader),
        web: WebSection::read(&mut reader),
        models: ModelsSection::read(&mut reader),
        prices: PricesSection::read(&mut reader),
        agent: AgentSection::read(&mut reader),
        budget: BudgetSection::read(&mut reader),
        files: FilesSection::read(&mut reader),
        limits: LimitsSection::read(&mut reader),
        cors: CorsSection::read(&mut reader),
        log: LogSection::read(&mut reader),
    };
    config.server.check(&mut reader, &config.tls);
    config.tls.check(&mut reader);
    config.data.check(&mut reader);
    config.acme.check(&mut reader, &config.tls);
    config.auth.check(&mut reader, mode);
    config.web.check(&mut reader);
    config.models.check(&mut reader);
    config.cors.check(&mut reader);
    legacy::warn(&mut reader);
    let Read { shown, warnings, notes } = reader.finish()?;
    Ok(Loaded { config, shown, warnings, notes })
}
