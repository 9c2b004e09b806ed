//! The ports that directories and browsers come to.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::names::own;
use super::{Finding, Service};
use crate::config::{CertName, ChallengeKind, Config, TlsMode};
use crate::outbound::Outbound;

/// How long an address may take to answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// Addresses of a name that are tried.
const ADDRESSES: usize = 4;

/// Who listens on the ports that the configuration names.
pub(super) fn listening(config: &Config, service: Service) -> Vec<Finding> {
    let mut findings: Vec<_> = [Some(config.server.listen), config.server.http_listen]
        .into_iter()
        .flatten()
        .filter(|address| address.port() != 0)
        .map(|address| held(address, service))
        .collect();
    if config.tls.mode == TlsMode::Acme {
        findings.extend(asked(config));
    }
    findings
}

/// Whether directories come to where the service listens: always to 80 and 443.
fn asked(config: &Config) -> Vec<Finding> {
    let wanted = |kind| config.acme.challenges.contains(&kind);
    let (http, tls) = (wanted(ChallengeKind::Http01), wanted(ChallengeKind::TlsAlpn01));
    let mut findings = Vec::new();
    let passed_on = |port: u16| format!("fine when something passes port {port} on to it");
    match config.server.http_listen {
        _ if !http => {}
        None if tls => findings.push(Finding::warn(
            "http-01",
            "server.http_listen is not set, so only tls-alpn-01 is left",
            "set server.http_listen = \"[::]:80\"",
        )),
        None => findings.push(Finding::fail(
            "http-01",
            "directories come to port 80, and server.http_listen is not set",
            "set server.http_listen = \"[::]:80\"",
        )),
        Some(address) if address.port() != 80 => {
            let detail = format!("directories come to port 80, and server.http_listen is {address}");
            findings.push(Finding::warn("http-01", detail, passed_on(80)));
        }
        Some(_) => {}
    }
    let listen = config.server.listen;
    if tls && listen.port() != 443 {
        let detail = format!("directories come to port 443, and server.listen is {listen}");
        findings.push(Finding::warn("tls-alpn-01", detail, passed_on(443)));
    } else if listen.ip().is_loopback() {
        let advice = "set server.listen = \"[::]:443\"";
        findings.push(Finding::warn("server.listen", format!("only this machine reaches {listen}"), advice));
    }
    findings
}

fn held(address: SocketAddr, service: Service) -> Finding {
    let port = address.port();
    let what = format!("port {port}");
    let sockets = sockets(port);
    let who = format!("ss -ltnp 'sport = :{port}' shows it, as root");
    let holds = |pid: u32| holds(pid, &sockets);
    match (sockets.is_empty(), service) {
        (true, Service::Absent) => Finding::ok(what, "free for the service, which does not run"),
        // It may have been started with --listen.
        (true, Service::Running(_)) => Finding::warn(
            what,
            "nothing listens there, though the service runs: it was started with another address",
            "restart it, addresses count after that: systemctl restart agentd",
        ),
        (true, Service::Unknown) => {
            let advice = "look at the finding on the service first";
            Finding::warn(what, "nothing listens there, and it cannot be seen whether the service runs", advice)
        }
        (false, Service::Running(pid)) => match holds(pid) {
            Some(true) => Finding::ok(what, "the service listens"),
            Some(false) => Finding::fail(what, "another program listens there, not the service", who),
            None => Finding::warn(
                what,
                "something listens there; only root sees whether it is the service",
                "sudo agentd doctor",
            ),
        },
        (false, Service::Absent) => match holds(1) {
            Some(true) => Finding::ok(what, "systemd holds it for the service"),
            Some(false) => {
                let advice = format!("stop that one, or choose another port; {who}");
                Finding::fail(what, "another program has it, and the service does not run", advice)
            }
            None => Finding::warn(what, "something has it, and the service does not run; only root sees what", who),
        },
        (false, Service::Unknown) => {
            Finding::warn(what, "something listens there, and it cannot be seen whether it is the service", who)
        }
    }
}

/// The sockets that listen on a port, by inode.
fn sockets(port: u16) -> Vec<u64> {
    let lines =
        ["/proc/self/net/tcp", "/proc/self/net/tcp6"].into_iter().filter_map(|path| std::fs::File::open(path).ok());
    let lines = lines.flat_map(|file| BufReader::new(file).lines().map_while(Result::ok));
    lines.filter_map(|line| listener(&line)).filter(|(of, _)| *of == port).map(|(_, inode)| inode).collect()
}

/// Port and inode of a line of `/proc/net/tcp` (`proc(5)`) that says that
/// somebody listens.
fn listener(line: &str) -> Option<(u16, u64)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let (_, port) = words.get(1)?.rsplit_once(':')?;
    let listens = *words.get(3)? == "0A";
    let inode = words.get(9)?.parse().ok()?;
    listens.then_some((u16::from_str_radix(port, 16).ok()?, inode))
}

/// Whether a process has one of these sockets; `None` when it may not be known.
fn holds(pid: u32, sockets: &[u64]) -> Option<bool> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let targets = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
    let inode =
        |target: std::path::PathBuf| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok();
    Some(targets.filter_map(inode).any(|inode| sockets.contains(&inode)))
}

/// Whether the names can be reached where directories come to.
pub(super) async fn reached(outbound: &Outbound, config: &Config, service: Service) -> Vec<Finding> {
    // Where it is not known to run, what does not answer is no finding.
    if !matches!(service, Service::Running(_)) {
        return Vec::new();
    }
    let wanted = |kind| config.acme.challenges.contains(&kind);
    let mut ports = Vec::new();
    if wanted(ChallengeKind::Http01) {
        ports.push(80);
    }
    if wanted(ChallengeKind::TlsAlpn01) {
        ports.push(443);
    }
    let mut tries = Vec::new();
    for name in config.acme.domains.iter().filter(|name| !name.is_wildcard()) {
        let addresses = match name {
            CertName::Ip(address) => vec![*address],
            // That there are none has been said.
            CertName::Dns(text) => outbound.addresses(text).await.unwrap_or_default(),
        };
        for address in addresses.into_iter().take(ADDRESSES) {
            tries.extend(ports.iter().map(|port| reach(name.to_string(), SocketAddr::new(address, *port))));
        }
    }
    join_all(tries).await
}

async fn reach(name: String, address: SocketAddr) -> Finding {
    let what = format!("{name} at {address}");
    let elsewhere = format!("try it from another network: curl -v http://{name}/");
    let why = match tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(stream)) if address.port() == 80 => return answered(what, &name, stream).await,
        Ok(Ok(_)) => {
            return Finding::ok(
                what,
                "takes connections from here; what a firewall before it lets through cannot be seen",
            );
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
    };
    if is_own(address.ip()) {
        let port = address.port();
        let advice = format!("let the service listen there, and the firewall let port {port} in");
        return Finding::fail(what, why, advice);
    }
    let advice = format!("some routers do not lead back inside, so this may be no fault; {elsewhere}");
    Finding::warn(what, why, advice)
}

/// Whether it is this service that answers plain HTTP, which does not say what
/// it is.
async fn answered(what: String, name: &str, mut stream: TcpStream) -> Finding {
    let path = "/.well-known/acme-challenge/agentd-doctor";
    let request = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    let mut head = vec![0; 4096];
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        stream.read(&mut head).await
    };
    let length = match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(Ok(length)) if length > 0 => length,
        _ => return Finding::warn(what, "takes connections, and answers nothing to HTTP", "look what listens there"),
    };
    let text = String::from_utf8_lossy(&head[..length]).into_owned();
    match server(&text) {
        Some(server) => {
            let detail = format!("another web server answers there: {server}");
            let advice = "stop it, or let it pass /.well-known/acme-challenge/ on to this service";
            Finding::fail(what, detail, advice)
        }
        None => Finding::ok(what, "answers from here; what a firewall before it lets through cannot be seen"),
    }
}

/// What another web server calls itself; agentd does not.
fn server(head: &str) -> Option<String> {
    let lines = head.lines().take_while(|line| !line.is_empty());
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case("server"))?;
    Some(value.trim().chars().filter(|character| !character.is_control()).take(60).collect())
}

fn is_own(address: IpAddr) -> bool {
    own().contains(&address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_socket_that_listens_is_found_with_who_holds_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let found = sockets(port);
        assert_eq!(found.len(), 1);
        assert_eq!(holds(std::process::id(), &found), Some(true));
        assert_eq!(holds(std::process::id(), &[1]), Some(false));
        drop(listener);
        assert!(sockets(port).is_empty());
    }

    #[test]
    fn another_web_server_is_known_by_its_name() {
        assert_eq!(server("HTTP/1.1 404 X\r\nServer: nginx/1.22\r\n\r\n").as_deref(), Some("nginx/1.22"));
        assert_eq!(server("HTTP/1.1 404 X\r\nDate: x\r\n\r\nServer: y"), None);
    }

    proptest! {
        #[test]
        fn no_line_makes_it_stumble(line in "\\PC{0,80}") {
            let _ = listener(&line);
        }
    }
}
