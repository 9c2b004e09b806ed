//! The certificate that the service makes for itself: for the time before
//! there is a real one, and for machines that need none.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256};
use tokio_util::sync::CancellationToken;

use super::{Certificates, Fault, Shown, Source, pair};
use crate::clock::{Clock, Timestamp};
use crate::config::CertName;

/// How long it is valid: what browsers take at most.
const VALID: Duration = Duration::from_secs(397 * DAY);
/// Before this much is left it is made anew.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * DAY);
const DAY: u64 = 86_400;
/// How often it is looked whether it is due.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);

/// The service's own certificate, in `tls/self-signed.crt` and `.key` of the
/// data folder.
#[derive(Clone)]
pub struct Own {
    folder: PathBuf,
    names: Vec<CertName>,
    certificates: Certificates,
    clock: Clock,
}

impl Own {
    /// Shows the one that is kept; makes one when there is none that can be
    /// used: for `localhost`, this machine's name, and the address that the
    /// service listens on.
    ///
    /// # Errors
    /// When it cannot be made or kept.
    pub fn open(data: &Path, listen: IpAddr, certificates: Certificates, clock: Clock) -> Result<Self, Fault> {
        let own = Self { folder: data.join("tls"), names: names(listen), certificates, clock };
        own.show()?;
        Ok(own)
    }

    /// Makes a new one in time, until told to stop.
    pub async fn watch(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            if let Err(fault) = self.show() {
                tracing::warn!("{fault}");
            }
        }
    }

    fn show(&self) -> Result<(), Fault> {
        let now = self.clock.now();
        let is_shown = |shown: &Shown| shown.source == Source::SelfSigned && self.is_good(shown, now);
        if self.certificates.all().iter().any(|shown| is_shown(shown)) {
            return Ok(());
        }
        let kept = pair::read(&self.path("crt"), &self.path("key"), Source::SelfSigned, now);
        let shown = match kept.ok().filter(|kept| self.is_good(kept, now)) {
            Some(kept) => kept,
            None => self.make(now)?,
        };
        self.certificates.install(shown);
        Ok(())
    }

    fn is_good(&self, kept: &Shown, now: Timestamp) -> bool {
        let in_time = kept.not_before <= now && kept.not_after > now.plus(RENEW_BEFORE);
        let mut names = kept.names.clone();
        names.sort();
        in_time && names == self.names
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.folder.join("self-signed").with_extension(extension)
    }

    fn make(&self, now: Timestamp) -> Result<Shown, Fault> {
        let (certificate, key) = sign(&self.names, now).map_err(Fault::Internal)?;
        let write = || {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            replace(&self.path("key"), &key)?;
            replace(&self.path("crt"), &certificate)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|source| Fault::Unkept { folder: self.folder.clone(), source })?;
        tracing::info!(path = %self.path("crt").display(), "made a certificate of the service's own, which clients do not trust by themselves");
        pair::read(&self.path("crt"), &self.path("key"), Source::SelfSigned, now)
    }
}

/// The names and addresses that this machine is called by from itself.
fn names(listen: IpAddr) -> Vec<CertName> {
    let mut names = vec![CertName::Dns("localhost".into())];
    let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let valid = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    if host.len() <= 253 && host.split('.').all(valid) {
        names.push(CertName::Dns(host));
    }
    names.push(CertName::Ip(Ipv4Addr::LOCALHOST.into()));
    names.push(CertName::Ip(Ipv6Addr::LOCALHOST.into()));
    if !listen.is_unspecified() {
        names.push(CertName::Ip(listen.to_canonical()));
    }
    names.sort();
    names.dedup();
    names
}

/// A certificate for these names and its key, both PEM.
fn sign(names: &[CertName], now: Timestamp) -> Result<(String, String), String> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| error.to_string())?;
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).map_err(|error| error.to_string())?;
    params.distinguished_name.push(DnType::CommonName, "agentd, self-signed");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // From a day ago on, for clients whose clock is behind.
    let (year, month, day) = date(Timestamp::from_micros(now.micros() - 86_400_000_000))?;
    params.not_before = rcgen::date_time_ymd(year, month, day);
    let (year, month, day) = date(now.plus(VALID))?;
    params.not_after = rcgen::date_time_ymd(year, month, day);
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Year, month and day of a moment.
fn date(moment: Timestamp) -> Result<(i32, u8, u8), String> {
    let moment = jiff::Timestamp::from_microsecond(moment.micros()).map_err(|error| error.to_string())?;
    let date = moment.to_zoned(jiff::tz::TimeZone::UTC);
    Ok((date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs()))
}

/// Replaces a file that only its owner may read.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&partial, path)
}
