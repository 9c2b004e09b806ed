//! A certificate and its key from two files, and the watch over them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::expiry::Reminder;
use super::{Certificates, Fault, FilesProblem, Shown, Source, pair};
use crate::clock::{Clock, Timestamp};
use crate::config::TlsSection;

/// How often it is looked whether the files have changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Reads what `tls.cert_file` and `tls.key_file` name, as starting does.
///
/// # Errors
/// When clients could not be shown it.
pub fn load(section: &TlsSection, now: Timestamp) -> Result<Shown, Fault> {
    let none = Path::new("");
    let certificate = section.cert_file.as_deref().unwrap_or(none);
    let shown = pair::read(certificate, section.key_file.as_deref().unwrap_or(none), Source::Files, now)?;
    if shown.not_after <= now {
        return Err(Fault::Expired { path: certificate.into(), until: shown.not_after });
    }
    Ok(shown)
}

/// The two files of `[tls]`, watched. Clones share them.
#[derive(Clone)]
pub struct Files(Arc<Inner>);

struct Inner {
    section: TlsSection,
    certificates: Certificates,
    clock: Clock,
    /// The state of the files that is shown.
    shown: Mutex<Option<[Stamp; 2]>>,
}

/// By what a change of a file is noticed.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

fn stamp(path: Option<&Path>) -> Stamp {
    let found = std::fs::metadata(path?).ok()?;
    let moment = |seconds: i64, nanos: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos);
    let (modified, changed) = (moment(found.mtime(), found.mtime_nsec()), moment(found.ctime(), found.ctime_nsec()));
    Some((found.dev(), found.ino(), found.size(), modified, changed))
}

impl Files {
    /// Shows what is in the files.
    ///
    /// # Errors
    /// When it cannot be shown.
    pub fn open(section: &TlsSection, certificates: Certificates, clock: Clock) -> Result<Self, Fault> {
        let files = Self(Arc::new(Inner { section: section.clone(), certificates, clock, shown: Mutex::default() }));
        files.show()?;
        Ok(files)
    }

    /// Reads the files again; `true` when another certificate is shown now. On
    /// an error the one from before goes on being shown.
    ///
    /// # Errors
    /// Why what is there now cannot be shown, and what to do.
    pub fn reload(&self) -> Result<bool, String> {
        self.show().map_err(|fault| fault.to_string()).inspect_err(|what| self.cannot_be_shown(what))
    }

    fn cannot_be_shown(&self, what: &str) {
        let problem = FilesProblem { what: what.to_owned(), at: self.0.clock.now() };
        let certificates = &self.0.certificates;
        // It is told from when it is so.
        if certificates.files_problem().is_none_or(|before| before.what != problem.what) {
            certificates.set_files_problem(Some(problem));
        }
    }

    /// Looks at the files until told to stop, and shows what is new.
    pub async fn watch(self, stop: CancellationToken) {
        let mut told = None;
        let mut failed = None;
        let mut reminder = Reminder::default();
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            if let Some(shown) = self.shown() {
                reminder.look(&shown, self.0.clock.now());
            }
            let files = self.clone();
            let stamps = self.stamps();
            if *files.0.shown.lock().unwrap_or_else(PoisonError::into_inner) == Some(stamps) {
                (told, failed) = (None, None);
                self.0.certificates.set_files_problem(None);
                continue;
            }
            // Files are read off the threads that wait for nothing.
            let Ok(outcome) = tokio::task::spawn_blocking(move || files.show()).await else { continue };
            let Err(why) = outcome.map_err(|fault| fault.to_string()) else {
                reminder.restart();
                continue;
            };
            // Two files cannot be replaced in one step: what does not fit now
            // may fit at the next look.
            let again = failed.replace(stamps) == Some(stamps);
            if again && told.replace(stamps) != Some(stamps) {
                self.cannot_be_shown(&why);
                tracing::warn!("the certificate from before goes on being shown: {why}");
            }
        }
    }

    /// The certificate from files that clients are shown.
    fn shown(&self) -> Option<Arc<Shown>> {
        self.0.certificates.all().into_iter().find(|shown| shown.source == Source::Files)
    }

    fn stamps(&self) -> [Stamp; 2] {
        [stamp(self.0.section.cert_file.as_deref()), stamp(self.0.section.key_file.as_deref())]
    }

    fn show(&self) -> Result<bool, Fault> {
        let mut known = self.0.shown.lock().unwrap_or_else(PoisonError::into_inner);
        // What changes while it is read is read again at the next look.
        let stamps = self.stamps();
        let new = load(&self.0.section, self.0.clock.now())?;
        *known = Some(stamps);
        self.0.certificates.set_files_problem(None);
        if self.shown().is_some_and(|old| old.key.cert == new.key.cert) {
            return Ok(false);
        }
        for warning in &new.warnings {
            tracing::warn!(
                path = self.0.section.cert_file.as_deref().map(|path| tracing::field::display(path.display())),
                "the certificate: {warning}"
            );
        }
        let (key, until) = (new.key.clone(), new.not_after);
        let names: Vec<_> = new.names.iter().map(ToString::to_string).collect();
        self.0.certificates.install(new);
        self.0.certificates.retain(|shown| shown.source != Source::Files || Arc::ptr_eq(&shown.key, &key));
        tracing::info!(names = names.join(" "), %until, "showing the certificate from tls.cert_file");
        Ok(true)
    }
}
