//! A certificate and its key from two files, and the watch over them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

use super::facts::Facts;
use super::{Certificates, Fault, FilesProblem, Shown, Source};
use crate::clock::{Clock, Timestamp};
use crate::config::TlsSection;

/// How often it is looked whether the files have changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Bytes of a file; a chain of certificates has a few thousand.
const LARGEST: u64 = 1 << 20;

/// Reads what `tls.cert_file` and `tls.key_file` name, as starting does.
///
/// # Errors
/// When clients could not be shown it.
pub fn load(section: &TlsSection, now: Timestamp) -> Result<Shown, Fault> {
    let none = Path::new("");
    let certificate = section.cert_file.as_deref().unwrap_or(none);
    let shown = pair(certificate, section.key_file.as_deref().unwrap_or(none), Source::Files)?;
    if shown.not_after <= now {
        return Err(Fault::Expired { path: certificate.into(), until: shown.not_after });
    }
    if shown.not_before > now {
        // It may be the clock that is wrong, which a service that waits does not mend.
        tracing::warn!(path = %certificate.display(), from = %shown.not_before, "the certificate is not valid yet");
    }
    Ok(shown)
}

/// A certificate and its key from two files, whatever its validity.
pub(super) fn pair(certificate: &Path, key: &Path, source: Source) -> Result<Shown, Fault> {
    const CERTIFICATE: &str = "the certificate";
    const KEY: &str = "the private key";
    let malformed = |what, path: &Path, why: String| Fault::Malformed { what, path: path.into(), why };
    let text = read(CERTIFICATE, certificate)?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(CERTIFICATE, certificate, format!("it is no PEM: {error}")))?;
    let Some(first) = chain.first() else {
        return Err(malformed(CERTIFICATE, certificate, "there is no certificate in it; PEM is expected".into()));
    };
    let Facts { names, not_before, not_after, .. } = Facts::of(first).map_err(|why| {
        malformed(CERTIFICATE, certificate, format!("the first certificate in it is malformed: {why}"))
    })?;
    let private = PrivateKeyDer::from_pem_slice(&read(KEY, key)?).map_err(|_| {
        // What the parser says could repeat a piece of the key.
        malformed(KEY, key, "there is no private key in it; PEM without a passphrase is expected".into())
    })?;
    let made = CertifiedKey::from_der(chain, private, &rustls::crypto::aws_lc_rs::default_provider());
    let made = made.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => Fault::Mismatch { certificate: certificate.into(), key: key.into() },
        error => malformed(KEY, key, format!("{error}; a key for ECDSA, RSA or Ed25519 is expected")),
    })?;
    Ok(Shown { source, names, not_before, not_after, key: Arc::new(made) })
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, Fault> {
    let unreadable = |source| Fault::Unreadable { what, path: path.into(), source };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > LARGEST {
        let why = format!("it has {size} bytes, far more than a certificate or a key");
        return Err(Fault::Malformed { what, path: path.into(), why });
    }
    std::fs::read(path).map_err(unreadable)
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
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let files = self.clone();
            let stamps = self.stamps();
            if *files.0.shown.lock().unwrap_or_else(PoisonError::into_inner) == Some(stamps) {
                (told, failed) = (None, None);
                self.0.certificates.set_files_problem(None);
                continue;
            }
            // Files are read off the threads that wait for nothing.
            let Ok(outcome) = tokio::task::spawn_blocking(move || files.show()).await else { continue };
            let Err(why) = outcome.map_err(|fault| fault.to_string()) else { continue };
            // Two files cannot be replaced in one step: what does not fit now
            // may fit at the next look.
            let again = failed.replace(stamps) == Some(stamps);
            if again && told.replace(stamps) != Some(stamps) {
                self.cannot_be_shown(&why);
                tracing::warn!("the certificate from before goes on being shown: {why}");
            }
        }
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
        let old = self.0.certificates.all().into_iter().find(|shown| shown.source == Source::Files);
        if old.is_some_and(|old| old.key.cert == new.key.cert) {
            return Ok(false);
        }
        let (key, until) = (new.key.clone(), new.not_after);
        let names: Vec<_> = new.names.iter().map(ToString::to_string).collect();
        self.0.certificates.install(new);
        self.0.certificates.retain(|shown| shown.source != Source::Files || Arc::ptr_eq(&shown.key, &key));
        tracing::info!(names = names.join(" "), %until, "showing the certificate from tls.cert_file");
        Ok(true)
    }
}
