//! A second ACME server, written by others: the one in Debian's `caddy`. It looks
//! for challenges on the true ports 80 and 443.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Authority;
use tempfile::TempDir;

use super::process::Helper;

/// Caddy as an ACME server.
pub struct CaddyAcme {
    folder: TempDir,
    authority: Authority,
    address: String,
    _helper: Helper,
}

impl CaddyAcme {
    /// Starts it at an address; `names` are there too, as far as it knows.
    pub fn start(ip: &str, names: &[&str]) -> Self {
        let temporary = TempDir::new().expect("a folder");
        let folder = temporary.path();
        let authority = Authority::make(folder, ip);
        let address = format!("{ip}:14443");
        let hosts = folder.join("hosts");
        let mut lines = "127.0.0.1 localhost\n".to_owned();
        for name in names {
            lines += &[ip, " ", name, "\n"].concat();
        }
        std::fs::write(&hosts, lines).expect("written");
        let config = folder.join("Caddyfile");
        let text = format!(
            "{{\n admin off\n auto_https off\n skip_install_trust\n storage file_system {store}\n \
             default_sni {ip}\n}}\nhttps://{address} {{\n bind {ip}\n tls {cert} {key}\n acme_server\n}}\n",
            store = folder.join("caddy").display(),
            cert = authority.certificate.display(),
            key = authority.key.display(),
        );
        std::fs::write(&config, text).expect("written");
        // Its own view of the file of hosts, so that it finds names that nobody has.
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "sh",
            "-c",
            "mount --bind \"$1\" /etc/hosts && exec caddy run --adapter caddyfile --config \"$2\"",
            "sh",
        ]);
        command.arg(&hosts).arg(&config).env("HOME", folder).env("XDG_DATA_HOME", folder.join("data"));
        let helper = Helper::start(&mut command, "caddy util-linux", &folder.join("caddy.log"), &[&address]);
        Self { folder: temporary, authority, address, _helper: helper }
    }

    /// The directory's URL.
    pub fn directory(&self) -> String {
        format!("https://{}/acme/local/directory", self.address)
    }

    /// The authority of the directory's own certificate.
    pub fn ca_file(&self) -> &Path {
        &self.authority.root
    }

    /// The root that its certificates lead to.
    pub fn root_file(&self) -> PathBuf {
        self.folder.path().join("caddy/pki/authorities/local/root.crt")
    }
}
