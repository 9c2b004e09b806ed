//! The part of `[backup]` that says which S3-compatible bucket copies are sent to.

use std::path::PathBuf;
use std::time::Duration;

use url::{Host, Url};

use super::reader::Reader;
use super::sections::{Secret, key};
use super::setting::{HOUR, MINUTE, SECOND, Setting};

/// A bucket and how it is reached.
#[derive(Clone, Debug)]
pub struct S3Section {
    /// Where the server is, without the bucket.
    pub endpoint: Url,
    /// The bucket's name.
    pub bucket: String,
    /// What names in the bucket begin with: nothing, or folders with a `/` at the end.
    pub prefix: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The name of the key.
    pub access_key: String,
    /// The key itself.
    pub secret_key: Secret,
    /// Whether the bucket stands in the path and not before the host.
    pub path_style: bool,
    /// A PEM file of authorities to trust for the server, beside the usual.
    pub ca_file: Option<PathBuf>,
    /// For how long an exchange may stand still.
    pub patience: Duration,
}

const REGION: &str = "us-east-1";

impl S3Section {
    /// The keys of the section; none where no bucket is named.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let endpoint = reader.optional::<Url>(key(
            "backup.s3_endpoint",
            "URL of the S3-compatible server; Amazon's for the region when not set.",
        ));
        let bucket = reader.optional(key("backup.s3_bucket", "The bucket that backups are sent to; none: nowhere."));
        let prefix: Option<String> =
            reader.optional(key("backup.s3_prefix", "Folder in the bucket, such as agentd/berlin."));
        let region = key("backup.s3_region", "Region of the bucket; other servers than Amazon's mostly take any.");
        let region = reader.value(region, REGION.to_owned());
        let access_key = reader.optional(key("backup.s3_access_key", "Name (id) of the access key."));
        let secret_key = Secret::read(
            reader,
            key("backup.s3_secret_key", "The secret half of the access key."),
            key("backup.s3_secret_key_file", "A file that holds it."),
        );
        let path_style = key(
            "backup.s3_path_style",
            "Whether the bucket stands in the path of URLs; false: before the host's name.",
        );
        let path_style = reader.value(path_style, true);
        let ca_file = reader
            .optional(key("backup.s3_ca_file", "A PEM file of authorities to trust for it, beside those of the host."));
        let patience = key("backup.s3_patience", "For how long nothing may move before an exchange has failed.");
        let patience = reader.span(patience, MINUTE, SECOND..=HOUR);
        let unencrypted = reader.value(
            key(
                "backup.s3_expose_backups_unencrypted",
                "Allow plain HTTP to a host that is not loopback: everyone on the way can read and change backups.",
            ),
            false,
        );
        let Some(bucket) = bucket else {
            needless(reader);
            return None;
        };
        let section = Self {
            endpoint: endpoint.or_else(|| amazon(&region))?,
            bucket,
            prefix: folder(prefix.as_deref().unwrap_or_default()),
            region,
            access_key: access_key.unwrap_or_default(),
            secret_key,
            path_style,
            ca_file,
            patience,
        };
        section.check(reader, unencrypted);
        Some(section)
    }

    fn check(&self, reader: &mut Reader<'_>, unencrypted: bool) {
        if !is_bucket(&self.bucket) {
            let what = "backup.s3_bucket is no name of a bucket: those have 3 to 63 small letters, digits, points and \
                        hyphens, with a letter or a digit at both ends";
            reader.fault_at_key("backup.s3_bucket", what.into());
        }
        if !is_prefix(&self.prefix) {
            let what = "backup.s3_prefix must be folders such as agentd/berlin, of letters, digits, points, hyphens \
                        and underscores, 500 characters at most";
            reader.fault_at_key("backup.s3_prefix", what.into());
        }
        if !is_region(&self.region) {
            reader.fault_at_key("backup.s3_region", "backup.s3_region must be a region such as eu-central-1".into());
        }
        self.check_keys(reader);
        self.check_endpoint(reader, unencrypted);
    }

    fn check_keys(&self, reader: &mut Reader<'_>) {
        let graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if self.access_key.is_empty() {
            let what = "backup.s3_bucket needs backup.s3_access_key and backup.s3_secret_key too: they are made where \
                        the bucket is";
            reader.fault_without("backup.s3_bucket", &["backup.s3_access_key"], what.into());
        } else if !graphic(&self.access_key) || self.access_key.contains('/') {
            let what = "backup.s3_access_key holds characters that no key has";
            reader.fault_at_key("backup.s3_access_key", what.into());
        }
        match self.secret_key.resolve() {
            Ok(None) if !self.access_key.is_empty() => {
                let what = "backup.s3_access_key needs backup.s3_secret_key or backup.s3_secret_key_file too";
                reader.fault_without(
                    "backup.s3_access_key",
                    &["backup.s3_secret_key", "backup.s3_secret_key_file"],
                    what.into(),
                );
            }
            Ok(Some(text)) if !graphic(&text) => {
                let what = "backup.s3_secret_key holds characters that no key has";
                reader.fault_at_key("backup.s3_secret_key", what.into());
            }
            Ok(_) => {}
            Err(fault) => reader.fault_at_key("backup.s3_secret_key_file", fault),
        }
    }

    fn check_endpoint(&self, reader: &mut Reader<'_>, unencrypted: bool) {
        let host = self.endpoint.host();
        if self.endpoint.scheme() == "http" && !host.as_ref().is_some_and(is_loopback) && !unencrypted {
            let what = "backup.s3_endpoint is plain HTTP to another machine: everyone on the way could read and \
                        change backups; use https://, or set backup.s3_expose_backups_unencrypted = true";
            reader.fault_at_key("backup.s3_endpoint", what.into());
        }
        if self.path_style {
            return;
        }
        if !matches!(host, Some(Host::Domain(_))) {
            let what = "backup.s3_path_style = false puts the bucket before the host's name, and an address has none";
            reader.fault_at_key("backup.s3_path_style", what.into());
        } else if self.endpoint.scheme() == "https" && self.bucket.contains('.') {
            let what = "backup.s3_path_style = false does not go together with a point in backup.s3_bucket: no \
                        certificate is good for such a host";
            reader.fault_at_key("backup.s3_path_style", what.into());
        }
    }
}

/// Where there is no bucket, the keys that somebody has to make up are a mistake.
/// The others may be written down with what they are anyway.
fn needless(reader: &mut Reader<'_>) {
    let all = [
        "backup.s3_endpoint",
        "backup.s3_prefix",
        "backup.s3_access_key",
        "backup.s3_secret_key",
        "backup.s3_secret_key_file",
        "backup.s3_ca_file",
    ];
    if let Some(key) = all.into_iter().find(|key| !reader.is_default(key)) {
        reader.fault_at_key(key, format!("{key} has no effect without backup.s3_bucket"));
    }
}

fn amazon(region: &str) -> Option<Url> {
    // A region that is none is told by its own check.
    let region = if is_region(region) { region } else { REGION };
    <Url as Setting>::parse(&format!("https://s3.{region}.amazonaws.com/"))
}

/// Without `/` before it, with one behind it.
fn folder(text: &str) -> String {
    match text.trim_matches('/') {
        "" => String::new(),
        folder => format!("{folder}/"),
    }
}

fn is_bucket(name: &str) -> bool {
    let small = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [name.bytes().next(), name.bytes().next_back()];
    (3..=63).contains(&name.len())
        && name.bytes().all(|byte| small(byte) || matches!(byte, b'-' | b'.'))
        && ends.into_iter().all(|end| end.is_some_and(small))
        && !name.contains("..")
}

fn is_prefix(prefix: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(plain);
    prefix.len() <= 500 && prefix.strip_suffix('/').is_none_or(|parts| parts.split('/').all(part))
}

fn is_region(region: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&region.len()) && region.bytes().all(plain)
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(name) => *name == "localhost",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Config, Sources, load};
    use super::*;

    const KEYS: [(&str, &str); 3] = [
        ("AGENTD_BACKUP_S3_BUCKET", "copies"),
        ("AGENTD_BACKUP_S3_ACCESS_KEY", "AKIA1"),
        ("AGENTD_BACKUP_S3_SECRET_KEY", "the-secret"),
    ];

    fn read(others: &[(&str, &str)]) -> Result<Config, String> {
        let of = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment = KEYS.iter().chain(others).map(of).collect();
        let loaded = load(&Sources { environment, ..Sources::default() });
        loaded
            .map(|loaded| loaded.config)
            .map_err(|faults| faults.iter().map(|fault| fault.to_string() + "\n").collect())
    }

    fn section(others: &[(&str, &str)]) -> S3Section {
        read(others).unwrap_or_else(|faults| panic!("{faults}")).s3.expect("a bucket")
    }

    #[test]
    fn without_a_bucket_there_is_none_and_nothing_else_may_be_set() {
        assert!(load(&Sources::default()).expect("valid").config.s3.is_none());
        let refused = read(&[("AGENTD_BACKUP_S3_BUCKET", "")]).expect_err("a key without a bucket");
        assert!(refused.contains("s3_access_key has no effect without backup.s3_bucket"), "{refused}");
    }

    #[test]
    fn a_bucket_alone_is_at_amazon() {
        assert_eq!(section(&[]).endpoint.as_str(), "https://s3.us-east-1.amazonaws.com/");
        let there = section(&[("AGENTD_BACKUP_S3_REGION", "eu-west-3"), ("AGENTD_BACKUP_S3_PREFIX", "/a/b-c/")]);
        assert_eq!((there.endpoint.host_str(), &*there.prefix), (Some("s3.eu-west-3.amazonaws.com"), "a/b-c/"));
    }

    #[test]
    fn the_secret_is_one_of_the_secrets() {
        let config = read(&[]).expect("valid");
        let secrets = config.secrets();
        let (_, secret) = secrets.iter().find(|(key, _)| *key == "backup.s3_secret_key").expect("listed");
        assert_eq!(secret.resolve(), Ok(Some("the-secret".into())));
        assert!(!format!("{config:?}").contains("the-secret"));
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        for (name, value, said) in [
            ("ACCESS_KEY", "", "needs backup.s3_access_key and backup.s3_secret_key"),
            ("SECRET_KEY", "", "needs backup.s3_secret_key or backup.s3_secret_key_file"),
            ("SECRET_KEY", "two words", "characters that no key has"),
            ("ACCESS_KEY", "a/b", "characters that no key has"),
            ("ENDPOINT", "s3.example.com", "must be an http or https URL"),
            ("ENDPOINT", "ftp://s3.example.com", "must be an http or https URL"),
            ("ENDPOINT", "https://user:word@s3.example.com", "must be an http or https URL"),
            ("ENDPOINT", "http://10.0.0.5:9000", "everyone on the way could read and change"),
            ("ENDPOINT", "http://localhost.example.com", "everyone on the way could read and change"),
            ("BUCKET", "Copies", "no name of a bucket"),
            ("BUCKET", "a..b", "no name of a bucket"),
            ("BUCKET", "-ab", "no name of a bucket"),
            ("BUCKET", "ab", "no name of a bucket"),
            ("BUCKET", "a/../b", "no name of a bucket"),
            ("PREFIX", "a/../b", "must be folders"),
            ("PREFIX", "a//b", "must be folders"),
            ("PREFIX", "a b", "must be folders"),
            ("REGION", "eu west", "must be a region"),
            ("PATIENCE", "10ms", "must be from 1s to 1h"),
            ("SECRET_KEY_FILE", "/not/there", "set one of them"),
        ] {
            let refused = read(&[(&format!("AGENTD_BACKUP_S3_{name}"), value)]).expect_err(value);
            assert!(refused.contains(said) && !refused.contains("the-secret"), "{name}={value}: {refused}");
        }
        let virtual_host = ("AGENTD_BACKUP_S3_PATH_STYLE", "false");
        let address =
            read(&[virtual_host, ("AGENTD_BACKUP_S3_ENDPOINT", "https://192.0.2.1")]).expect_err("an address");
        assert!(address.contains("an address has none"), "{address}");
        let point = read(&[virtual_host, ("AGENTD_BACKUP_S3_BUCKET", "a.b")]).expect_err("a point");
        assert!(point.contains("no certificate is good"), "{point}");
    }

    #[test]
    fn plain_http_is_for_loopback_or_for_who_says_so() {
        for loopback in ["http://127.0.0.1:9000", "http://[::1]:9000", "http://localhost:9000/s3"] {
            section(&[("AGENTD_BACKUP_S3_ENDPOINT", loopback)]);
        }
        let endpoint = ("AGENTD_BACKUP_S3_ENDPOINT", "http://10.0.0.5:9000");
        section(&[endpoint, ("AGENTD_BACKUP_S3_EXPOSE_BACKUPS_UNENCRYPTED", "true")]);
    }

    proptest! {
        #[test]
        fn a_name_or_prefix_that_is_taken_leads_nowhere_else(text in "[a-zA-Z0-9./_ %?#\\\\-]{0,20}") {
            let prefix = folder(&text);
            let base = Url::parse("https://host/bucket/").expect("a URL");
            if is_prefix(&prefix) {
                let joined = base.join(&format!("{prefix}name")).expect("a URL");
                prop_assert_eq!(joined.path(), format!("/bucket/{prefix}name"));
            }
            if is_bucket(&text) {
                let joined = base.join(&format!("../{text}/name")).expect("a URL");
                prop_assert_eq!(joined.path(), format!("/{text}/name"));
            }
        }
    }
}
